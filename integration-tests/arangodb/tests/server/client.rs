//! A client that sends what it is told.

use arangodb_double::{Double, ROOT};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const PASSWORD: &str = "secret";
pub(crate) const DATABASE: &str = "tests";

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn number(&self) -> u64 {
        self.json()["errorNum"].as_u64().unwrap_or_default()
    }
}

/// Whoever speaks to the server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) authorization: Option<String>,
    pub(crate) transaction: Option<String>,
}

impl Client {
    /// None: the connection ended without an answer.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &str,
    ) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: double\r\nconnection: close\r\n{headers}");
        if let Some(authorization) = &self.authorization {
            head += &format!("authorization: {authorization}\r\n");
        }
        if let Some(transaction) = &self.transaction {
            head += &format!("x-arango-trx-id: {transaction}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.ok()?;
        let text = String::from_utf8(text).unwrap();
        let (headers, body) = text.split_once("\r\n\r\n")?;
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, headers: headers.to_owned(), text: body.to_owned() })
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.try_send(method, path, &body, "").await.expect("an answer")
    }

    /// A request to the database of the tests.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, &format!("/_db/{DATABASE}{path}"), body).await
    }

    pub(crate) async fn query(&self, query: &str, binds: Value) -> Answer {
        self.ask("POST", "/_api/cursor", json!({ "query": query, "bindVars": binds })).await
    }

    /// The rows of a statement that must succeed.
    pub(crate) async fn rows(&self, query: &str, binds: Value) -> Value {
        let answer = self.query(query, binds).await;
        assert_eq!(answer.status, 201, "{query}: {}", answer.text);
        answer.json()["result"].clone()
    }

    /// The number of the refusal of a statement that must fail.
    pub(crate) async fn refusal(&self, query: &str, binds: Value) -> u64 {
        let answer = self.query(query, binds).await;
        assert!(answer.json()["error"].as_bool().unwrap(), "{query}: {}", answer.text);
        answer.number()
    }

    pub(crate) async fn log_in(&mut self) {
        self.authorization = None;
        let answer =
            self.send("POST", "/_open/auth", json!({ "username": ROOT, "password": PASSWORD })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.authorization = Some(format!("bearer {}", answer.json()["jwt"].as_str().unwrap()));
    }
}

/// A server with the database of the tests, and a client that is logged in.
pub(crate) async fn server() -> (Double, Client) {
    let double = Double::start(PASSWORD).await.unwrap();
    let mut client = Client { address: double.address(), authorization: None, transaction: None };
    client.log_in().await;
    let answer = client.send("POST", "/_api/database", json!({ "name": DATABASE })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    (double, client)
}

/// Makes collections; those with a star at the end are of edges.
pub(crate) async fn collections(client: &Client, names: &[&str]) {
    for name in names {
        let kind = if name.ends_with('*') { 3 } else { 2 };
        let body = json!({ "name": name.trim_end_matches('*'), "type": kind });
        let answer = client.ask("POST", "/_api/collection", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}
