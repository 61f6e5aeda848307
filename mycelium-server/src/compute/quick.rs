//! A first try at the values of a job: what takes little is computed at once, and what takes more waits for its turn.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use mycelium_proto::v1;
use mycelium_values::{Failure, Limits};

use crate::values::ReadBlob;

/// What the operations of one job may take in a first try: about two milliseconds.
const QUICK: Limits =
    Limits { steps: 50_000, memory_bytes: 4 * 1024 * 1024, value_bytes: 1024 * 1024, ..Limits::CONTRACT };
/// After so long no further first tries are made for jobs that are looked at together.
pub(crate) const QUICK_TIME: Duration = Duration::from_millis(10);
/// The most that is read, of what other jobs have returned, for jobs that are looked at together, in bytes.
pub(crate) const QUICK_OUTPUTS_BYTES: usize = 8 * 1024 * 1024;
/// The largest values that are assembled for one job, in bytes.
pub(crate) const QUICK_SPLICED_BYTES: u64 = 1024 * 1024;

/// For a first try: reads no blobs.
#[derive(Debug, Default)]
pub(crate) struct QuickOperands {
    takes_more: Cell<bool>,
}

impl QuickOperands {
    /// Whether the operations of the job take more than a first try may: then what they came to says nothing.
    pub(crate) fn takes_more(&self) -> bool {
        self.takes_more.get()
    }

    fn not_here(&self) -> Failure {
        self.takes_more.set(true);
        Failure::invalid("large values are not read in a first try")
    }
}

impl ReadBlob for QuickOperands {
    fn limits(&self) -> Limits {
        QUICK
    }

    fn limit_exceeded(&self) {
        self.takes_more.set(true);
    }

    fn read(&self, _blob: &v1::BlobRef) -> Result<Bytes, Failure> {
        Err(self.not_here())
    }

    fn begin(&self, _blob: &v1::BlobRef, _max: usize) -> Result<Bytes, Failure> {
        Err(self.not_here())
    }
}
