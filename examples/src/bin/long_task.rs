//! A task that takes long: it tells how far it is, goes on where its process was killed, and stops when it is cancelled.
//!
//! ```text
//! cargo run --bin long_task
//! ```

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::ensure;
use elf_runtime::{Job, Mycelium, Run, TaskContext, TaskError, machine_elf};
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The example starts itself so.
    if let Some(url) = std::env::args().nth(1) {
        return Ok(Mycelium::connect(url).await?.serve().elf("digger", Digger).run().await?);
    }
    let broker = mycelium_examples::broker(None).await?;
    orchestrate(&broker.url()).await?;
    Ok(broker.stop().await?)
}

/// Starts a process that serves the elf.
fn elf(url: &str) -> anyhow::Result<Child> {
    Ok(Command::new(std::env::current_exe()?).arg(url).kill_on_drop(true).spawn()?)
}

/// Has so many rows dug, and waits until some of them are.
async fn dig(mycelium: &Mycelium, rows: u32, some: f64) -> anyhow::Result<(Run, Job<u32>)> {
    let flow = mycelium.flow("long task");
    let job = Digger::tasks(&flow, "digger").task_dig(rows);
    let run = flow.submit().await?;
    while mycelium.job(job.id()).await?.progress.is_none_or(|progress| progress.fraction < some) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((run, job))
}

async fn orchestrate(url: &str) -> anyhow::Result<()> {
    let (mycelium, mut process) = (Mycelium::connect(url).await?, elf(url)?);
    let (run, job) = dig(&mycelium, 2_000, 0.3).await?;
    process.kill().await?;
    writeln!(io::stdout(), "more than 30 % are done, and the process is killed")?;
    let _process = elf(url)?;
    let (dug, attempt) = (run.result(&job).await?, mycelium.job(job.id()).await?.attempt);
    ensure!(attempt == 2 && (1..=1_500).contains(&dug), "attempt {attempt} dug {dug} rows");
    writeln!(io::stdout(), "attempt 2 went on from a checkpoint, and not from the beginning")?;

    let (run, _job) = dig(&mycelium, 1_000_000, f64::MIN_POSITIVE).await?;
    run.cancel().await?;
    ensure!(run.wait().await?.cancelled == 1);
    writeln!(io::stdout(), "a job that would take far longer is cancelled while it runs")?;
    Ok(())
}
