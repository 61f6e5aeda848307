//! An elf in the test's own process, whose tasks tell when they start and wait until they are let go.

use std::sync::Arc;

use elf_runtime::{Mycelium, Output, TaskContext, TaskError, machine_elf};
use mycelium_testing::Worker;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

/// What `task_weigh` returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Output)]
pub struct Measurement {
    pub species: String,
    pub weight: i64,
}

/// Weighs animals.
pub struct Scale {
    started: mpsc::UnboundedSender<String>,
    gate: Arc<Semaphore>,
}

impl Scale {
    /// The elf, where it tells of tasks that started, and what lets them go.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<String>, Arc<Semaphore>) {
        let (started_tx, started) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        (Self { started: started_tx, gate: Arc::clone(&gate) }, started, gate)
    }
}

/// Weighs animals, and
/// fails when it is told to.
#[machine_elf]
impl Scale {
    /// Weighs one animal.
    async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
        // A comment that belongs to the source, "quotes" and all.
        let weight = i64::try_from(species.len())?;
        Ok(Measurement { species, weight })
    }

    /// Adds up weights.
    fn task_sum(&self, weights: Vec<i64>) -> Result<i64, TaskError> {
        Ok(weights.iter().sum())
    }

    /// Always fails, in one place, with a cause.
    async fn task_break(&self, what: String) -> Result<i64, TaskError> {
        let cause = "heavy".parse::<i64>();
        cause.map_err(|error| TaskError::from(error).context(format!("cannot weigh {what}")))
    }

    /// Tells that it has started, and waits to be let go or cancelled.
    async fn task_hold(&self, name: String, context: &TaskContext) -> Result<(), TaskError> {
        let _nobody_listens = self.started.send(name);
        tokio::select! {
            permit = self.gate.acquire() => permit.map_err(TaskError::from_boxed)?.forget(),
            () = context.cancelled() => {}
        }
        Ok(())
    }
}

/// The elf while it is served.
pub struct Served {
    pub started: mpsc::UnboundedReceiver<String>,
    pub gate: Arc<Semaphore>,
    worker: Worker,
}

impl Served {
    /// Serves it under this name, with room for so many jobs, once the broker knows it.
    pub async fn start(mycelium: &Mycelium, name: &str, room: u32) -> Self {
        let (elf, started, gate) = Scale::new();
        let worker = mycelium.serve().elf(name, elf).concurrency(room).window(room);
        Self { started, gate, worker: Worker::start(worker).await.unwrap() }
    }

    /// Lets tasks that hold go.
    pub fn let_go(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Waits until a task that holds has started.
    pub async fn next_start(&mut self) -> String {
        super::within(self.started.recv()).await.unwrap()
    }

    /// Stops serving, and waits until that is done.
    pub async fn stop(self) {
        self.worker.stop().await.unwrap();
    }
}
