//! What values are computed from: outputs of jobs, and blobs that operations look into.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::StreamExt as _;
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_values::json::is_json;
use prost::Message as _;
use tokio::runtime;

use super::message::CallError;
use crate::blobs::{Blob, BlobError, Blobs};
use crate::store::{BlobDigest, Store};
use crate::values::{OutputsByJob, ReadBlob};

/// The most that the operations of one job read of blobs, in bytes. Each blob is read once, and is in memory for as long
/// as they are computed.
const OPERANDS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most that is held at once of what jobs have returned, in bytes. What is a blob counts as its name.
const OUTPUTS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How many jobs' outputs are read at once. They come to 1 MiB each at the most.
const OUTPUTS_CHUNK: usize = 64;

/// Reads the blobs that the operations of one job look into. To be used from a thread that may block.
pub(crate) struct Operands<'a> {
    blobs: &'a Blobs,
    runtime: runtime::Handle,
    read: RefCell<HashMap<BlobDigest, Bytes>>,
    bytes: Cell<u64>,
    away: RefCell<Option<BlobError>>,
}

impl<'a> Operands<'a> {
    pub(crate) fn new(blobs: &'a Blobs, runtime: runtime::Handle) -> Self {
        Self { blobs, runtime, read: RefCell::default(), bytes: Cell::default(), away: RefCell::default() }
    }

    /// Why an operation failed that would not fail again: blobs could not be read at all.
    pub(crate) fn away(self) -> Option<BlobError> {
        self.away.into_inner()
    }
}

impl Operands<'_> {
    fn failed(&self, error: BlobError) -> String {
        let message = error.to_string();
        if let BlobError::Away(_) = error {
            *self.away.borrow_mut() = Some(error);
        }
        message
    }
}

impl ReadBlob for Operands<'_> {
    fn read(&self, blob: &v1::BlobRef) -> Result<Bytes, String> {
        let blob = Blob::from_message(blob)?;
        if let Some(read) = self.read.borrow().get(&blob.digest) {
            return Ok(read.clone());
        }
        if blob.size > limits::OPERAND_BYTES_MAX as u64 {
            return Err(format!(
                "the value has {} bytes, and operations take values of at most {}; larger ones are passed on whole",
                blob.size,
                limits::OPERAND_BYTES_MAX
            ));
        }
        let bytes = self.bytes.get() + blob.size;
        if bytes > OPERANDS_BYTES_MAX {
            return Err(format!(
                "the large values that the operations of the job take come to more than {OPERANDS_BYTES_MAX} bytes"
            ));
        }
        self.bytes.set(bytes);
        let read = self.runtime.block_on(self.blobs.read_all(blob)).map_err(|error| self.failed(error))?;
        if !is_json(&read) {
            return Err(format!("blob {} is not valid JSON", blob.digest));
        }
        self.read.borrow_mut().insert(blob.digest, read.clone());
        Ok(read)
    }

    fn begin(&self, blob: &v1::BlobRef, max: usize) -> Result<Bytes, String> {
        let blob = Blob::from_message(blob)?;
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

/// The outputs of jobs, as far as they have any; in words if that is more than may be held at once.
pub(crate) fn read_outputs(
    store: &dyn Store,
    jobs: HashSet<JobId>,
) -> Result<Result<OutputsByJob, String>, CallError> {
    let jobs: Vec<JobId> = jobs.into_iter().collect();
    let mut outputs = HashMap::with_capacity(jobs.len());
    let mut bytes = 0;
    for jobs in jobs.chunks(OUTPUTS_CHUNK) {
        for (job, encoded) in jobs.iter().zip(store.outputs(jobs)?) {
            // A job named in `after` alone may have been cancelled and retried meanwhile; a value that is missing is
            // found when it is looked for.
            let Some(encoded) = encoded else { continue };
            bytes += encoded.len();
            if bytes > OUTPUTS_BYTES_MAX {
                return Ok(Err(format!(
                    "what the jobs before returned comes to more than {OUTPUTS_BYTES_MAX} bytes outside of blobs, which is \
                     the most that values are put together from"
                )));
            }
            let decoded = v1::Outputs::decode(encoded)
                .map_err(|error| CallError::Unreadable(format!("the outputs of job {job}: {error}")))?;
            outputs.insert(*job, decoded);
        }
    }
    Ok(Ok(outputs))
}
