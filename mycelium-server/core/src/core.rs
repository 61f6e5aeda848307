//! The core: its state, and the way through a batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::batch::Batch;
use crate::command::Command;
use crate::config::Config;
use crate::effects::Effects;
use crate::evaluate::{Evaluations, Expansions};
use crate::flows::Flows;
use crate::ids::{Clocks, Commit, JobId, Steady};
use crate::image::Counters;
use crate::names::Names;
use crate::pauses::Pauses;
use crate::recent::Recents;
use crate::restore::Restore;
use crate::sessions::Sessions;
use crate::settle::{Open, Parked, Settle};
use crate::slab::Slab;
use crate::submissions::{Submissions, Work};

/// Unfinished jobs by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unfinished {
    pub(crate) pending: u64,
    pub(crate) ready: u64,
    pub(crate) running: u64,
    pub(crate) unsealed: u64,
}

/// The scheduler of one mycelium.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    /// The newest commit that changed something which the core has forgotten since: facts must not be older.
    pub(crate) forgotten: Commit,
    pub(crate) slab: Slab,
    pub(crate) counts: Unfinished,
    pub(crate) outcomes_stale: u64,
    pub(crate) flows: Flows,
    pub(crate) names: Names,
    pub(crate) recents: Recents,
    pub(crate) sessions: Sessions,
    pub(crate) submissions: Submissions,
    /// The settlings under way. Only the first has doomed jobs: one is walked to its end before the next begins.
    pub(crate) settles: VecDeque<Settle>,
    pub(crate) settlings: BTreeMap<JobId, Open>,
    pub(crate) settlings_touched: BTreeSet<JobId>,
    pub(crate) parked: Parked,
    pub(crate) work: VecDeque<Work>,
    pub(crate) evaluations: Evaluations,
    pub(crate) expansions: Expansions,
    pub(crate) pauses: Pauses,
    /// The elves for which there may be both a job and room.
    pub(crate) dirty: BTreeSet<u32>,
    /// How long the shell has stood still, all in all: time in which it could hear nobody, and which therefore counts
    /// for nobody's lease. Leases and idle times are kept by a clock without it.
    pub(crate) stood_still: Duration,
    pub(crate) batch: Batch,
}

impl Core {
    /// A core that knows nothing yet: for a new, empty store.
    pub fn new(config: Config) -> Self {
        let counters = Counters::default();
        Self {
            counters,
            forgotten: counters.commit,
            slab: Slab::new(config.hash_seed),
            counts: Unfinished::default(),
            outcomes_stale: 0,
            flows: Flows::new(),
            names: Names::new(),
            recents: Recents::new(config.hash_seed),
            sessions: Sessions::new(),
            submissions: Submissions::new(counters.commit),
            settles: VecDeque::new(),
            settlings: BTreeMap::new(),
            settlings_touched: BTreeSet::new(),
            parked: Parked::new(),
            work: VecDeque::new(),
            evaluations: Evaluations::after(config.evaluations_after),
            expansions: Expansions::new(),
            pauses: Pauses::default(),
            dirty: BTreeSet::new(),
            stood_still: Duration::ZERO,
            batch: Batch::default(),
            config,
        }
    }

    /// Begins to rebuild a core from what the store holds. `now` is when all leases, and the idle time of unsealed
    /// submissions, begin anew.
    pub fn restore(config: Config, now: Steady) -> Restore {
        Restore::new(config, now)
    }

    /// For a core that knows nothing yet: goes on from these numbers.
    pub(crate) fn begin_at(&mut self, counters: Counters) {
        self.counters = counters;
        self.forgotten = counters.commit;
        self.submissions = Submissions::new(counters.commit);
    }

    /// Applies one command. Replies that need no further work, and messages that answer the command, go to `effects`
    /// at once; records, changes, assignments and the rest with [`finish_batch`](Self::finish_batch).
    ///
    /// Deterministic: equal state, `now` and command give equal state and effects. `now.steady` must not go back.
    pub fn apply(&mut self, now: Clocks, command: Command, effects: &mut Effects) {
        let now = self.attended(now);
        match command {
            Command::Submit(submit) => self.on_submit(now, submit, effects),
            Command::Cancel(cancel) => self.on_cancel(now, cancel, effects),
            Command::Retry(retry) => self.on_retry(retry, effects),
            Command::Hello(hello) => self.on_hello(now, hello, effects),
            Command::StreamClosed { session } => self.on_stream_closed(now, session),
            Command::SetWindow { session, elf, window } => {
                self.on_set_window(now, session, &elf, window);
            }
            Command::Heartbeat { session, held, received } => {
                self.on_heartbeat(now, session, &held, received, effects);
            }
            Command::Outcomes { session, outcomes } => {
                self.on_outcomes(now, session, &outcomes, effects);
            }
            Command::ArgumentsFailed { session, token, failure } => {
                self.on_arguments_failed(now, session, token, failure);
            }
            Command::ArgumentsDelayed { session, tokens } => self.on_arguments_delayed(session, &tokens),
            Command::ArgumentsReady { session, tokens } => {
                self.on_arguments_ready(session, &tokens, effects);
            }
            Command::Evaluated { evaluated } => self.on_evaluated(now, &evaluated),
            Command::Heard { session } => self.on_heard(now, session),
            Command::Stalled { by } => self.on_stalled(by),
            Command::Draining { session } => self.on_draining(now, session),
            Command::Goodbye { session } => self.on_goodbye(now, session, effects),
        }
    }

    /// Lets the batch have a commit even if nothing of the core changes: the shell has something to store with it.
    pub fn require_commit(&mut self) {
        self.batch.must_commit = true;
    }

    /// Ends a batch, once after its commands: ends sessions whose lease has run out, pauses of jobs, and submissions that
    /// were left alone, goes on with what is done in bounded pieces, places ready jobs into free windows, and puts everything
    /// that has changed since the last batch into `effects`.
    pub fn finish_batch(&mut self, now: Clocks, effects: &mut Effects) {
        let now = self.attended(now);
        self.expire_leases(now, effects);
        self.end_pauses(now);
        self.drop_idle_submissions(now);
        self.go_on_with_work(now, effects);
        self.place(now);
        self.hand_out_evaluations(effects);
        self.emit_batch(effects);
        self.forget();
    }

    /// When the next batch is due if no command comes before; `None` if nothing is timed.
    pub fn next_deadline(&self) -> Option<Steady> {
        let lease = self.sessions.leases.first().map(|&(until, _)| until);
        let idle = self.submissions.idle.first().map(|&(until, _)| until);
        let pause = self.pauses.first();
        lease.into_iter().chain(idle).chain(pause).min().map(|attended| attended.after(self.stood_still))
    }

    /// Whether work is left over that did not fit the last batch: then another one is due at once.
    pub fn has_work(&self) -> bool {
        !(self.settles.is_empty() && self.work.is_empty() && self.dirty.is_empty())
            || self.may_hand_out_evaluations()
    }

    fn on_stalled(&mut self, by: Duration) {
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::StallCountsForLeases) {
            return;
        }
        self.stood_still += by;
    }

    /// What the clocks show, with the time left out in which the shell stood still.
    pub(crate) fn attended(&self, now: Clocks) -> Clocks {
        Clocks { steady: now.steady.before(self.stood_still), ..now }
    }

    /// The commit that will store what is changed now.
    pub(crate) fn commit_next(&self) -> Commit {
        Commit(self.counters.commit.0 + 1)
    }

    pub(crate) fn step_max(&self) -> usize {
        self.config.step_max.max(1)
    }
}

#[cfg(test)]
mod tests;
