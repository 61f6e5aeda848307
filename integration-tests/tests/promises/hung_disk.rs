//! A sync of the disk that hangs holds up what it has to, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use integration_tests::{must, wire};
use mycelium_proto::v1;
use mycelium_server::store::{FaultyStore, MemoryStore};
use mycelium_server::{Broker, Config, SchedulerPlace};
use tokio::runtime::{Builder, Runtime};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How often each is asked: so that calls come to whichever thread there is.
const ROUNDS: usize = 20;
/// How often a commit hangs: so that it does at whichever moment, after quick ones and after slow ones.
const HANGS: usize = 5;

fn submission() -> v1::SubmitJobsRequest {
    wire::submission(vec![wire::job("nobody", &[], Vec::new())])
}

async fn what_needs_no_commit_answers(url: &str) -> anyhow::Result<()> {
    for round in 0..ROUNDS {
        let mut health = HealthClient::new(wire::channel(url).await?);
        let check = must("the health check", health.check(HealthCheckRequest::default())).await??;
        let status = check.into_inner().status();
        ensure!(status == ServingStatus::Serving, "round {round}: the broker is {status:?}");
        let mut client = wire::client(url).await?;
        let failures = client.list_failures(v1::ListFailuresRequest::default());
        must("a read of the store", failures).await??;
    }
    Ok(())
}

async fn ask_while_a_commit_hangs(url: &str, store: &Arc<FaultyStore>) -> anyhow::Result<()> {
    let mut client = wire::client(url).await?;
    must("a submission", client.submit_jobs(submission())).await??;
    store.hold_commits();
    let mut submitter = client.clone();
    let held = tokio::spawn(async move { submitter.submit_jobs(submission()).await });
    let commit = Arc::clone(store);
    let hangs = tokio::task::spawn_blocking(move || commit.wait_for_held_commit());
    must("a commit to hang", hangs).await??;

    let answered = what_needs_no_commit_answers(url).await;
    // What is asked of the scheduler may tell of what is not durable yet, and waits.
    let status = client.get_status(v1::GetStatusRequest::default());
    let is_told = tokio::time::timeout(Duration::from_millis(200), status).await.is_ok();
    store.release_commits();
    answered?;
    ensure!(!is_told, "the scheduler answered before the commit");
    must("the submission that hung", held).await???;
    Ok(())
}

#[test]
fn while_a_commit_hangs_the_health_check_and_the_store_answer() -> anyhow::Result<()> {
    for (threads, place) in
        [(1, SchedulerPlace::Runtime), (2, SchedulerPlace::Runtime), (1, SchedulerPlace::OwnThread)]
    {
        // The broker has its runtime for itself, and its callers have another.
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let config = Config { scheduler: place, ..Config::default() };
        let (on, listen) = (store.clone(), "127.0.0.1:0");
        let broker = runtime.block_on(async { Broker::with_store(config, on)?.bind(listen).await })?;
        let url = broker.url();
        Runtime::new()?.block_on(async {
            for _ in 0..HANGS {
                ask_while_a_commit_hangs(&url, &store).await?;
            }
            anyhow::Ok(())
        })?;
        runtime.block_on(broker.stop())?;
    }
    Ok(())
}
