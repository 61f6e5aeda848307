//! The elf of the tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use elf_runtime::{TaskContext, TaskError, list, machine_elf};

use crate::diary::{Diary, Event};

/// How often a task looks for the file that opens its gate.
const GATE_INTERVAL: Duration = Duration::from_millis(5);

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("there is nothing of that name")]
    NotFound,
    #[error("somebody else is at it")]
    Busy,
}

/// An elf whose tasks add, wait, and end their process, and write down what they do.
#[derive(Debug, Clone, Default)]
pub struct Tester {
    diary: Option<Arc<Diary>>,
}

impl Tester {
    /// An elf that writes into this diary.
    pub fn with_diary(diary: Diary) -> Self {
        Self { diary: Some(Arc::new(diary)) }
    }

    fn note(&self, event: Event, context: &TaskContext) -> Result<(), TaskError> {
        if let Some(diary) = &self.diary {
            diary.write(event, context)?;
        }
        Ok(())
    }
}

/// Does what tests ask for.
#[machine_elf]
impl Tester {
    /// Adds up, and takes its time over it.
    async fn task_add(
        &self,
        context: &TaskContext,
        numbers: Vec<u64>,
        pause_ms: u64,
    ) -> Result<u64, TaskError> {
        self.note(Event::Started, context)?;
        if pause_ms > 0 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        self.note(Event::Ended, context)?;
        Ok(numbers.iter().sum())
    }

    /// Returns `number` once there is a file at `gate`, and fails if it is cancelled before.
    async fn task_pass(&self, context: &TaskContext, number: u64, gate: PathBuf) -> Result<u64, TaskError> {
        self.note(Event::Started, context)?;
        while !gate.exists() {
            tokio::select! {
                () = tokio::time::sleep(GATE_INTERVAL) => {}
                () = context.cancelled() => {
                    self.note(Event::Cancelled, context)?;
                    return Err(TaskError::new("Cancelled", "the task was cancelled before its gate opened"));
                }
            }
        }
        self.note(Event::Ended, context)?;
        Ok(number)
    }

    /// Fails as it is told to (`busy`, `not found`, `permanent`, `soon` or `panic`) until there is a file at `gate`, and then
    /// returns the number of its attempt.
    async fn task_fail(&self, context: &TaskContext, how: String, gate: PathBuf) -> Result<u32, TaskError> {
        self.note(Event::Started, context)?;
        if gate.exists() {
            self.note(Event::Ended, context)?;
            return Ok(context.attempt());
        }
        match how.as_str() {
            "not found" => Err(ReadError::NotFound.into()),
            "permanent" => Err(TaskError::permanent("Broken", "it is broken, and stays so")),
            "soon" => Err(TaskError::from(ReadError::Busy).retry_after(Duration::from_millis(1))),
            "panic" => panic!("it panics"),
            _ => Err(ReadError::Busy.into()),
        }
    }

    /// Submits a sum to its own elf, and waits for it.
    async fn task_nest(&self, context: &TaskContext) -> Result<u64, TaskError> {
        self.note(Event::Started, context)?;
        let flow = context.client()?.flow("nested");
        let sum = Self::tasks(&flow, context.elf()).task_add(list![1u64, 2], 0);
        let run = flow.submit().await?;
        Ok(run.result(&sum).await?)
    }

    /// Takes the whole process with it.
    async fn task_abort(&self, context: &TaskContext) -> Result<(), TaskError> {
        self.note(Event::Started, context)?;
        std::process::abort()
    }
}
