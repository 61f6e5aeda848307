//! The core: its parts, and the way through a batch.

use std::time::Duration;

use crate::actions::Actions;
use crate::cancel::Cancelling;
use crate::command::Command;
use crate::config::Config;
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::deletions::{Deleting, Deletions};
use crate::effects::{Effects, Send};
use crate::emit::Emitting;
use crate::evaluations::Evaluations;
use crate::graph::Graph;
use crate::ids::{Clocks, Steady};
use crate::image::Counters;
use crate::index::FlowIdx;
use crate::jobs::Jobs;
use crate::outbox::Outbox;
use crate::pauses::Pausing;
use crate::propagation::Propagation;
use crate::serve::{Serving, SessionEnd};
use crate::sessions::Sessions;
use crate::submissions::Submissions;
use crate::submit::Submitting;
use crate::timers::{TimerKey, Timers};
use crate::waits::{Places, Wait};
use crate::work::{Backlog, Work};

mod check;
mod queries;
mod restore;

pub use restore::{Restore, RestoreError};

/// How often it is looked for jobs that wait for their own ancestors. What is seen twice in a row is told.
const LOOK_FOR_WAITS_EVERY: Duration = Duration::from_secs(5);

/// How many jobs whose moment has come a batch lets go for each that it may end because of others.
const JOBS_DUE_PER_STEP: usize = 4;

/// The scheduler of one mycelium.
///
/// It is assembled from parts that keep their fields to themselves, and lends them to what works on them: each kind
/// of work borrows the parts that it needs, and knows nothing of the others.
#[derive(Debug)]
pub struct Core {
    config: Config,
    jobs: Jobs,
    sessions: Sessions,
    submissions: Submissions,
    evaluations: Evaluations,
    propagation: Propagation,
    deletions: Deletions,
    actions: Actions,
    timers: Timers,
    work: Backlog,
    outbox: Outbox,
    outcomes_stale: u64,
    /// After which flow it is looked on for jobs that wait for their own ancestors.
    looked_upto: Option<FlowIdx>,
}

/// The parts of the core, lent.
struct Parts<'a> {
    graph: Graph<'a>,
    sessions: &'a mut Sessions,
    submissions: &'a mut Submissions,
    deletions: &'a mut Deletions,
    actions: &'a mut Actions,
    work: &'a mut Backlog,
    outbox: &'a mut Outbox,
    outcomes_stale: &'a mut u64,
}

impl Core {
    /// A core that knows nothing yet: for a new, empty store.
    pub fn new(config: Config) -> Self {
        let Counters { commit, session, .. } = Counters::default();
        Self {
            jobs: Jobs::new(config.hash_seed),
            sessions: Sessions::after(session),
            submissions: Submissions::new(commit),
            evaluations: Evaluations::after(config.evaluations_after),
            propagation: Propagation::default(),
            deletions: Deletions::default(),
            actions: Actions::default(),
            timers: Timers::new(&config),
            work: Backlog::default(),
            outbox: Outbox::default(),
            outcomes_stale: 0,
            looked_upto: None,
            config,
        }
    }

    /// Applies one command. Replies that need no further work, and messages that answer the command, go to `effects`
    /// at once; records, changes, assignments and the rest with [`finish_batch`](Self::finish_batch).
    ///
    /// Deterministic: equal state, `now` and command give equal state and effects. `now.steady` must not go back.
    pub fn apply(&mut self, now: Clocks, command: Command, effects: &mut Effects) {
        let now = self.timers.attended(now);
        match command {
            Command::Submit(submit) => self.submitting().on_submit(now, submit, effects),
            Command::Cancel(cancel) => self.cancelling().on_cancel(now, cancel, effects),
            Command::Retry(retry) => {
                let Parts { mut graph, deletions, actions, .. } = self.parts();
                graph.on_retry(now, retry, deletions, actions, effects);
            }
            Command::StartNow(start) => self.graph().on_start_now(&start, effects),
            Command::Delete(delete) => self.deleting().on_delete(delete, effects),
            Command::Deletions(moved) => self.deleting().on_deletions(now, moved, effects),
            Command::Pin(pin) => self.deleting().on_pin(pin, effects),
            Command::Pause(pause) => self.pausing().on_pause(now, pause, effects),
            Command::Resume(resume) => self.pausing().on_resume(resume, effects),
            Command::Action(action) => {
                self.actions.on_action(now, self.jobs.counters(), action, effects);
            }
            Command::Drain(drain) => self.serving().on_drain(now, &drain, effects),
            Command::Hello(hello) => self.serving().on_hello(now, hello, effects),
            Command::StreamClosed { session, end } => self.serving().on_stream_closed(now, session, end),
            Command::ProcessGone { session } => self.serving().on_process_gone(now, session, effects),
            Command::SetWindow { session, elf, window } => {
                self.serving().on_set_window(now, session, &elf, window);
            }
            Command::Heartbeat { session, held, received } => {
                self.serving().on_heartbeat(now, session, &held, received, effects);
            }
            Command::Starts { session, starts } => self.serving().on_starts(now, session, &starts),
            Command::Reports { session, tokens } => self.serving().on_reports(now, session, &tokens),
            Command::Outcomes { session, outcomes } => {
                self.serving().on_outcomes(now, session, &outcomes, effects);
            }
            Command::ArgumentsFailed { session, token, failure } => {
                self.serving().on_arguments_failed(now, session, token, failure);
            }
            Command::Unfit { session, token } => self.serving().on_unfit(now, session, token),
            Command::ArgumentsDelayed { session, tokens } => {
                self.serving().on_arguments_delayed(session, &tokens);
            }
            Command::ArgumentsReady { session, tokens } => {
                self.serving().on_arguments_ready(session, &tokens, effects);
            }
            Command::Evaluated { evaluated } => self.graph().on_evaluated(now, &evaluated),
            Command::Heard { session } => self.serving().on_heard(now, session),
            Command::Stalled { by } => {
                #[cfg(feature = "planted-bugs")]
                if self.config.leaves_out(PlantedBug::StallCountsForLeases) {
                    return;
                }
                self.timers.stall(by);
            }
            Command::Draining { session } => self.serving().on_draining(now, session),
            Command::Goodbye { session } => self.serving().on_goodbye(now, session, effects),
        }
    }

    /// Lets the batch have a commit even if nothing of the core changes: the shell has something to store with it.
    pub fn require_commit(&mut self) {
        self.outbox.require_commit();
    }

    /// How many unfinished jobs there may be from now on ([`Config::unfinished_max`]); those that are there stay.
    pub fn set_unfinished_max(&mut self, max: u64) {
        self.config.unfinished_max = max;
    }

    /// Ends a batch, once after its commands: ends sessions whose lease has run out, pauses of jobs, and submissions that
    /// were left alone, goes on with what is done in bounded pieces, places ready jobs into free windows, and puts everything
    /// that has changed since the last batch into `effects`.
    ///
    /// # Panics
    ///
    /// If the core contradicts itself, as far as that shows at once. The effects are not to be committed then: memory is
    /// wrong, and the store is not.
    pub fn finish_batch(&mut self, now: Clocks, effects: &mut Effects) {
        let now = self.timers.attended(now);
        self.fire_timers(now, effects);
        self.go_on_with_work(now, effects);
        self.serving().place(now);
        self.serving().recall();
        self.graph().hand_out_evaluations(effects);
        self.time_waits(now);
        self.time_moved(now);
        let Self { config, jobs, sessions, submissions, propagation, outbox, deletions, actions, .. } = self;
        Emitting { config, jobs, sessions, submissions, propagation, outbox, deletions, actions }
            .emit(effects);
        self.jobs.forget(self.config.finished_kept);
        if let Err(violation) = self.check_totals() {
            panic!("{violation}");
        }
    }

    /// Sets the timers of jobs that have moved.
    fn time_moved(&mut self, now: Clocks) {
        #[cfg(feature = "planted-bugs")]
        let is_early = [PlantedBug::ExpiresEarly, PlantedBug::BeginsEarly];
        #[cfg(feature = "planted-bugs")]
        let now = match is_early.into_iter().any(|bug| self.config.leaves_out(bug)) {
            true => Clocks { wall: now.wall.after(Duration::from_secs(1)), ..now },
            false => now,
        };
        self.jobs.time_moved(now, &mut self.timers);
    }

    /// When the next batch is due if no command comes before; `None` if nothing is timed.
    pub fn next_deadline(&self) -> Option<Steady> {
        self.timers.next_deadline()
    }

    /// Whether work is left over that did not fit the last batch: then another one is due at once.
    pub fn has_work(&self) -> bool {
        self.jobs.has_to_time()
            || self.propagation.is_under_way()
            || !self.work.is_empty()
            || self.jobs.names().has_to_place()
            || self.evaluations.may_hand_out(self.config.evaluations_max())
    }

    fn fire_timers(&mut self, now: Clocks, effects: &mut Effects) {
        // Any number of jobs may be due at one moment: what is left of them is due at once with the next batch.
        let mut budget = self.config.step_max() * JOBS_DUE_PER_STEP;
        while budget > 0
            && let Some(key) = self.timers.pop_due(now.steady)
        {
            budget -= usize::from(key.is_of_job_deadline());
            match key {
                TimerKey::Lease(session) => {
                    self.serving().end_session(now, session, SessionEnd::Lost, effects);
                }
                TimerKey::Unconfirmed(session) => self.serving().give_back_unconfirmed(now, session),
                TimerKey::Waits => self.look_for_waits(effects),
                TimerKey::Pause(job) => self.graph().end_pause(job),
                TimerKey::Delay(job) => self.cancelling().delay_ends(now, job),
                TimerKey::Queue(job) => self.cancelling().queue_time_ends(now, job),
                TimerKey::Total(job) => self.cancelling().total_time_ends(now, job),
                TimerKey::Run(job) => self.serving().run_time_ends(now, job),
                TimerKey::Idle(submission) => self.submitting().begin_drop(submission, None),
            }
        }
    }

    /// Tells of jobs that wait for places which are held by the attempts that have submitted them.
    fn look_for_waits(&mut self, effects: &mut Effects) {
        let (looked, last) = Places { jobs: &self.jobs, sessions: &self.sessions }.look(self.looked_upto);
        self.looked_upto = last;
        for (flow, wait) in looked {
            #[cfg(feature = "planted-bugs")]
            let wait = wait.filter(|_| !self.leaves_out_waits());
            if self.jobs.see_wait(flow, wait.is_some())
                && let Some(Wait { job, holder, session }) = wait
            {
                effects.sends.push(Send::WaitsForItself { session, attempt: holder, job });
            }
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn leaves_out_waits(&self) -> bool {
        self.config.leaves_out(PlantedBug::WaitNotTold) || self.config.leaves_out(PlantedBug::WaitNotFound)
    }

    fn time_waits(&mut self, now: Clocks) {
        let is_due = self.jobs.flows().of_attempts(None).next().is_some();
        if is_due && self.timers.deadline(TimerKey::Waits).is_none() {
            self.timers.set(TimerKey::Waits, now.steady.after(LOOK_FOR_WAITS_EVERY));
        }
    }

    /// Goes on with what may take long, as far as the bound of a batch allows. The propagation of failures goes first:
    /// what waits behind it may count on its end.
    fn go_on_with_work(&mut self, now: Clocks, effects: &mut Effects) {
        let mut budget = self.config.step_max();
        loop {
            self.graph().go_on_propagating(now, &mut budget);
            if self.propagation.is_under_way() || budget == 0 {
                return;
            }
            let Some(mut work) = self.work.pop() else { return };
            budget -= 1;
            let is_done = match &mut work {
                Work::CancelFlow(cancel) => self.cancelling().go_on_with_flow(now, cancel, effects),
                Work::CancelExpanded(cancel) => self.cancelling().go_on_with_expanded(now, cancel, effects),
                Work::Seal(seal) => self.submitting().go_on_sealing(seal, effects),
                Work::Drop(drop) => self.submitting().go_on_dropping(drop, effects),
                Work::RecallPaused { after } => self.serving().go_on_recalling(now, after),
                Work::ResumeFlow(resume) => self.pausing().go_on_resuming(resume),
                Work::Reply { request, answer } => {
                    effects.replies.push((*request, answer.clone()));
                    true
                }
            };
            if !is_done {
                self.work.put_back(work);
            }
        }
    }

    fn parts(&mut self) -> Parts<'_> {
        let Self {
            config,
            jobs,
            sessions,
            submissions,
            evaluations,
            propagation,
            deletions,
            actions,
            timers,
            work,
            outbox,
            outcomes_stale,
            looked_upto: _,
        } = self;
        let graph = Graph { config, jobs, evaluations, propagation, timers };
        Parts { graph, sessions, submissions, deletions, actions, work, outbox, outcomes_stale }
    }

    fn graph(&mut self) -> Graph<'_> {
        self.parts().graph
    }

    fn submitting(&mut self) -> Submitting<'_> {
        let Parts { graph, submissions, deletions, work, outbox, .. } = self.parts();
        Submitting { graph, submissions, deletions, work, outbox }
    }

    fn deleting(&mut self) -> Deleting<'_> {
        let Parts { graph, submissions, deletions, outbox, .. } = self.parts();
        Deleting { config: graph.config, jobs: graph.jobs, submissions, deletions, outbox }
    }

    fn pausing(&mut self) -> Pausing<'_> {
        let Parts { graph, deletions, work, .. } = self.parts();
        Pausing { graph, deletions, work }
    }

    fn cancelling(&mut self) -> Cancelling<'_> {
        let Parts { graph, sessions, work, outbox, actions, .. } = self.parts();
        Cancelling { graph, sessions, work, outbox, actions }
    }

    fn serving(&mut self) -> Serving<'_> {
        let Parts { graph, sessions, outbox, outcomes_stale, .. } = self.parts();
        Serving { graph, sessions, outbox, outcomes_stale }
    }
}

#[cfg(test)]
mod tests;
