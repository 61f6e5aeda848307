//! Jobs that are tried again by policy, and one that begins late: an elf fetches from a server that is busy at first.
//!
//! ```text
//! cargo run --bin retries
//! ```

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::ensure;
use elf_runtime::{Error, Mycelium, RetryPolicy, TaskContext, TaskError, machine_elf};

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the server is busy")]
    Busy,
    #[error("there is no page `{0}`")]
    NotFound(String),
}

struct Fetcher;

/// Fetches pages.
#[machine_elf]
impl Fetcher {
    /// Fetches a page; the server has time for the third who asks.
    #[task(retry(attempts = 5, first = "100ms", never = [NotFound]))]
    async fn task_fetch(&self, context: &TaskContext, page: String) -> Result<String, TaskError> {
        match (page.as_str(), context.attempt()) {
            ("missing", _) => Err(FetchError::NotFound(page).into()),
            ("forbidden", _) => Err(TaskError::permanent("Forbidden", "this page is for others")),
            ("slow", 1) => Err(TaskError::from(FetchError::Busy).retry_after(Duration::from_millis(300))),
            (_, 1 | 2) => Err(FetchError::Busy.into()),
            (_, attempt) => Ok(format!("`{page}`, at attempt {attempt}")),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let broker = mycelium_examples::broker(None).await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let worker = mycelium.serve().elf("fetcher", Fetcher);
    let mut outcome = Ok(());
    worker.run_until(async { outcome = orchestrate(&mycelium).await }).await?;
    broker.stop().await?;
    outcome
}

async fn orchestrate(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("retries");
    let fetcher = Fetcher::tasks(&flow, "fetcher");
    let late = fetcher.task_fetch("late").delay(Duration::from_millis(500));
    let stubborn = fetcher.task_fetch("stubborn").retry(RetryPolicy::new().factor(1.0));
    let good = [fetcher.task_fetch("front"), fetcher.task_fetch("slow"), stubborn, late];
    let bad = [fetcher.task_fetch("missing"), fetcher.task_fetch("forbidden")];

    let run = flow.submit().await?;
    for job in &good {
        writeln!(io::stdout(), "fetched {}", run.result(job).await?)?;
    }
    for job in &bad {
        let Err(Error::JobFailed(failed)) = run.result(job).await else { anyhow::bail!("it was fetched") };
        let failure = failed.failure.unwrap_or_default();
        let attempts = mycelium.job(job.id()).await?.attempt;
        ensure!(attempts == 1, "what would fail again is not tried again");
        writeln!(io::stdout(), "not fetched, and tried once: {}: {}", failure.r#type, failure.message)?;
    }
    Ok(())
}
