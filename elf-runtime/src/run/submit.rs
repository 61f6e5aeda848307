//! Sends the jobs of a submission: in one call, or in parts of which the last seals them all.

use mycelium_proto::{reason, v1};
use uuid::Uuid;

use crate::client::Mycelium;
use crate::error::Error;
use crate::flow::{Flow, Submission};
use crate::retry::Retry;
use crate::trace;

/// How often blobs are written again because the broker has not kept them until they were named.
const WRITES_MAX: usize = 3;

/// Sends all jobs, and before them the blobs that they name. When it returns `Ok` they are durable.
pub(super) async fn send(mycelium: &Mycelium, flow: &Flow, submission: &mut Submission) -> Result<(), Error> {
    mycelium.own().until_welcomed().await;
    let blobs = submission.name_large().await;
    let mut retry = Retry::new(mycelium.patience());
    let mut writes = 0;
    loop {
        // Those that were written before are not written again.
        mycelium.blobs().write(&blobs, Retry::new(mycelium.patience())).await?;
        let Err(error) = send_parts(mycelium, flow, submission).await else {
            tracing::debug!(flow_id = %flow.id(), jobs = submission.len(), blobs = blobs.len(), "submitted");
            return Ok(());
        };
        match error.reason() {
            // The broker dropped the earlier parts, or never had them because another one has taken over: begin again.
            // Jobs that it has after all are recognised by their ids.
            Some(reason::SUBMISSION_OUT_OF_ORDER) => retry.pause(error).await?,
            // They were written longer ago than was thought, or to another broker.
            Some(reason::BLOB_NOT_FOUND) if writes < WRITES_MAX && !blobs.is_empty() => {
                writes += 1;
                mycelium.blobs().forget(&blobs);
                tracing::debug!(flow_id = %flow.id(), error = %error, "blobs are written again");
            }
            _ => return Err(error),
        }
    }
}

async fn send_parts(mycelium: &Mycelium, flow: &Flow, submission: &Submission) -> Result<(), Error> {
    let n_parts = submission.parts().len();
    let submission_id = match n_parts {
        0 | 1 => prost::bytes::Bytes::new(),
        _ => prost::bytes::Bytes::copy_from_slice(Uuid::now_v7().as_bytes()),
    };
    let labels = flow.labels();
    let trace = trace::current().or_else(|| mycelium.trace());
    for (part, jobs) in (0_u32..).zip(submission.parts()) {
        // Made anew for each try, so that the jobs are copied once and not twice.
        let request = || v1::SubmitJobsRequest {
            mycelium: mycelium.name().to_owned(),
            flow_id: flow.id().to_wire(),
            flow_name: flow.name().to_owned(),
            submission_id: submission_id.clone(),
            part,
            seal: part as usize + 1 == n_parts,
            jobs: jobs.to_vec(),
            flow_labels: labels.clone(),
            on_behalf_of: mycelium.on_behalf_of().cloned(),
            trace: trace.clone(),
        };
        let answer: v1::SubmitJobsResponse = mycelium
            .call(request, |mut client, request| async move { client.submit_jobs(request).await })
            .await?;
        mycelium.own().warn(answer.warnings);
    }
    Ok(())
}
