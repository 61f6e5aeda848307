//! Lets jobs begin before their moment.

use mycelium_core::command::{Command, Preconditions, StartNow};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{JobId, RequestId};

use super::handle::{Handle, unexpected};
use super::message::CallError;
use super::preconditions::{TRIES_MAX, known_finished};

impl Handle {
    /// Lets jobs begin at once that wait for their moment alone. Returns how many did.
    pub(crate) async fn start_now(&self, jobs: Vec<JobId>) -> Result<u64, CallError> {
        for _ in 0..TRIES_MAX {
            let as_of = self.commit();
            let finished = known_finished(&**self.store(), &jobs, None).await?;
            let preconditions = Preconditions { as_of, finished, ..Preconditions::default() };
            let start = StartNow { request: RequestId::default(), jobs: jobs.clone(), preconditions };
            match self.request(Command::StartNow(start), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Started { started }, _)) => return Ok(started),
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }
}
