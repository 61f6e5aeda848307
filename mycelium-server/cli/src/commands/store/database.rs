//! `mycelium store init`, and `mycelium store check` of a server: mycelia in ArangoDB.

use std::time::SystemTime;

use anyhow::bail;
use mycelium_server::store::arango::{self, Extent, Finding, FindingKind, Report, Usage};
use mycelium_server::store::embedded::DEFAULT;
use serde::Serialize;

use crate::errors::Misuse;
use crate::output::Output;
use crate::output::format::count;
use crate::store_address::{Trust, address};

/// Creates a mycelium in ArangoDB: a database with its collections, indexes and graphs. What is there already stays.
///
/// The user needs the right to administrate `_system` if the database is not there, and else to administrate the
/// database. The broker needs less, and is better given a user of its own: `ro` on the database, `rw` on its collections.
#[derive(Debug, clap::Args)]
#[command(after_help = "User and password come from MYCELIUM_STORE_USER and MYCELIUM_STORE_PASSWORD or \
    MYCELIUM_STORE_PASSWORD_FILE, or stand in the URL if that is in MYCELIUM_STORE.\n\n\
    JSON: {mycelium, database, created}.\n\n\
    Example: MYCELIUM_STORE_USER=root MYCELIUM_STORE_PASSWORD_FILE=root.txt mycelium store init http://localhost:8529")]
pub(super) struct InitArgs {
    /// The URL of the server. If there is none, that in MYCELIUM_STORE. The mycelium is `default`, or the one that
    /// --mycelium names.
    url: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// What a name or an address cannot be is a wrong command line.
fn misuse(finding: Finding) -> anyhow::Error {
    match finding.kind {
        FindingKind::Name => Misuse(finding.line).into(),
        _ => finding.into(),
    }
}

pub(super) async fn init(args: &InitArgs, only: Option<&str>, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Made<'a> {
        mycelium: &'a str,
        database: String,
        created: bool,
    }
    let address = address(args.url.as_deref(), &args.trust)?;
    let mycelium = only.unwrap_or(DEFAULT);
    let created = arango::init(&address, mycelium).await.map_err(misuse)?;
    let database = arango::database_of(mycelium).unwrap_or_default();
    if output.is_json() {
        return Ok(output.json_line(&Made { mycelium, database, created })?);
    }
    let done = if created { "created" } else { "there was already" };
    Ok(output.line(&format!("{done} mycelium {mycelium} at {address}, in database {database}"))?)
}

pub(super) async fn check(
    url: Option<&str>,
    trust: &Trust,
    only: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let reports = arango::check(&address(url, trust)?, only).await.map_err(misuse)?;
    let of_several = reports.len() > 1;
    let problems = reports.iter().flat_map(|report| problems(&report.findings));
    let problems: Vec<_> = problems.map(|finding| &*finding.line).collect();
    for report in &reports {
        if output.is_json() {
            output.json_line(&Shown::of(report))?;
            continue;
        }
        let prefix = if of_several { format!("{}: ", report.mycelium) } else { String::new() };
        // A single problem is the last line.
        tell(report, &prefix, problems.len() > 1, output)?;
    }
    match problems[..] {
        [] => Ok(()),
        [problem] => bail!("{problem}"),
        _ => bail!("{} were found", count(problems.len() as u64, "problem")),
    }
}

fn problems(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.kind.is_problem())
}

fn notes(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| !finding.kind.is_problem())
}

fn tell(report: &Report, prefix: &str, with_problems: bool, output: Output) -> anyhow::Result<()> {
    for problem in problems(&report.findings).filter(|_| with_problems) {
        output.line(&format!("{prefix}problem: {problem}"))?;
    }
    for note in notes(&report.findings) {
        output.line(&format!("{prefix}note: {note}"))?;
    }
    if let Some(lease) = &report.lease {
        output.line(&format!("{prefix}held by {} until {}", lease.holder, time(lease.until)))?;
    }
    if report.is_good() {
        let Extent { collections, indexes, graphs, statements, .. } = Extent::of_mycelium();
        let version = report.version.as_deref().unwrap_or("of an unknown version");
        let role = if report.is_cluster { "in a cluster" } else { "a single server" };
        let used = report.usage.map_or_else(String::new, used);
        output.line(&format!(
            "{prefix}ArangoDB {version}, {role}{used}; {collections} collections, {indexes} indexes, {graphs} graphs and \
             {statements} statements looked at, all is well"
        ))?;
    }
    Ok(())
}

fn used(Usage { bytes, bytes_max, .. }: Usage) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    format!(", {:.1} of {:.0} GiB used", gib(bytes), gib(bytes_max))
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A report as programs read it.
#[derive(Serialize)]
struct Shown<'a> {
    mycelium: &'a str,
    database: &'a str,
    version: Option<&'a str>,
    cluster: bool,
    bytes: Option<u64>,
    bytes_max: Option<u64>,
    lease: Option<ShownLease<'a>>,
    problems: Vec<&'a Finding>,
    notes: Vec<&'a Finding>,
}

#[derive(Serialize)]
struct ShownLease<'a> {
    holder: &'a str,
    epoch: u64,
    until: String,
}

impl<'a> Shown<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            mycelium: &report.mycelium,
            database: &report.database,
            version: report.version.as_deref(),
            cluster: report.is_cluster,
            bytes: report.usage.map(|usage| usage.bytes),
            bytes_max: report.usage.map(|usage| usage.bytes_max),
            lease: report.lease.as_ref().map(|lease| ShownLease {
                holder: &lease.holder,
                epoch: lease.epoch,
                until: time(lease.until),
            }),
            problems: problems(&report.findings).collect(),
            notes: notes(&report.findings).collect(),
        }
    }
}
