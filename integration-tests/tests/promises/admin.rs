//! The admin listener says whether a broker takes jobs, from before it has a store until it has ended, and whatever comes to it
//! disturbs nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use arangodb_double::{Double, ROOT};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, must, programs, until, wire};
use mycelium_proto::v1;
use mycelium_server::store::MemoryStore;
use mycelium_server::store::faulty::FaultyStore;
use mycelium_server::{Admin, Broker, Config};
use mycelium_testing::{Ended, run};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// An address that is free now.
async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

/// The address of the admin listener of a broker that chose it by itself.
pub(super) fn admin_of(broker: &BrokerProcess) -> anyhow::Result<SocketAddr> {
    let log = broker.log()?;
    let line = log.lines().rev().find(|line| line.contains("the admin listener answers"));
    let address =
        line.and_then(|line| line.split("127.0.0.1:").nth(1)).context("no line of it in the log")?;
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    Ok(SocketAddr::from(([127, 0, 0, 1], port.parse()?)))
}

/// What is answered: the status, and the body without the end of its line.
pub(super) async fn get(admin: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let answer = reqwest::get(format!("http://{admin}{path}")).await?;
    Ok((answer.status().as_u16(), answer.text().await?.trim_end().to_owned()))
}

async fn health(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Ended> {
    let mut command = mycelium_testing::command(programs::mycelium()?);
    command.arg("health").args(arguments).envs(variables.iter().copied());
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_waits_for_its_store_lives_and_is_not_ready() -> anyhow::Result<()> {
    const PASSWORD: &str = "a password";
    let (double, admin) = (Double::start(PASSWORD).await?, free_address().await?);
    let (store, shown) = (double.url(), admin.to_string());
    let login = [("MYCELIUM_STORE_USER", ROOT), ("MYCELIUM_STORE_PASSWORD", PASSWORD)];
    let flags = ["--store", &store, "--store-lease=8s", "--admin-listen", &shown];
    let mut broker = BrokerProcess::start_with(&flags, &login).await?;
    let ready = get(admin, "/readyz").await?;
    ensure!(ready.0 == 200 && ready.1.starts_with("ready: owner of the store, at commit "), "{ready:?}");
    broker.kill().await?;

    // The next one has to wait until it is clear that this one is gone.
    let waits = async {
        let told = until("the next broker to answer", async || match get(admin, "/readyz").await {
            Ok(told) => Ok(Some(told)),
            Err(_) => Ok(None),
        })
        .await?;
        ensure!(told.0 == 503 && told.1.starts_with("not ready: standby: "), "{told:?}");
        ensure!(get(admin, "/livez").await?.0 == 200);
        let metrics = get(admin, "/metrics").await?;
        ensure!(metrics.0 == 200 && metrics.1.contains("\nmycelium_ready 0"), "{metrics:?}");
        health(&["--admin", &shown], &[]).await?.expect_error(1, &["not ready: standby: "])?;
        ensure!(health(&["--admin", &shown, "--live"], &[]).await?.good() == "the process turns\n");
        anyhow::Ok(())
    };
    let (waited, restarted) = tokio::join!(waits, broker.restart());
    waited?;
    restarted?;
    ensure!(get(admin, "/readyz").await?.0 == 200);
    broker.stop().await?;
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_drains_says_so_until_it_has_ended() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0", "--drain-grace", "1h"]).await?;
    let admin = admin_of(&broker)?;
    let shown = format!("http://{admin}");
    let everywhere = format!("0.0.0.0:{}", admin.port());
    ensure!(get(admin, "/livez").await? == (200, "the process turns".to_owned()));
    let ready = health(&["--admin", &shown], &[]).await?.good();
    ensure!(ready == "ready: owner of the store, at commit 0\n", "{ready}");
    ensure!(health(&[], &[("MYCELIUM_ADMIN_LISTEN", &everywhere)]).await?.good() == ready);

    // Waited for by the stop for a second, since it does not end by itself.
    let mut watch = HealthClient::new(wire::channel(&broker.url()).await?);
    let mut watch = watch.watch(HealthCheckRequest::default()).await?.into_inner();
    must("the health", watch.message()).await??;
    broker.signal(Signal::SIGTERM)?;
    let asked = async {
        let mut told = Vec::new();
        while let Ok(ready) = get(admin, "/readyz").await {
            // It may have ended between the two.
            let live = get(admin, "/livez").await.map_or(200, |(status, _)| status);
            told.push((ready, live));
        }
        told
    };
    let mut told = must("the end of the admin listener", asked).await?;
    told.retain(|((status, _), _)| *status != 200);
    let drains = (503, "not ready: draining: the broker is stopping".to_owned());
    ensure!(
        !told.is_empty() && told.iter().all(|(ready, live)| *ready == drains && *live == 200),
        "{told:?}"
    );
    ensure!(broker.ended().await?.success());
    health(&["--admin", &shown], &[]).await?.expect_error(1, &["does not answer as it should"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_is_told() -> anyhow::Result<()> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let admin = Admin::bind("127.0.0.1:0").await?;
    let at = admin.address();
    ensure!(get(at, "/readyz").await?.0 == 503, "it has no broker yet");
    let broker = Broker::with_store(Config::default(), store.clone())?.with_admin(admin);
    let broker = broker.bind("127.0.0.1:0").await?;
    until("it to be ready", async || Ok((get(at, "/readyz").await?.0 == 200).then_some(()))).await?;
    let mut calls = wire::client(&broker.url()).await?;
    let job = || wire::submission(vec![wire::job("nobody", &["text"], vec![wire::literal("1")])]);
    calls.submit_jobs(job()).await?;

    for (problem, kind) in [("the store is full", "full"), ("the store is unavailable", "unavailable")] {
        let set = |is_so| if kind == "full" { store.set_full(is_so) } else { store.set_unavailable(is_so) };
        set(true);
        // What a submission has to read fails before anything is to be written.
        let target = Some(v1::PauseTarget { kind: Some(v1::pause_target::Kind::Elf(kind.to_owned())) });
        let pause = v1::PauseRequest { target, by: "a test".to_owned(), ..v1::PauseRequest::default() };
        ensure!(calls.pause(pause).await.is_err());
        let told = until("it not to be ready", async || {
            let told = get(at, "/readyz").await?;
            Ok((told.0 == 503).then_some(told.1))
        })
        .await?;
        ensure!(told.starts_with(&format!("not ready: {problem}")), "{told}");
        ensure!(get(at, "/livez").await?.0 == 200);
        let scraped = get(at, "/metrics").await?.1;
        for line in [
            "mycelium_ready 0".to_owned(),
            "mycelium_store_writable{mycelium=\"default\"} 0".to_owned(),
            "mycelium_jobs{mycelium=\"default\",status=\"ready\"} ".to_owned(),
            format!("mycelium_store_errors_total{{kind=\"{kind}\",mycelium=\"default\"}} 1"),
        ] {
            ensure!(scraped.lines().any(|found| found.starts_with(&line)), "{line}: {scraped}");
        }
        set(false);
        until("it to be ready", async || Ok((get(at, "/readyz").await?.0 == 200).then_some(()))).await?;
    }
    calls.submit_jobs(job()).await?;
    drop(calls);
    broker.stop().await?;
    ensure!(TcpStream::connect(at).await.is_err(), "it ends with its broker");
    Ok(())
}

/// Sends these bytes, and returns what comes back until the connection is closed.
async fn say(admin: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(admin).await?;
    // It may be closed before all of it is read.
    let _cut = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _reset = must("the end of a connection", socket.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_disturbs_nobody() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--admin-listen", "127.0.0.1:0"]).await?;
    let admin = admin_of(&broker)?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 1, 1)).await?;
    let mycelium = broker.client().await?;

    for (request, status) in [
        ("GET /else HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        ("GET /../metrics HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        ("POST /readyz HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\nabc", "405"),
        ("DELETE /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        ("HEAD /readyz HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("GET /livez HTTP/1.0\r\n\r\n", "200"),
        ("GET /livez?a=b HTTP/1.1\r\nhost: a\r\n\r\nGET /livez HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("\0\0\0\0 nonsense\r\n\r\n", "400"),
    ] {
        let answer = say(admin, request.as_bytes()).await?;
        ensure!(answer.starts_with("HTTP/1.") && answer[9..].starts_with(status), "{request:?}: {answer}");
        ensure!(answer.matches("HTTP/1.").count() == 1, "a connection is for one request: {answer}");
    }
    for nonsense in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1024 * 1024)).into_bytes(),
        format!("GET /livez HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1_000)).into_bytes(),
        // A greeting of TLS.
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(100),
    ] {
        let answer = say(admin, &nonsense).await?;
        ensure!(!answer.contains(" 200 "), "{answer}");
    }

    // More than there may be, of which each says a little now and then.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(admin).await?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: ").await?;
        slow.push(socket);
    }
    let began = Instant::now();
    ensure!(get(admin, "/readyz").await?.0 == 200);
    ensure!(get(admin, "/metrics").await?.0 == 200);
    let flow = mycelium.flow("beside");
    let sum = Tester::tasks(&flow, "adder").task_add(elf_runtime::list![1u64, 2], 0);
    ensure!(must("a sum", flow.submit().await?.result(&sum)).await?? == 3);
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    for mut socket in slow {
        let mut rest = Vec::new();
        let _reset = must("the end of a slow one", socket.read_to_end(&mut rest)).await?;
        ensure!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{rest:?}");
    }
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_fails_in_time_and_says_why() -> anyhow::Result<()> {
    health(&[], &[]).await?.expect_error(1, &["--admin", "MYCELIUM_ADMIN_LISTEN"])?;
    health(&["--admin", "nonsense"], &[]).await?.expect_error(1, &["is no address of an admin listener"])?;
    let nobody = free_address().await?.to_string();
    health(&["--admin", &nobody], &[]).await?.expect_error(1, &[&nobody, "does not answer as it should"])?;
    // One that takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let address = silent.local_addr()?.to_string();
    let began = Instant::now();
    health(&["--admin", &address], &[]).await?.expect_error(1, &["no answer within 3 s"])?;
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    // The port of clients and elves speaks something else.
    let broker = BrokerProcess::start(&[]).await?;
    let port = broker.address().to_string();
    health(&["--admin", &port], &[]).await?.expect_error(1, &["it speaks gRPC"])?;
    let misused = health(&["--url", "http://127.0.0.1:1"], &[]).await?;
    ensure!(misused.code == Some(2) && misused.stderr.contains("is named with --admin"), "{misused:?}");
    ensure!(!broker.log()?.contains("admin"), "there is no admin listener unless it is asked for");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mycelium.toml");
    std::fs::write(&file, format!("admin_listen = \"{nobody}\"\n"))?;
    let file = file.to_str().context("a path")?;
    health(&[], &[("MYCELIUM_CONFIG", file)]).await?.expect_error(1, &[&nobody])?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_or_no_address_is_refused() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let serve = async |flags: &[&str]| {
        let mut command = mycelium_testing::command(programs::mycelium()?);
        command.args(["serve", "--log=error", "--store=memory"]).args(flags);
        run(&mut command).await
    };
    let refused = serve(&["--listen=127.0.0.1:0", "--admin-listen", &address]).await?;
    refused.expect_error(1, &[&address, "the port is taken; choose another with --admin-listen"])?;
    let refused = serve(&["--admin-listen", "7422"]).await?;
    refused
        .expect_error(2, &["--admin-listen: `7422` is not an address with a port, such as 127.0.0.1:7422"])?;
    let refused = serve(&["--listen=127.0.0.1:7431", "--admin-listen=0.0.0.0:7431"]).await?;
    refused.expect_error(2, &["--admin-listen: 0.0.0.0:7431 is where clients and elves are listened for"])
}
