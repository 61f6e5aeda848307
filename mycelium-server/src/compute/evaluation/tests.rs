use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::ids::EvaluationNumber;
use mycelium_proto::v1::{self, value_node};

use super::*;
use crate::broker::{self, PreparedJob, testing};
use crate::config::Config;
use crate::store::{FaultyStore, MemoryStore};

fn id(number: u8) -> JobId {
    JobId::new([number; 16])
}

/// A job that is run if another returns something true, or one without a condition.
fn job(number: u8, run_if: Option<u8>) -> PreparedJob {
    let output = |of: u8| v1::OutputRef { job_id: Bytes::from(vec![of; 16]), name: String::new() };
    testing::prepared(&v1::JobSpec {
        job_id: Bytes::from(vec![number; 16]),
        elf: "e".to_owned(),
        task: "task_t".to_owned(),
        nodes: run_if
            .map(|of| v1::ValueNode { kind: Some(value_node::Kind::Output(output(of))) })
            .into_iter()
            .collect(),
        run_if: run_if.map(|_| 0),
        ..v1::JobSpec::default()
    })
}

/// How many requests of the store it takes to decide so many jobs, each of whose conditions another returns.
async fn requests(jobs: u8) -> usize {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let blobs = Blobs::in_memory(Duration::from_secs(3600));
    let running = broker::start(store.clone(), blobs, Config::default()).unwrap();
    let flow = FlowId::new([9; 16]);
    let conditional = |number: u8| [job(number, None), job(100 + number, Some(number))];
    running
        .handle
        .submit(None, testing::submission(flow, (1..=jobs).flat_map(conditional).collect()))
        .await
        .unwrap();
    let evaluation = |number: u8| Evaluation {
        job: id(100 + number),
        flow,
        number: EvaluationNumber(number.into()),
        what: EvaluationWhat::Decide,
    };
    let evaluations: Vec<Evaluation> = (1..=jobs).map(evaluation).collect();
    let before = store.reads();
    let steps = steps(&running.handle, &evaluations).await.unwrap();
    let count = store.reads() - before;
    // What they are decided with has not been returned.
    assert!(steps.iter().all(|step| matches!(step, Step::Answer(Answer::Failed(_)))));
    assert_eq!(steps.len(), evaluations.len());
    running.handle.stop().await;
    running.ended.await.unwrap().unwrap();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_the_store_do_not_grow_with_the_jobs_that_are_decided_together() {
    let one = requests(1).await;
    assert_eq!(requests(u8::try_from(CHUNK).unwrap()).await, one);
    assert!(one <= 3, "{one} requests");
}
