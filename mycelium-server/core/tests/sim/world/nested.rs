//! Tasks that submit jobs for their own elf, and wait for them while they hold a place that these may need.

use mycelium_core::Explanation;
use mycelium_core::ids::Token;

use super::{SECOND, World};

/// For how long a wait has to have been told to be one for the task itself, before anybody has to have heard of it.
const TOLD_WITHIN: u64 = 30 * SECOND;

impl World {
    /// Some tasks begin with a job of their own.
    pub(super) fn may_nest(&mut self, process: usize, token: Token) {
        if self.has_faults && self.rng.percent(self.length.nests()) {
            let elf = self.processes[process].elf;
            let (job, wish) = self.client.nest(&mut self.rng, elf, token, &mut self.oracle);
            self.processes[process].nested.insert(token, job);
            self.ask(wish);
        }
    }

    /// Whether a task goes on waiting for the job that it has submitted: until that ends, or it is cancelled, or it is told
    /// that it may wait for ever. Else nothing ends this wait.
    ///
    /// Invariant: what is told to whoever asks is told by the broker itself, to one of those that wait for each other.
    pub(super) fn waits_for_nested(&mut self, process: usize, token: Token) -> bool {
        let why = self.processes[process].nested.get(&token).and_then(|job| self.core.explain(*job));
        let entry = &mut self.processes[process];
        let Some(why) = why else { return false };
        if entry.cancelled.contains(&token) || entry.noticed.contains(&token) {
            return false;
        }
        // A broker that stands still answers nobody.
        let is_asked = self.now > self.stalled_until;
        let Some(Explanation::HeldByAncestors { attempts }) = Some(why).filter(|_| is_asked) else {
            entry.held_since.remove(&token);
            return true;
        };
        let since = *entry.held_since.entry(token).or_insert(self.now);
        let may_be_untold = self.has_faults || self.now - since < TOLD_WITHIN;
        let is_told = attempts.iter().chain([&token]).any(|attempt| self.oracle.noticed.contains(attempt));
        holds!(WaitsTold, is_told || may_be_untold, "{attempts:?} wait for each other, and nobody is told");
        may_be_untold
    }
}
