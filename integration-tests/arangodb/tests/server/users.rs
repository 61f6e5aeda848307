//! Tokens and rights.

use std::time::{Duration, Instant};

use arangodb_double::{Access, ROOT};
use serde_json::{Value, json};

use crate::client::{Client, PASSWORD, collections, server};

fn basic(user: &str, password: &str) -> Option<String> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {text}"))
}

#[tokio::test]
async fn a_token_expires_and_another_can_be_had() {
    let (double, mut client) = server().await;
    let wrong = client.send("POST", "/_open/auth", json!({ "username": ROOT, "password": "wrong" })).await;
    assert_eq!(wrong.status, 401);
    double.faults().token_life = Duration::from_secs(1);
    client.log_in().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = client.send("GET", "/_api/version", Value::Null).await;
        if answer.status == 401 {
            assert_eq!(answer.number(), 11);
            break;
        }
        assert!(Instant::now() < deadline, "the token never expires");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    double.faults().token_life = Duration::from_secs(3_600);
    client.log_in().await;
    assert_eq!(client.send("GET", "/_api/version", Value::Null).await.status, 200);
    double.restart();
    assert_eq!(client.send("GET", "/_api/version", Value::Null).await.status, 401);
    client.authorization = basic(ROOT, PASSWORD);
    assert_eq!(client.send("GET", "/_api/version", Value::Null).await.status, 200);
    client.authorization = basic(ROOT, "wrong");
    assert_eq!(client.send("GET", "/_api/version", Value::Null).await.status, 401);
    client.authorization = None;
    assert_eq!(client.send("GET", "/_api/version", Value::Null).await.status, 401);
    double.assert_known();
}

#[tokio::test]
async fn without_authentication_everybody_may_do_everything() {
    let (double, mut client) = server().await;
    double.faults().authentication = false;
    client.authorization = None;
    assert_eq!(client.rows("RETURN 1", json!({})).await, json!([1]));
    let nowhere = client.send("POST", "/_open/auth", json!({ "username": ROOT, "password": PASSWORD })).await;
    assert_eq!(nowhere.status, 404);
    double.assert_known();
}

#[tokio::test]
async fn users_do_no_more_than_they_may() {
    let (double, client) = server().await;
    collections(&client, &["a", "b"]).await;
    let made = client.send("POST", "/_api/user", json!({ "user": "elf", "passwd": "p" })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let elf = Client { authorization: basic("elf", "p"), ..client.clone() };
    assert_eq!(
        elf.ask("GET", "/_api/collection", Value::Null).await.status,
        401,
        "a database that is closed"
    );
    double.grant_database("elf", "tests", Access::Read);
    double.grant_collection("elf", "tests", "*", Access::None);
    let grant = client.send("PUT", "/_api/user/elf/database/tests/a", json!({ "grant": "rw" })).await;
    assert_eq!(grant.json()["tests/a"], "rw");
    elf.rows("INSERT {} INTO a", json!({})).await;
    for query in ["INSERT {} INTO b", "FOR x IN b RETURN x"] {
        let answer = elf.query(query, json!({})).await;
        assert_eq!((answer.status, answer.number()), (403, 11), "{query}");
    }
    let answer = elf.ask("POST", "/_api/collection", json!({ "name": "c" })).await;
    assert_eq!((answer.status, answer.number()), (403, 11));
    let may = elf.send("GET", "/_api/user/elf/database/tests", Value::Null).await;
    assert_eq!(may.status, 401, "not from a database that is closed");
    let may = elf.ask("GET", "/_api/user/elf/database/tests/a", Value::Null).await;
    assert_eq!(may.json()["result"], "rw");
    double.assert_known();
}
