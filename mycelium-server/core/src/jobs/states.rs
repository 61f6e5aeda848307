//! How a job goes from one state to the next: its counts, its queue and its touch change here and nowhere else.

use super::{Arrival, Edge, Job, Jobs, Now, State, ToStore, Touched, UNTOUCHED};
use crate::ids::{AssignNumber, JobId, JobNumber, Timestamp};
use crate::image::{AttemptEnd, JobHead, PastAttempt, Running};
use crate::index::{DeclarationIdx, FlowIdx, Slot};

/// How often a job is recalled before it is only given to who begins it at once.
const RECALLS_MAX: u32 = 2;

impl Jobs {
    /// Makes room for `additional` more jobs.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.slab.reserve(additional);
    }

    /// The head of a job that is taken in now, with the next number.
    pub(crate) fn number(&mut self, head: JobHead, flow: FlowIdx, submitted_at: Timestamp) -> JobHead {
        let number = JobNumber(self.counters.job.0 + 1);
        self.counters.job = number;
        JobHead { flow: self.flow(flow).id, number, submitted_at, ..head }
    }

    /// Takes in a job, to be linked and then [entered](Self::enter_new).
    pub(crate) fn insert(&mut self, arrival: Arrival) -> Slot {
        let Arrival { mut job, created, revived, waits_for, attempts } = arrival;
        job.touch = index_of(self.touched.len());
        let (id, flow) = (job.id, self.flow_of(&job).id);
        let slot = self.slab.insert(job);
        self.attempts.insert(slot, attempts);
        if created.is_some() {
            self.begin_total(slot);
        }
        if revived.is_some() {
            self.set_come_back(slot);
        }
        let (before, to_store, now) = (None, ToStore::Record, Now::Live(slot));
        self.touched.push(Touched { id, flow, before, created, revived, waits_for, to_store, now });
        slot
    }

    /// Takes in a job as the store has it, to be linked and then [entered](Self::enter_new).
    pub(crate) fn restore(&mut self, job: Job, attempts: Vec<PastAttempt>, beside: Vec<JobId>) -> Slot {
        let slot = self.slab.insert(job);
        if !attempts.is_empty() {
            self.set_come_back(slot);
        }
        self.attempts.insert(slot, attempts);
        self.losses.push(slot, beside);
        slot
    }

    /// Says where a job stands that was restored and is still to be [entered](Self::enter_new).
    pub(crate) fn set_restored(&mut self, slot: Slot, state: State) {
        self.slab[slot].state = state;
    }

    /// Says where a job stands that was taken in.
    pub(crate) fn enter_new(&mut self, slot: Slot, state: State) {
        self.slab[slot].state = state;
        self.enter(slot, state);
        self.list(slot);
        self.note_moved(slot);
    }

    /// Makes `to` wait for `from`.
    pub(crate) fn add_dependent(&mut self, from: Slot, to: Slot) {
        self.slab.add_dependent(from, to);
    }

    /// Takes the edges to the jobs that wait for this one.
    pub(crate) fn take_dependents(&mut self, slot: Slot) -> Vec<Edge> {
        std::mem::take(&mut self.slab[slot].dependents)
    }

    /// Moves a job to another state, with all that hangs on it: its touch, the counts, its place in the queue and in
    /// the list of its flow.
    pub(crate) fn set_state(&mut self, slot: Slot, next: State) {
        self.touch(slot);
        let before = std::mem::replace(&mut self.slab[slot].state, next);
        self.leave(slot, before);
        self.enter(slot, next);
        if next != State::Vacant {
            self.note_moved(slot);
        }
        if matches!(before, State::Unsealed { .. }) {
            self.list(slot);
        }
    }

    /// Moves a job to a state that shows as the one before and counts like it: nothing else changes.
    pub(crate) fn set_detail(&mut self, slot: Slot, next: State) {
        let job = &mut self.slab[slot];
        let before = job.status();
        job.state = next;
        debug_assert_eq!(before, job.status(), "job {} shows otherwise than before", job.id);
    }

    /// It is evaluated when all it waits for has ended; that is to be stored.
    pub(crate) fn set_evaluate(&mut self, slot: Slot) {
        self.slab[slot].evaluate = true;
        let touched = self.touch(slot);
        touched.to_store = touched.to_store.max(ToStore::Flag);
    }

    /// Begins its next attempt.
    pub(crate) fn next_attempt(&mut self, slot: Slot) {
        self.touch_record(slot);
        let attempt = &mut self.slab[slot].attempt;
        attempt.0 = attempt.0.saturating_add(1);
    }

    /// Its attempt has another number among the assignments of its session.
    pub(crate) fn set_assign(&mut self, slot: Slot, number: AssignNumber) {
        if let State::Running { assign, .. } = &mut self.slab[slot].state {
            *assign = number;
        }
    }

    /// Its attempt was started. That is stored with the next commit that there is, and is no reason for one.
    pub(crate) fn set_started(&mut self, slot: Slot) {
        if let State::Running { session, assign, .. } = self.slab[slot].state {
            self.set_state(slot, State::Running { session, assign, is_started: true });
            self.starts.push(self.slab.edge_to(slot));
        }
    }

    /// There is a commit: those of the jobs started since the one before that still run are stored with it.
    pub(crate) fn store_starts(&mut self) {
        for edge in std::mem::take(&mut self.starts) {
            if let Some(job) = self.slab.follow(edge)
                && let State::Running { is_started: true, .. } = job.state
            {
                self.touch_record(edge.slot);
            }
        }
    }

    /// Its attempt is over, and is not what the job ends with.
    pub(crate) fn end_attempt(&mut self, slot: Slot, held: Running, ended_at: Timestamp, how: AttemptEnd) {
        self.touch_record(slot);
        let number = self.slab[slot].attempt;
        self.attempts.push(slot, PastAttempt { number, held, ended_at, how, failure: None });
    }

    /// It has come back because it was recalled.
    pub(crate) fn count_recall(&mut self, slot: Slot) {
        *self.recalls.entry(slot).or_default() += 1;
    }

    /// Whether it was recalled so often that it is not to wait behind others again.
    pub(crate) fn must_begin_at_once(&self, slot: Slot) -> bool {
        self.recalls.get(&slot).is_some_and(|times| *times >= RECALLS_MAX)
    }

    /// It has come back without an outcome once more. Returns how often it had before.
    pub(crate) fn count_handed_back(&mut self, slot: Slot) -> u8 {
        let times = &mut self.slab[slot].handed_back;
        let before = *times;
        *times = before.saturating_add(1);
        before
    }

    /// A declaration has turned down its arguments: it is not offered to that again. Returns false, and changes nothing,
    /// if no further one can be remembered. It must not stand in its queue.
    pub(crate) fn refuse_declaration(&mut self, slot: Slot, declaration: DeclarationIdx) -> bool {
        let job = &mut self.slab[slot];
        debug_assert_ne!(job.state, State::Ready { queued: true }, "job {} stands in its queue", job.id);
        let Some(queue) = self.names.use_queue_without(job.queue, declaration) else { return false };
        let before = std::mem::replace(&mut job.queue, queue);
        self.names.unuse_queue(before);
        true
    }

    /// Notes that a job is about to change.
    fn touch(&mut self, slot: Slot) -> &mut Touched {
        let job = &mut self.slab[slot];
        if job.touch == UNTOUCHED {
            job.touch = index_of(self.touched.len());
            self.touched.push(Touched {
                id: job.id,
                flow: self.flows.get(job.flow).id,
                before: job.status().map(|status| (status, job.attempt)),
                created: None,
                revived: None,
                waits_for: Vec::new(),
                to_store: ToStore::Nothing,
                now: Now::Live(slot),
            });
        }
        &mut self.touched[job.touch as usize]
    }

    /// A job's record is to be stored.
    pub(crate) fn touch_record(&mut self, slot: Slot) {
        self.touch(slot).to_store = ToStore::Record;
    }

    fn leave(&mut self, slot: Slot, state: State) {
        let job = &self.slab[slot];
        let flow = self.flows.get_mut(job.flow);
        flow.counts.leave(state);
        self.counts.leave(state);
        match state {
            State::Ready { queued } => {
                self.names.elf_of(job.queue).ready -= 1;
                if queued {
                    self.names.dequeue(job.queue, job.place(slot));
                }
                if queued && self.recalls.get(&slot).is_some_and(|times| *times >= RECALLS_MAX) {
                    // What stands behind it may go where it was not to wait.
                    let elf = self.names.task(self.names.queue(job.queue).task).elf;
                    self.names.keep_to_place(elf);
                }
            }
            State::Running { is_started: false, .. } => self.names.elf_of(job.queue).assigned -= 1,
            State::Running { is_started: true, .. } => {
                self.names.elf_of(job.queue).running -= 1;
                self.deadlines.end_run(slot);
            }
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::UpstreamFailing => {}
            State::Vacant | State::Unsealed { .. } => return,
        }
        if job.state == State::Vacant {
            flow.jobs.remove(&(job.number, slot));
        }
    }

    fn enter(&mut self, slot: Slot, state: State) {
        let job = &self.slab[slot];
        self.flows.get_mut(job.flow).counts.enter(state);
        self.counts.enter(state);
        match state {
            State::Ready { queued } => {
                self.names.elf_of(job.queue).ready += 1;
                if queued {
                    self.names.enqueue(job.queue, job.place(slot));
                }
            }
            State::Running { is_started: false, .. } => self.names.elf_of(job.queue).assigned += 1,
            State::Running { is_started: true, .. } => self.names.elf_of(job.queue).running += 1,
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing => {}
        }
    }

    /// Puts a job that shows into the list of its flow.
    fn list(&mut self, slot: Slot) {
        let job = &self.slab[slot];
        if job.status().is_some() {
            self.flows.get_mut(job.flow).jobs.insert((job.number, slot));
        }
    }
}

fn index_of(touched: usize) -> u32 {
    u32::try_from(touched).expect("a batch is bounded")
}
