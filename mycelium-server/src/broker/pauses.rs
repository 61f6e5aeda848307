//! Pauses and resumes.

use std::sync::Arc;

use mycelium_core::command::{Command, Pause, Resume};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::RequestId;
use mycelium_core::image::{PauseRecord, PauseTarget};

use super::handle::{Handle, unexpected};
use super::message::CallError;
use super::preconditions::TRIES_MAX;

impl Handle {
    /// Pauses something. Returns the pause, and whether it is new.
    pub(crate) async fn pause(
        &self,
        target: PauseTarget,
        by: Arc<str>,
        reason: Arc<str>,
    ) -> Result<(PauseRecord, bool), CallError> {
        for _ in 0..TRIES_MAX {
            let as_of = self.commit();
            let is_stored = match &target {
                PauseTarget::Flow(flow) => self.store().flows(&[*flow]).await?.pop().flatten().is_some(),
                PauseTarget::Mycelium | PauseTarget::Elf(_) | PauseTarget::Task { .. } => true,
            };
            let (target, by, reason) = (target.clone(), Arc::clone(&by), Arc::clone(&reason));
            let pause = Pause { request: RequestId::default(), target, by, reason, is_stored, as_of };
            match self.request(Command::Pause(pause), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Paused { pause, is_new }, _)) => return Ok((pause, is_new)),
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }

    /// Resumes something. Returns the pause that is over, if there was one.
    pub(crate) async fn resume(&self, target: PauseTarget) -> Result<Option<PauseRecord>, CallError> {
        let resume = Resume { request: RequestId::default(), target };
        match self.request(Command::Resume(resume), Vec::new()).await? {
            (Reply::Resumed { pause }, _) => Ok(pause),
            (other, _) => Err(unexpected(&other)),
        }
    }
}
