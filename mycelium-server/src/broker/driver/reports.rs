//! What attempts report while they run, as far as the sessions that report it hold them.

use std::collections::HashMap;
use std::sync::Arc;

use mycelium_core::command::Command;
use mycelium_core::effects::Effects;
use mycelium_core::ids::{Clocks, JobId, SessionId, Token};

use super::Driver;
use crate::broker::board::Mark;
use crate::broker::message::{CheckpointAnswer, CheckpointSaid, CheckpointVerdict, ReportsMessage};
use crate::store::CheckpointRecord;

/// What of the reports of a batch is to be stored, and then answered.
#[derive(Default)]
pub(super) struct Reports {
    /// The newest of each job.
    pub(super) checkpoints: HashMap<JobId, CheckpointRecord>,
    pub(super) answers: HashMap<SessionId, Vec<CheckpointAnswer>>,
}

impl Driver {
    /// Takes what the elf of a session says of its attempts. Whatever else it says of others changes nothing.
    pub(super) fn take_reports(
        &mut self,
        now: Clocks,
        reports: ReportsMessage,
        gathered: &mut Reports,
        effects: &mut Effects,
    ) {
        let ReportsMessage { session, stream, progress, checkpoints } = reports;
        // What came on an earlier stream is said again on the next.
        if !self.streams.is_current(session, stream) {
            return;
        }
        let of_checkpoints = checkpoints.iter().map(|said| said.token);
        let tokens = progress.iter().map(|(token, _)| *token).chain(of_checkpoints).collect();
        self.core.apply(now, Command::Reports { session, tokens }, effects);
        let mut is_any = false;
        for (token, reported) in progress {
            let Some(flow) = self.core.token_flow(session, token) else { continue };
            let Token { attempt, .. } = token;
            let mark =
                Mark { fraction: reported.fraction, text: Arc::from(reported.text), at: now.wall, attempt };
            self.board.put(token, flow, mark);
            is_any = true;
        }
        if is_any {
            self.board.tell();
        }
        for CheckpointSaid { token, number, body } in checkpoints {
            let verdict = match body {
                Err(why) => CheckpointVerdict::Refused(why),
                Ok(_) if self.core.token_flow(session, token).is_none() => CheckpointVerdict::Stale,
                Ok(body) => {
                    let Token { job, attempt } = token;
                    gathered.checkpoints.insert(job, CheckpointRecord { job, attempt, at: now.wall, body });
                    self.core.require_commit();
                    CheckpointVerdict::Stored
                }
            };
            let answer = CheckpointAnswer { token, number, verdict };
            gathered.answers.entry(session).or_default().push(answer);
        }
    }
}
