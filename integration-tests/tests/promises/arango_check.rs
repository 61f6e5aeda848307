//! `mycelium store init` and `mycelium store check` of a server: one clear line for whatever is wrong with it, with what
//! to do, and an exit code that is not 0. Against the double of ArangoDB.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use arangodb_double::{Access, Double, License, ROOT};
use integration_tests::programs;
use mycelium_testing::{Ended, run};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PASSWORD: &str = "a password";
const DATABASE: &str = "BLUMYC_default";

/// Runs `mycelium store` as a user of the server.
async fn store(arguments: &[&str], user: &str, password: &str) -> anyhow::Result<Ended> {
    let mut command = mycelium_testing::command(programs::mycelium()?);
    command.arg("store").args(arguments);
    run(command.env("MYCELIUM_STORE_USER", user).env("MYCELIUM_STORE_PASSWORD", password)).await
}

/// A server with a mycelium.
async fn start() -> anyhow::Result<Double> {
    let double = Double::start(PASSWORD).await?;
    let made = store(&["init", &double.url()], ROOT, PASSWORD).await?;
    let line = format!("created mycelium default at {}, in database {DATABASE}\n", double.url());
    ensure!((made.code, &*made.stdout, &*made.stderr) == (Some(0), &*line, ""), "{made:?}");
    Ok(double)
}

/// Removes something of the mycelium, as its administrator.
async fn remove(double: &Double, path: &str) -> anyhow::Result<()> {
    // User and password in base64.
    const LOGIN: &str = "cm9vdDphIHBhc3N3b3Jk";
    let mut stream = TcpStream::connect(double.address()).await?;
    let request = format!(
        "DELETE /_db/{DATABASE}/{path} HTTP/1.1\r\nhost: h\r\nauthorization: Basic {LOGIN}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    Ok(())
}

type Fault = fn(&mut arangodb_double::Faults);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_server_is_one_line_that_says_what_to_do() -> anyhow::Result<()> {
    let faults: [(&str, Fault, &[&str]); 12] = [
        ("a proxy", |faults| faults.html = true, &["not ArangoDB"]),
        ("a server that hangs up", |faults| faults.down = true, &["http://127.0.0.1:"]),
        (
            "an old version",
            |faults| faults.version = "3.11.10".to_owned(),
            &["3.11.10", "use 3.12.5 or newer"],
        ),
        (
            "a bad version",
            |faults| faults.version = "3.12.3-1".to_owned(),
            &["3.12.3-1", "use 3.12.5 or newer"],
        ),
        ("a very old version", |faults| faults.version = "2.8.11".to_owned(), &["2.8.11", "too old"]),
        ("another role", |faults| faults.role = "PRIMARY".to_owned(), &["role PRIMARY", "coordinator"]),
        (
            "a version that lacks something in clusters",
            |faults| {
                faults.version = "3.12.4".to_owned();
                faults.role = "COORDINATOR".to_owned();
                faults.sharding = Some("single".to_owned());
            },
            &["3.12.4", "in a cluster it takes 3.12.5"],
        ),
        (
            "general sharding",
            |faults| {
                faults.role = "COORDINATOR".to_owned();
                faults.sharding = Some(String::new());
            },
            &["spread over several servers", "\"sharding\": \"single\"", "mycelium store init http://"],
        ),
        (
            "flexible sharding",
            |faults| {
                faults.role = "COORDINATOR".to_owned();
                faults.sharding = Some("flexible".to_owned());
            },
            &["sharding `flexible`"],
        ),
        (
            "a licence that lets nothing be written",
            |faults| {
                faults.read_only = true;
                faults.license = Some(License { status: "read-only".to_owned(), ..License::default() });
            },
            &["takes no writes (licence state `read-only`)", "apply a licence"],
        ),
        (
            "a server that is about to stop for its licence",
            |faults| faults.license = Some(License { status: "shutdown".to_owned(), ..License::default() }),
            &["licence state `shutdown`"],
        ),
        (
            "a server that was set to read-only",
            |faults| {
                faults.read_only = true;
                faults.license = None;
            },
            &["read-only", "set its mode to `default`"],
        ),
    ];
    let double = start().await?;
    for (what, fault, parts) in faults {
        *double.faults() = arangodb_double::Faults::default();
        fault(&mut double.faults());
        for command in ["check", "init"] {
            let ended = store(&[command, &double.url()], ROOT, PASSWORD).await?;
            ended.expect_error(1, parts).with_context(|| format!("{command}: {what}"))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_and_a_wrong_user_are_told_apart() -> anyhow::Result<()> {
    let double = start().await?;
    let host = double.address().to_string();
    let with_password = format!("http://{ROOT}:secret@{host}");
    let with_path = format!("http://{host}/_db/x");
    let is_none = "is not the address of an ArangoDB server";
    for (url, code, parts) in [
        ("ftp://localhost:8529", 2, [is_none, "neither http nor https"]),
        (&with_path, 2, [is_none, "it has a path"]),
        ("http://", 2, [is_none, ""]),
        (&with_password, 2, ["a password does not belong in an argument", "MYCELIUM_STORE_PASSWORD"]),
        ("http://127.0.0.1:1", 1, ["http://127.0.0.1:1", "refused"]),
        ("http://no.such.host.invalid:8529", 1, ["no.such.host.invalid:8529", ""]),
    ] {
        for command in ["check", "init"] {
            let ended = store(&[command, url], ROOT, PASSWORD).await?;
            ended.expect_error(code, &parts)?;
            ensure!(!ended.stderr.contains("secret"), "{ended:?}");
        }
    }
    for command in ["check", "init"] {
        let ended = store(&[command, &double.url()], ROOT, "secret").await?;
        ended.expect_error(1, &["login of root", "check user and password"])?;
        ensure!(!ended.stderr.contains("secret"), "{ended:?}");
        let nobody = store(&[command, &double.url()], "", "").await?;
        nobody.expect_error(1, &["asks for a user and a password; set MYCELIUM_STORE_USER"])?;
        let unnamed = store(&[command, "--mycelium", "North", &double.url()], ROOT, PASSWORD).await?;
        unnamed.expect_error(2, &["`North` is no name of a mycelium"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_mycelium_is_one_line_that_says_what_to_do() -> anyhow::Result<()> {
    let double = start().await?;
    let init = format!("mycelium store init {}", double.url());
    let url = double.url();
    let check = async |parts: &[&str]| -> anyhow::Result<()> {
        let ended = store(&["check", &url, "--mycelium", "default"], ROOT, PASSWORD).await?;
        ended.expect_error(1, parts)
    };
    for (path, what) in [
        (
            "_api/index/Jobs/open_ord",
            "index `open_ord` (sparse persistent over open, ord) of collection `Jobs`",
        ),
        ("_api/gharial/Jobs_graph", "graph `Jobs_graph`"),
        ("_api/collection/BrokerLogs", "collection `BrokerLogs`"),
    ] {
        remove(&double, path).await?;
        check(&[what, "is not there", &init]).await?;
        let made = store(&["init", &double.url()], ROOT, PASSWORD).await?;
        ensure!(made.code == Some(0) && made.stdout.starts_with("created"), "{made:?}");
    }
    remove(&double, "_api/index/Jobs/fin").await?;
    remove(&double, "_api/index/Jobs/gone").await?;
    let several = store(&["check", &double.url()], ROOT, PASSWORD).await?;
    ensure!(several.code == Some(1) && several.stderr == "error: 2 problems were found\n", "{several:?}");
    ensure!(several.stdout.lines().all(|line| line.starts_with("problem: index `")), "{several:?}");

    let absent = store(&["check", &double.url(), "--mycelium", "north"], ROOT, PASSWORD).await?;
    let init_north = format!("{init} --mycelium north");
    absent.expect_error(1, &["database `BLUMYC_north`", "is not there", &init_north])?;
    let empty = Double::start(PASSWORD).await?;
    let none = store(&["check", &empty.url()], ROOT, PASSWORD).await?;
    none.expect_error(1, &["there is no mycelium at", "create one with: mycelium store init"])?;
    remove(&double, "_api/document/BrokerRecords/format").await?;
    check(&["holds something else than a mycelium", "no mark of mycelium"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_user_lacks_are_named() -> anyhow::Result<()> {
    let double = start().await?;
    double.add_user("broker", "of the broker");
    let check = async |arguments: &[&str]| {
        let url = double.url();
        store(&[&["check", &url], arguments].concat(), "broker", "of the broker").await
    };
    check(&[]).await?.expect_error(1, &["no mycelium at", "that the user may use"])?;
    let named = ["--mycelium", "default"];
    check(&named)
        .await?
        .expect_error(1, &["user `broker` may not use database `BLUMYC_default`", "grant `ro`"])?;
    double.grant_database("broker", DATABASE, Access::Read);
    double.grant_collection("broker", DATABASE, "*", Access::Read);
    let ended = check(&[]).await?;
    ended.expect_error(1, &["may not write collection `Jobs` and 14 others", "grant `rw`"])?;
    // Those of a broker are enough, with none to list what else there is.
    double.grant_collection("broker", DATABASE, "*", Access::Write);
    let ended = check(&[]).await?;
    ensure!(ended.code == Some(0) && ended.stderr.is_empty(), "{ended:?}");
    double.grant_collection("broker", DATABASE, "Jobs", Access::None);
    check(&named).await?.expect_error(1, &["collection `Jobs`", "grant `rw` on it"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_no_harm_is_a_note() -> anyhow::Result<()> {
    let faults: [(Fault, &str); 7] = [
        (|faults| faults.license = None, "state of the licence"),
        (
            |faults| faults.license = Some(License { bytes_used: 90 << 30, ..License::default() }),
            "90.0 of 100 GiB",
        ),
        (|faults| faults.plan_without_nodes = true, "does not tell its nodes"),
        (|faults| faults.clock_ahead_ms = 60_000, "s ahead of that of this machine"),
        (|faults| faults.clock_ahead_ms = -60_000, "s behind that of this machine"),
        (
            |faults| {
                faults.role = "COORDINATOR".to_owned();
                faults.sharding = Some("single".to_owned());
            },
            "writeConcern 1",
        ),
        (|faults| faults.version = "4.0.0-devel".to_owned(), ""),
    ];
    let double = start().await?;
    for (fault, part) in faults {
        *double.faults() = arangodb_double::Faults::default();
        fault(&mut double.faults());
        let ended = store(&["check", &double.url()], ROOT, PASSWORD).await?;
        ensure!(ended.code == Some(0) && ended.stderr.is_empty(), "{ended:?}");
        ensure!(
            part.is_empty() || ended.stdout.starts_with("note: ") && ended.stdout.contains(part),
            "{ended:?}"
        );
        ensure!(ended.stdout.lines().last().is_some_and(|line| line.ends_with("all is well")), "{ended:?}");
    }
    *double.faults() = arangodb_double::Faults { version: "3.12.4".to_owned(), ..Default::default() };
    let plain = store(&["check", &double.url()], ROOT, PASSWORD).await?;
    ensure!(plain.code == Some(0) && plain.stdout.lines().count() == 1, "{plain:?}");
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_read_a_line_for_each_mycelium() -> anyhow::Result<()> {
    let double = start().await?;
    let made =
        store(&["init", &double.url(), "--mycelium", "north", "--output", "json"], ROOT, PASSWORD).await?;
    let read = |text: &str| serde_json::from_str::<Value>(text).context("a line of JSON");
    ensure!(read(&made.stdout)?["created"] == true, "{made:?}");
    remove(&double, "_api/index/Jobs/open_ord").await?;
    let ended = store(&["check", &double.url(), "--output", "json"], ROOT, PASSWORD).await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    let lines = ended.stdout.lines().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let [default, north] = &lines[..] else { anyhow::bail!("{ended:?}") };
    ensure!(default["problems"][0]["kind"] == "index" && default["version"] == "3.12.5", "{default}");
    ensure!(
        north["mycelium"] == "north" && north["problems"].as_array().is_some_and(Vec::is_empty),
        "{north}"
    );
    ensure!(north["bytes_max"] == 107_374_182_400u64 && north["lease"].is_null(), "{north}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_named_by_the_environment_as_well() -> anyhow::Result<()> {
    let double = start().await?;
    let url = format!("http://{ROOT}:{}@{}", PASSWORD.replace(' ', "%20"), double.address());
    let mut command = mycelium_testing::command(programs::mycelium()?);
    let ended = run(command.args(["store", "check"]).env("MYCELIUM_STORE", url)).await?;
    ensure!(ended.code == Some(0) && !ended.stdout.contains(PASSWORD), "{ended:?}");
    let mut command = mycelium_testing::command(programs::mycelium()?);
    let ended = run(command.args(["store", "check"])).await?;
    ended.expect_error(2, &["name an ArangoDB server by its URL", "MYCELIUM_STORE"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_does_not_wait_for_a_server_that_starts() -> anyhow::Result<()> {
    let double = start().await?;
    double.faults().starting = true;
    let url = double.url();
    let looked = tokio::time::timeout(Duration::from_secs(5), store(&["check", &url], ROOT, PASSWORD)).await;
    looked.context("it waits")??.expect_error(1, &["starting up"])
}
