//! An elf whose tasks wait for the test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use elf_runtime::{
    Elf, ElfDeclaration, Output as _, TaskCall, TaskContext, TaskDeclaration, TaskError, TaskOutputs,
};
use futures::future::BoxFuture;
use tokio::sync::Notify;

/// Tells a test what its tasks do, and tells its tasks when to go on.
#[derive(Default)]
pub struct Gates {
    state: Mutex<State>,
    changed: Notify,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    starts: BTreeMap<u32, usize>,
    running: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    open: BTreeSet<u32>,
}

impl Gates {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        self.opened.notify_all();
    }

    async fn until<T>(&self, condition: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = condition(&self.state.lock().unwrap()) {
                return value;
            }
            changed.await;
        }
    }

    /// Waits until the task with this number has started; returns how often.
    pub async fn started(&self, n: u32) -> usize {
        self.until(|state| state.starts.get(&n).copied()).await
    }

    /// Waits until the task with this number has ended or was dropped.
    pub async fn ended(&self, n: u32) -> usize {
        self.until(|state| state.ended.contains(&n).then_some(1)).await
    }

    pub fn starts(&self, n: u32) -> usize {
        self.state.lock().unwrap().starts.get(&n).copied().unwrap_or(0)
    }

    pub fn running(&self) -> Vec<u32> {
        self.state.lock().unwrap().running.iter().copied().collect()
    }

    pub fn open(&self, n: u32) {
        self.change(|state| {
            state.open.insert(n);
        });
    }
}

/// Notes that a task runs, for as long as it is there.
struct Running(Arc<Gates>, u32);

impl Running {
    fn new(gates: &Arc<Gates>, n: u32) -> Self {
        gates.change(|state| {
            *state.starts.entry(n).or_default() += 1;
            state.running.insert(n);
        });
        Self(Arc::clone(gates), n)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.running.remove(&self.1);
            state.ended.insert(self.1);
        });
    }
}

/// An elf written by hand. Each of its tasks takes a number `n`, under which the gates know it.
#[derive(Clone)]
pub struct TestElf {
    gates: Arc<Gates>,
}

impl TestElf {
    pub fn new() -> (Self, Arc<Gates>) {
        let gates = Arc::new(Gates::default());
        (Self { gates: Arc::clone(&gates) }, gates)
    }
}

/// How often [`TestElf`] says in `task_report` how far it is.
pub const REPORTS_EVERY: Duration = Duration::from_millis(200);

const TASKS: [&str; 7] = [
    "task_double",
    "task_wait",
    "task_until_cancelled",
    "task_burn",
    "task_report",
    "task_fail",
    "task_panic",
];

impl Elf for TestElf {
    fn declaration(&self) -> ElfDeclaration {
        TASKS.into_iter().fold(ElfDeclaration::new("test"), |elf, task| {
            elf.task(TaskDeclaration::new(task, task).parameter::<u32>("n").outputs::<u32>())
        })
    }

    fn call(
        self: Arc<Self>,
        mut call: TaskCall,
        context: TaskContext,
    ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
        Box::pin(async move {
            let n: u32 = call.argument("n")?;
            let _running = Running::new(&self.gates, n);
            match call.task() {
                "task_double" => Ok((n * 2).into_outputs()?),
                "task_wait" => {
                    self.gates.until(|state| state.open.contains(&n).then_some(())).await;
                    Ok(n.into_outputs()?)
                }
                "task_until_cancelled" => {
                    context.cancelled().await;
                    Err(TaskError::new("Stopped", "it noticed"))
                }
                "task_burn" => {
                    let state = self.gates.state.lock().unwrap();
                    // Holds the thread, as a computation would.
                    drop(self.gates.opened.wait_while(state, |state| !state.open.contains(&n)).unwrap());
                    Ok(n.into_outputs()?)
                }
                "task_report" => {
                    // So often, and then no more.
                    for step in 1..=n {
                        tokio::time::sleep(REPORTS_EVERY).await;
                        context.progress(0.5, format!("step {step}"));
                    }
                    std::future::pending().await
                }
                "task_fail" => Err(TaskError::new("Broken", "it snapped")),
                "task_panic" => panic!("out of honey"),
                _ => Err(call.unknown_task()),
            }
        })
    }
}
