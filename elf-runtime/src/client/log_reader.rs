//! Reading what attempts have logged.

use mycelium_proto::v1;

use crate::error::Error;
use crate::transport::Inbound;

/// A `ReadLogs` call: the lines of an attempt, or of those of a job one after the other.
#[derive(Debug)]
#[must_use = "nothing is read before its messages are awaited"]
pub struct LogReader(Inbound<v1::ReadLogsResponse>);

impl LogReader {
    pub(super) fn new(stream: Inbound<v1::ReadLogsResponse>) -> Self {
        Self(stream)
    }

    /// The next lines. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Busy`] if the broker goes away. To go on, read again, from the beginning.
    pub async fn next(&mut self) -> Result<Option<v1::ReadLogsResponse>, Error> {
        self.0.message().await
    }
}
