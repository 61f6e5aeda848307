//! Brokers in the process of a test.

use elf_runtime::{args, list, machine_elf};
use mycelium_testing::{Proxy, TestBroker, Worker, until};

struct Adder;

#[machine_elf]
impl Adder {
    async fn task_add(&self, numbers: Vec<u64>) -> u64 {
        numbers.iter().sum()
    }
}

#[tokio::test]
async fn what_was_submitted_outlives_a_restart_and_runs_when_an_elf_comes_over_a_cut_line()
-> anyhow::Result<()> {
    let broker = TestBroker::on_disk().await?;
    let mycelium = broker.client().await?;
    let flow = mycelium.flow("sums");
    let sum = Adder::tasks(&flow, "adder").task_add(list![1u64, 2u64]);
    let run = flow.submit().await?;
    let (url, broker) = (broker.url(), broker.restart().await?);
    assert_eq!(broker.url(), url, "it answers where it did");

    let proxy = Proxy::start(broker.address()).await?;
    let away = elf_runtime::Mycelium::builder(proxy.url()).connect().await?;
    let worker = Worker::start(away.serve().elf("adder", Adder)).await?;
    assert_eq!(run.result(&sum).await?, 3);
    let before = proxy.accepted();
    proxy.cut();
    until("the worker to connect again", || async { Ok((proxy.accepted() > before).then_some(())) }).await?;
    let flow = mycelium.flow("more sums");
    let more = flow.call("adder", "task_add", args! { numbers: [3u64, 4] });
    assert_eq!(flow.submit().await?.result(&more).await?, serde_json::json!(7));
    worker.stop().await?;
    broker.stop().await
}

#[tokio::test]
async fn a_broker_that_keeps_everything_in_memory_is_not_restarted() -> anyhow::Result<()> {
    let refused = TestBroker::in_memory().await?.restart().await.unwrap_err();
    assert!(refused.to_string().contains("in memory"), "{refused}");
    Ok(())
}
