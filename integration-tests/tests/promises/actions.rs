//! What is done with all jobs that a filter names is done with each of them once, whatever becomes of the broker, and with no
//! other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, FlowId, Job, JobId, Mycelium, TaskContext, TaskError, machine_elf};
use integration_tests::{BrokerProcess, Worker, counts, flow_id_bytes, must, until};
use mycelium_proto::v1::{self, ActionKind, JobStatus};
use mycelium_proto::{limits, reason};

/// A press that breaks down, in two ways.
#[derive(Clone, Default)]
struct Press {
    works: Arc<AtomicBool>,
    /// How often each job was begun.
    begun: Arc<Mutex<BTreeMap<JobId, u32>>>,
}

#[machine_elf]
impl Press {
    /// Prints, unless it is broken.
    async fn task_print(&self, context: &TaskContext, jams: bool) -> Result<u64, TaskError> {
        *self.begun.lock().expect("nobody panics").entry(context.job_id()).or_default() += 1;
        match (self.works.load(Ordering::SeqCst), jams) {
            (true, _) => Ok(1),
            (false, true) => Err(TaskError::new("JamError", "the paper is stuck")),
            (false, false) => Err(TaskError::new("InkError", "there is no ink")),
        }
    }
}

struct World {
    broker: BrokerProcess,
    mycelium: Mycelium,
    press: Press,
    worker: Worker,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let broker = BrokerProcess::start(&[]).await?;
        let mycelium = broker.client().await?;
        let press = Press::default();
        let worker = Worker::start(mycelium.serve().elf("press", press.clone()).concurrency(8)).await?;
        Ok(Self { broker, mycelium, press, worker })
    }

    /// So many jobs, which end.
    async fn run(&self, flow: &str, jobs: usize, jams: bool) -> anyhow::Result<(FlowId, Vec<JobId>)> {
        let flow = self.mycelium.flow(flow);
        let tasks = Press::tasks(&flow, "press");
        let jobs: Vec<Job<u64>> = (0..jobs).map(|_| tasks.task_print(jams)).collect();
        let run = flow.submit().await?;
        must("the end of the flow", run.wait()).await??;
        Ok((run.flow_id(), jobs.iter().map(Job::id).collect()))
    }

    fn begun(&self, jobs: &[JobId]) -> Vec<u32> {
        let begun = self.press.begun.lock().expect("nobody panics");
        jobs.iter().map(|job| begun.get(job).copied().unwrap_or_default()).collect()
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.worker.stop().await?;
        self.broker.stop().await
    }
}

fn request(kind: ActionKind, filter: &str) -> v1::StartActionRequest {
    v1::StartActionRequest {
        action_id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
        kind: kind.into(),
        filter: filter.to_owned(),
        by: "ada@host".to_owned(),
        ..v1::StartActionRequest::default()
    }
}

async fn action(mycelium: &Mycelium, id: &Bytes) -> anyhow::Result<v1::Action> {
    let actions = mycelium.list_actions(v1::ListActionsRequest::default()).await?.actions;
    actions.into_iter().find(|action| action.action_id == *id).context("the action is listed")
}

async fn ended(mycelium: &Mycelium, id: &Bytes) -> anyhow::Result<v1::Action> {
    until("the action to be over", || async {
        Ok(Some(action(mycelium, id).await?).filter(|action| action.ended_at.is_some()))
    })
    .await
}

/// The id of the failure of this type.
async fn failure_id(mycelium: &Mycelium, of: &str) -> anyhow::Result<String> {
    let failures = mycelium.list_failures(v1::ListFailuresRequest::default()).await?.failures;
    let is_it = |group: &v1::FailureGroup| group.failure.as_ref().is_some_and(|failure| failure.r#type == of);
    let id = failures.into_iter().find(is_it).context("the failure is listed")?.failure_id;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_failures_is_retried_once_each_although_the_broker_is_killed() -> anyhow::Result<()> {
    const JOBS: usize = 3_000;
    let mut world = World::start().await?;
    let (flow, jams) = world.run("jams", JOBS, true).await?;
    let (_, others) = world.run("no ink", 50, false).await?;
    world.press.works.store(true, Ordering::SeqCst);
    let (_, works) = world.run("works", 50, true).await?;

    let filter = format!("failure:{}", &failure_id(&world.mycelium, "JamError").await?[..12]);
    let dry = v1::StartActionRequest { dry_run: true, ..request(ActionKind::Retry, &filter) };
    let found = world.mycelium.start_action(dry).await?;
    ensure!(found.count == JOBS as u64 && !found.more && found.job_ids.len() == 100, "{found:?}");
    ensure!(world.mycelium.list_actions(v1::ListActionsRequest::default()).await?.actions.is_empty());
    ensure!(counts(&world.mycelium, flow).await?.failed == JOBS as u64, "a dry run changes nothing");

    let retry = request(ActionKind::Retry, &filter);
    let answer = world.mycelium.start_action(retry.clone()).await?;
    ensure!(
        answer.is_new && answer.action.as_ref().is_some_and(|action| action.by == "ada@host"),
        "{answer:?}"
    );
    until("some to be back", || async {
        let action = action(&world.mycelium, &retry.action_id).await?;
        Ok((action.done > 0).then_some(()))
    })
    .await?;
    world.broker.kill().await?;
    world.broker.restart().await?;
    let again = world.mycelium.start_action(retry.clone()).await?;
    ensure!(!again.is_new, "the same call again begins nothing: {again:?}");
    let over = ended(&world.mycelium, &retry.action_id).await?;
    ensure!((over.done, over.refused, over.left) == (JOBS as u64, 0, Some(0)), "{over:?}");
    until("all to be DONE", || async {
        Ok((counts(&world.mycelium, flow).await?.done == JOBS as u64).then_some(()))
    })
    .await?;
    ensure!(world.begun(&jams).iter().all(|begun| *begun == 2), "each once more: {:?}", world.begun(&jams));
    ensure!(world.begun(&others).iter().chain(&world.begun(&works)).all(|begun| *begun == 1), "and no other");
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_an_action_began_is_left_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (flow, jobs) = world.run("jams", 1_200, true).await?;
    // They fail again when they are back, and fit the filter as before.
    let retry = request(ActionKind::Retry, "status:failed elf:press text:'STUCK'");
    world.mycelium.start_action(retry.clone()).await?;
    let (_, late) = world.run("late", 20, true).await?;
    let over = ended(&world.mycelium, &retry.action_id).await?;
    ensure!((over.done, over.refused) == (1_200, 0), "{over:?}");
    until("all to have failed again", || async {
        Ok((counts(&world.mycelium, flow).await?.failed == 1_200).then_some(()))
    })
    .await?;
    ensure!(world.begun(&jobs).iter().all(|begun| *begun == 2), "each once more");
    ensure!(world.begun(&late).iter().all(|begun| *begun == 1), "and no other");
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled_by_a_filter_and_no_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let flow = world.mycelium.flow("for nobody");
    let tasks = Press::tasks(&flow, "nobody");
    let meant: Vec<Job<u64>> =
        (0..1_200).map(|_| tasks.task_print(true).with_label("customer", "acme")).collect();
    let kept: Vec<Job<u64>> =
        (0..20).map(|_| tasks.task_print(true).with_label("customer", "other")).collect();
    let run = flow.submit().await?;
    let filter = "label.customer=acme elf:nobody status:pending,ready";
    let dry = v1::StartActionRequest { dry_run: true, ..request(ActionKind::Cancel, filter) };
    ensure!(world.mycelium.start_action(dry).await?.count == 1_200);
    ensure!(counts(&world.mycelium, run.flow_id()).await?.ready == 1_220, "a dry run changes nothing");
    let cancel = request(ActionKind::Cancel, filter);
    world.mycelium.start_action(cancel.clone()).await?;
    let over = ended(&world.mycelium, &cancel.action_id).await?;
    ensure!((over.done, over.refused, over.left) == (1_200, 0, Some(0)), "{over:?}");
    let stand = counts(&world.mycelium, run.flow_id()).await?;
    ensure!((stand.cancelled, stand.ready) == (1_200, 20), "{stand:?}");
    ensure!(world.mycelium.job(meant[0].id()).await?.status() == JobStatus::Cancelled);
    ensure!(world.mycelium.job(kept[0].id()).await?.status() == JobStatus::Ready);
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_deleted_of_which_all_jobs_fit() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut failed = Vec::new();
    for _ in 0..60 {
        failed.push(world.run("all failed", 2, true).await?.0);
    }
    let flow = world.mycelium.flow("mixed");
    let tasks = Press::tasks(&flow, "press");
    let bad: Job<u64> = tasks.task_print(true);
    let mixed = flow.submit().await?;
    until("one to fail", || async {
        Ok((world.mycelium.job(bad.id()).await?.status() == JobStatus::Failed).then_some(()))
    })
    .await?;
    world.press.works.store(true, Ordering::SeqCst);
    let good: Job<u64> = tasks.task_print(true);
    let run = flow.submit().await?;
    ensure!(must("the end of the other", run.result(&good)).await?? == 1);

    let delete = request(ActionKind::Delete, "status:failed elf:press");
    world.mycelium.start_action(delete.clone()).await?;
    let over = ended(&world.mycelium, &delete.action_id).await?;
    ensure!((over.done, over.refused) == (60, 1), "{over:?}");
    until("the flows to be gone", || async {
        let flows = world.mycelium.list_flows(v1::ListFlowsRequest::default()).await?.flows;
        let ids: Vec<Bytes> = flows.into_iter().map(|flow| flow.flow_id).collect();
        Ok((ids == [flow_id_bytes(mixed.flow_id())]).then_some(()))
    })
    .await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_and_nothing_is_stored() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.run("jams", 1, true).await?;
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    let good = || request(ActionKind::Retry, "status:failed");
    let of = |kind, filter: &str| request(kind, filter);
    let bad = [
        (of(ActionKind::Unspecified, "status:failed"), "kind", ""),
        (of(ActionKind::Retry, ""), "filter", "names no jobs in particular"),
        (of(ActionKind::Retry, "colour:red"), "filter", "`colour:red`: there is no field"),
        (of(ActionKind::Retry, "status:failed quota"), "filter", "`quota`: a term is"),
        (of(ActionKind::Retry, "status:done"), "filter", "cannot be retried"),
        (of(ActionKind::Retry, "status:running"), "filter", "cannot be retried"),
        (of(ActionKind::Retry, "failure:123456"), "filter", "no failure begins so"),
        (of(ActionKind::Cancel, "status:failed"), "filter", "cannot be cancelled"),
        (of(ActionKind::Cancel, "elf:press since:2h"), "filter", "cannot be cancelled"),
        (of(ActionKind::Delete, "status:ready"), "filter", "cannot be deleted"),
        (v1::StartActionRequest { action_id: Bytes::from_static(b"x"), ..good() }, "action_id", "16 bytes"),
        (v1::StartActionRequest { by: String::new(), ..good() }, "by", ""),
        (v1::StartActionRequest { by: long, ..good() }, "by", "at most"),
    ];
    for (asked, field, why) in bad {
        let refused = world.mycelium.start_action(asked.clone()).await;
        let Err(Error::Refused { reason, violations, .. }) = &refused else {
            anyhow::bail!("{asked:?}: {refused:?}")
        };
        ensure!(reason == reason::INVALID_FIELD, "{refused:?}");
        let is_named = |violation: &elf_runtime::Violation| {
            violation.field == field && violation.description.contains(why)
        };
        ensure!(violations.iter().any(is_named), "{field}, {why}: {refused:?}");
    }
    let first = good();
    world.mycelium.start_action(first.clone()).await?;
    let other = v1::StartActionRequest { filter: "status:cancelled".to_owned(), ..first.clone() };
    let refused = world.mycelium.start_action(other).await;
    ensure!(matches!(&refused, Err(error) if error.reason() == Some(reason::ACTION_DIFFERS)), "{refused:?}");
    ensure!(world.mycelium.list_actions(v1::ListActionsRequest::default()).await?.actions.len() == 1);
    world.stop().await
}
