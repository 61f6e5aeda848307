//! A panic inside the broker is told as a defect, to those whom it concerns and to nobody else.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use integration_tests::{must, wire};
use mycelium_proto::reason;
use mycelium_proto::v1;
use mycelium_server::store::{FaultyStore, MemoryStore};
use mycelium_server::{Broker, Config};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn submission(flow: &bytes::Bytes) -> v1::SubmitJobsRequest {
    let jobs = vec![wire::job("passer", &[], Vec::new())];
    v1::SubmitJobsRequest { flow_id: flow.clone(), ..wire::submission(jobs) }
}

/// Makes sure that a call was answered with a defect, and gives its id.
fn expect_defect<T: std::fmt::Debug>(what: &str, answered: Result<T, Status>) -> anyhow::Result<String> {
    let status = answered.err().with_context(|| format!("{what} was answered"))?;
    ensure!(status.code() == Code::Internal, "{what}: {status:?}");
    let info = status.get_details_error_info().context("the status has a reason")?;
    ensure!(info.reason == reason::INTERNAL, "{what}: {info:?}");
    let id = status.message().strip_prefix("the broker failed; its log tells more under ");
    let id = id.with_context(|| format!("{what}: {}", status.message()))?;
    ensure!(uuid::Uuid::parse_str(id).is_ok(), "{what}: {id}");
    Ok(id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_internal_with_an_id_wherever_it_happens_and_the_broker_goes_on() -> anyhow::Result<()> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let hello = wire::hello(wire::declaration("passer", &[], &[]), 0);
    let mut elf = wire::WireElf::connect(&broker.url(), hello).await?;
    let flow = wire::id();
    must("a submission", client.submit_jobs(submission(&flow))).await??;

    store.set_reads_panic(true);
    // On a thread that may block, in the handler of a call, and in the task of a stream.
    let failures = v1::ListFailuresRequest::default();
    let first = must("a read", client.list_failures(failures)).await?;
    let first = expect_defect("a read", first)?;
    let second = must("a submission", client.submit_jobs(submission(&flow))).await?;
    let second = expect_defect("a submission", second)?;
    elf.set_window("passer", 1).await?;
    let end = elf.next().await.err().context("the stream did not end")?;
    let third = expect_defect("the stream", Err::<(), _>(end.downcast::<Status>()?))?;
    ensure!(first != second && second != third, "each has an id of its own");
    store.set_reads_panic(false);

    must("a read", client.list_failures(v1::ListFailuresRequest::default())).await??;
    must("a submission", client.submit_jobs(submission(&flow))).await??;
    let hello = wire::hello(wire::declaration("passer", &[], &[]), 2);
    let mut elf = wire::WireElf::connect(&broker.url(), hello).await?;
    let assigned = elf.assigned().await?;
    ensure!(!assigned.is_empty(), "jobs are assigned again");
    drop(elf);
    broker.stop().await?;
    Ok(())
}
