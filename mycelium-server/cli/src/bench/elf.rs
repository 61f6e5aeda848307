//! The elf of the benchmarks, in a process of its own.

use clap::Args as ClapArgs;
use elf_runtime::{Mycelium, TaskError, machine_elf};

/// The name it serves under.
pub(super) const ELF: &str = "bench";

/// Serves the elf of the benchmarks.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ElfArgs {
    /// The broker.
    #[arg(long)]
    url: String,
    /// How many jobs to run at once.
    #[arg(long)]
    concurrency: u32,
    /// How many jobs to hold at once.
    #[arg(long)]
    window: u32,
}

/// Does as little as can be done and still be checked.
#[derive(Debug)]
pub(super) struct Bench;

#[machine_elf]
impl Bench {
    /// Returns what it is given.
    async fn task_echo(&self, n: i64) -> i64 {
        n
    }

    /// Returns one more than it is given.
    async fn task_increment(&self, n: i64) -> i64 {
        n.wrapping_add(1)
    }

    /// Returns the list that it is given with one of its elements changed.
    async fn task_replace(
        &self,
        mut list: Vec<i64>,
        index: usize,
        value: i64,
    ) -> Result<Vec<i64>, TaskError> {
        let length = list.len();
        let element = list.get_mut(index).ok_or_else(|| {
            TaskError::new(
                "NoSuchElement",
                format!("there are {length} elements, and none with the index {index}"),
            )
        })?;
        *element = value;
        Ok(list)
    }

    /// Adds up what it is given.
    async fn task_sum(&self, numbers: Vec<i64>) -> i64 {
        numbers.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

/// Serves the elf until the process is told to stop, and prints a line when it is ready.
pub(crate) async fn serve_elf(args: ElfArgs) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mycelium = Mycelium::connect(args.url).await?;
    mycelium
        .serve()
        .elf(ELF, Bench)
        .concurrency(args.concurrency)
        .window(args.window)
        .on_ready(|_session| {
            // Whoever started this process reads the line; if it has gone, nobody needs it.
            let _gone = writeln!(std::io::stdout(), "ready");
        })
        .run_until(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}
