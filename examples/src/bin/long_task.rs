//! A task that takes long: it tells how far it is, goes on where its process was killed, and stops when it is cancelled.
//!
//! ```text
//! cargo run --bin long_task                                # with a broker of its own, in memory
//! cargo run --bin long_task -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use elf_runtime::{Job, Mycelium, Run, TaskContext, TaskError, machine_elf};
use mycelium_server::RunningBroker;
use tokio::process::{Child, Command};

struct Digger;

/// Digs.
#[machine_elf]
impl Digger {
    /// Digs so many rows, and returns how many of them this attempt has dug.
    async fn task_dig(&self, context: &TaskContext, rows: u32) -> Result<u32, TaskError> {
        // Where an earlier attempt was, if there was one.
        let first = context.last_checkpoint::<u32>()?.unwrap_or(0);
        for row in first..rows {
            if context.is_cancelled() {
                return Err(TaskError::message("it was cancelled"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            context.progress(f64::from(row) / f64::from(rows), format_args!("row {row}"));
            if row % 100 == 0 {
                context.checkpoint(&row).await?;
            }
        }
        Ok(rows - first)
    }
}

/// Runs a task that takes long, kills its process, and cancels it.
#[derive(Debug, Parser)]
struct Options {
    /// The URL of a broker that runs already. Without it the example starts one, in memory.
    #[arg(long, env = "MYCELIUM_URL")]
    url: Option<String>,
    /// Serves the elf: the example starts itself so.
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic where standard error cannot be written to.
            let _untold = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    // A variable that is set and empty is as good as none.
    let url = options.url.filter(|url| !url.is_empty());
    let broker = match &url {
        Some(_) => None,
        None => Some(mycelium_examples::broker(None).await?),
    };
    let url = url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();
    let mycelium = Mycelium::connect(url.as_str()).await?;
    if options.serve {
        return Ok(mycelium.serve().elf("digger", Digger).run().await?);
    }
    orchestrate(&mycelium, &url).await?;
    if let Some(broker) = broker {
        broker.stop().await?;
    }
    Ok(())
}

/// Starts a process that serves the elf.
fn elf(url: &str) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program).args(["--serve", "--url", url]).kill_on_drop(true).spawn()?)
}

async fn dig(mycelium: &Mycelium, rows: u32) -> anyhow::Result<(Run, Job<u32>)> {
    let flow = mycelium.flow("long task");
    let job = Digger::tasks(&flow, "digger").task_dig(rows);
    Ok((flow.submit().await?, job))
}

/// Waits until a job has come so far.
async fn until(mycelium: &Mycelium, job: &Job<u32>, fraction: f64) -> anyhow::Result<()> {
    while mycelium.job(job.id()).await?.progress.is_none_or(|progress| progress.fraction < fraction) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn orchestrate(mycelium: &Mycelium, url: &str) -> anyhow::Result<()> {
    // `println!` would panic where nobody reads it.
    let mut out = io::stdout();
    let mut process = elf(url)?;
    let (run, job) = dig(mycelium, 2_000).await?;
    until(mycelium, &job, 0.3).await?;
    process.kill().await?;
    writeln!(out, "more than 30 % are done, and the process is killed")?;
    let _process = elf(url)?;
    let (dug, attempt) = (run.result(&job).await?, mycelium.job(job.id()).await?.attempt);
    ensure!(attempt == 2 && (1..=1_500).contains(&dug), "attempt {attempt} dug {dug} rows");
    writeln!(out, "attempt 2 went on from a checkpoint, and not from the beginning")?;

    let (run, job) = dig(mycelium, 1_000_000).await?;
    until(mycelium, &job, f64::MIN_POSITIVE).await?;
    run.cancel().await?;
    let counts = run.wait().await?;
    ensure!(counts.cancelled == 1, "{counts:?}");
    writeln!(out, "a job that would take far longer is cancelled while it runs")?;
    Ok(())
}
