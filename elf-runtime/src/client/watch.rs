//! Watching jobs across cuts.

use mycelium_proto::{reason, v1};

use super::mycelium::Mycelium;
use crate::error::Error;
use crate::retry::Retry;
use crate::transport::Inbound;

/// A running `WatchJobs` call that outlives its connections: after a cut it goes on from the last commit it saw, or,
/// if the broker no longer remembers that one, with a new snapshot.
#[derive(Debug)]
#[must_use = "a watch does nothing until its messages are awaited"]
pub struct JobWatch {
    mycelium: Mycelium,
    /// The request that goes on where the last message ended.
    request: v1::WatchJobsRequest,
    stream: Option<Inbound<v1::WatchJobsResponse>>,
    is_over: bool,
}

impl JobWatch {
    pub(super) fn new(mycelium: Mycelium, request: v1::WatchJobsRequest) -> Self {
        Self { mycelium, request, stream: None, is_over: false }
    }

    /// The next message. `None` once all watched jobs are final, if the request asked to end then.
    ///
    /// Cancel safe: dropping the returned future loses no message.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reasons that the contract names for `WatchJobs`; [`Error::Busy`] or
    /// [`Error::Unreachable`] if the broker stays unavailable for longer than the handle's patience. The watch may be asked
    /// again after that, and then tries again.
    pub async fn next(&mut self) -> Result<Option<v1::WatchJobsResponse>, Error> {
        let mut retry = Retry::new(self.mycelium.patience());
        while !self.is_over {
            let error = match self.receive().await {
                Ok(Some(message)) => {
                    if message.commit > 0 {
                        self.request.from_commit = message.commit;
                    }
                    return Ok(Some(message));
                }
                Ok(None) if self.request.until_final => {
                    self.is_over = true;
                    break;
                }
                // A broker that shuts down ends its watches without an error.
                Ok(None) => Error::Busy {
                    reason: reason::BROKER_STOPPING.to_owned(),
                    message: "the broker ended the watch".to_owned(),
                    retry_after: None,
                },
                Err(error) => error,
            };
            self.stream = None;
            if error.reason() == Some(reason::COMMIT_UNKNOWN) && self.request.from_commit > 0 {
                self.request.from_commit = 0;
                continue;
            }
            retry.pause_or_give_up(error).await?;
        }
        Ok(None)
    }

    async fn receive(&mut self) -> Result<Option<v1::WatchJobsResponse>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.mycelium.calls().watch_jobs(self.request.clone()).await?;
                self.stream.insert(stream)
            }
        };
        stream.message().await
    }
}
