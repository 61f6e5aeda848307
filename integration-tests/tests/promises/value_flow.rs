//! A flow of jobs whose values depend on each other runs in the order of its values, and gives the right results.

use elf_runtime::{Mycelium, Output, TaskError, list, machine_elf};
use mycelium_server::Broker;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Output)]
struct Measurement {
    species: String,
    weight: i64,
}

struct Scale;

/// Weighs animals.
#[machine_elf]
impl Scale {
    /// Weighs one animal.
    async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
        let weight = i64::try_from(species.len())?;
        Ok(Measurement { species, weight })
    }

    /// Adds up weights.
    fn task_sum(&self, weights: Vec<i64>) -> Result<i64, TaskError> {
        Ok(weights.iter().sum())
    }
}

#[tokio::test]
async fn values_flow_between_jobs() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = mycelium.serve().elf("scale", Scale).run_until(async {
        let _ = stopped.await;
    });
    let worker = tokio::spawn(worker);

    let flow = mycelium.flow("weights");
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let ant = scale.task_weigh("elephant");
    let sum = scale.task_sum(list![bee.weight(), ant.weight(), 1]);
    let run = flow.submit().await?;
    assert_eq!(run.result(&sum).await?, 3 + 8 + 1);
    assert_eq!(run.result(&bee).await?, Measurement { species: "bee".to_owned(), weight: 3 });
    let counts = run.wait().await?;
    assert_eq!((counts.done, counts.failed), (3, 0));

    drop(run);
    let _ = stop.send(());
    worker.await??;
    broker.stop().await?;
    Ok(())
}
