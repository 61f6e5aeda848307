//! Attempts and outcomes that go wrong on their way because a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use elf_runtime::v1::{self, AttemptEnd, JobStatus};
use elf_runtime::{Error, JobId, Mycelium, TaskContext, machine_elf};
use mycelium_testing::{Faults, TestBroker, Which, Worker, must, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// Counts what its tasks begin, and what they were told to stop.
#[derive(Default)]
struct Digger {
    begun: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
}

#[machine_elf]
impl Digger {
    async fn task_dig(&self, depth: u32) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst);
        depth
    }

    /// In the first attempt digs until it is told to stop.
    async fn task_dig_on(&self, context: &TaskContext) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if context.attempt() == 1 {
            context.cancelled().await;
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        context.attempt()
    }

    async fn task_pile(&self, stone: String) -> String {
        stone.repeat(100_000)
    }
}

/// A broker, a client of it, and an elf `digger` that comes to it by a way on which things go wrong.
struct Garden {
    broker: TestBroker,
    mycelium: Mycelium,
    faults: Faults,
    worker: Worker,
    begun: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
}

impl Garden {
    async fn new() -> anyhow::Result<Self> {
        let broker = TestBroker::in_memory().await?;
        let mycelium = broker.client().await?;
        let faults = Faults::start(broker.address()).await?;
        let digger = Digger::default();
        let (begun, cancelled) = (Arc::clone(&digger.begun), Arc::clone(&digger.cancelled));
        let elves = Mycelium::builder(faults.url()).connect().await?;
        let worker = Worker::start(elves.serve().elf("digger", digger).concurrency(4)).await?;
        Ok(Self { broker, mycelium, faults, worker, begun, cancelled })
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    /// How the attempts of a job have ended.
    async fn attempts(&self, job: JobId) -> anyhow::Result<Vec<AttemptEnd>> {
        let job_id = job.as_bytes().to_vec().into();
        let request = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
        let attempts = self.mycelium.list_attempts(request).await?.attempts;
        Ok(attempts.iter().map(v1::Attempt::end).collect())
    }

    async fn stop(self) -> anyhow::Result<()> {
        ensure!(self.faults.pending() == 0, "something did not go wrong");
        self.worker.stop().await?;
        self.broker.stop().await
    }
}

#[tokio::test]
async fn an_attempt_that_is_lost_while_it_runs_is_given_again_and_its_task_is_stopped() -> anyhow::Result<()>
{
    let garden = Garden::new().await?;
    let began = Instant::now();
    garden.faults.lose_attempt(Which::task("task_dig_on").of_elf("digger"));
    let flow = garden.mycelium.flow("lost");
    let tasks = Digger::tasks(&flow, "digger");
    let (lost, other) = (tasks.task_dig_on(), tasks.task_dig(1));
    let run = flow.submit().await?;
    ensure!(must("the second attempt", run.result(&lost)).await?? == 2);
    ensure!(must("another job", run.result(&other)).await?? == 1);
    let ends = garden.attempts(lost.id()).await?;
    ensure!(ends.contains(&AttemptEnd::ElfLost) && ends.len() == 2, "{ends:?}");
    ensure!(garden.mycelium.job(lost.id()).await?.elves_lost == 1);
    until("the task to be stopped", || async {
        Ok((garden.cancelled.load(Ordering::SeqCst) == 1).then_some(()))
    })
    .await?;
    ensure!(began.elapsed() < Duration::from_secs(6), "no lease was waited for: {:?}", began.elapsed());
    garden.stop().await
}

#[tokio::test]
async fn a_job_that_takes_its_elf_along_again_and_again_fails() -> anyhow::Result<()> {
    let garden = Garden::new().await?;
    let flow = garden.mycelium.flow("deadly");
    let job = Digger::tasks(&flow, "digger").task_dig(1);
    for attempt in 1..=2 {
        garden.faults.lose_attempt(Which::job(job.id()).attempt(attempt));
    }
    let run = flow.submit().await?;
    let ended = must("the end of the job", run.result(&job)).await?;
    let Err(Error::JobFailed(failure)) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(failure.failure.as_ref().is_some_and(|failure| failure.r#type == "ElfLostError"), "{failure}");
    ensure!(garden.begun() == 2, "what it did, it did each time");
    garden.stop().await
}

#[tokio::test]
async fn an_outcome_that_is_held_is_none_until_it_is_released() -> anyhow::Result<()> {
    let garden = Garden::new().await?;
    let held = garden.faults.hold_outcome(Which::task("task_dig"));
    let flow = garden.mycelium.flow("held");
    let tasks = Digger::tasks(&flow, "digger");
    let job = tasks.task_dig(1);
    let run = flow.submit().await?;
    held.arrived().await?;
    let next = tasks.task_dig(&job);
    let free = tasks.task_dig(3);
    flow.submit().await?;
    ensure!(must("another job", run.result(&free)).await?? == 3, "one alone is held");
    ensure!(run.job_status(next.id()).await? == JobStatus::Pending);
    until("its start to be known", || async {
        Ok((run.job_status(job.id()).await? == JobStatus::Running).then_some(()))
    })
    .await?;
    held.release();
    ensure!(must("what needs it", run.result(&next)).await?? == 1);
    ensure!((garden.begun(), garden.attempts(job.id()).await?.len()) == (3, 1));
    garden.stop().await
}

#[tokio::test]
async fn an_outcome_that_comes_when_the_job_has_expired_changes_nothing() -> anyhow::Result<()> {
    let garden = Garden::new().await?;
    let held = garden.faults.hold_outcome(Which::any());
    let flow = garden.mycelium.flow("too late");
    let job = Digger::tasks(&flow, "digger").task_dig(1).total_timeout(HOUR);
    let run = flow.submit().await?;
    held.arrived().await?;
    garden.broker.advance(HOUR).await?;
    ensure!(run.job_status(job.id()).await? == JobStatus::Expired);
    held.release();
    until("the elf to be rid of it", || async {
        let request = v1::GetElfRequest { name: "digger".to_owned(), ..v1::GetElfRequest::default() };
        let elf = garden.mycelium.get_elf(request).await?.elf;
        Ok(elf.is_some_and(|elf| elf.instances.iter().all(|instance| instance.held == 0)).then_some(()))
    })
    .await?;
    ensure!(run.job_status(job.id()).await? == JobStatus::Expired, "it was too late");
    garden.stop().await
}

#[tokio::test]
async fn an_outcome_that_is_delayed_comes_when_its_time_is_over() -> anyhow::Result<()> {
    const DELAY: Duration = Duration::from_millis(300);
    let garden = Garden::new().await?;
    garden.faults.delay_outcome(Which::task("task_dig"), DELAY);
    let flow = garden.mycelium.flow("delayed");
    let job = Digger::tasks(&flow, "digger").task_dig(1);
    let began = Instant::now();
    let run = flow.submit().await?;
    ensure!(must("the job", run.result(&job)).await?? == 1);
    ensure!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    garden.stop().await
}

#[tokio::test]
async fn an_outcome_that_is_lost_is_sent_again_and_its_task_runs_once() -> anyhow::Result<()> {
    let garden = Garden::new().await?;
    garden.faults.lose_outcome(Which::task("task_dig"));
    let second = garden.faults.hold_outcome(Which::task("task_dig"));
    let flow = garden.mycelium.flow("lost on the way");
    let job = Digger::tasks(&flow, "digger").task_dig(1);
    let run = flow.submit().await?;
    second.arrived().await?;
    ensure!(run.job_status(job.id()).await? != JobStatus::Done, "the first has not come");
    second.release();
    ensure!(must("the job", run.result(&job)).await?? == 1);
    ensure!(garden.attempts(job.id()).await? == [AttemptEnd::Returned]);
    ensure!(garden.begun() == 1);
    garden.stop().await
}

#[tokio::test]
async fn what_fits_no_order_passes_with_all_that_an_elf_says_beside_it() -> anyhow::Result<()> {
    let garden = Garden::new().await?;
    for which in [
        Which::task("task_dig_on"),
        Which::task("task_pile").of_elf("another"),
        Which::any().attempt(2),
        Which::job(JobId::generate()),
    ] {
        garden.faults.lose_attempt(which);
    }
    let flow = garden.mycelium.flow("large");
    let pile = Digger::tasks(&flow, "digger").task_pile("stone ");
    let run = flow.submit().await?;
    ensure!(must("a large value", run.result(&pile)).await??.len() == 600_000);
    ensure!(garden.faults.pending() == 4);
    garden.worker.stop().await?;
    garden.broker.stop().await
}
