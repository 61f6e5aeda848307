//! What is made, by `arangors` or without.

use arangodb_double::Access;
use arangors::graph::{EdgeDefinition, Graph};

use super::super::driver::{Copies, Made};
use super::*;

fn graph() -> Graph {
    let edges =
        EdgeDefinition { collection: "e".to_owned(), from: vec!["a".to_owned()], to: vec!["a".to_owned()] };
    Graph::builder().name("g".to_owned()).edge_definitions(vec![edges]).build()
}

async fn make(server: &Server, copies: Option<Copies>) -> Result<[Made; 4], Failure> {
    let database = server.database("tests");
    Ok([
        server.create_database("tests", copies).await?,
        database.create_collection("a", false).await?,
        database.create_collection("e", true).await?,
        database.create_graph(&graph()).await?,
    ])
}

async fn assert_made(double: &Double, server: &Server, copies: Option<Copies>) {
    assert_eq!(make(server, copies).await.unwrap(), [Made::New; 4]);
    assert_eq!(make(server, copies).await.unwrap(), [Made::WasThere; 4]);
    let database = server.database("tests");
    for (name, kind) in [("a", 2), ("e", 3)] {
        let found: Value = database.call(Call::get(format!("_api/collection/{name}"))).await.unwrap();
        assert_eq!(found["type"], kind);
    }
    let found: Value = database.call(Call::get("_api/gharial/g")).await.unwrap();
    assert_eq!(found["graph"]["edgeDefinitions"], json!([{"collection": "e", "from": ["a"], "to": ["a"]}]));
    double.assert_known();
}

#[tokio::test]
async fn arangors_makes_what_is_not_there() {
    let double = Double::start(PASSWORD).await.unwrap();
    let server = Server::new(&address(&double)).unwrap();
    assert_made(&double, &server, None).await;
    // It looks who the server is each time, and at each thing that it has made.
    assert_eq!(requests(&double, "GET /_api/version"), 8);
    assert_eq!(requests(&double, "GET /_api/database/current"), 7);
    assert_eq!(requests(&double, "POST /_api/database"), 2);
    assert_eq!(requests(&double, "POST /_api/collection"), 4);
    assert_eq!(requests(&double, "POST /_api/gharial"), 2);
    assert_eq!(requests(&double, "POST /_open/auth"), 1, "by our tokens");
}

#[tokio::test]
async fn what_arangors_does_not_understand_is_made_all_the_same() {
    for (version, is_hidden) in [("4.0.0", false), ("3.11.14", true)] {
        let double = Double::start(PASSWORD).await.unwrap();
        {
            let mut faults = double.faults();
            faults.version = version.to_owned();
            faults.hardened = is_hidden;
            faults.server_header = None;
        }
        let server = Server::new(&address(&double)).unwrap();
        assert_made(&double, &server, None).await;
    }
}

#[tokio::test]
async fn a_database_is_for_whoever_makes_it() {
    let double = Double::start(PASSWORD).await.unwrap();
    double.add_user("maker", "m");
    double.grant_database("maker", "_system", Access::Write);
    let maker = Address::parse(&double.url()).unwrap().with_credentials("maker", "m");
    assert_made(&double, &Server::new(&maker).unwrap(), None).await;
    // Whom it is for is nothing that `arangors` can say.
    assert_eq!(requests(&double, "GET /_api/version"), 6, "of two collections and a graph, twice");
}

#[tokio::test]
async fn a_database_of_a_cluster_is_on_one_server() {
    let double = Double::start(PASSWORD).await.unwrap();
    {
        let mut faults = double.faults();
        faults.role = "COORDINATOR".to_owned();
        faults.sharding = Some("single".to_owned());
    }
    let server = Server::new(&address(&double)).unwrap();
    assert_made(&double, &server, Some(Copies { replication_factor: 3, write_concern: 2 })).await;
    let found: Value = server.database("tests").call(Call::get("_api/database/current")).await.unwrap();
    assert_eq!(found["result"]["sharding"], "single", "{found}");
}

#[tokio::test]
async fn what_may_not_be_made_is_told_by_the_server() {
    let (double, _) = double().await;
    double.add_user("guest", "g");
    double.grant_database("guest", "tests", Access::Read);
    let guest = Address::parse(&double.url()).unwrap().with_credentials("guest", "g");
    let failure = Server::new(&guest).unwrap().database("tests").create_graph(&graph()).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::NotAllowed, "{failure}");
}
