//! Waits end, or say why they do not; what ends is told of once.

use std::future::Future;
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, FlowId, JobId, Mycelium, TaskError, machine_elf, reason, v1};
use integration_tests::{BrokerProcess, Worker, must, until};

/// Does what it should not.
struct Careless {
    /// What holds the thread of `task_block`.
    held: std::sync::Mutex<mpsc::Receiver<()>>,
}

#[machine_elf]
impl Careless {
    /// Blocks the thread that it runs on, as no `async` task should.
    async fn task_block(&self) -> Result<(), TaskError> {
        let held = self.held.lock().map_err(|_| TaskError::new("Poisoned", "the lock"))?;
        // The test lets go, or is over.
        held.recv().ok();
        Ok(())
    }

    /// Fails.
    async fn task_fail(&self, secret: String) -> Result<i64, TaskError> {
        let _kept = secret;
        Err(TaskError::new("ScaleError", "out of order"))
    }
}

fn careless() -> (Careless, mpsc::Sender<()>) {
    let (let_go, held) = mpsc::channel();
    (Careless { held: std::sync::Mutex::new(held) }, let_go)
}

/// The reason of a refusal that has to come in time.
async fn refused<T>(call: impl Future<Output = Result<T, Error>>) -> anyhow::Result<String> {
    match must("the refusal", call).await? {
        Ok(_) => anyhow::bail!("it was not refused"),
        Err(error) => Ok(error.reason().with_context(|| format!("{error:?} is no refusal"))?.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_what_is_not_there_end() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let unknown = mycelium.run(FlowId::generate());
    ensure!(refused(unknown.wait()).await? == reason::FLOW_NOT_FOUND);
    ensure!(refused(unknown.outputs(JobId::generate())).await? == reason::JOB_NOT_FOUND);
    ensure!(refused(unknown.cancel()).await? == reason::FLOW_NOT_FOUND);

    let empty = mycelium.flow("empty").submit().await?;
    ensure!(must("the end of nothing", empty.wait()).await?? == v1::JobCounts::default());
    ensure!(empty.cancel().await? == 0);

    let flow = mycelium.flow("one job");
    let job = flow.call("nobody", "task_any", elf_runtime::args! {});
    let run = flow.submit().await?;
    let error = must("the error", unknown.result(&job)).await?;
    ensure!(matches!(error, Err(Error::JobOfAnotherFlow { .. })), "{error:?}");
    let error = must("the error", unknown.outputs(job.id())).await?;
    ensure!(matches!(error, Err(Error::JobOfAnotherFlow { .. })), "{:?}", error.err());
    let late = flow.call("nobody", "task_any", elf_runtime::args! {});
    let error = must("the error", run.result(&late)).await?;
    ensure!(matches!(error, Err(Error::JobNotSubmitted { .. })), "{error:?}");
    flow.submit().await?;

    // The same ids at a broker that has never heard of them.
    let other = BrokerProcess::start(&[]).await?;
    let stranger = other.client().await?.run(run.flow_id());
    ensure!(refused(stranger.result(&job)).await? == reason::FLOW_NOT_FOUND);
    other.stop().await?;
    broker.stop().await
}

async fn explain(mycelium: &Mycelium, job: JobId) -> anyhow::Result<v1::wait_reason::Kind> {
    let job_id = job.as_bytes().to_vec().into();
    let answer =
        mycelium.explain_job(v1::ExplainJobRequest { job_id, ..v1::ExplainJobRequest::default() }).await?;
    answer.reason.and_then(|reason| reason.kind).context("a reason")
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_for_a_blocked_process_say_so() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--heartbeat-interval", "1s"]).await?;
    let mycelium = broker.client().await?;
    let (elf, let_go) = careless();
    let worker = mycelium.serve().elf("careless", elf).concurrency(1).window(2);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let blocked = std::thread::spawn(move || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(worker.run_until(stopped))?)
    });
    let flow = mycelium.flow("blocked");
    let tasks = Careless::tasks(&flow, "careless");
    let [runs, held, ready] = [(); 3].map(|()| tasks.task_block().id());
    let run = flow.submit().await?;
    for job in [runs, held] {
        until("a job that is held to be told of", || async {
            Ok(match explain(&mycelium, job).await? {
                v1::wait_reason::Kind::Held(held) => held.late_by.filter(|late_by| late_by.seconds >= 5),
                _ => None,
            })
        })
        .await?;
    }
    let v1::wait_reason::Kind::NoFreeWindow(full) = explain(&mycelium, ready).await? else {
        anyhow::bail!("the third job waits for the window")
    };
    ensure!(full.late_by.is_some_and(|late_by| late_by.seconds >= 5), "{full:?}");
    let why = mycelium.why(ready).await?;
    ensure!(why.contains("blocked for "), "{why}");

    // Each recv needs a word of its own, or the end of the sender.
    drop(let_go);
    must("the end of the flow", run.wait()).await??;
    stop.send(()).ok().context("the worker ended by itself")?;
    let ended = tokio::task::spawn_blocking(move || blocked.join()).await?;
    ended.map_err(|_| anyhow::anyhow!("the thread of the worker panicked"))??;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_flow_is_one_line_of_the_log() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let worker = Worker::start(mycelium.serve().elf("careless", careless().0)).await?;
    let flow = mycelium.flow("weekly report");
    let tasks = Careless::tasks(&flow, "careless");
    let fails = tasks.task_fail("hunter2");
    tasks.task_fail("hunter2").after(&fails);
    let run = flow.submit().await?;
    must("the end of the flow", run.wait()).await??;
    let lines = || -> anyhow::Result<Vec<String>> {
        let log = broker.log()?;
        Ok(log.lines().filter(|line| line.contains("a flow has ended")).map(str::to_owned).collect())
    };
    until("the line", || async { Ok((!lines()?.is_empty()).then_some(())) }).await?;
    let told = lines()?;
    ensure!(told.len() == 1, "{told:?}");
    for text in ["INFO", "weekly report", "failed=1", "upstream_failed=1", "done=0", "duration_ms="] {
        ensure!(told[0].contains(text), "`{text}` is missing: {}", told[0]);
    }
    ensure!(!broker.log()?.contains("hunter2"), "no values");
    worker.stop().await?;
    broker.stop().await
}
