//! Actions on many jobs, and who goes through them: by what the store has, one step after the other.

use std::sync::Arc;

use mycelium_core::command::{Action, ActionStep, ActionTo, Cancel, Command, Retry};
use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{ActionId, JobId, RequestId};
use mycelium_core::image::{ActionKind, ActionRecord};

use super::super::client::Wish;
use super::super::seen::Seen;
use super::{Event, MS, SECOND, Waiting, World};

/// How many jobs a step is about.
const JOBS_PER_STEP: usize = 3;

/// What was asked of an action, and not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Begun(ActionId),
    /// A step, before which so many jobs were done.
    Step(ActionStep, u64),
    Other(ActionId),
}

impl World {
    /// Somebody wants something done with many jobs, and asks for it twice at times.
    pub(super) fn act(&mut self) {
        if !self.has_faults {
            return;
        }
        let id = ActionId::new(self.rng.id());
        let kind = if self.rng.percent(70) { ActionKind::Retry } else { ActionKind::Cancel };
        for _ in 0..1 + self.rng.below(2) {
            let (filter, by) = (Arc::from("all"), Arc::from("operator"));
            self.ask_of(
                Asked::Begun(id),
                id,
                ActionTo::Begun { kind, filter, flow: None, failure: None, by },
            );
        }
        self.after(self.length.apart(40 * SECOND), Event::Act);
    }

    fn ask_of(&mut self, asked: Asked, id: ActionId, to: ActionTo) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.asked.insert(request, asked);
        self.inbox.push_back(Waiting::Command(Box::new(Command::Action(Action { request, id, to }))));
    }

    /// Goes on with every action by one step.
    pub(super) fn go_on_acting(&mut self) {
        let busy: Vec<ActionId> = self.asked.values().map(|asked| asked.id()).collect();
        let open = self.store.actions.values().filter(|action| action.ended_at.is_none());
        let open: Vec<ActionRecord> = open.filter(|action| !busy.contains(&action.id)).cloned().collect();
        open.into_iter().for_each(|action| self.go_on_with(&action));
        self.after(500 * MS, Event::GoOnActing);
    }

    fn go_on_with(&mut self, action: &ActionRecord) {
        let left = self.left_of(action);
        if action.total.is_none() {
            return self.ask_of(Asked::Other(action.id), action.id, ActionTo::Counted(left.len() as u64));
        }
        let jobs: Vec<JobId> = left.iter().take(JOBS_PER_STEP).map(|(_, job)| *job).collect();
        let Some((place, _)) = left.get(jobs.len().saturating_sub(1)) else {
            self.see(Seen::ActionEnded);
            return self.ask_of(Asked::Other(action.id), action.id, ActionTo::Ended);
        };
        let step = ActionStep { id: action.id, place: *place, done: 0, refused: 0 };
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.asked.insert(request, Asked::Step(step, action.done));
        let wish = match action.kind {
            ActionKind::Retry => Wish::Retry(jobs),
            ActionKind::Cancel | ActionKind::Delete => Wish::CancelJobs(jobs),
        };
        let command = match wish.command(request, &self.store) {
            Command::Retry(retry) => Command::Retry(Retry { action: Some(step), ..retry }),
            Command::Cancel(cancel) => Command::Cancel(Cancel { action: Some(step), ..cancel }),
            other => other,
        };
        self.inbox.push_back(Waiting::Command(Box::new(command)));
    }

    /// The jobs that are left of an action, with their places, in the order of these.
    fn left_of(&self, action: &ActionRecord) -> Vec<(u64, JobId)> {
        let mut left: Vec<(u64, JobId)> = match action.kind {
            ActionKind::Retry => {
                let ended = self.store.finished.iter();
                let ended = ended.filter(|(_, job)| !job.end.status().lets_dependents_go_on());
                ended.map(|(id, job)| (job.finish_number.0, *id)).collect()
            }
            ActionKind::Cancel | ActionKind::Delete => {
                let shown = self.store.live.iter().filter(|(_, job)| job.submission.is_none());
                shown.map(|(id, job)| (job.head.number.0, *id)).collect()
            }
        };
        left.retain(|(place, _)| *place > action.place && *place <= action.upto);
        left.sort_unstable();
        left
    }

    /// Something that was asked of an action is answered.
    ///
    /// Invariant: with a step is stored what it did, once.
    pub(super) fn on_action_answer(&mut self, asked: Asked, answer: &Result<Reply, Refusal>) {
        match (asked, answer) {
            (Asked::Begun(id), Ok(Reply::Action { action, is_new })) => {
                let is_first = self.oracle.actions_begun.insert(id);
                holds!(ActionsCount, is_first || !is_new, "action {id} begins twice");
                same!(ActionsCount, action.id, id, "another action begins");
                self.see(Seen::ActionBegun);
            }
            (
                Asked::Step(step, before),
                Ok(Reply::Retried { retried: done, .. } | Reply::Cancelled { cancelled: done, .. }),
            ) => {
                self.see(Seen::ActionStep);
                let record = &self.store.actions[&step.id];
                same!(ActionsCount, record.place, step.place, "where action {} goes on", step.id);
                same!(ActionsCount, record.done, before + done, "what action {} has done", step.id);
            }
            (Asked::Step(_, _), Err(Refusal::PreconditionsStale)) => {}
            (Asked::Step(step, _), Err(_)) => {
                let step = ActionStep { refused: 1, ..step };
                self.ask_of(Asked::Other(step.id), step.id, ActionTo::Moved(step));
            }
            (Asked::Begun(_), Err(Refusal::TooManyActions { .. })) | (Asked::Other(_), Ok(_)) => {}
            (asked, answer) => broken!(ActionsCount, "{asked:?} is answered with {answer:?}"),
        }
    }

    /// Invariant: how far actions are is as durable as what they do.
    pub(super) fn actions_hold(&self) {
        let stored: Vec<_> = self.store.actions.values().cloned().collect();
        same!(ActionsCount, self.core.actions(), stored, "how far actions are");
    }

    /// Whether nothing is left of any action.
    pub(super) fn has_acted(&self) -> bool {
        self.store.actions.values().all(|action| action.ended_at.is_some())
    }
}

impl Asked {
    fn id(self) -> ActionId {
        match self {
            Self::Begun(id) | Self::Other(id) => id,
            Self::Step(step, _) => step.id,
        }
    }
}
