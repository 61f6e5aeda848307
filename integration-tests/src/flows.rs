//! Looking at flows through the API.

use anyhow::Context as _;
use bytes::Bytes;
use elf_runtime::{FlowId, Mycelium};
use mycelium_proto::v1;

/// How many jobs of a flow stand where.
///
/// # Errors
/// If the broker does not answer.
pub async fn counts(mycelium: &Mycelium, flow: FlowId) -> anyhow::Result<v1::JobCounts> {
    let flow = Some(v1::get_flow_request::Flow::FlowId(flow_id_bytes(flow)));
    let answer = mycelium.get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await?;
    answer.flow.and_then(|flow| flow.counts).context("GetFlow answers without counts")
}

/// All jobs of a flow with one of these statuses, or all if none is named, as `ListJobs` shows them.
///
/// # Errors
/// If the broker does not answer.
pub async fn jobs_of(
    mycelium: &Mycelium,
    flow: FlowId,
    statuses: &[v1::JobStatus],
) -> anyhow::Result<Vec<v1::Job>> {
    let mut jobs = Vec::new();
    let mut request = v1::ListJobsRequest {
        flow_id: flow_id_bytes(flow),
        statuses: statuses.iter().map(|status| i32::from(*status)).collect(),
        page_size: 1_000,
        ..v1::ListJobsRequest::default()
    };
    loop {
        let page = mycelium.list_jobs(request.clone()).await?;
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return Ok(jobs);
        }
        request.page_token = page.next_page_token;
    }
}

/// The id as requests take it.
pub fn flow_id_bytes(flow: FlowId) -> Bytes {
    Bytes::copy_from_slice(flow.as_bytes())
}

/// The number that is the only output of a job.
///
/// # Errors
/// If it has other outputs.
pub fn read_number(outputs: &[v1::NamedOutput]) -> anyhow::Result<u64> {
    let [output] = outputs else { anyhow::bail!("expected one output, and there are {}", outputs.len()) };
    match output.payload.as_ref().and_then(|payload| payload.content.as_ref()) {
        Some(v1::payload::Content::Inline(bytes)) => Ok(serde_json::from_slice(bytes)?),
        Some(v1::payload::Content::Blob(_)) | None => {
            anyhow::bail!("the output `{}` has no inline content", output.name)
        }
    }
}
