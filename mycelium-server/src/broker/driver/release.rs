//! What others are told once a batch is stored.

use std::collections::HashMap;

use mycelium_core::effects::{Effects, Evaluation, Send as Sent};
use mycelium_core::ids::SessionId;

use super::Driver;
use crate::broker::batch::Built;
use crate::broker::ended;
use crate::broker::message::{Aside, Body, CheckpointAnswer, Query};
use crate::broker::registry::Signatures;
use crate::broker::watch::{Told, WatchStart};

/// What is left to do once a batch is stored.
pub(super) struct ToRelease {
    pub(super) bodies: Vec<Body>,
    pub(super) built: Built,
    /// Whether the batch had something to store.
    pub(super) is_stored: bool,
    pub(super) welcomed: Vec<(SessionId, Signatures)>,
    pub(super) answers: HashMap<SessionId, Vec<CheckpointAnswer>>,
    pub(super) asides: Vec<Aside>,
    pub(super) queries: Vec<Query>,
    pub(super) watches: Vec<WatchStart>,
}

impl Driver {
    /// Lets everybody know what is durable now.
    pub(super) fn release(&mut self, effects: Effects, stored: ToRelease) {
        let ToRelease { bodies, built, is_stored, welcomed, answers, asides, queries, watches } = stored;
        // Before anybody is answered: what is submitted from then on is held against them.
        welcomed.into_iter().for_each(|(session, signatures)| self.registry.welcome(session, signatures));
        for sent in &effects.sends {
            if let Sent::SessionOver { session } = sent {
                self.registry.end(*session);
            }
        }
        for (request, reply) in effects.replies {
            self.requests.answer(request, reply, self.commit);
        }
        for aside in asides {
            let _gone = aside.reply.send(());
        }
        let mut not_read = self.streams.send_all(effects.sends);
        not_read.extend(self.streams.answer_checkpoints(answers));
        self.hand_over(effects.evaluations);
        self.board.settle(&effects.changes);
        let told = Told { commit: self.commit, is_stored, changes: &effects.changes };
        self.watches.tell(told, &bodies, &built.failures, &self.core);
        for query in queries {
            query(&self.core, self.commit);
        }
        for start in watches {
            self.watches.forget_closed();
            self.watches.start(start, self.commit, &self.core);
        }
        ended::tell(&self.core, &effects.changes, self.clock.now().wall);
        self.waiting.extend(not_read.into_iter().filter_map(|stream| self.streams.cut_off(stream)));
    }

    /// Hands evaluations to the evaluator, as far as it has room. Whenever it has not, it is at work, and what it answers
    /// leads here again.
    fn hand_over(&mut self, evaluations: Vec<Evaluation>) {
        self.to_evaluate.extend(evaluations);
        while let Some(evaluation) = self.to_evaluate.pop_front() {
            if self.evaluator.try_send(evaluation).is_err() {
                self.to_evaluate.push_front(evaluation);
                return;
            }
        }
    }
}
