//! Adds jobs to flows.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{Begins, Command, Elements, NewFlow, NewJob, Part, Preconditions, Submit};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{Attachment, Commit, ContentDigest, FlowId, JobId, RequestId};
use mycelium_core::image::JobHead;
use mycelium_core::policy::Policy;
use mycelium_core::signature::Judged;

use super::handle::{Handle, unexpected};
use super::limits::Peer;
use super::message::{Body, CallError};
use super::preconditions::{TRIES_MAX, known_finished};
use crate::store::{self, BlobDigest, Reads};

/// A job that was checked and encoded, ready to be submitted.
#[derive(Debug, Clone)]
pub(crate) struct PreparedJob {
    pub(crate) head: JobHead,
    pub(crate) depends_on: Vec<JobId>,
    /// Whether it has a condition or a list to be run over.
    pub(crate) evaluate: bool,
    pub(crate) body: Bytes,
    pub(crate) digest: ContentDigest,
    /// How the signatures of its task that are there take the values of its arguments.
    pub(crate) judged: Judged,
    /// The policy of its own, if it has one.
    pub(crate) policy: Option<Arc<Policy>>,
    /// When it may begin.
    pub(crate) begins: Begins,
    /// The blobs it names, which are there.
    pub(crate) blobs: Vec<BlobDigest>,
}

/// Jobs that were checked, ready to be submitted.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) flow: FlowId,
    /// What it is, used if it is made now.
    pub(crate) new_flow: NewFlow,
    pub(crate) part: Option<Part>,
    /// Set if they are jobs for elements of a list.
    pub(crate) elements: Option<Elements>,
    pub(crate) jobs: Vec<PreparedJob>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) created: u32,
    pub(crate) existing: u32,
    pub(crate) commit: Commit,
}

impl Handle {
    /// Adds jobs to a flow, when it is that peer's turn.
    pub(crate) async fn submit(&self, peer: Peer, submission: Submission) -> Result<Submitted, CallError> {
        let _turn = self.submissions().turn(peer, submission.jobs.len()).await;
        for _ in 0..TRIES_MAX {
            let preconditions = submit_preconditions(&**self.store(), self.commit(), &submission).await?;
            let bodies = submission
                .jobs
                .iter()
                .map(|job| Body::Spec { body: job.body.clone(), blobs: job.blobs.clone() });
            let command = Command::Submit(Submit {
                request: RequestId::default(),
                flow: submission.flow,
                new_flow: submission.new_flow.clone(),
                part: submission.part,
                elements: submission.elements,
                jobs: submission.jobs.iter().zip(0..).map(|(job, index)| new_job(job, index)).collect(),
                preconditions,
            });
            match self.request(command, bodies.collect()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Submitted { created, existing }, commit)) => {
                    return Ok(Submitted { created, existing, commit });
                }
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }
}

fn new_job(job: &PreparedJob, index: u32) -> NewJob {
    NewJob {
        head: job.head.clone(),
        depends_on: job.depends_on.clone(),
        evaluate: job.evaluate,
        digest: job.digest,
        judged: job.judged.clone(),
        policy: job.policy.clone(),
        begins: job.begins,
        spec: Attachment(index),
    }
}

async fn submit_preconditions(
    store: &dyn Reads,
    as_of: Commit,
    submission: &Submission,
) -> Result<Preconditions, store::Error> {
    let own: HashSet<JobId> = submission.jobs.iter().map(|job| job.head.id).collect();
    let mut ids: Vec<JobId> = submission.jobs.iter().map(|job| job.head.id).collect();
    let mut seen = HashSet::new();
    for dependency in submission.jobs.iter().flat_map(|job| &job.depends_on) {
        if !own.contains(dependency) && seen.insert(*dependency) {
            ids.push(*dependency);
        }
    }
    let flow = [submission.flow];
    let part = submission.part.map(|part| part.submission);
    let sealed = async {
        match part {
            Some(part) => Ok(store.submissions(&[part]).await?.iter().flatten().any(|record| record.sealed)),
            None => Ok(false),
        }
    };
    let (finished, mut flow, submission_sealed) =
        futures::try_join!(known_finished(store, &ids, Some(submission.flow)), store.flows(&flow), sealed)?;
    Ok(Preconditions { as_of, finished, flow: flow.pop().flatten(), submission_sealed })
}
