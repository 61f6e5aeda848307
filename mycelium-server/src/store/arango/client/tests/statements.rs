//! Cursors.

use std::sync::Mutex;

use super::scripted::answer;
use super::*;
use crate::store::Error;

fn read_rows() -> Statement {
    statement("FOR i IN 1..3 RETURN i", false)
}

/// A server that answers to each request what comes next, and to the removal of a cursor whenever that comes.
async fn script(answers: Vec<String>) -> (Scripted, Database) {
    let answers = Mutex::new(answers.into_iter());
    let server = Scripted::start(move |request| match request.starts_with("DELETE ") {
        true => answer("202 Accepted", r#"{"id":"7","error":false,"code":202}"#),
        false => answers.lock().unwrap().next().expect("nothing more is asked"),
    })
    .await;
    let database = Server::new(&Address::parse(&server.url).unwrap()).unwrap().database("tests");
    (server, database)
}

fn asked(server: &Scripted) -> Vec<String> {
    let requests = server.requests.lock().unwrap();
    requests
        .iter()
        .map(|it| it.split(" HTTP/").next().unwrap().replace("/_db/tests/_api/cursor", ""))
        .collect()
}

fn page(rows: &[u64], next: Option<&str>) -> String {
    let body = json!({
        "result": rows, "hasMore": next.is_some(), "id": next, "cached": false, "error": false, "code": 201,
        "extra": {"warnings": [], "stats": {"writesExecuted": 0, "writesIgnored": 0, "intermediateCommits": 0}},
    });
    answer("201 Created", &body.to_string())
}

fn refusal(status: u16, error_num: u32) -> String {
    let body = json!({"error": true, "code": status, "errorNum": error_num, "errorMessage": "no"});
    answer(&format!("{status} No"), &body.to_string())
}

async fn rows(database: &Database) -> Result<Vec<u64>, Failure> {
    database.run(&read_rows(), &json!({})).await.map(|ran| ran.rows)
}

#[tokio::test]
async fn a_statement_is_sent_in_its_envelope() {
    let (server, database) = script(vec![page(&[1], None), page(&[1], None)]).await;
    rows(&database).await.unwrap();
    database.scan::<u64>(&read_rows(), &json!({"a": 1})).await.unwrap();
    let requests = server.requests.lock().unwrap();
    let bodies = requests.iter().map(|it| it.split("\r\n\r\n").nth(1).unwrap());
    let sent: Vec<Value> = bodies.map(|it| serde_json::from_str(it).unwrap()).collect();
    let envelope = |variables, options| {
        json!({
            "query": read_rows().text, "bindVars": variables, "batchSize": 10_000, "memoryLimit": 268_435_456,
            "options": options,
        })
    };
    assert_eq!(sent[0], envelope(json!({}), json!({"maxRuntime": 20, "failOnWarning": true})));
    let options = json!({"maxRuntime": 20, "failOnWarning": true, "fillBlockCache": false});
    assert_eq!(sent[1], envelope(json!({"a": 1}), options));
}

#[tokio::test]
async fn rows_come_in_batches_and_in_order() {
    let (double, database) = double().await;
    let many = statement("FOR i IN 1..25000 RETURN i", false);
    let ran = database.run::<u64>(&many, &json!({})).await.unwrap();
    assert!(ran.rows.into_iter().eq(1..=25_000));
    let cursors: Vec<_> =
        double.counters().requests.into_iter().filter(|(it, _)| it.contains("cursor")).collect();
    assert_eq!(cursors, [("POST /_api/cursor".to_owned(), 1), ("POST /_api/cursor/{}".to_owned(), 2)]);
    double.assert_known();
}

#[tokio::test]
async fn a_batch_that_was_not_handed_out_is_asked_for_again() {
    let (server, database) =
        script(vec![page(&[1, 2], Some("7")), refusal(503, 21_003), page(&[3], None)]).await;
    assert_eq!(rows(&database).await.unwrap(), [1, 2, 3]);
    assert_eq!(asked(&server), ["POST ", "POST /7", "POST /7"]);
}

#[tokio::test]
async fn a_statement_begins_anew_if_a_batch_may_be_lost_or_its_cursor_is() {
    for lost in
        [String::new(), answer("503 No", "no server is available"), refusal(500, 1_457), refusal(404, 1_600)]
    {
        let (server, database) =
            script(vec![page(&[1, 2], Some("7")), lost.clone(), page(&[1, 2, 3], None)]).await;
        assert_eq!(rows(&database).await.unwrap(), [1, 2, 3], "{lost}");
        until("the cursor is left open", || asked(&server).len() == 4).await;
        let mut asked = asked(&server);
        asked.sort();
        assert_eq!(asked, ["DELETE /7", "POST ", "POST ", "POST /7"], "{lost}");
    }
}

#[tokio::test]
async fn a_cursor_that_nobody_fetches_any_more_is_removed() {
    let (server, database) = script(vec![page(&[1, 2], Some("7")), refusal(410, 1_500)]).await;
    let failure = rows(&database.with_patience(Duration::ZERO)).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Killed, "{failure}");
    until("the cursor is left open", || asked(&server).len() == 3).await;
    assert_eq!(asked(&server)[2], "DELETE /7");
    assert!(!server.requests.lock().unwrap()[2].contains("content-length"), "nothing goes with it");
}

#[tokio::test]
async fn a_write_that_is_not_one_is_told_so() {
    let stats = |ignored: u64, intermediate: u64, more: bool| {
        let body = json!({
            "result": [], "hasMore": more, "id": more.then_some("7"), "error": false, "code": 201,
            "extra": {"warnings": [], "stats": {
                "writesExecuted": 5, "writesIgnored": ignored, "intermediateCommits": intermediate,
            }},
        });
        answer("201 Created", &body.to_string())
    };
    let writes = statement("INSERT {} INTO a", true);
    let (_server, database) = script(vec![stats(0, 0, false)]).await;
    assert!(database.run::<u64>(&writes, &json!({})).await.is_ok());
    for broken in [stats(1, 0, false), stats(0, 1, false), stats(0, 0, true)] {
        let (_server, database) = script(vec![broken.clone()]).await;
        let failure = database.run::<u64>(&writes, &json!({})).await.unwrap_err();
        assert!(
            failure.is_unknown() && failure.to_string().contains("not written as one"),
            "{broken}: {failure}"
        );
        assert!(!Error::from(failure).is_certainly_not_applied());
    }
}

#[tokio::test]
async fn a_warning_is_no_success() {
    let body = json!({
        "result": [], "hasMore": false, "error": false, "code": 201,
        "extra": {"warnings": [{"code": 1562, "message": "division by zero"}], "stats": {}},
    });
    let (_server, database) = script(vec![answer("201 Created", &body.to_string())]).await;
    let failure = rows(&database).await.unwrap_err();
    assert!(failure.to_string().ends_with("the server warns: division by zero (1562)"), "{failure}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_damage() {
    let (double, database) = double().await;
    let text = statement("RETURN 'text'", false);
    let failure = database.run::<u64>(&text, &json!({})).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::Unreadable, "{failure}");
    assert!(Error::from(failure).is_damage());
    double.assert_known();
}
