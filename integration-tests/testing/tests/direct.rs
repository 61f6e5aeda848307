//! Tasks called without a broker.

use std::time::Duration;

use elf_runtime::logs::TaskLogLayer;
use elf_runtime::v1::LogLevel;
use elf_runtime::{ElfService, TaskContext, TaskError, machine_elf};
use mycelium_testing::{DirectCall, until};
use tower::timeout::TimeoutLayer;
use tracing_subscriber::prelude::*;

struct Digger {
    factor: u32,
}

#[machine_elf]
impl Digger {
    fn task_dig(&self, depth: u32) -> u32 {
        self.factor * depth
    }

    async fn task_strike(&self, stone: bool) -> Result<(), TaskError> {
        assert!(stone, "there is no stone");
        Err(TaskError::permanent("Stone", "it struck a stone"))
    }

    /// Digs until it is told to stop, and says how far it has come.
    async fn task_dig_on(&self, context: &TaskContext) -> Result<u32, TaskError> {
        let begun = context.last_checkpoint::<u32>()?.unwrap_or(0);
        context.progress(7.0, "begun");
        context.log("dug by hand");
        tracing::warn!(depth = begun, "getting dark");
        context.checkpoint(&(begun + 1)).await?;
        context.cancelled().await;
        Ok(context.attempt())
    }

    async fn task_sleep(&self) {
        std::future::pending::<()>().await;
    }

    async fn task_client(&self, context: &TaskContext) -> Result<(), TaskError> {
        context.client().map(drop)
    }
}

fn call(task: &str) -> DirectCall {
    DirectCall::new(Digger { factor: 2 }, task)
}

#[tokio::test]
async fn a_task_called_directly_takes_arguments_and_returns_what_would_travel() {
    let dug = call("task_dig").argument("depth", &21).run().await;
    assert_eq!(dug.result.as_ref().unwrap().get("value").unwrap().to_string(), "42");
    assert_eq!(dug.output::<u32>().unwrap(), 42);
    let kind = |result: Result<u32, TaskError>| result.unwrap_err().failure_type().to_owned();
    let called = [
        (call("task_dig").argument("depth", "deep"), "ArgumentTypeError"),
        (call("task_dig"), "ArgumentTypeError"),
        (call("task_dig").argument("depth", &1).argument("width", &1), "ArgumentTypeError"),
        (call("task_fly"), "TaskNotFoundError"),
        (call("task_strike").argument("stone", &true), "Stone"),
        (call("task_strike").argument("stone", &false), "Panic"),
        (call("task_client"), "NoClientError"),
    ];
    for (call, expected) in called {
        assert_eq!(kind(call.run().await.output::<u32>()), expected);
    }
}

#[tokio::test]
async fn what_it_reports_is_seen_while_it_runs_and_it_is_told_that_it_is_cancelled() -> anyhow::Result<()> {
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(TaskLogLayer::new()));
    let running = call("task_dig_on").attempt(3).last_checkpoint(&7).start();
    let other = call("task_dig_on").start();
    until("its checkpoint", || async { Ok(running.reports().checkpoints().pop()) }).await?;
    assert_eq!(running.reports().progress(), [(1.0, "begun".to_owned())]);
    tracing::info!("logged by the test itself");
    running.cancel();
    let ended = running.ended().await;
    assert_eq!(ended.reports.checkpoints()[0].read::<u32>()?, 8);
    let logs = ended.reports.logs();
    let logged: Vec<_> = logs.iter().map(|line| (line.level(), line.text.as_str())).collect();
    assert_eq!(logged, [(LogLevel::Info, "dug by hand"), (LogLevel::Warn, "getting dark depth=7")]);
    assert_eq!(ended.output::<u32>().unwrap(), 3);

    until("the other's checkpoint", || async { Ok(other.reports().checkpoints().pop()) }).await?;
    assert_eq!(other.reports().logs()[1].text, "getting dark depth=0");
    other.cancel();
    assert_eq!(other.ended().await.output::<u32>().unwrap(), 1);
    Ok(())
}

#[tokio::test]
async fn the_layers_of_an_elf_are_called_too() {
    let service = ElfService::new(Digger { factor: 1 }).layer(TimeoutLayer::new(Duration::from_millis(1)));
    let ended = DirectCall::of(service, "task_sleep").run().await;
    assert_eq!(ended.result.unwrap_err().failure_type(), "Timeout");
}
