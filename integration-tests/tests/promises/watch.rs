//! A watch shows the state of jobs, then each change, and can be resumed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use integration_tests::must;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::limits::JOB_IDS_MAX;
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::{Broker, RunningBroker};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

type Client = MyceliumServiceClient<Channel>;

async fn start() -> anyhow::Result<(RunningBroker, Client)> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let client = wire::client(&broker.url()).await?;
    Ok((broker, client))
}

/// A watch, and what it has told so far.
struct Watch {
    stream: Streaming<v1::WatchJobsResponse>,
}

impl Watch {
    async fn start(client: &Client, request: v1::WatchJobsRequest) -> anyhow::Result<Self> {
        Ok(Self { stream: client.clone().watch_jobs(request).await?.into_inner() })
    }

    async fn next(&mut self) -> anyhow::Result<Option<v1::WatchJobsResponse>> {
        Ok(must("a message of a watch", self.stream.message()).await??)
    }

    /// All messages of a snapshot, as one: the changes, and the commit that the last of them is true for.
    async fn snapshot(&mut self) -> anyhow::Result<(u64, Vec<v1::JobChange>)> {
        let mut changes = Vec::new();
        loop {
            let message = self.next().await?.context("the watch ended within its snapshot")?;
            ensure!(message.snapshot, "a change comes before the snapshot is over: {message:?}");
            changes.extend(message.changes);
            if message.snapshot_end {
                return Ok((message.commit, changes));
            }
        }
    }

    /// The next messages until they have told `n` changes, none of them a snapshot.
    async fn changes(&mut self, n: usize) -> anyhow::Result<(u64, Vec<v1::JobChange>)> {
        let mut changes = Vec::new();
        let mut commit = 0;
        while changes.len() < n {
            let message = self.next().await?.context("the watch ended")?;
            ensure!(!message.snapshot, "a snapshot comes where changes were expected: {message:?}");
            ensure!(message.commit > commit, "commits rise: {} follows {commit}", message.commit);
            commit = message.commit;
            changes.extend(message.changes);
        }
        Ok((commit, changes))
    }
}

fn told(changes: &[v1::JobChange]) -> Vec<(Bytes, JobStatus)> {
    changes.iter().map(|change| (change.job_id.clone(), change.status())).collect()
}

/// A job without arguments.
fn job(elf: &str) -> v1::JobSpec {
    wire::job(elf, &[], Vec::new())
}

#[tokio::test]
async fn a_watch_begins_with_a_snapshot_tells_each_change_and_resumes_from_a_commit() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let first = job("scale");
    let second = v1::JobSpec { after: vec![first.job_id.clone()], ..job("scale") };
    let (one, two) = (first.job_id.clone(), second.job_id.clone());
    let request = wire::submission(vec![first, second]);
    let flow = request.flow_id.clone();
    let submitted = client.submit_jobs(request.clone()).await?.into_inner().commit;

    let mut watch = Watch::start(&client, wire::watch_flow(&flow)).await?;
    let (as_of, snapshot) = watch.snapshot().await?;
    let snapshot: BTreeSet<_> = told(&snapshot).into_iter().collect();
    ensure!(snapshot == BTreeSet::from([(one.clone(), JobStatus::Ready), (two.clone(), JobStatus::Pending)]));
    ensure!(as_of >= submitted, "the snapshot is true for {as_of}, and the jobs came with {submitted}");

    // Each change, once, in order, with the attempt.
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("scale", &[], &["n"]), 1)).await?;
    let token = elf.token().await?;
    let (running_at, changes) = watch.changes(1).await?;
    ensure!(told(&changes) == [(one.clone(), JobStatus::Running)] && changes[0].attempt == 1, "{changes:?}");
    elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    let (_, changes) = watch.changes(2).await?;
    ensure!(changes[0].job_id == one && changes[0].status() == JobStatus::Done, "{changes:?}");
    ensure!(changes[0].outputs.is_empty() && !changes[0].outputs_omitted, "nobody asked for outputs");
    ensure!(changes[1].job_id == two, "the dependent follows: {changes:?}");

    // A watch that is resumed tells what came after its commit, and nothing else.
    let resumed = v1::WatchJobsRequest { from_commit: running_at, ..wire::watch_flow(&flow) };
    let mut resumed = Watch::start(&client, resumed).await?;
    let (resumed_at, changes) = resumed.changes(2).await?;
    let statuses: BTreeMap<_, _> = told(&changes).into_iter().collect();
    ensure!(statuses[&one] == JobStatus::Done && statuses[&two] == JobStatus::Running, "{changes:?}");
    // One that resumes from where another ended hears of the next change first.
    let latest = v1::WatchJobsRequest { from_commit: resumed_at, ..wire::watch_flow(&flow) };
    let mut latest = Watch::start(&client, latest).await?;
    let failure = v1::Failure {
        r#type: "Broken".to_owned(),
        message: "it snapped".to_owned(),
        ..v1::Failure::default()
    };
    elf.verdicts().await?;
    let token = elf.token().await?;
    let result = Some(v1::outcome::Result::Failure(failure));
    elf.report(vec![v1::Outcome { ran: None, token: Some(token), result }]).await?;
    for watch in [&mut resumed, &mut latest] {
        let (_, changes) = watch.changes(1).await?;
        ensure!(told(&changes) == [(two.clone(), JobStatus::Failed)], "{changes:?}");
        ensure!(
            changes[0].failure_message == "it snapped" && changes[0].failure_id.len() == 16,
            "{changes:?}"
        );
    }
    // A commit that the broker does not remember is answered with a snapshot.
    let unknown = v1::WatchJobsRequest { from_commit: u64::MAX, ..wire::watch_flow(&flow) };
    let (_, snapshot) = Watch::start(&client, unknown).await?.snapshot().await?;
    let snapshot: BTreeSet<_> = told(&snapshot).into_iter().collect();
    ensure!(snapshot == BTreeSet::from([(one, JobStatus::Done), (two, JobStatus::Failed)]), "{snapshot:?}");
    drop((watch, resumed, latest));
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_watch_that_asks_for_ends_tells_ends_with_their_outputs_and_ends_itself() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let mut elf =
        WireElf::connect(&broker.url(), wire::hello(wire::declaration("scale", &[], &["n"]), 8)).await?;
    let before = job("scale");
    let request = wire::submission(vec![before.clone()]);
    let flow = request.flow_id.clone();

    // The flow need not be there yet, if the caller says so.
    let request_watch = v1::WatchJobsRequest {
        may_come: true,
        final_only: true,
        until_final: true,
        include_outputs: true,
        ..wire::watch_flow(&flow)
    };
    let mut watch = Watch::start(&client, request_watch.clone()).await?;
    ensure!(watch.snapshot().await?.1.is_empty(), "there is nothing yet");
    client.submit_jobs(request.clone()).await?;
    let token = elf.token().await?;
    // Added while it runs: the watch is not over with the first.
    let added = job("scale");
    client.submit_jobs(v1::SubmitJobsRequest { jobs: vec![added.clone()], ..request }).await?;
    let second = elf.token().await?;
    elf.report(vec![wire::returned(&token, &[("n", "17")])]).await?;
    let (_, changes) = watch.changes(1).await?;
    ensure!(told(&changes) == [(before.job_id.clone(), JobStatus::Done)], "{changes:?}");
    ensure!(
        changes[0].outputs == [v1::NamedOutput { name: "n".to_owned(), payload: Some(wire::json("17")) }]
    );
    elf.report(vec![wire::returned(&second, &[("n", "4")])]).await?;
    let (_, changes) = watch.changes(1).await?;
    ensure!(told(&changes) == [(added.job_id.clone(), JobStatus::Done)], "{changes:?}");
    ensure!(watch.next().await?.is_none(), "all jobs are final, and the watch goes on");

    // One that begins when all is over tells all of it, outputs included, and ends.
    let mut late = Watch::start(&client, request_watch).await?;
    let (_, changes) = late.snapshot().await?;
    let outputs: BTreeMap<_, _> = changes
        .iter()
        .map(|change| {
            (change.job_id.clone(), change.outputs.first().and_then(|output| output.payload.clone()))
        })
        .collect();
    let expected = [(before.job_id, Some(wire::json("17"))), (added.job_id, Some(wire::json("4")))];
    ensure!(outputs == BTreeMap::from(expected), "{outputs:?}");
    ensure!(late.next().await?.is_none(), "the watch goes on");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_watch_of_ten_thousand_jobs_tells_of_those_and_of_no_others() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let specs: Vec<v1::JobSpec> = (0..JOB_IDS_MAX).map(|_| job("scale")).collect();
    let ids: Vec<Bytes> = specs.iter().map(|spec| spec.job_id.clone()).collect();
    let other = job("scale");
    let other_id = other.job_id.clone();
    for jobs in specs.chunks(5_000) {
        client.submit_jobs(wire::submission(jobs.to_vec())).await?;
    }
    client.submit_jobs(wire::submission(vec![v1::JobSpec { priority: 1, ..other }])).await?;

    let request = v1::WatchJobsRequest { until_final: true, ..wire::watch_jobs(&ids) };
    let mut watch = Watch::start(&client, request.clone()).await?;
    let (_, snapshot) = watch.snapshot().await?;
    ensure!(snapshot.len() == ids.len(), "the snapshot has {} jobs", snapshot.len());
    ensure!(snapshot.iter().all(|change| change.status() == JobStatus::Ready), "all are READY");

    let declaration = wire::declaration("scale", &[], &["n"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 512)).await?;
    let elf = tokio::spawn(async move {
        let mut n_done = 0;
        while n_done <= JOB_IDS_MAX {
            let v1::connect_response::Kind::Assign(assign) = elf.next().await? else { continue };
            let tokens = assign.assignments.iter().filter_map(|one| one.token.as_ref());
            let outcomes: Vec<_> = tokens.map(|token| wire::returned(token, &[("n", "1")])).collect();
            n_done += outcomes.len();
            elf.report(outcomes).await?;
        }
        anyhow::Ok(elf)
    });
    let mut last: BTreeMap<Bytes, JobStatus> = told(&snapshot).into_iter().collect();
    while let Some(message) = watch.next().await? {
        for (id, status) in told(&message.changes) {
            let Some(before) = last.insert(id.clone(), status) else {
                bail!("told of {id:?}, which is not watched");
            };
            let is_again = message.snapshot && before == status;
            ensure!(is_again || (before as i32) < (status as i32), "{status:?} follows {before:?}");
        }
    }
    ensure!(last.values().all(|status| *status == JobStatus::Done), "the watch ended before all were final");
    ensure!(!last.contains_key(&other_id), "another job is told of");
    let elf = must("the end of the elf's work", elf).await???;

    // An id that is not known, or one too many, is refused.
    let unknown = [ids[0].clone(), wire::id()];
    let answer = client.watch_jobs(wire::watch_jobs(&unknown)).await;
    wire::expect_refusal(answer, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;
    let too_many: Vec<Bytes> = ids.iter().cloned().chain([other_id]).collect();
    let answer = client.watch_jobs(wire::watch_jobs(&too_many)).await;
    wire::expect_refusal(answer, Code::InvalidArgument, reason::INVALID_FIELD, &["jobs.job_ids"])?;
    drop(elf);
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_watch_of_a_flow_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let (broker, mut client) = start().await?;
    let flow = wire::id();
    for request in [
        wire::watch_flow(&flow),
        v1::WatchJobsRequest { until_final: true, final_only: true, ..wire::watch_flow(&flow) },
        v1::WatchJobsRequest { from_commit: 1, ..wire::watch_flow(&flow) },
    ] {
        let answer = client.watch_jobs(request).await;
        let status = wire::expect_refusal(answer, Code::NotFound, reason::FLOW_NOT_FOUND, &[])?;
        let id = uuid::Uuid::from_slice(&flow)?;
        ensure!(status.message() == format!("flow {id} is not known"), "{status:?}");
    }
    // That a flow may come is no leave for jobs to be missing.
    let unknown = wire::id();
    let request = v1::WatchJobsRequest { may_come: true, ..wire::watch_jobs([&unknown]) };
    wire::expect_refusal(client.watch_jobs(request).await, Code::NotFound, reason::JOB_NOT_FOUND, &[])?;

    // Once its first job is there the flow is, and stays so when all its jobs have ended.
    let submission = v1::SubmitJobsRequest { flow_id: flow.clone(), ..wire::submission(vec![job("scale")]) };
    client.submit_jobs(submission).await?;
    let until_final = v1::WatchJobsRequest { until_final: true, ..wire::watch_flow(&flow) };
    let mut watch = Watch::start(&client, until_final.clone()).await?;
    ensure!(watch.snapshot().await?.1.len() == 1, "the job is told");
    let scope = Some(v1::cancel_jobs_request::Scope::FlowId(flow));
    client.cancel_jobs(v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() }).await?;
    while watch.next().await?.is_some() {}
    let mut late = Watch::start(&client, until_final).await?;
    ensure!(late.snapshot().await?.1.len() == 1, "the job is told when all is over");
    ensure!(late.next().await?.is_none(), "and the watch ends");
    Ok(broker.stop().await?)
}
