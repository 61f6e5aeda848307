//! What jobs returned is held in memory while values are put together from it: a part at a time, and not without end.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::limits::PAYLOAD_BYTES_MAX;
use mycelium_proto::v1::{self, JobStatus, connect_response, payload, value_node};
use mycelium_server::Broker;

/// How many jobs return how much each: together just more than a broker holds at once, which is 256 MiB.
const JOBS: usize = 275;
const OUTPUTS: usize = 15;

/// Outputs as large as they may be without being blobs.
fn outcome(token: &v1::Token) -> v1::Outcome {
    let text = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX - 2));
    let outputs: Vec<(String, &str)> = (0..OUTPUTS).map(|n| (format!("n{n}"), text.as_str())).collect();
    let outputs: Vec<(&str, &str)> = outputs.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    wire::returned(token, &outputs)
}

fn list(items: u32) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::List(v1::ListNode { items: (0..items).collect() })) }
}

fn is_inline(assignment: &v1::Assignment) -> bool {
    let [argument] = assignment.arguments.as_slice() else { return false };
    let content = argument.payload.as_ref().and_then(|payload| payload.content.as_ref());
    matches!(content, Some(payload::Content::Inline(bytes)) if bytes.len() == PAYLOAD_BYTES_MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_put_together_from_a_bounded_number_of_bytes() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let names: Vec<String> = (0..OUTPUTS).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sources: Vec<v1::JobSpec> = (0..JOBS).map(|_| wire::job("source", &[], Vec::new())).collect();
    let ids: Vec<Bytes> = sources.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(wire::submission(sources)).await?;
    let hello = wire::hello(wire::declaration("source", &[], &names), JOBS as u32);
    let mut elf = WireElf::connect(&broker.url(), hello).await?;
    let mut recorded = 0;
    while recorded < JOBS {
        match elf.next().await? {
            connect_response::Kind::Assign(assign) => {
                for assignment in assign.assignments {
                    elf.report(vec![outcome(&assignment.token.context("a token")?)]).await?;
                }
            }
            connect_response::Kind::OutcomeAcks(acks) => recorded += acks.acks.len(),
            _ => {}
        }
    }

    // Each takes little, of jobs that all returned much; and one takes it all.
    let takers: Vec<v1::JobSpec> =
        ids.iter().map(|id| wire::job("taker", &["x"], vec![wire::output_of(id, "n0")])).collect();
    let mut nodes: Vec<v1::ValueNode> = ids.iter().map(|id| wire::output_of(id, "n0")).collect();
    nodes.push(list(JOBS as u32));
    let mut all = wire::job("taker", &["x"], nodes);
    all.arguments[0].node = JOBS as u32;
    let all_id = all.job_id.clone();
    let mut jobs = takers;
    jobs.push(all);
    client.submit_jobs(wire::submission(jobs)).await?;
    let hello = wire::hello(wire::declaration("taker", &["x"], &["y"]), JOBS as u32 + 1);
    let mut taker = WireElf::connect(&broker.url(), hello).await?;
    let mut taken = 0;
    while taken < JOBS {
        if let connect_response::Kind::Assign(assign) = taker.next().await? {
            for assignment in &assign.assignments {
                ensure!(is_inline(assignment), "what one job returned comes as it is");
            }
            taken += assign.assignments.len();
        }
    }
    let failed = integration_tests::until("the job that takes too much to fail", || async {
        let record = wire::get_job(&client, &all_id).await?;
        Ok((record.status() == JobStatus::Failed).then_some(record))
    })
    .await?;
    let request = v1::GetFailureRequest { failure_id: failed.failure_id, ..v1::GetFailureRequest::default() };
    let failure = client.get_failure(request).await?.into_inner();
    let text = format!("{failure:?}");
    ensure!(text.contains("ValueDerivationError") && text.contains("more than 268435456 bytes"), "{text}");
    drop((elf, taker));
    Ok(broker.stop().await?)
}
