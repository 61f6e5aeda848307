//! A broker that keeps its mycelia in ArangoDB, as people run it: it begins on an empty server, goes on after its death and
//! that of the server, and says so when another one has taken its place.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arangodb_double::{Access, Double, License, ROOT};
use elf_runtime::{Mycelium, v1};
use integration_tests::{BrokerProcess, Tester, Worker, example, must, programs, until, wire};
use mycelium_proto::reason;
use mycelium_proto::v1::JobStatus;
use mycelium_testing::{Ended, Process, run};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const PASSWORD: &str = "a password";
/// The databases of the mycelia `default` and `north`.
const DEFAULT: &str = "BLUMYC_default";
const NORTH: &str = "BLUMYC_north";
/// The shortest lease: who is killed is missed for so long.
const LEASE: &str = "--store-lease=1s";

async fn start() -> anyhow::Result<Double> {
    Ok(Double::start(PASSWORD).await?)
}

const LOGIN: [(&str, &str); 2] = [("MYCELIUM_STORE_USER", ROOT), ("MYCELIUM_STORE_PASSWORD", PASSWORD)];

async fn broker_on(double: &Double, flags: &[&str]) -> anyhow::Result<BrokerProcess> {
    let url = double.url();
    BrokerProcess::start_with(&[&["--store", &url, LEASE], flags].concat(), &LOGIN).await
}

fn n_jobs(double: &Double, database: &str) -> usize {
    double.documents(database, "Jobs").map_or(0, |jobs| jobs.len())
}

async fn wait_for_health(url: &str, expected: ServingStatus) -> anyhow::Result<()> {
    let health = HealthClient::new(wire::channel(url).await?);
    let service = mycelium_proto::v1::mycelium_service_server::SERVICE_NAME.to_owned();
    until(&format!("the health service to say {expected:?}"), || {
        let (mut health, request) = (health.clone(), HealthCheckRequest { service: service.clone() });
        async move { Ok((health.check(request).await?.into_inner().status() == expected).then_some(())) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_begins_on_an_empty_server_and_has_its_jobs_after_it_was_killed() -> anyhow::Result<()> {
    let double = start().await?;
    let mut broker = broker_on(&double, &[]).await?;
    let url = broker.url();
    let folder = tempfile::tempdir()?;
    let ended = example::run("hello", folder.path(), &["--url", &url]).await?;
    ensure!(ended.stdout == "Hello, mycelium!\n13 letters were printed\n", "{ended:?}");

    broker.kill().await?;
    broker.restart().await?;
    let mycelium = broker.client().await?;
    let status = mycelium.get_status(v1::GetStatusRequest::default()).await?;
    ensure!((status.store.as_str(), status.durable) == ("arangodb", true), "{status:?}");
    let jobs = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
    ensure!(jobs.len() == 2 && jobs.iter().all(|job| job.status() == JobStatus::Done), "{jobs:?}");
    ensure!(!broker.log()?.contains(PASSWORD));
    broker.stop().await?;
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_run_unchanged_on_a_server() -> anyhow::Result<()> {
    let double = start().await?;
    let url = double.url();
    let variables = [&LOGIN[..], &[("MYCELIUM_STORE", url.as_str())]].concat();
    let mut before = 0;
    for name in ["hello", "values", "branches", "animals"] {
        let folder = tempfile::tempdir()?;
        let ended = example::run_with(name, folder.path(), &variables).await?;
        ensure!(ended.code == Some(0), "{name}: {ended:?}");
        let jobs = n_jobs(&double, DEFAULT);
        ensure!(jobs > before, "{name} has left no jobs");
        before = jobs;
    }
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mycelium_is_a_database_and_nothing_crosses() -> anyhow::Result<()> {
    let double = start().await?;
    let broker = broker_on(&double, &[]).await?;
    let mycelia = [("", 1u64), ("north", 2)];
    let mut runs = Vec::new();
    for (name, number) in mycelia {
        let mycelium = Mycelium::builder(broker.url()).mycelium(name).connect().await?;
        let worker = Worker::start(mycelium.serve().elf("adder", Tester::default())).await?;
        let flow = mycelium.flow("the same");
        let sum = Tester::tasks(&flow, "adder").task_add(vec![number], 0);
        let run = flow.submit().await?;
        ensure!(must("a result", run.result(&sum)).await?? == number);
        worker.stop().await?;
        runs.push((mycelium, run));
    }
    ensure!((n_jobs(&double, DEFAULT), n_jobs(&double, NORTH)) == (1, 1));
    let folder = broker.data_folder();
    ensure!(folder.join("north/blobs").is_dir() && folder.join("default/blobs").is_dir());
    drop(runs);

    let mut client = wire::client(&broker.url()).await?;
    let made = v1::CreateMyceliumRequest { mycelium: "south".to_owned() };
    ensure!(client.create_mycelium(made).await?.into_inner().created);
    ensure!(double.documents("BLUMYC_south", "Jobs").is_some_and(|jobs| jobs.is_empty()));
    let removed = v1::DeleteMyceliumRequest { mycelium: "north".to_owned(), force: true };
    ensure!(client.delete_mycelium(removed).await?.into_inner().deleted);
    ensure!(double.documents(NORTH, "Jobs").is_none() && n_jobs(&double, DEFAULT) == 1);
    ensure!(!folder.join("north").exists() && folder.join("default").exists());
    broker.stop().await?;
    double.assert_known();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_broker_says_so_and_then_goes_on_by_itself() -> anyhow::Result<()> {
    let double = start().await?;
    let broker = broker_on(&double, &[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("adder", Tester::default())).await?;
    wait_for_health(&broker.url(), ServingStatus::Serving).await?;
    let folder = tempfile::tempdir()?;
    let gate = folder.path().join("gate");
    let flow = mycelium.flow("held");
    let sum = Tester::tasks(&flow, "adder").task_pass(7u64, gate.clone());
    let run = flow.submit().await?;
    until("the job to run", || async {
        let jobs = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
        Ok(jobs.iter().any(|job| job.status() == JobStatus::Running).then_some(()))
    })
    .await?;

    double.faults().down = true;
    // Nothing else happens, and it is noticed all the same.
    wait_for_health(&broker.url(), ServingStatus::NotServing).await?;
    fs::write(&gate, "")?;
    let mut client = wire::client(&broker.url()).await?;
    let submission = wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
    let refused = must("a refusal", client.submit_jobs(submission.clone())).await?;
    wire::expect_refusal(refused, Code::Unavailable, reason::STORE_UNAVAILABLE, &[])?;

    double.faults().down = false;
    ensure!(must("the result that was held", run.result(&sum)).await?? == 7);
    wait_for_health(&broker.url(), ServingStatus::Serving).await?;
    must("a submission", client.submit_jobs(submission)).await??;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_place_another_has_taken_says_so_and_ends() -> anyhow::Result<()> {
    let double = start().await?;
    let mut first = broker_on(&double, &[]).await?;
    first.signal(Signal::SIGSTOP)?;
    let second = broker_on(&double, &[]).await?;
    first.signal(Signal::SIGCONT)?;
    let status = first.ended().await?;
    ensure!(status.code() == Some(1), "{status}");
    let log = first.log()?;
    let last = log.lines().last().context("it says nothing")?;
    ensure!(last.starts_with("error: ") && last.contains("another broker"), "{last}");

    // And one that comes while the mycelium is held and renewed is refused.
    let third = serve(&double.url(), ROOT, PASSWORD).await?;
    third.expect_error(1, &["database BLUMYC_default", "in use by another broker"])?;
    second.stop().await
}

/// A broker on a store.
fn serving(store: &str, data: &Path, user: &str, password: &str) -> anyhow::Result<Command> {
    let mut command = mycelium_testing::command(programs::mycelium()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "off", LEASE, "--store", store]);
    command.arg("--data-dir").arg(data);
    command.env("MYCELIUM_STORE_USER", user).env("MYCELIUM_STORE_PASSWORD", password);
    Ok(command)
}

/// Starts a broker that is expected to end at once.
async fn serve(store: &str, user: &str, password: &str) -> anyhow::Result<Ended> {
    let folder = tempfile::tempdir()?;
    run(&mut serving(store, folder.path(), user, password)?).await
}

/// A broker that becomes ready and is stopped.
async fn serve_once(store: &str, data: &Path) -> anyhow::Result<()> {
    let (mut broker, _) = Process::start("a broker", serving(store, data, ROOT, PASSWORD)?).await?;
    broker.stop().await
}

type Fault = fn(&mut arangodb_double::Faults);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_server_is_one_line_that_says_what_to_do() -> anyhow::Result<()> {
    let faults: [(&str, Fault, &[&str]); 5] = [
        ("a proxy", |faults| faults.html = true, &["not ArangoDB"]),
        ("a server that hangs up", |faults| faults.down = true, &["http://127.0.0.1:"]),
        ("an old version", |faults| faults.version = "3.12.3".to_owned(), &["3.12.3", "use 3.12.5 or newer"]),
        (
            "general sharding",
            |faults| {
                faults.role = "COORDINATOR".to_owned();
                faults.sharding = Some(String::new());
            },
            &["spread over several servers", "mycelium store init"],
        ),
        (
            "a licence that lets nothing be written",
            |faults| {
                faults.read_only = true;
                faults.license = Some(License { status: "read-only".to_owned(), ..License::default() });
            },
            &["takes no writes", "apply a licence"],
        ),
    ];
    let double = start().await?;
    // It is there before anything is wrong with it.
    broker_on(&double, &[]).await?.stop().await?;
    for (what, fault, parts) in faults {
        *double.faults() = arangodb_double::Faults::default();
        fault(&mut double.faults());
        let ended = serve(&double.url(), ROOT, PASSWORD).await?;
        ended.expect_error(1, parts).context(what)?;
    }
    *double.faults() = arangodb_double::Faults::default();
    let wrong = serve(&double.url(), ROOT, "secret").await?;
    wrong.expect_error(1, &["login of root", "check user and password"])?;
    ensure!(!wrong.stderr.contains("secret"), "{wrong:?}");
    double.add_user("broker", "of the broker");
    let denied = serve(&double.url(), "broker", "of the broker").await?;
    denied.expect_error(1, &["user `broker` may not use database `BLUMYC_default`", "grant `ro`"])?;
    let argument = serve("http://root:secret@h", "", "").await?;
    argument.expect_error(2, &["--store: a password does not belong in an argument"])?;
    ensure!(!argument.stderr.contains("secret"), "{argument:?}");
    serve("http://127.0.0.1:1", ROOT, PASSWORD).await?.expect_error(1, &["http://127.0.0.1:1", "refused"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_needs_no_more_than_its_rights() -> anyhow::Result<()> {
    let double = start().await?;
    broker_on(&double, &[]).await?.stop().await?;
    double.add_user("broker", "of the broker");
    double.grant_database("broker", DEFAULT, Access::Read);
    double.grant_collection("broker", DEFAULT, "*", Access::Write);
    let login = [("MYCELIUM_STORE_USER", "broker"), ("MYCELIUM_STORE_PASSWORD", "of the broker")];
    let broker = BrokerProcess::start_with(&["--store", &double.url(), LEASE], &login).await?;
    let mut client = wire::client(&broker.url()).await?;
    client.submit_jobs(wire::submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    ensure!(n_jobs(&double, DEFAULT) == 1);
    // It may not make others, and goes on.
    let made = v1::CreateMyceliumRequest { mycelium: "south".to_owned() };
    ensure!(client.create_mycelium(made).await.is_err());
    client.submit_jobs(wire::submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_other_stores_and_mycelia_are_left_alone() -> anyhow::Result<()> {
    let double = start().await?;
    let (embedded, database) = (tempfile::tempdir()?, tempfile::tempdir()?);
    serve_once("embedded", embedded.path()).await?;
    let mut command = serving(&double.url(), embedded.path(), ROOT, PASSWORD)?;
    run(&mut command).await?.expect_error(1, &["embedded store", "mycelium export", "mycelium import"])?;
    ensure!(double.documents(DEFAULT, "Jobs").is_none(), "nothing was made");

    serve_once(&double.url(), database.path()).await?;
    let other = start().await?;
    let mut command = serving(&other.url(), database.path(), ROOT, PASSWORD)?;
    run(&mut command).await?.expect_error(1, &["large values of another mycelium", "--data-dir"])?;
    let mut command = serving("embedded", database.path(), ROOT, PASSWORD)?;
    run(&mut command).await?.expect_error(1, &["kept in a database", "--store"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_to_only_read_is_read() -> anyhow::Result<()> {
    let double = start().await?;
    let broker = broker_on(&double, &[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let submission = || wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
    client.submit_jobs(submission()).await?;
    double.faults().read_only = true;
    let refused = must("a refusal", client.submit_jobs(submission())).await?;
    ensure!(refused.is_err_and(|status| status.code() == Code::Unavailable));
    until("it to be told as such", || {
        let mut client = client.clone();
        async move {
            let refused = client.submit_jobs(submission()).await;
            Ok(wire::expect_refusal(refused, Code::Unavailable, reason::STORE_READ_ONLY, &[]).ok())
        }
    })
    .await?;
    let jobs = client.list_jobs(v1::ListJobsRequest::default()).await?.into_inner().jobs;
    ensure!(jobs.len() == 1, "{jobs:?}");
    double.faults().read_only = false;
    wait_for_health(&broker.url(), ServingStatus::Serving).await?;
    until("a submission to be taken", || {
        let mut client = client.clone();
        async move { Ok(client.submit_jobs(submission()).await.ok().map(drop)) }
    })
    .await?;
    tokio::time::timeout(Duration::from_secs(30), broker.stop()).await?
}

/// A container has nobody else to end it, and a deployment waits for so long and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_holds_up_no_stop() -> anyhow::Result<()> {
    let double = start().await?;
    let mut broker = broker_on(&double, &["--drain-grace=1s"]).await?;
    double.faults().latency = Duration::from_secs(3_600);
    broker.signal(Signal::SIGTERM)?;
    let ended = tokio::time::timeout(Duration::from_secs(15), broker.ended()).await;
    let ended = ended.context("it waits for the server")??;
    ensure!(ended.success(), "it ended with {ended}");

    // Nor does the start of one.
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut starting = mycelium_testing::command(programs::mycelium()?);
    starting.args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--store", &double.url()]);
    starting.arg("--data-dir").arg(folder.path().join("data")).envs(LOGIN);
    let mut starting = starting.stderr(fs::File::create(&log)?).kill_on_drop(true).spawn()?;
    until("it to have begun", async || {
        Ok(fs::read_to_string(&log)?.contains("the admin listener answers").then_some(()))
    })
    .await?;
    let pid = i32::try_from(starting.id().context("it has ended")?)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM)?;
    let ended = must("the end of the one that starts", starting.wait()).await??;
    ensure!(ended.success(), "it ended with {ended}");
    ensure!(fs::read_to_string(&log)?.contains("stopped before it had begun"));
    Ok(())
}
