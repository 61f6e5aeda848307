//! `SubmitJobs`: checks and encodes the jobs, and hands them to the broker.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::Part;
use mycelium_core::ids::{ContentDigest, FlowId, SubmissionId};
use mycelium_proto::limits;
use mycelium_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::status::Error;
use crate::blobs::Blob;
use crate::broker::{Handle, Peer, PreparedJob, Submission, cut};
use crate::values::check_spec;

/// Above so many jobs, checking and encoding leave the threads that serve connections.
const JOBS_INLINE_MAX: usize = 64;

pub(crate) async fn submit(
    handle: &Handle,
    peer: Peer,
    request: v1::SubmitJobsRequest,
) -> Result<v1::SubmitJobsResponse, Error> {
    let (submission, blobs) = if request.jobs.len() <= JOBS_INLINE_MAX {
        prepare(handle, request)?
    } else {
        let turn = handle.preparation_turn(peer).await;
        let handle = handle.clone();
        let prepare = move || {
            // Held until it is done, even if nobody waits for it any more.
            let _turn = turn;
            prepare(&handle, request)
        };
        match tokio::task::spawn_blocking(prepare).await {
            Ok(prepared) => prepared?,
            Err(_panicked_or_stopping) => return Err(crate::broker::CallError::Stopping.into()),
        }
    };
    handle.blobs().require(&blobs).await?;
    let submitted = handle.submit(peer, submission).await?;
    Ok(v1::SubmitJobsResponse {
        jobs_created: submitted.created,
        jobs_existing: submitted.existing,
        commit: submitted.commit.0,
    })
}

/// Checks and encodes the jobs, and gives the blobs that they name.
fn prepare(handle: &Handle, request: v1::SubmitJobsRequest) -> Result<(Submission, Vec<Blob>), Error> {
    let flow =
        FlowId::from_slice(&request.flow_id).ok_or_else(|| Error::field("flow_id", "must be 16 bytes"))?;
    if request.flow_name.len() > limits::NAME_BYTES_MAX {
        let problem = format!("must be at most {} bytes", limits::NAME_BYTES_MAX);
        return Err(Error::field("flow_name", problem));
    }
    if request.flow_name.chars().any(char::is_control) {
        return Err(Error::field("flow_name", "must not contain control characters"));
    }
    if request.jobs.len() > limits::SUBMIT_JOBS_MAX {
        let problem =
            format!("must be at most {}; send a larger submission in parts", limits::SUBMIT_JOBS_MAX);
        return Err(Error::field("jobs", problem));
    }
    let part = part_of(&request)?;

    let mut names = Names::default();
    let mut seen = HashSet::with_capacity(request.jobs.len());
    let mut jobs = Vec::with_capacity(request.jobs.len());
    let mut blobs = Vec::new();
    for (index, spec) in request.jobs.iter().enumerate() {
        let prefix = || format!("jobs[{index}]");
        let checked = check_spec(spec).map_err(|error| Error::Spec { prefix: prefix(), error })?;
        if !seen.insert(checked.id) {
            return Err(Error::field(format!("jobs[{index}].job_id"), "is given twice"));
        }
        if let Some(signature) = names.signature(handle, &spec.elf) {
            signature.fit(spec).map_err(|misfit| Error::Misfit { prefix: prefix(), misfit })?;
        }
        let body = Bytes::from(spec.encode_to_vec());
        jobs.push(PreparedJob {
            id: checked.id,
            elf: names.shared(&spec.elf),
            task: names.shared(&spec.task),
            priority: spec.priority,
            depends_on: checked.depends_on,
            evaluate: spec.run_if.is_some() || spec.for_each.is_some(),
            digest: digest(&body),
            body,
            blobs: checked.blobs.iter().map(|blob| blob.digest).collect(),
        });
        blobs.extend(checked.blobs);
    }
    let mut flow_name = request.flow_name;
    cut(&mut flow_name, limits::NAME_BYTES_MAX);
    Ok((Submission { flow, flow_name: Arc::from(flow_name), part, elements: None, jobs }, blobs))
}

fn part_of(request: &v1::SubmitJobsRequest) -> Result<Option<Part>, Error> {
    if request.submission_id.is_empty() {
        if request.part != 0 || !request.seal {
            let problem =
                "is needed for a submission of several parts: set it, or set `part` to 0 and `seal` to true";
            return Err(Error::field("submission_id", problem));
        }
        return Ok(None);
    }
    let submission = SubmissionId::from_slice(&request.submission_id)
        .ok_or_else(|| Error::field("submission_id", "must be empty or 16 bytes"))?;
    Ok(Some(Part { submission, index: request.part, seal: request.seal }))
}

/// Tells jobs with the same id and other content apart.
fn digest(body: &[u8]) -> ContentDigest {
    let digest = Sha256::digest(body);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    ContentDigest(u64::from_le_bytes(first))
}

/// Names and signatures that one submission has met: most of its jobs name the same few.
#[derive(Default)]
struct Names {
    shared: BTreeMap<String, Arc<str>>,
    signatures: BTreeMap<String, Option<Arc<crate::broker::ElfSignature>>>,
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.shared.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(name);
        self.shared.insert(name.to_owned(), Arc::clone(&shared));
        shared
    }

    fn signature(&mut self, handle: &Handle, elf: &str) -> Option<Arc<crate::broker::ElfSignature>> {
        if let Some(signature) = self.signatures.get(elf) {
            return signature.clone();
        }
        let signature = handle.registry().elf(elf);
        self.signatures.insert(elf.to_owned(), signature.clone());
        signature
    }
}
