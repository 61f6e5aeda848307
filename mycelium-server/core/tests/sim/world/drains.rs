//! Instances that an operator tells to drain.

use std::time::Duration;

use mycelium_core::command::{Command, Drain, OutcomeResult};
use mycelium_core::effects::{Effects, Refusal, Reply, Send};
use mycelium_core::ids::{InstanceId, RequestId};

use super::super::client::ELVES;
use super::super::elf::Attempt;
use super::super::seen::Seen;
use super::{Event, FromElf, SECOND, Waiting, World};

/// How long they may take.
const WITHIN: Duration = Duration::from_secs(4);
/// How long after it was told to drain an instance is stopped, whether it has heard of it or not.
const STOPPED_AFTER: u64 = 8 * SECOND;

/// Whether a process knows what to do when it is told to drain.
pub(super) fn knows_drain(process: usize) -> bool {
    process == 1
}

impl World {
    /// An instance is told to drain, or one that nobody knows.
    pub(super) fn drain(&mut self) {
        if !self.has_faults {
            return;
        }
        let process = usize::try_from(self.rng.below(self.processes.len() as u64)).unwrap();
        let is_known = self.rng.percent(80);
        let instance =
            if is_known { self.processes[process].instance } else { InstanceId::new(self.rng.id()) };
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.see(Seen::DrainAsked);
        self.drains.insert(request, is_known.then_some(process));
        let drain = Command::Drain(Drain { request, instance, within: WITHIN });
        self.inbox.push_back(Waiting::Command(Box::new(drain)));
        if is_known {
            self.at(self.now + STOPPED_AFTER, Event::Stop { process, instance });
        }
        self.after(self.length.apart(60 * SECOND), Event::Drain);
    }

    /// The core has been told of a drain: the sessions of the instance get nothing any more.
    pub(super) fn note_drain(&mut self, drain: &Drain) {
        let elves = ELVES.into_iter().filter_map(|elf| self.core.elf(elf));
        let instances = elves.flat_map(|elf| elf.instances).filter(|view| view.instance == drain.instance);
        self.oracle.drained.extend(instances.map(|view| view.session));
    }

    /// Invariant: whoever tells an instance to drain hears whether it was told, and it was.
    pub(super) fn on_drain_answer(
        &self,
        process: Option<usize>,
        answer: &Result<Reply, Refusal>,
        sends: &[Send],
    ) {
        let is_said = match answer {
            Ok(Reply::Draining { is_told, .. }) => *is_told,
            Err(Refusal::InstanceNotFound(_)) => return,
            other => broken!(DrainKept, "a drain is answered with {other:?}"),
        };
        let Some(process) = process else { broken!(DrainKept, "an instance drains that nobody knows") };
        // Somebody may have said hello in its place who does not know what it knows.
        holds!(DrainKept, !is_said || knows_drain(process), "process {process} does not know what to do");
        let is_told = |send: &Send| {
            matches!(send, Send::Drain { session, within }
            if self.oracle.drained.contains(session) && *within <= WITHIN)
        };
        holds!(
            DrainKept,
            !is_said || sends.iter().any(is_told),
            "process {process} is told to drain by nobody"
        );
    }

    /// Invariant: what drains is given no more.
    pub(super) fn nothing_is_given_to_what_drains(&self, effects: &Effects) {
        for send in &effects.sends {
            if let Send::Assign { session, assignments, .. } = send {
                let drains = self.oracle.drained.contains(session);
                holds!(DrainKept, !drains, "session {session} drains, and gets {assignments:?}");
            }
        }
    }

    /// A process hears that it is to drain: it gives back what it has not started, and leaves in time.
    pub(super) fn begin_to_drain(&mut self, process: usize, within: Duration) {
        self.processes[process].is_draining = true;
        self.give_back(process, Attempt::Waiting);
        let instance = self.processes[process].instance;
        let within = u64::try_from(within.as_micros()).unwrap();
        self.at(self.now + within, Event::Leave { process, instance });
    }

    /// A process gives back what stands so with it.
    pub(super) fn give_back(&mut self, process: usize, what: Attempt) {
        let held = self.processes[process].held.iter();
        let back: Vec<_> = held.filter(|(_, attempt)| **attempt == what).map(|(token, _)| *token).collect();
        back.into_iter().for_each(|token| self.report(process, token, OutcomeResult::Released));
    }

    /// The time of a process is over that drains: what it runs goes back too.
    pub(super) fn leave(&mut self, process: usize, instance: InstanceId) {
        if self.processes[process].instance != instance || !self.processes[process].is_welcome {
            return;
        }
        self.see(Seen::Drained);
        self.give_back(process, Attempt::Running);
        self.goodbye(process);
    }

    /// A process says goodbye, and drops what it holds.
    pub(super) fn goodbye(&mut self, process: usize) {
        self.say(process, FromElf::Goodbye);
        self.processes[process].has_left = true;
        if let Some(session) = self.processes[process].session {
            self.oracle.sessions.leave(session);
        }
        self.processes[process].keep_only(&[]);
    }

    /// A process is stopped that was told to drain, and another begins in its place.
    pub(super) fn stop(&mut self, process: usize, instance: InstanceId) {
        if self.processes[process].instance == instance {
            self.kill(process);
        }
    }
}
