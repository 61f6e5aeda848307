//! Blobs that operations look into.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use bytes::Bytes;
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_values::json::is_json;
use tokio::runtime;

use crate::blobs::{Blob, BlobError, Blobs};
use crate::store::BlobDigest;
use crate::values::ReadBlob;

/// The most that the operations of one job read of blobs, in bytes. Each blob is read once, and is in memory for as long
/// as they are computed.
const OPERANDS_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
        let read = self.runtime.block_on(self.blobs.read_all(blob)).map_err(|error| {
            let message = error.to_string();
            if let BlobError::Away(_) = error {
                *self.away.borrow_mut() = Some(error);
            }
            message
        })?;
        if !is_json(&read) {
            return Err(format!("blob {} is not valid JSON", blob.digest));
        }
        self.read.borrow_mut().insert(blob.digest, read.clone());
        Ok(read)
    }
}
