//! A broker's clock that tests move: what waits for a time to pass happens when the test says, and at no other time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use elf_runtime::v1::{self, JobStatus};
use elf_runtime::{Error, Mycelium, RetryPolicy, TaskContext, TaskError, machine_elf};
use mycelium_server::store::faulty::Fault;
use mycelium_server::store::{FaultyStore, MemoryStore};
use mycelium_server::{Broker, Config};
use mycelium_testing::{TestBroker, Worker, must, until};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Counts how often its tasks have begun.
#[derive(Default)]
struct Digger {
    begun: Arc<AtomicU32>,
}

#[machine_elf]
impl Digger {
    async fn task_dig(&self, depth: u32) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst);
        depth
    }

    /// Fails in the first attempt.
    async fn task_strike(&self, context: &TaskContext) -> Result<u32, TaskError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        match context.attempt() {
            1 => Err(TaskError::new("Stone", "it struck a stone")),
            attempt => Ok(attempt),
        }
    }

    /// Digs until it is told to stop.
    async fn task_dig_on(&self, context: &TaskContext) {
        context.cancelled().await;
    }
}

/// A broker, a client, a worker that serves `digger`, and how often that has begun a task.
async fn garden(broker: &TestBroker) -> anyhow::Result<(Mycelium, Worker, Arc<AtomicU32>)> {
    let mycelium = broker.client().await?;
    let digger = Digger::default();
    let begun = Arc::clone(&digger.begun);
    let worker = Worker::start(mycelium.serve().elf("digger", digger)).await?;
    Ok((mycelium, worker, begun))
}

#[tokio::test]
async fn delayed_jobs_begin_when_the_clock_has_been_moved_as_far_and_not_before() -> anyhow::Result<()> {
    let began = Instant::now();
    let broker = TestBroker::in_memory().await?;
    let other = TestBroker::in_memory().await?;
    let (mycelium, worker, begun) = garden(&broker).await?;
    let flow = mycelium.flow("later");
    let tasks = Digger::tasks(&flow, "digger");
    let delayed = tasks.task_dig(1).delay(HOUR);
    let at = tasks.task_dig(2).not_before(broker.now() + 3 * HOUR);
    let run = flow.submit().await?;

    broker.advance(59 * MINUTE).await?;
    ensure!(run.job_status(delayed.id()).await? == JobStatus::Ready, "there is a minute left");
    ensure!(begun.load(Ordering::SeqCst) == 0);
    broker.advance(MINUTE).await?;
    ensure!(run.job_status(delayed.id()).await? != JobStatus::Ready, "its moment has come");
    ensure!(must("the delayed job", run.result(&delayed)).await?? == 1);
    ensure!(run.job_status(at.id()).await? == JobStatus::Ready, "the other one's has not");
    broker.advance(2 * HOUR).await?;
    ensure!(must("the job with a moment", run.result(&at)).await?? == 2);
    ensure!(begun.load(Ordering::SeqCst) == 2, "each has begun once");

    let shown: SystemTime = mycelium.job(at.id()).await?.finished_at.context("its end")?.try_into()?;
    ensure!(shown.duration_since(SystemTime::now())? > 2 * HOUR + 59 * MINUTE, "{shown:?}");
    let filter = "since:1h".to_owned();
    let listed = mycelium.list_jobs(v1::ListJobsRequest { filter, ..v1::ListJobsRequest::default() }).await?;
    ensure!(listed.jobs.len() == 1, "one has ended in the last hour: {:?}", listed.jobs);
    ensure!(other.now() < SystemTime::now() + MINUTE, "that of another broker stands where it did");
    ensure!(began.elapsed() < MINUTE, "none of it took its time");
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn a_job_that_failed_is_tried_again_when_its_pause_is_over_by_the_clock() -> anyhow::Result<()> {
    let broker = TestBroker::in_memory().await?;
    let (mycelium, worker, begun) = garden(&broker).await?;
    let flow = mycelium.flow("stony");
    let policy = RetryPolicy::new().attempts(2).first(10 * MINUTE).cap(10 * MINUTE).jitter(0.0);
    let job = Digger::tasks(&flow, "digger").task_strike().retry(policy);
    let run = flow.submit().await?;
    until("the first attempt to fail", || async {
        Ok((mycelium.job(job.id()).await?.failed_attempts == 1).then_some(()))
    })
    .await?;
    broker.advance(9 * MINUTE).await?;
    let backs_off = mycelium.job(job.id()).await?;
    ensure!((backs_off.status(), begun.load(Ordering::SeqCst)) == (JobStatus::Ready, 1), "{backs_off:?}");
    broker.advance(MINUTE).await?;
    ensure!(must("the second attempt", run.result(&job)).await?? == 2);
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn what_does_not_end_in_its_time_by_the_clock_expires_at_once_and_its_elf_is_told() -> anyhow::Result<()>
{
    let broker = TestBroker::in_memory().await?;
    let (mycelium, worker, _) = garden(&broker).await?;
    let flow = mycelium.flow("endless");
    let runs = Digger::tasks(&flow, "digger").task_dig_on().total_timeout(DAY).run_timeout(HOUR);
    let waits = Digger::tasks(&flow, "nobody").task_dig(1).queue_timeout(DAY / 2);
    let run = flow.submit().await?;
    until("the one that runs", || async {
        Ok((run.job_status(runs.id()).await? == JobStatus::Running).then_some(()))
    })
    .await?;
    broker.advance(DAY / 2 - MINUTE).await?;
    ensure!(run.job_status(waits.id()).await? == JobStatus::Ready);
    broker.advance(MINUTE).await?;
    ensure!(run.job_status(waits.id()).await? == JobStatus::Expired, "at once");
    let running = mycelium.job(runs.id()).await?;
    ensure!(
        (running.status(), running.attempt, running.failed_attempts) == (JobStatus::Running, 1, 0),
        "its run goes by the clock of its elf: {running:?}"
    );
    broker.advance(DAY / 2).await?;
    ensure!(run.job_status(runs.id()).await? == JobStatus::Expired, "at once");
    let ended = must("the end of the run", run.result(&runs)).await?;
    let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(failure.job.status == JobStatus::Expired, "{failure}");
    until("the elf to let go", || async {
        let request = v1::GetElfRequest { name: "digger".to_owned(), ..v1::GetElfRequest::default() };
        let elf = mycelium.get_elf(request).await?.elf.context("the elf is known")?;
        Ok(elf.instances.iter().all(|instance| instance.held == 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn a_clock_that_is_moved_by_years_a_step_at_a_time_or_at_once_loses_no_elf() -> anyhow::Result<()> {
    let broker = TestBroker::in_memory().await?;
    let (mycelium, worker, _) = garden(&broker).await?;
    let flow = mycelium.flow("patient");
    let job = Digger::tasks(&flow, "digger").task_dig_on();
    let run = flow.submit().await?;
    until("the job to run", || async {
        Ok((run.job_status(job.id()).await? == JobStatus::Running).then_some(()))
    })
    .await?;
    // Less than what shows as a pause of the broker, and more than its lease together.
    for _ in 0..100 {
        broker.advance(Duration::from_millis(900)).await?;
    }
    broker.advance(365 * DAY).await?;
    let running = mycelium.job(job.id()).await?;
    ensure!(
        (running.status(), running.attempt, running.elves_lost) == (JobStatus::Running, 1, 0),
        "{running:?}"
    );
    let refused = broker.advance(100 * 366 * DAY).await.unwrap_err();
    ensure!(refused.to_string().contains("100 years"), "{refused}");
    ensure!(broker.now().duration_since(SystemTime::now())? < 366 * DAY, "and is not moved");
    run.cancel().await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn a_restart_keeps_the_clock_and_other_mycelia_go_by_it_too() -> anyhow::Result<()> {
    let broker = TestBroker::on_disk().await?;
    let other = Mycelium::builder(broker.url()).mycelium("other").connect().await?;
    let flow = other.flow("later");
    let delayed = Digger::tasks(&flow, "digger").task_dig(1).delay(2 * HOUR);
    let expires = Digger::tasks(&flow, "nobody").task_dig(1).queue_timeout(HOUR);
    let run = flow.submit().await?;
    broker.advance(HOUR).await?;
    ensure!(run.job_status(expires.id()).await? == JobStatus::Expired, "at once, in that mycelium too");
    let broker = broker.restart().await?;
    ensure!(broker.now().duration_since(SystemTime::now())? > HOUR - MINUTE);
    let worker = Worker::start(other.serve().elf("digger", Digger::default())).await?;
    ensure!(run.job_status(delayed.id()).await? == JobStatus::Ready, "half of its time is left");
    broker.advance(HOUR).await?;
    ensure!(must("the delayed job", run.result(&delayed)).await?? == 1);
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn retention_deletes_what_is_old_by_the_clock() -> anyhow::Result<()> {
    let config = Config { retention: "done=30d".parse()?, ..Config::default() };
    let broker = TestBroker::of(Broker::with_store(config, Arc::new(MemoryStore::new()))?).await?;
    let (mycelium, worker, _) = garden(&broker).await?;
    let flow = mycelium.flow("short of memory");
    let job = Digger::tasks(&flow, "digger").task_dig(1);
    let run = flow.submit().await?;
    run.result(&job).await?;
    let flows = || async { Ok(mycelium.list_flows(v1::ListFlowsRequest::default()).await?.flows.len()) };
    broker.advance(29 * DAY).await?;
    ensure!(flows().await? == 1);
    broker.advance(DAY).await?;
    until("the flow to be deleted", || async {
        let left: anyhow::Result<usize> = flows().await;
        Ok((left? == 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn a_broker_that_is_refused_a_commit_says_so_and_does_what_came_due_later() -> anyhow::Result<()> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = TestBroker::of(Broker::with_store(Config::default(), Arc::clone(&store) as _)?).await?;
    let (mycelium, worker, _) = garden(&broker).await?;
    let flow = mycelium.flow("hard to store");
    let job = Digger::tasks(&flow, "digger").task_dig(1).delay(HOUR);
    let run = flow.submit().await?;
    store.fail_commit_after(0, Fault::NotApplied);
    let refused = broker.advance(HOUR).await.unwrap_err();
    ensure!(refused.to_string().contains("cannot do what came due"), "{refused}");
    ensure!(must("the job", run.result(&job)).await?? == 1);
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn however_much_comes_due_at_once_is_done_when_the_clock_has_been_moved() -> anyhow::Result<()> {
    // More than the scheduler does in one batch.
    const JOBS: u32 = 20_000;
    let broker = TestBroker::in_memory().await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("crowded");
    let tasks = Digger::tasks(&flow, "nobody");
    for depth in 0..JOBS {
        let _of_many = tasks.task_dig(depth).queue_timeout(HOUR);
    }
    let run = flow.submit().await?;
    broker.advance(HOUR).await?;
    let counts = run.counts().await?;
    ensure!((counts.expired, counts.ready) == (u64::from(JOBS), 0), "{counts:?}");
    broker.stop().await
}
