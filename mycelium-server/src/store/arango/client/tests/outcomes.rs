//! What failed, whether it was executed, and what is tried again.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use arangodb_double::Fault;

use super::scripted::answer;
use super::*;
use crate::store::{Answer, Error};

/// A statement that stores a document whose key is not there.
fn insert() -> Statement {
    statement("INSERT { _key: @key } INTO a RETURN NEW._key", true)
}

async fn store(database: &Database, key: &str) -> Result<Vec<String>, Failure> {
    database.run(&insert(), &json!({"key": key})).await.map(|ran| ran.rows)
}

async fn read_one(database: &Database) -> Result<Vec<u64>, Failure> {
    database.run(&statement("RETURN 1", false), &json!({})).await.map(|ran| ran.rows)
}

fn stored(double: &Double) -> usize {
    double.documents("tests", "a").unwrap().len()
}

#[tokio::test]
async fn what_was_certainly_not_executed_is_sent_again() {
    let (double, database) = double().await;
    let faults = [Fault::Conflict, Fault::Unavailable, Fault::Conflict];
    double.faults().next.extend(faults.into_iter().chain([18, 28, 29, 1_500].map(Fault::Refuse)));
    assert_eq!(store(&database, "k").await.unwrap(), ["k"]);
    assert_eq!((requests(&double, "POST /_api/cursor"), stored(&double)), (8, 1));
    double.assert_known();
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_left_to_its_caller() {
    let (double, database) = double().await;
    for (key, fault, applied) in [
        ("a", Fault::DropBefore, 0),
        ("b", Fault::DropAfter, 1),
        ("c", Fault::ProxyUnavailable, 1),
        ("d", Fault::Html, 1),
        ("e", Fault::Refuse(1_004), 1),
        ("f", Fault::Refuse(1_478), 1),
        ("g", Fault::Refuse(30), 1),
    ] {
        double.reset_counters();
        double.faults().next.push_back(fault.clone());
        let failure = store(&database, key).await.unwrap_err();
        assert!(failure.is_unknown() && !failure.is_refused(), "{fault:?}: {failure:?}");
        assert_eq!((requests(&double, "POST /_api/cursor"), stored(&double)), (1, applied), "{fault:?}");
        let error = Error::from(failure);
        assert!(error.is_retryable() && !error.is_certainly_not_applied(), "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_read_of_unknown_outcome_is_sent_again() {
    let (double, database) = double().await;
    double.faults().next.extend([
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::ProxyUnavailable,
        Fault::Refuse(1_465),
    ]);
    assert_eq!(read_one(&database).await.unwrap(), [1]);
    assert_eq!(requests(&double, "POST /_api/cursor"), 5);
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_sent_again() {
    let (double, database) = double().await;
    assert_eq!(store(&database, "k").await.unwrap(), ["k"]);
    double.reset_counters();
    for (refused, error_num, kind) in [
        (store(&database, "k").await, 1_210, Kind::Refused),
        (store(&database, "a/b").await, 1_221, Kind::Refused),
        (database.run(&insert(), &json!({})).await.map(|ran| ran.rows), 1_551, Kind::Refused),
        (
            database.run(&statement("nonsense", false), &json!({})).await.map(|ran| ran.rows),
            1_501,
            Kind::Refused,
        ),
        (
            database.run(&statement("FOR d IN b RETURN d", false), &json!({})).await.map(|ran| ran.rows),
            1_203,
            Kind::NotThere,
        ),
        (store(&database.server().database("other"), "k").await, 1_228, Kind::NotThere),
    ] {
        let failure = refused.unwrap_err();
        assert_eq!((failure.error_num(), failure.kind()), (Some(error_num), kind), "{failure}");
        assert!(failure.is_certainly_not_executed() && !failure.to_string().contains('\n'), "{failure}");
    }
    assert_eq!((requests(&double, "POST /_api/cursor"), stored(&double)), (6, 1));
}

#[tokio::test]
async fn trying_again_ends_with_patience() {
    let (double, database) = double().await;
    double.faults().rates.conflict = 1.0;
    let since = Instant::now();
    let failure = store(&database.with_patience(Duration::from_millis(300)), "k").await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Conflict);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(requests(&double, "POST /_api/cursor") > 1);
    let error = Error::from(failure);
    assert!(error.is_retryable() && error.is_certainly_not_applied(), "{error:?}");
}

#[tokio::test]
async fn who_does_not_answer_in_time_may_have_done_it() {
    let (double, database) = double().await;
    version(&database).await.unwrap();
    double.faults().latency = Duration::from_millis(300);
    let body = json!({"query": "INSERT { _key: 'k' } INTO a"});
    let call = Call { timeout: Duration::from_millis(50), ..Call::post("_api/cursor", &body) };
    let failure = database.call::<IgnoredAny>(call).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Unknown, "{failure}");
    assert!(failure.to_string().contains("timed out"), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of_and_waited_for() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap();
    drop(listener);
    let shown = format!("http://{port}");
    let database = Server::new(&Address::parse(&shown).unwrap()).unwrap().database("tests");
    let failure = version(&database.with_patience(Duration::ZERO)).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Unreachable);
    assert!(failure.is_certainly_not_executed() && failure.to_string().starts_with(&shown), "{failure}");
    assert!(failure.to_string().ends_with("check the address, and that ArangoDB is running"), "{failure}");
    let nowhere = Address::parse("http://no-such-host.invalid").unwrap();
    let failure =
        version(&Server::new(&nowhere).unwrap().database("tests").with_patience(Duration::ZERO)).await;
    assert_eq!(failure.as_ref().unwrap_err().kind(), Kind::Unreachable, "{failure:?}");

    let asks = tokio::spawn(async move { version(&database).await });
    // It has failed at least once by then, most likely.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let _server = Scripted::start_at(port, |_| answer("200 OK", r#"{"server":"arango"}"#)).await;
    asks.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_arangodb_is_told_so_whatever_it_answers() {
    for (text, kind) in [
        (answer("200 OK", "<html>welcome</html>"), Kind::NotArango),
        (answer("200 OK", r#"{"status":"UP"}"#), Kind::NotArango),
        (answer("200 OK", r#"[1]"#), Kind::NotArango),
        (answer("200 OK", ""), Kind::NotArango),
        (answer("302 Found", ""), Kind::NotArango),
        (answer("404 Not Found", "404 page not found\n"), Kind::NotArango),
        (answer("404 Not Found", r#"{"error":"not found"}"#), Kind::NotArango),
        (answer("502 Bad Gateway", "<html>bad gateway</html>"), Kind::Unknown),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Kind::NotArango),
    ] {
        let said = text.clone();
        let server = Scripted::start(move |_| said.clone()).await;
        let server = Server::new(&Address::parse(&server.url).unwrap()).unwrap();
        #[derive(Debug, Deserialize)]
        struct Version {
            #[expect(dead_code, reason = "it never comes")]
            version: String,
        }
        let database = server.system().with_patience(Duration::ZERO);
        let failure = database.call::<Version>(Call::get("_api/version")).await.unwrap_err();
        assert_eq!(failure.kind(), kind, "{text}: {failure}");
        assert!(!failure.to_string().contains('\n'), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_is_taken_up_to_a_limit() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{";
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
        ANSWER_BYTES_MAX + 1,
        " ".repeat(ANSWER_BYTES_MAX + 1)
    );
    for text in [announced.to_owned(), endless] {
        let server = Scripted::start(move |_| text.clone()).await;
        let server = Server::new(&Address::parse(&server.url).unwrap()).unwrap();
        let failure = version(&server.system()).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::Unreadable, "{failure}");
        assert!(failure.to_string().contains("more than the 67108864 bytes"), "{failure}");
    }
}

#[tokio::test]
async fn a_request_says_how_long_it_is() {
    let server = Scripted::start(|_| answer("200 OK", r#"{"server":"arango"}"#)).await;
    let database = Server::new(&Address::parse(&server.url).unwrap()).unwrap().database("BLUMYC_a b");
    let nothing = Call::post_nothing("_api/cursor/1").query(&[("a b", "c&d")]);
    database.call::<IgnoredAny>(nothing).await.unwrap();
    database.call::<IgnoredAny>(Call::post("_api/x", &json!({"a": 1}))).await.unwrap();
    database.call::<IgnoredAny>(Call::delete("_api/x")).await.unwrap();
    let requests = server.requests.lock().unwrap();
    assert!(
        requests[0].starts_with("POST /_db/BLUMYC_a%20b/_api/cursor/1?a+b=c%26d HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("content-length: 0\r\n"), "{}", requests[0]);
    assert!(
        requests[1].contains("content-length: 7\r\n") && requests[1].ends_with("\r\n\r\n{\"a\":1}"),
        "{}",
        requests[1]
    );
    assert!(requests[1].contains("content-type: application/json\r\n"), "{}", requests[1]);
    for request in &*requests {
        assert!(
            !request.contains("transfer-encoding") && request.contains("user-agent: mycelium/"),
            "{request}"
        );
        assert!(!request.contains("authorization"), "{request}");
    }
}

#[test]
fn a_thread_without_a_runtime_waits_for_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (double, database) = runtime.block_on(double());
    double.faults().next.push_back(Fault::Conflict);
    let stored = Answer::coming(async { store(&database, "k").await.map_err(Error::from) }).wait().unwrap();
    assert_eq!(stored, ["k"]);
}

#[tokio::test]
async fn the_last_who_uses_a_server_may_be_a_task() {
    let (_double, database) = double().await;
    let server = database.server().clone();
    // A task of its own runtime, which ends it.
    let own = database.clone();
    drop(server.spawn("a test", async move { version(&own).await }));
    drop((database, server));
    let nobody = Server::new(&Address::parse("http://localhost").unwrap()).unwrap();
    assert!(nobody.spawn("a test that panics", async { panic!("planned") }).await.is_err());
}

#[test]
fn certificates_come_from_a_file_that_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let address = Address::parse("https://localhost").unwrap().with_ca(&file);
    for (text, why) in [
        (None, "No such file or directory"),
        (Some(""), "there is none in it"),
        (Some("nonsense"), "there is none in it"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ""),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let failure = Server::new(&address).unwrap_err();
        assert_eq!(failure.kind(), Kind::Certificate);
        assert!(failure.to_string().contains(why), "{failure}");
        assert!(failure.source().is_none());
    }
}

#[tokio::test]
async fn what_writes_does_not_wait_for_what_reads() {
    let (double, database) = double().await;
    version(&database).await.unwrap();
    double.faults().latency = Duration::from_millis(150);
    let done = AtomicUsize::new(0);
    let read = || async {
        version(&database).await.unwrap();
        done.fetch_add(1, Ordering::SeqCst);
    };
    let reads = futures::future::join_all((0..2 * READS_MAX).map(|_| read()));
    let write = async {
        store(&database, "k").await.unwrap();
        done.load(Ordering::SeqCst)
    };
    let since = Instant::now();
    let (_, done) = futures::join!(reads, write);
    assert!(
        since.elapsed() >= Duration::from_millis(300),
        "there is room for half of them: {:?}",
        since.elapsed()
    );
    assert!(done < READS_MAX + READS_MAX / 2, "{done} reads were before it");
}

#[tokio::test]
async fn a_request_goes_nowhere_else() {
    let elsewhere = Scripted::start(|_| answer("200 OK", r#"{"server":"arango"}"#)).await;
    let moved = format!("HTTP/1.1 307 Moved\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
    let server = Scripted::start(move |_| moved.clone()).await;
    let database = Server::new(&Address::parse(&server.url).unwrap()).unwrap().database("tests");
    assert_eq!(version(&database).await.unwrap_err().kind(), Kind::NotArango);
    assert_eq!(elsewhere.requests.lock().unwrap().len(), 0);
}
