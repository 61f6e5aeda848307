//! A flow that must not notice what else happens.

use anyhow::{Context as _, ensure};
use elf_runtime::{Mycelium, list};
use mycelium_testing::{Worker, must};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::elf::Tester;

/// How many jobs a round has, each of which takes the result of the one before.
const ROUND_JOBS: u64 = 5;

/// A program and an elf of their own that submit, run and read small flows, round after round, while a test mistreats
/// the broker.
#[derive(Debug)]
pub struct Bystander {
    rounds: watch::Receiver<u64>,
    program: JoinHandle<anyhow::Result<()>>,
    worker: Worker,
}

impl Bystander {
    /// Starts it, and waits until it has finished its first round.
    ///
    /// # Errors
    /// If it does not.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let mycelium = Mycelium::connect(url).await?;
        let worker =
            Worker::start(mycelium.serve().elf("bystander", Tester::default()).concurrency(2)).await?;
        let (tell, mut rounds) = watch::channel(0);
        let program = tokio::spawn(async move {
            loop {
                round(&mycelium).await.context("the bystander was disturbed")?;
                tell.send_modify(|rounds| *rounds += 1);
                if tell.is_closed() {
                    return Ok(());
                }
            }
        });
        must("the bystander's first round", rounds.wait_for(|rounds| *rounds > 0)).await??;
        Ok(Self { rounds, program, worker })
    }

    /// Waits until it has finished a round that began after this call, and stops it.
    ///
    /// # Errors
    /// If it does not get on, or did not get on before.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        // The round under way may have begun before.
        let enough = *self.rounds.borrow() + 2;
        if must("another round of the bystander", self.rounds.wait_for(|rounds| *rounds >= enough))
            .await?
            .is_err()
        {
            // The program has ended, and says why.
            self.program.await??;
            anyhow::bail!("the bystander ended early");
        }
        drop(self.rounds);
        must("the bystander's end", self.program).await???;
        Ok(self.worker.stop().await?)
    }
}

async fn round(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("bystander");
    let tasks = Tester::tasks(&flow, "bystander");
    let mut last = tasks.task_add(list![1u64], 0);
    for _ in 1..ROUND_JOBS {
        last = tasks.task_add(list![last, 1u64], 0);
    }
    let run = flow.submit().await?;
    let sum = run.result(&last).await?;
    ensure!(sum == ROUND_JOBS, "the bystander's sum is {sum}");
    Ok(())
}
