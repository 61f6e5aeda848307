//! An elf in the test's own process, whose tasks tell when they start and wait until they are let go.

use std::sync::Arc;

use elf_runtime::{Error, Mycelium, Output, TaskContext, TaskError, machine_elf};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

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
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), Error>>,
}

impl Served {
    /// Serves it under this name, with room for so many jobs, once the broker knows it.
    pub async fn start(mycelium: &Mycelium, name: &str, room: u32) -> Self {
        let (elf, started, gate) = Scale::new();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let worker = mycelium.serve().elf(name, elf).concurrency(room).window(room);
        let worker = worker.on_ready(move |_session| ready.send(()).unwrap_or_default());
        let worker = tokio::spawn(worker.run_until(stopped));
        super::within(is_ready).await.unwrap();
        Self { started, gate, stop, worker }
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
        let _gone = self.stop.send(());
        super::within(self.worker).await.unwrap().unwrap();
    }
}
