//! What values are computed from: outputs of jobs, and blobs that operations look into.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::StreamExt as _;
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_values::{Failure, json};
use tokio::runtime;

use super::failed::Failed;
use crate::blobs::{Blob, BlobError, Blobs};
use crate::broker::FailureBody;
use crate::documents::{Outputs, Spec};
use crate::store::{BlobDigest, Damage, Reads, SpecRecord, isolate};
use crate::values::{OutputsByJob, ReadBlob};

/// The most that the operations of one job read of blobs, in bytes. Each blob is read once, and is in memory for as long
/// as they are computed.
const OPERANDS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most that is held at once of what jobs have returned, in bytes. What is a blob counts as its name.
pub(crate) const OUTPUTS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many jobs' outputs are read at once. They come to 1 MiB each at the most.
pub(crate) const OUTPUTS_CHUNK: usize = 64;

/// Reads the blobs that the operations of one job look into. To be used from a thread that may block.
pub(crate) struct Operands<'a> {
    blobs: &'a Blobs,
    runtime: runtime::Handle,
    read: RefCell<HashMap<BlobDigest, Bytes>>,
    bytes: Cell<u64>,
    unavailable: RefCell<Option<BlobError>>,
}

impl<'a> Operands<'a> {
    pub(crate) fn new(blobs: &'a Blobs, runtime: runtime::Handle) -> Self {
        Self {
            blobs,
            runtime,
            read: RefCell::default(),
            bytes: Cell::default(),
            unavailable: RefCell::default(),
        }
    }

    /// Why an operation failed that would not fail again: blobs could not be read at all.
    pub(crate) fn unavailable(self) -> Option<BlobError> {
        self.unavailable.into_inner()
    }
}

impl Operands<'_> {
    fn failed(&self, error: BlobError) -> Failure {
        let failure = Failure::invalid(error.to_string());
        if let BlobError::Unavailable(_) = error {
            *self.unavailable.borrow_mut() = Some(error);
        }
        failure
    }
}

impl ReadBlob for Operands<'_> {
    fn read(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        let blob = Blob::from_message(blob).map_err(|error| Failure::invalid(error.to_string()))?;
        if let Some(read) = self.read.borrow().get(&blob.digest) {
            return Ok(read.clone());
        }
        if blob.size > limits::OPERAND_BYTES_MAX as u64 {
            return Err(Failure::invalid(format!(
                "the value has {} bytes, and operations take values of at most {}; larger ones are passed on whole",
                blob.size,
                limits::OPERAND_BYTES_MAX
            )));
        }
        let bytes = self.bytes.get() + blob.size;
        if bytes > OPERANDS_BYTES_MAX {
            return Err(Failure::invalid(format!(
                "the large values that the operations of the job take come to more than {OPERANDS_BYTES_MAX} bytes"
            )));
        }
        self.bytes.set(bytes);
        let read = self.runtime.block_on(self.blobs.read_all(blob)).map_err(|error| self.failed(error))?;
        json::check(&read)
            .map_err(|error| Failure::invalid(format!("blob {} is no value: {error}", blob.digest)))?;
        self.read.borrow_mut().insert(blob.digest, read.clone());
        Ok(read)
    }

    fn begin(&self, blob: &v1::BlobRef, max: usize) -> Result<Bytes, Failure> {
        let blob = Blob::from_message(blob).map_err(|error| Failure::invalid(error.to_string()))?;
        let end = blob.size.min(max as u64);
        let begin = async {
            let mut begin = Vec::new();
            let mut pieces = self.blobs.read(blob, 0..end).await;
            while let Some(piece) = pieces.next().await {
                begin.extend_from_slice(&piece?);
            }
            Ok::<_, BlobError>(Bytes::from(begin))
        };
        self.runtime.block_on(begin).map_err(|error| self.failed(error))
    }
}

/// The specification of a job, as it was read and as it was submitted.
///
/// # Errors
/// The failure of the job, if it is damaged.
pub(crate) fn spec_of(
    job: JobId,
    record: Result<Option<SpecRecord>, Damage>,
) -> Result<(SpecRecord, v1::JobSpec), FailureBody> {
    let damaged = |what: &dyn std::fmt::Display| {
        FailureBody::record_damaged(format!("the specification of job {job} cannot be read: {what}"))
    };
    let record = record.map_err(|damage| damaged(&damage))?.ok_or_else(|| damaged(&"it is missing"))?;
    let spec = Spec::decode(job, record.body.clone()).map_err(|document| damaged(&document.error))?;
    Ok((record, spec.into()))
}

/// What jobs returned.
#[derive(Debug, Default)]
pub(crate) struct ReadOutputs {
    /// The outputs of those that have any.
    pub(crate) outputs: OutputsByJob,
    /// How many bytes they took where they are stored.
    pub(crate) bytes: usize,
    /// What is wrong with those that are damaged.
    damaged: HashMap<JobId, Damage>,
}

impl ReadOutputs {
    /// The failure of a job that needs the outputs of `jobs`, if those of one of them are damaged.
    pub(crate) fn damage_of<'a>(&self, jobs: impl IntoIterator<Item = &'a JobId>) -> Option<FailureBody> {
        if self.damaged.is_empty() {
            return None;
        }
        jobs.into_iter().find_map(|job| {
            let what = self.damaged.get(job)?;
            Some(FailureBody::record_damaged(format!("what job {job} returned cannot be read: {what}")))
        })
    }
}

/// The outputs of jobs, as far as they have any.
///
/// # Errors
/// Permanent if they come to more than `bytes_max`.
pub(crate) async fn read_outputs(
    store: &dyn Reads,
    jobs: HashSet<JobId>,
    bytes_max: usize,
) -> Result<ReadOutputs, Failed> {
    let jobs: Vec<JobId> = jobs.into_iter().collect();
    let mut read = ReadOutputs { outputs: HashMap::with_capacity(jobs.len()), ..ReadOutputs::default() };
    for jobs in jobs.chunks(OUTPUTS_CHUNK) {
        for (job, encoded) in jobs.iter().zip(isolate(jobs, |jobs| store.outputs(jobs)).await?) {
            let encoded = match encoded {
                Ok(Some(encoded)) => encoded,
                // A job named in `after` alone may have been cancelled and retried meanwhile; a value that is missing
                // is found when it is looked for.
                Ok(None) => continue,
                // Nor does it matter, unless a value is made of it.
                Err(damage) => {
                    read.damaged.insert(*job, damage);
                    continue;
                }
            };
            read.bytes += encoded.len();
            if read.bytes > bytes_max {
                return Err(Failed::underivable(format!(
                    "what the jobs before returned comes to more than {bytes_max} bytes outside of blobs, which is \
                     the most that values are assembled from"
                )));
            }
            match Outputs::decode(*job, encoded) {
                Ok(outputs) => drop(read.outputs.insert(*job, outputs)),
                Err(document) => drop(read.damaged.insert(*job, Damage(document.error.to_string()))),
            }
        }
    }
    Ok(read)
}
