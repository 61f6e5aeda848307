//! Creating a mycelium in a database.
//!
//! It may end between any two requests, and two may do it at once: each request does nothing if what it makes is there
//! already, the first documents are written by one statement, and a database that has some of it and no mark yet holds
//! nothing.

use std::time::Duration;

use arangors::graph::{self, EdgeDefinition};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::address::Address;
use super::super::check::{self, Checked, Finding, FindingKind, shown};
use super::super::client::driver::Copies;
use super::super::client::{Call, Database, Failure, Kind, Server};
use super::super::statements;
use super::{Collection, Difference, FORMAT_VERSION, Found, Graph, Index, Marker};

/// How many copies of everything a cluster keeps.
const COPIES: u32 = 3;
/// How many of them are written before a write counts. With one alone, a lease that was given might be gone with it.
const COPIES_WRITTEN: u32 = 2;

/// How long requests are tried again that were certainly not executed, such as one that another one was in the way of.
const PATIENCE: Duration = Duration::from_secs(10);

/// The variables of the statement that writes the first documents. A mycelium has a name for itself that no other has, not
/// even one that takes its place.
pub(in super::super) fn first_documents() -> Value {
    json!({
        "leases": [
            {"_key": "owner", "owner": "", "epoch": 0, "expiresMs": 0},
            {"_key": "fence-0", "epoch": 0, "seq": 0},
        ],
        "records": [
            {"_key": "format", "kind": "format", "version": FORMAT_VERSION, "mycelium": Uuid::now_v7()},
            {"_key": "counters", "kind": "counters"},
        ],
    })
}

/// Creates what is not there of a mycelium: its database, collections, indexes, graphs and first documents. What is there
/// is left alone. Tells whether anything was created.
///
/// # Errors
/// The first thing that stands in the way.
pub async fn init(address: &Address, mycelium: &str) -> Result<bool, Finding> {
    let database = check::database(&Server::new(address)?, mycelium)?;
    create(&database.with_patience(PATIENCE)).await
}

/// Creates what a database lacks, and itself. Tells whether that was anything.
///
/// # Errors
/// The first thing that stands in the way.
pub(in super::super) async fn create(database: &Database) -> Result<bool, Finding> {
    let checked = check::server(database).await?;
    create_checked(database, &checked).await
}

/// Makes sure that a mycelium is there with all that it needs. What is missing is created if it `may` be and the user has
/// the rights to. Returns what is worth a note.
///
/// # Errors
/// The first thing that stands in the way, with the command that helps.
pub(in super::super) async fn ensure(database: &Database, may_create: bool) -> Result<Vec<Finding>, Finding> {
    let checked = check::server(database).await?;
    let Some(missing) = missing(database, &checked).await? else { return Ok(checked.notes) };
    if !may_create {
        return Err(missing);
    }
    match create_checked(database, &checked).await {
        Ok(_) => Ok(checked.notes),
        Err(finding) if finding.kind == FindingKind::Rights => Err(Finding::new(
            FindingKind::Rights,
            format!(
                "{missing}, as a user who may administrate {}",
                if checked.is_there { "it" } else { "`_system`" }
            ),
        )),
        Err(finding) => Err(finding),
    }
}

/// The first thing that is missing of a mycelium.
async fn missing(database: &Database, checked: &Checked) -> Result<Option<Finding>, Finding> {
    if !checked.is_there {
        return Ok(Some(check::missing(database, "")));
    }
    let found = Found::read(database).await?;
    let marker = found.marker(database).await?;
    let differences = without_others(found.differences(database))?;
    Ok(match (differences.first(), marker) {
        (Some(difference), _) => Some(difference.finding(database)),
        (None, Marker::Missing) => Some(check::missing(database, "the first documents of ")),
        (None, Marker::Ours) => None,
    })
}

/// Fails with the first difference that cannot be mended by creating.
fn without_others(differences: Vec<Difference>) -> Result<Vec<Difference>, Finding> {
    let others = differences.iter().find_map(|difference| match difference {
        Difference::Other(finding) => Some(finding.clone()),
        Difference::Collection(_) | Difference::Index(..) | Difference::Graph(_) => None,
    });
    others.map_or(Ok(differences), Err)
}

async fn create_checked(database: &Database, checked: &Checked) -> Result<bool, Finding> {
    if !checked.is_there {
        create_database(database, checked.is_cluster).await?;
        // Another one may have made it meanwhile, otherwise.
        check::sharding(database, checked.is_cluster).await?;
    }
    let found = Found::read(database).await?;
    let marker = found.marker(database).await?;
    let differences = without_others(found.differences(database))?;
    if marker == Marker::Ours && differences.is_empty() {
        return Ok(false);
    }
    for difference in &differences {
        if let Difference::Collection(collection) = difference {
            database.create_collection(collection.name, collection.is_of_edges).await?;
        }
    }
    if marker == Marker::Missing {
        write_first_documents(database).await?;
    }
    for difference in without_others(Found::read(database).await?.differences(database))? {
        match difference {
            Difference::Index(collection, index) => create_index(database, collection, index).await?,
            Difference::Graph(graph) => create_graph(database, graph).await?,
            Difference::Collection(_) | Difference::Other(_) => return Err(difference.finding(database)),
        }
    }
    // What was answered is what the server says; what counts is what is there.
    match Found::read(database).await?.differences(database).first() {
        Some(difference) => Err(difference.finding(database)),
        None => Ok(true),
    }
}

async fn create_database(database: &Database, is_cluster: bool) -> Result<(), Finding> {
    let copies = Copies { replication_factor: COPIES, write_concern: COPIES_WRITTEN };
    let created = database.server().create_database(database.name(), is_cluster.then_some(copies)).await;
    created.map(drop).map_err(|failure| match failure.kind() {
        Kind::NotAllowed | Kind::NotLoggedIn => Finding::new(
            FindingKind::Rights,
            format!(
                "{} is not there, and the user may not create it; run as a user who may administrate `_system`: {}",
                shown(database),
                check::init(database)
            ),
        ),
        _ => failure.into(),
    })
}

async fn create_index(database: &Database, collection: &Collection, index: &Index) -> Result<(), Failure> {
    let body = json!({
        "type": "persistent",
        "name": index.name,
        "fields": index.fields,
        "sparse": index.is_sparse,
        "unique": false,
        "inBackground": true,
    });
    let query = [("collection", collection.name)];
    // It may be there by now.
    let call = Call::post("_api/index", &body).query(&query).creates().repeatable();
    match database.call::<IgnoredAny>(call).await {
        Err(failure) if failure.kind() == Kind::AlreadyThere => Ok(()),
        answer => answer.map(drop),
    }
}

async fn create_graph(database: &Database, graph: &Graph) -> Result<(), Finding> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let definitions = graph.edges.iter().map(|edges| EdgeDefinition {
        collection: edges.collection.to_owned(),
        from: owned(edges.from),
        to: owned(edges.to),
    });
    let definition =
        graph::Graph::builder().name(graph.name.to_owned()).edge_definitions(definitions.collect()).build();
    database.create_graph(&definition).await.map(drop).map_err(|failure| match failure.error_num() {
        Some(EDGES_DEFINED_OTHERWISE) => Finding::new(
            FindingKind::Graph,
            format!(
                "graph `{}` of {} cannot be created: another graph there goes over its edges otherwise; drop that one \
                 without its collections, then run: {}",
                graph.name,
                shown(database),
                check::init(database)
            ),
        ),
        _ => failure.into(),
    })
}

/// Another graph has another definition of the same collection of edges.
const EDGES_DEFINED_OTHERWISE: u32 = 1921;

async fn write_first_documents(database: &Database) -> Result<(), Finding> {
    match database.run::<u64>(&statements::BOOTSTRAP, &first_documents()).await {
        Ok(_) => Ok(()),
        // It may have been done, now or by another one.
        Err(failure) if failure.is_unknown() => match Found::read(database).await?.marker(database).await? {
            Marker::Ours => Ok(()),
            Marker::Missing => Err(failure.into()),
        },
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use arangodb_double::{Access, Double, ROOT};

    use super::*;

    const DATABASE: &str = "BLUMYC_north";

    /// The mycelium `north` as somebody sees it.
    fn seen_by(double: &Double, user: &str) -> Database {
        let address = Address::parse(&double.url()).unwrap().with_credentials(user, "secret");
        Server::new(&address).unwrap().database(DATABASE).with_patience(Duration::ZERO)
    }

    #[tokio::test]
    async fn a_broker_makes_sure_of_its_mycelium_or_says_who_can() {
        let double = Double::start("secret").await.unwrap();
        double.add_user("broker", "secret");
        let (root, broker) = (seen_by(&double, ROOT), seen_by(&double, "broker"));
        let command = format!("mycelium store init {} --mycelium north", double.url());
        for (database, may_create) in [(&root, false), (&broker, false), (&broker, true)] {
            let refused = ensure(database, may_create).await.unwrap_err();
            assert!(refused.line.contains("is not there") && refused.line.contains(&command), "{refused}");
        }
        assert!(double.documents(DATABASE, "Jobs").is_none(), "nothing was made");
        assert!(ensure(&root, true).await.unwrap().is_empty());

        double.grant_database("broker", DATABASE, Access::Read);
        double.grant_collection("broker", DATABASE, "*", Access::Write);
        double.reset_counters();
        assert!(ensure(&broker, false).await.unwrap().is_empty(), "it has all that it needs");
        let requests = double.counters().requests;
        assert!(requests.keys().all(|it| it.starts_with("GET ") || it == "POST /_open/auth"), "{requests:?}");

        let index = Call::delete("_api/index/Jobs/fin");
        root.call::<IgnoredAny>(index).await.unwrap();
        let refused = ensure(&broker, true).await.unwrap_err();
        assert_eq!(refused.kind, FindingKind::Rights, "{refused}");
        let ending = format!("create it with: {command}, as a user who may administrate it");
        assert!(refused.line.contains("index `fin`") && refused.line.ends_with(&ending), "{refused}");
        assert!(ensure(&root, true).await.is_ok());
        assert!(ensure(&broker, false).await.is_ok());
    }
}
