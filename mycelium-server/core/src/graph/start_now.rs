//! Letting jobs begin before their moment.

use crate::command::StartNow;
use crate::effects::{Effects, Refusal, Reply};
use crate::graph::Graph;
use crate::jobs::State;
use crate::preconditions::Finished;
use crate::timers::TimerKey;

impl Graph<'_> {
    pub(crate) fn on_start_now(&mut self, start: &StartNow, effects: &mut Effects) {
        effects.replies.push((start.request, self.start_now(start)));
    }

    fn start_now(&mut self, start: &StartNow) -> Result<Reply, Refusal> {
        if self.jobs.is_stale(start.preconditions.as_of) {
            return Err(Refusal::PreconditionsStale);
        }
        let finished = Finished::new(&start.preconditions);
        let mut unfinished = Vec::with_capacity(start.jobs.len());
        for id in &start.jobs {
            match self.jobs.find(id) {
                Some(slot) if self.jobs[slot].status().is_some() => unfinished.push(slot),
                Some(_) => return Err(Refusal::JobNotFound(*id)),
                None if self.jobs.recents().get(id).is_some() || finished.find(id).is_some() => {}
                None => return Err(Refusal::JobNotFound(*id)),
            }
        }
        let mut started = 0;
        for slot in unfinished {
            // What it waits for is not known any more of one that waits for others, and so its record cannot be written anew.
            if self.jobs[slot].state == (State::Ready { queued: false }) && self.jobs.forget_not_before(slot)
            {
                started += 1;
                self.timers.cancel(TimerKey::Delay(slot));
                self.jobs.touch_record(slot);
                self.jobs.set_state(slot, State::Ready { queued: true });
            }
        }
        Ok(Reply::Started { started })
    }
}

#[cfg(test)]
mod tests;
