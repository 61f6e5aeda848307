//! Removes the jobs of a flow, step by step.

use std::collections::BTreeSet;

use bytes::Bytes;
use mycelium_core::ids::{FailureId, FinishNumber, FlowId, JobId};
use mycelium_core::status::FinalStatus;

use super::super::handle::Handle;
use super::super::message::{Beside, CallError};
use super::failures::remove_occurrences;
use crate::documents::{Outputs, Spec};
use crate::store::{
    BlobDigest, BlobRole, BlobUse, Edges, Erased, FinishedQuery, FinishedRecord, Reads, SpecRecord, isolate,
};

/// As many jobs are removed with one batch.
const JOBS_AT_ONCE: usize = 256;
/// About so many bytes of specifications are read at once.
const SPEC_BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// Outputs of so many jobs are read at once. Each comes to a few megabytes at most.
const OUTPUTS_AT_ONCE: usize = 32;

/// Jobs that go with one batch.
struct Step {
    erased: Vec<Erased>,
    uses: Vec<BlobUse>,
    /// Where the next step begins.
    next: Option<FinishNumber>,
}

/// What was removed of a flow.
#[derive(Debug, Clone, Default)]
pub(super) struct Removed {
    pub(super) jobs: u64,
    pub(super) blob_uses: u64,
    /// Failures of which occurrences were.
    pub(super) failures: BTreeSet<FailureId>,
}

/// Removes all jobs of a flow, or what is not to stay of them in a stub. While one step is stored, the next is read.
pub(super) async fn remove_jobs(handle: &Handle, flow: FlowId, to_stub: bool) -> Result<Removed, CallError> {
    let mut removed = Removed::default();
    let mut step = Some(read_step(handle, flow, None, to_stub, &mut removed.failures).await?);
    while let Some(Step { erased, uses, next }) = step {
        removed.jobs += erased.len() as u64;
        removed.blob_uses += uses.len() as u64;
        let erasing = async {
            match erased.is_empty() {
                true => Ok(()),
                false => {
                    handle.put_aside(Beside { blob_uses_ended: uses, erased, ..Beside::default() }).await
                }
            }
        };
        let reading = async {
            match next {
                None => Ok(None),
                Some(next) => {
                    read_step(handle, flow, Some(next), to_stub, &mut removed.failures).await.map(Some)
                }
            }
        };
        let (erased, read) = futures::join!(erasing, reading);
        erased?;
        step = read?;
    }
    Ok(removed)
}

async fn read_step(
    handle: &Handle,
    flow: FlowId,
    after: Option<FinishNumber>,
    to_stub: bool,
    failures: &mut BTreeSet<FailureId>,
) -> Result<Step, CallError> {
    let store = &**handle.store();
    let query = FinishedQuery { flow: Some(flow), after, limit: JOBS_AT_ONCE, ..FinishedQuery::default() };
    let page = store.list_finished(&query).await?;
    for what in &page.damaged {
        tracing::error!(%flow, what, "a damaged record stays when its flow is deleted");
    }
    if !to_stub {
        // Before the jobs, which lead to them.
        failures.extend(remove_occurrences(handle, &page.jobs).await?);
    }
    let mut uses = BTreeSet::new();
    let outputs = read_outputs(store, &page.jobs, &mut uses).await?;
    let ids: Vec<JobId> = page.jobs.iter().map(|record| record.head.id).collect();
    let outlines = isolate(&ids, |ids| store.outlines(ids)).await?;
    let mut erased = Vec::with_capacity(ids.len());
    for ((record, outline), outputs_bytes) in page.jobs.into_iter().zip(outlines).zip(outputs) {
        // Of one that is damaged nobody knows what leads to it.
        let (edges, body) = match outline {
            Ok(Some(spec)) => {
                (Edges { depends_on: spec.depends_on, gathered_by: spec.gathered_by }, spec.body)
            }
            Ok(None) | Err(_) => (Edges::default(), 0),
        };
        let FinishedRecord { head, finish_number, end, .. } = record;
        let erasure = Erased { head, finish_number, status: end.status(), outputs_bytes, edges, stub: None };
        erased.push((erasure, body));
    }
    read_specs(store, &mut erased, to_stub, &mut uses).await?;
    let erased = erased.into_iter().map(|(erased, _)| erased);
    let erased = match to_stub {
        false => erased.collect(),
        // One without a specification has no values that could go.
        true => erased.filter(|erased| erased.stub.is_some()).collect(),
    };
    Ok(Step { erased, uses: uses.into_iter().collect(), next: page.next })
}

/// How many bytes the outputs of each have, and the blobs that they name.
async fn read_outputs(
    store: &dyn Reads,
    jobs: &[FinishedRecord],
    uses: &mut BTreeSet<BlobUse>,
) -> Result<Vec<usize>, CallError> {
    let mut bytes = Vec::with_capacity(jobs.len());
    for jobs in jobs.chunks(OUTPUTS_AT_ONCE) {
        let done = jobs.iter().filter(|record| record.end.status() == FinalStatus::Done);
        let ids: Vec<JobId> = done.map(|record| record.head.id).collect();
        let outputs = match ids.is_empty() {
            true => Vec::new(),
            false => isolate(&ids, |ids| store.outputs(ids)).await?,
        };
        let mut outputs = ids.into_iter().zip(outputs).peekable();
        for record in jobs {
            let job = record.head.id;
            bytes.push(match outputs.next_if(|(id, _)| *id == job) {
                Some((_, Ok(Some(encoded)))) => {
                    let size = encoded.len();
                    if let Ok(outputs) = Outputs::decode(job, encoded) {
                        uses.extend(outputs.blobs().map(|blob| kept(blob, job)));
                    }
                    size
                }
                Some((_, Ok(None))) | None => 0,
                // As many as can be, so that they go whatever they are.
                Some((_, Err(_))) => usize::MAX,
            });
        }
    }
    Ok(bytes)
}

/// The blobs that specifications name, and what is to stay of each in a stub. Reads about so many bytes at once.
async fn read_specs(
    store: &dyn Reads,
    jobs: &mut [(Erased, usize)],
    to_stub: bool,
    uses: &mut BTreeSet<BlobUse>,
) -> Result<(), CallError> {
    let mut begin = 0;
    while begin < jobs.len() {
        let mut bytes = 0;
        let fits = |(_, size): &&(Erased, usize)| {
            let is_first = bytes == 0;
            bytes += size.saturating_add(1);
            is_first || bytes <= SPEC_BYTES_AT_ONCE
        };
        let end = begin + jobs[begin..].iter().take_while(fits).count();
        let ids: Vec<JobId> = jobs[begin..end].iter().map(|(erased, _)| erased.head.id).collect();
        let specs = isolate(&ids, |ids| store.specs(ids)).await?;
        for ((erased, _), spec) in jobs[begin..end].iter_mut().zip(specs) {
            let Ok(Some(record)) = spec else { continue };
            let job = erased.head.id;
            let Ok(spec) = Spec::decode(job, record.body.clone()) else { continue };
            uses.extend(spec.blobs().map(|blob| kept(blob, job)));
            if to_stub {
                erased.stub = Some(SpecRecord { body: Bytes::from(spec.without_values()), ..record });
            }
        }
        begin = end;
    }
    Ok(())
}

fn kept(blob: BlobDigest, job: JobId) -> BlobUse {
    BlobUse { blob, job, role: BlobRole::Kept }
}
