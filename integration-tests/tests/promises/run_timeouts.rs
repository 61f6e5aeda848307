//! An attempt that runs for longer than it may ends, whatever it does: its job and all others go on, and its place is taken
//! until it lets go. Nothing else ends a job that takes long.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, JobFailure, JobId, Mycelium, Run, TaskContext, list, machine_elf};
use integration_tests::{BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, Worker, must, until};
use mycelium_proto::v1::{self, JobStatus};

const GRACE: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(600);

/// An elf whose tasks do not end by themselves.
#[derive(Clone, Default)]
struct Stubborn {
    dropped: Arc<AtomicU32>,
}

/// Counts when it is dropped.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[machine_elf]
impl Stubborn {
    /// Waits for ever.
    #[task(timeouts(run = "300ms"))]
    async fn task_wait(&self) {
        let _counted = Counted(Arc::clone(&self.dropped));
        std::future::pending::<()>().await;
    }

    /// Stops when it is told to, and says that all is well.
    #[task(timeouts(run = "10m"))]
    async fn task_stop(&self, context: &TaskContext) -> u64 {
        context.cancelled().await;
        7
    }

    /// Blocks its thread until there is a file.
    #[task(timeouts(run = "300ms"))]
    fn task_block(&self, gate: PathBuf) {
        while !gate.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Burns CPU on a thread that is for others until there is a file.
    async fn task_burn(&self, gate: PathBuf) {
        while !gate.exists() {
            std::hint::spin_loop();
        }
    }

    async fn task_add(&self, a: u64, b: u64) -> u64 {
        a + b
    }
}

async fn serve(mycelium: &Mycelium, concurrency: u32) -> anyhow::Result<(Worker, Stubborn)> {
    let elf = Stubborn::default();
    let worker = mycelium.serve().elf("stubborn", elf.clone()).concurrency(concurrency).cancel_grace(GRACE);
    Ok((Worker::start(worker).await?, elf))
}

async fn timed_out<T: elf_runtime::Output>(run: &Run, job: &Job<T>) -> anyhow::Result<JobFailure> {
    let ended = must("the end of a job", run.result(job)).await?;
    let Err(Error::JobFailed(failed)) = ended else { anyhow::bail!("it did not fail") };
    let failure = failed.failure.as_ref().context("it failed")?;
    ensure!(failed.job.status == JobStatus::Failed && failure.r#type == "Timeout", "{failed:?}");
    Ok(*failed)
}

async fn instance(mycelium: &Mycelium, elf: &str) -> anyhow::Result<v1::ElfInstance> {
    let request = v1::GetElfRequest { name: elf.to_owned(), ..v1::GetElfRequest::default() };
    let elf = mycelium.get_elf(request).await?.elf.context("the elf is known")?;
    elf.instances.into_iter().next().context("it is served")
}

async fn wait_until_occupied(
    mycelium: &Mycelium,
    elf: &str,
    occupied: u32,
) -> anyhow::Result<v1::ElfInstance> {
    until("the places that are taken", || async {
        let instance = instance(mycelium, elf).await?;
        Ok((instance.occupied == occupied).then_some(instance))
    })
    .await
}

async fn attempts(mycelium: &Mycelium, job: JobId) -> anyhow::Result<Vec<v1::Attempt>> {
    let job_id = job.as_bytes().to_vec().into();
    let request = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
    Ok(mycelium.list_attempts(request).await?.attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_too_long_is_stopped_and_fails() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let (worker, elf) = serve(&mycelium, 2).await?;
    let flow = mycelium.flow("patience");
    let tasks = Stubborn::tasks(&flow, "stubborn");
    // By what is declared; by the job, whatever is declared.
    let (waits, stops) = (tasks.task_wait(), tasks.task_stop().run_timeout(Duration::from_millis(400)));
    let began = Instant::now();
    let run = flow.submit().await?;
    let failed = timed_out(&run, &waits).await?;
    ensure!(began.elapsed() >= Duration::from_millis(300), "early: {:?}", began.elapsed());
    let failure = failed.failure.context("it failed")?;
    ensure!(failure.message == "the task did not return within its run timeout of 300ms", "{failure:?}");
    ensure!(elf.dropped.load(Ordering::SeqCst) == 1, "it was dropped");
    timed_out(&run, &stops).await?;
    for job in [waits.id(), stops.id()] {
        let attempts = attempts(&mycelium, job).await?;
        ensure!(attempts.len() == 1 && attempts[0].end() == v1::AttemptEnd::Failed, "{attempts:?}");
    }
    let instance = wait_until_occupied(&mycelium, "stubborn", 0).await?;
    ensure!(instance.held == 0, "{instance:?}");
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_that_blocks_is_over_for_its_job_and_its_place_is_taken_until_it_lets_go() -> anyhow::Result<()>
{
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let (worker, _elf) = serve(&mycelium, 3).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("blocked");
    let tasks = Stubborn::tasks(&flow, "stubborn");
    let blocks = tasks.task_block(gate.clone());
    let burns = tasks.task_burn(gate.clone()).run_timeout(Duration::from_millis(300));
    let run = flow.submit().await?;
    timed_out(&run, &blocks).await?;
    timed_out(&run, &burns).await?;
    let before = wait_until_occupied(&mycelium, "stubborn", 2).await?;
    ensure!(before.held == 0, "nothing is held: {before:?}");

    // Others go on in the place that is left.
    let flow = mycelium.flow("others");
    let sums: Vec<Job<u64>> = (0..50).map(|n| Stubborn::tasks(&flow, "stubborn").task_add(n, 1u64)).collect();
    let others = flow.submit().await?;
    for (n, sum) in (0..).zip(&sums) {
        ensure!(must("another job", others.result(sum)).await?? == n + 1);
    }
    ensure!(instance(&mycelium, "stubborn").await?.occupied == 2, "they have not let go");
    std::fs::write(&gate, "")?;
    wait_until_occupied(&mycelium, "stubborn", 0).await?;
    for job in [blocks.id(), burns.id()] {
        let job = mycelium.job(job).await?;
        ensure!(
            (job.status(), job.attempt) == (JobStatus::Failed, 1),
            "what came late changed nothing: {job:?}"
        );
    }
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_of_a_task_that_burns_ends_its_job_at_once_and_takes_its_place() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--heartbeat-interval", "300ms"]).await?;
    let mycelium = broker.client().await?;
    let (worker, _elf) = serve(&mycelium, 2).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("burning");
    let burns = Stubborn::tasks(&flow, "stubborn").task_burn(gate.clone());
    flow.submit().await?;
    until("it to run", || async {
        Ok((mycelium.job(burns.id()).await?.status() == JobStatus::Running).then_some(()))
    })
    .await?;
    let ids = v1::JobIds { job_ids: vec![burns.id().as_bytes().to_vec().into()] };
    let scope = Some(v1::cancel_jobs_request::Scope::Jobs(ids));
    mycelium.cancel_jobs(v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() }).await?;
    ensure!(mycelium.job(burns.id()).await?.status() == JobStatus::Cancelled, "at once");
    ensure!(instance(&mycelium, "stubborn").await?.occupied == 1, "its place is taken at once");

    let flow = mycelium.flow("another");
    let sum = Stubborn::tasks(&flow, "stubborn").task_add(1u64, 2u64);
    let run = flow.submit().await?;
    ensure!(must("another job", run.result(&sum)).await?? == 3);
    // Longer than its grace and several beats: the broker has said that it is not this elf's any more.
    until("the elf to have dropped it", || async {
        let instance = instance(&mycelium, "stubborn").await?;
        Ok((instance.held == 0 && instance.occupied == 1).then_some(()))
    })
    .await?;
    std::fs::write(&gate, "")?;
    wait_until_occupied(&mycelium, "stubborn", 0).await?;
    ensure!(mycelium.job(burns.id()).await?.status() == JobStatus::Cancelled);
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_stands_behind_an_elf_that_stands_still() -> anyhow::Result<()> {
    const RUN: Duration = Duration::from_secs(1);
    const MARGIN: Duration = Duration::from_secs(2);
    let broker = BrokerProcess::start(&["--run-margin", "2s"]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("frozen", 1, 1)).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("frozen");
    let tasks = Tester::tasks(&flow, "frozen");
    let passes: Job<u64> = tasks.task_pass(1, gate.clone()).run_timeout(RUN);
    let next: Job<u64> = tasks.task_add(list![1u64, 2], 0);
    let began = Instant::now();
    let run = flow.submit().await?;
    until("it to run", || async {
        Ok((mycelium.job(passes.id()).await?.status() == JobStatus::Running).then_some(()))
    })
    .await?;
    elf.freeze()?;
    let failed = timed_out(&run, &passes).await?;
    ensure!(began.elapsed() >= RUN + MARGIN, "early: {:?}", began.elapsed());
    let failure = failed.failure.context("it failed")?;
    ensure!(failure.message.ends_with("its run timeout of 1s; the broker has ended it"), "{failure:?}");
    let frozen = instance(&mycelium, "frozen").await?;
    ensure!((frozen.held, frozen.occupied) == (1, 1), "its place is taken: {frozen:?}");
    ensure!(mycelium.job(next.id()).await?.status() == JobStatus::Ready, "nothing comes beside it");

    std::fs::write(&gate, "")?;
    elf.thaw()?;
    ensure!(must("the next job", run.result(&next)).await?? == 3, "it goes on when it can");
    let job = mycelium.job(passes.id()).await?;
    ensure!((job.status(), job.attempt) == (JobStatus::Failed, 1), "what came late changed nothing: {job:?}");
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_longer_than_every_lease_and_margin_runs_once_through_a_restart_of_the_broker()
-> anyhow::Result<()> {
    const LEASE: Duration = Duration::from_secs(2);
    let short = ["--lease", "2s", "--heartbeat-interval", "300ms", "--run-margin", "1s"];
    let mut broker = BrokerProcess::start(&short).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("long", 1, 1)).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");
    let flow = mycelium.flow("long");
    let long: Job<u64> = Tester::tasks(&flow, "long").task_pass(1, gate.clone()).run_timeout(LONG);
    let run = flow.submit().await?;
    let began = Instant::now();
    until("it to run", || async {
        Ok((mycelium.job(long.id()).await?.status() == JobStatus::Running).then_some(()))
    })
    .await?;
    until("more than a lease to pass", || async { Ok((began.elapsed() > LEASE * 3 / 2).then_some(())) })
        .await?;
    broker.kill().await?;
    broker.restart().await?;
    until("more than all leases and margins to pass", || async {
        Ok((began.elapsed() > LEASE * 4).then_some(()))
    })
    .await?;
    std::fs::write(&gate, "")?;
    ensure!(must("the end of the job", run.result(&long)).await?? == 1);
    let job = mycelium.job(long.id()).await?;
    ensure!((job.attempt, job.elves_lost) == (1, 0), "{job:?}");
    let started = Diary::attempts(&Diary::read([elf.diary()])?, Event::Started);
    ensure!(started.get(&long.id()) == Some(&vec![1]), "it was started as {started:?}");
    elf.stop().await?;
    broker.stop().await
}

/// Declares what its jobs do not say.
struct Declares;

#[machine_elf]
impl Declares {
    #[task(timeouts(queue = "400ms", total = "10m"))]
    async fn task_queue(&self) {}

    /// Says nothing at first, and how far it is when it is tried again.
    #[task(timeouts(progress = "500ms"), retry(attempts = 2, first = "1ms"))]
    async fn task_report(&self, context: &TaskContext) -> u32 {
        if context.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        for step in 0..4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            context.progress(f64::from(step) / 4.0, "");
        }
        context.attempt()
    }

    #[task(timeouts(total = "400ms"))]
    async fn task_total(&self, context: &TaskContext) {
        context.cancelled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_declares_goes_for_jobs_that_do_not_say() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("declares", Declares).concurrency(1).window(1)).await?;
    let flow = mycelium.flow("declared");
    let tasks = Declares::tasks(&flow, "declares");
    let total = tasks.task_total();
    // Behind the one that runs.
    let (queue, patient) = (tasks.task_queue(), tasks.task_queue().queue_timeout(LONG));
    let run = flow.submit().await?;
    for job in [&total, &queue] {
        let ended = must("the end of a job", run.result(job)).await?;
        let Err(Error::JobFailed(failed)) = ended else { anyhow::bail!("{ended:?}") };
        ensure!(failed.job.status == JobStatus::Expired, "{failed:?}");
    }
    must("the end of the patient one", run.result(&patient)).await??;
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_to_say_how_far_it_is_ends_if_it_does_not_and_is_tried_again() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("declares", Declares).cancel_grace(GRACE)).await?;
    let flow = mycelium.flow("silence");
    let tasks = Declares::tasks(&flow, "declares");
    let silent = tasks.task_total().total_timeout(LONG).progress_timeout(Duration::from_millis(300));
    let reports = tasks.task_report();
    let run = flow.submit().await?;
    ensure!(must("the end of one that reports", run.result(&reports)).await?? == 2);
    let first = &attempts(&mycelium, reports.id()).await?[0];
    ensure!(first.end() == v1::AttemptEnd::Failed, "{first:?}");
    let failure = timed_out(&run, &silent).await?.failure.context("it failed")?;
    let message = "the task did not report progress within its progress timeout of 300ms";
    ensure!(failure.message == message, "{failure:?}");
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_timeout_that_cannot_be_meant_is_refused_with_its_field() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    for timeout in [Duration::ZERO, Duration::MAX] {
        let flow = mycelium.flow("absurd");
        let _job = Stubborn::tasks(&flow, "stubborn").task_wait().run_timeout(timeout);
        let Err(error) = flow.submit().await else { anyhow::bail!("{timeout:?} was taken") };
        ensure!(format!("{error:?}").contains("jobs[0].timeouts.run"), "{error:?}");
    }
    let listed = mycelium.list_jobs(v1::ListJobsRequest::default()).await?.jobs;
    ensure!(listed.is_empty(), "nothing is stored: {listed:?}");
    broker.stop().await
}
