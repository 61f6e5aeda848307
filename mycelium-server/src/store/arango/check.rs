//! Looks at a server and at the mycelia on it: whether mycelium works with the server, and whether a mycelium has all that
//! it needs. Nothing is changed.

mod finding;
mod license;
mod server;
mod statements;
mod version;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

pub use self::finding::{Finding, FindingKind};
pub(super) use self::finding::{init, shown};
pub use self::license::Usage;
pub(super) use self::server::{Checked, server, sharding};
use super::address::{Address, database_of, mycelium_of};
use super::client::{Call, Database, Kind, Server};
use super::schema::{COLLECTIONS, Found, GRAPHS, LEASES, Marker};
use super::statements::{ALL, CLOCK, PROBE};
use crate::name::DEFAULT;

/// Clocks that differ by less are taken as equal.
const SKEW_MAX: Duration = Duration::from_secs(1);
/// The end of the year 9999, in milliseconds since 1970.
const MOMENT_MS_MAX: u64 = 253_402_300_799_999;
/// The error of a user who may only read what he would write. A server that only reads says the same.
const READ_ONLY: u32 = 1004;

/// What a look at a mycelium has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// The name of the mycelium.
    pub mycelium: String,
    /// The database that it is in.
    pub database: String,
    /// The version of the server, unless it hides it.
    pub version: Option<String>,
    /// Whether it is in a cluster.
    pub is_cluster: bool,
    /// How much of what the licence allows is used, if the server tells.
    pub usage: Option<Usage>,
    /// Who has the mycelium, if somebody does.
    pub lease: Option<Lease>,
    /// Problems and notes.
    pub findings: Vec<Finding>,
}

/// Who has a mycelium.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The broker, as it calls itself.
    pub holder: String,
    /// How many leases there have been.
    pub epoch: u64,
    /// When it ends unless it is renewed, by the clock of the server.
    pub until: SystemTime,
}

/// How much a mycelium consists of, each of which a look has looked at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Extent {
    /// Collections.
    pub collections: usize,
    /// Indexes, beside those that every collection has.
    pub indexes: usize,
    /// Named graphs.
    pub graphs: usize,
    /// Statements that are run on it.
    pub statements: usize,
}

impl Extent {
    /// That of every mycelium of this version.
    pub fn of_mycelium() -> Self {
        Self {
            collections: COLLECTIONS.len(),
            indexes: COLLECTIONS.iter().map(|collection| collection.indexes.len()).sum(),
            graphs: GRAPHS.len(),
            statements: ALL.len(),
        }
    }
}

impl Report {
    /// Whether there are no problems.
    pub fn is_good(&self) -> bool {
        !self.findings.iter().any(|finding| finding.kind.is_problem())
    }
}

/// The names of the mycelia on a server that the user may use.
///
/// # Errors
/// If they cannot be listed, as by somebody who may use neither `_system` nor the mycelium `default`.
pub(super) async fn mycelia(server: &Server) -> Result<Vec<String>, Finding> {
    #[derive(Deserialize)]
    struct Listed {
        result: Vec<String>,
    }
    let list = async |database: Database| database.call::<Listed>(Call::get("_api/database/user")).await;
    let mut listed = list(server.system().with_patience(Duration::ZERO)).await;
    if listed.as_ref().is_err_and(|failure| is_denied(failure.kind())) {
        // The answer is the same whichever database is asked, and one may be open to the user.
        listed = list(database(server, DEFAULT)?).await;
    }
    let listed = listed.map_err(|failure| match failure.kind() {
        Kind::NotAllowed | Kind::NotLoggedIn | Kind::NotThere => {
            let line =
                format!("the user may not list the mycelia at {}; name one with --mycelium", server.shown());
            Finding::new(FindingKind::Rights, line)
        }
        _ => failure.into(),
    })?;
    let mut names: Vec<String> =
        listed.result.iter().filter_map(|database| mycelium_of(database)).map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

fn is_denied(kind: Kind) -> bool {
    matches!(kind, Kind::NotAllowed | Kind::NotLoggedIn)
}

/// Looks at all mycelia of a server, or at `only` one. What is wrong with a mycelium stands in its report.
///
/// # Errors
/// A problem by which no mycelium can be looked at, or that there is none.
pub async fn check(address: &Address, only: Option<&str>) -> Result<Vec<Report>, Finding> {
    let server = Server::new(address)?;
    let mycelia = match only {
        Some(name) => vec![name.to_owned()],
        None => {
            let default = database(&server, DEFAULT)?;
            match self::server::server(&default).await {
                // Not this mycelium, perhaps another.
                Err(finding)
                    if !matches!(
                        finding.kind,
                        FindingKind::Rights | FindingKind::Missing | FindingKind::Sharding
                    ) =>
                {
                    return Err(finding);
                }
                _ => mycelia(&server).await?,
            }
        }
    };
    if mycelia.is_empty() {
        let line = format!(
            "there is no mycelium at {0} that the user may use; create one with: mycelium store init {0}",
            server.shown()
        );
        return Err(Finding::new(FindingKind::Missing, line));
    }
    let mut reports = Vec::with_capacity(mycelia.len());
    for mycelium in mycelia {
        let database = database(&server, &mycelium)?;
        let mut report = Report { mycelium, database: database.name().to_owned(), ..Report::default() };
        // Whatever stops the look is what it has found.
        if let Err(finding) = look(&database, &mut report).await {
            report.findings.push(finding);
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The database of a mycelium. Requests to it are not tried again: somebody looks on.
pub(super) fn database(server: &Server, mycelium: &str) -> Result<Database, Finding> {
    let name = database_of(mycelium).ok_or_else(|| {
        let line = format!("`{mycelium}` is no name of a mycelium: 1 to 48 of a-z, 0-9, `_` and `-`");
        Finding::new(FindingKind::Name, line)
    })?;
    Ok(server.database(&name).with_patience(Duration::ZERO))
}

async fn look(database: &Database, report: &mut Report) -> Result<(), Finding> {
    let checked = self::server::server(database).await?;
    report.version = checked.version;
    report.is_cluster = checked.is_cluster;
    report.usage = checked.usage;
    report.findings = checked.notes;
    if !checked.is_there {
        return Err(missing(database, ""));
    }
    let found = Found::read(database).await?;
    if found.marker(database).await? == Marker::Missing {
        return Err(missing(database, "the first documents of "));
    }
    let differences = found.differences(database);
    report.findings.extend(differences.iter().map(|difference| difference.finding(database)));
    if !differences.is_empty() {
        return Ok(());
    }
    if let Some(denied) = rights(database, checked.is_cluster).await? {
        return Err(denied);
    }
    for statement in ALL {
        report.findings.extend(statements::explain(database, statement, checked.is_cluster).await?);
    }
    let (now, skewed) = clock(database).await?;
    report.findings.extend(skewed);
    report.lease = lease(database, now).await?;
    Ok(())
}

/// What is said of a mycelium that is not there, or of what of it is not.
pub(super) fn missing(database: &Database, what: &str) -> Finding {
    let line = format!("{what}{} is not there; create it with: {}", shown(database), init(database));
    Finding::new(FindingKind::Missing, line)
}

/// Tries to write nothing into each collection: users may not ask what they may do.
async fn rights(database: &Database, is_cluster: bool) -> Result<Option<Finding>, Finding> {
    let mut denied = Vec::new();
    for collection in COLLECTIONS {
        let variables = json!({"@collection": collection.name, "none": []});
        match database.run::<IgnoredAny>(&PROBE, &variables).await {
            Ok(_) => {}
            // In a cluster this may be said for want of replicas as well.
            Err(failure) if failure.error_num() == Some(READ_ONLY) && !is_cluster => {
                denied.push(collection.name)
            }
            Err(failure) if is_denied(failure.kind()) => denied.push(collection.name),
            Err(failure) => return Err(failure.into()),
        }
    }
    let (Some(first), Some(user)) = (denied.first(), database.server().user()) else { return Ok(None) };
    let others = match denied.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    let line = format!(
        "user `{user}` may not write collection `{first}`{others} of {}; grant `rw` on each collection of it",
        shown(database)
    );
    Ok(Some(Finding::new(FindingKind::Rights, line)))
}

/// The time on the server, and what is to be said of how ours differs.
async fn clock(database: &Database) -> Result<(u64, Option<Finding>), Finding> {
    let asked = SystemTime::now();
    let ran = database.run::<u64>(&CLOCK, &json!({})).await?;
    let answered = SystemTime::now();
    let Some(&now) = ran.rows.first() else {
        let line = format!("{} does not tell the time", shown(database));
        return Err(Finding::new(FindingKind::Refused, line));
    };
    let theirs = moment(now);
    // It was read at some time in between.
    let behind = theirs.duration_since(answered).unwrap_or_default();
    let ahead = asked.duration_since(theirs).unwrap_or_default();
    let skew = behind.max(ahead);
    let finding = (skew > SKEW_MAX).then(|| {
        let line = format!(
            "the clock of the server is {:.1} s {} that of this machine; documents have the times of the broker's machine",
            skew.as_secs_f64(),
            if ahead > behind { "behind" } else { "ahead of" }
        );
        Finding::new(FindingKind::Clock, line)
    });
    Ok((now, finding))
}

/// A moment that a server tells, in milliseconds since 1970, but not one that cannot be shown.
fn moment(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(MOMENT_MS_MAX))
}

/// Who has the mycelium at a time of the server, in milliseconds since 1970.
async fn lease(database: &Database, now: u64) -> Result<Option<Lease>, Finding> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Owner {
        owner: String,
        holder: Option<String>,
        epoch: u64,
        expires_ms: u64,
    }
    let owner: Owner = database.call(Call::get(format!("_api/document/{LEASES}/owner"))).await?;
    Ok((owner.expires_ms > now).then(|| Lease {
        holder: owner.holder.unwrap_or(owner.owner),
        epoch: owner.epoch,
        until: moment(owner.expires_ms),
    }))
}
