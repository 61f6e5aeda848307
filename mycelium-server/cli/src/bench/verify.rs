//! Checks that every output of a workload is there and right.

use anyhow::{Context as _, bail};
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::v1::{self, payload::Content};
use serde::de::DeserializeOwned;

use super::payload::{self, Round};

/// How many outputs are asked for at once.
const CHUNK: usize = 5_000;

/// What the jobs of a workload have to have come to.
pub(super) struct Expected {
    /// Each job, and the integer in its output `value`; `None` if it is still waiting.
    pub(super) jobs: Vec<(JobId, Option<i64>)>,
    /// Each job that returned a list, and what it was asked.
    pub(super) lists: Vec<(JobId, Round)>,
}

/// Checks all of them.
pub(super) async fn outputs(mycelium: &Mycelium, expected: &Expected) -> anyhow::Result<()> {
    for chunk in expected.jobs.chunks(CHUNK) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let job_ids = rest.iter().map(|(id, _)| id.as_bytes().to_vec().into()).collect();
            let answer =
                mycelium.get_outputs(v1::GetOutputsRequest { mycelium: String::new(), job_ids }).await?;
            if answer.jobs.is_empty() || answer.jobs.len() > rest.len() {
                bail!("the broker answered with {} of {} jobs", answer.jobs.len(), rest.len());
            }
            let (answered, unanswered) = rest.split_at(answer.jobs.len());
            for ((id, value), job) in answered.iter().zip(&answer.jobs) {
                if job.job_id.as_ref() != id.as_bytes() {
                    bail!("the broker answered about another job than {id}");
                }
                check(job, *value).with_context(|| format!("job {id}"))?;
            }
            rest = unanswered;
        }
    }
    payload::verify(mycelium, &expected.lists).await
}

fn check(job: &v1::JobOutputs, expected: Option<i64>) -> anyhow::Result<()> {
    match expected {
        None => match job.status() {
            v1::JobStatus::Ready | v1::JobStatus::Pending => Ok(()),
            other => bail!("it is {}, and should wait", other.as_str_name()),
        },
        Some(expected) => {
            if job.status() != v1::JobStatus::Done {
                bail!("it is {}, and should be DONE", job.status().as_str_name());
            }
            let value: i64 = value_of(&job.outputs)?;
            if value != expected {
                bail!("its output is {value}, and should be {expected}");
            }
            Ok(())
        }
    }
}

/// What is in the only output, which has to be inline.
pub(super) fn value_of<T: DeserializeOwned>(outputs: &[v1::NamedOutput]) -> anyhow::Result<T> {
    let [output] = outputs else { bail!("it has {} outputs, and should have one", outputs.len()) };
    let Some(Content::Inline(bytes)) = output.payload.as_ref().and_then(|payload| payload.content.as_ref())
    else {
        bail!("its output has no value");
    };
    serde_json::from_slice(bytes).context("its output is of another type")
}
