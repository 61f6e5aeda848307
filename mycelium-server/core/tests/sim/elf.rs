//! A process that serves an elf, as a runtime would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mycelium_core::command::{OutcomeResult, Start, Window};
use mycelium_core::ids::{AssignNumber, InstanceId, JobId, SecretDigest, SessionId, Token};

use super::versions;

/// Where an attempt stands in an elf's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It waits for a place to run.
    Waiting,
    /// It runs.
    Running,
    /// It is over, and the broker has not acknowledged what it came to.
    Over(OutcomeResult),
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) instance: InstanceId,
    pub(crate) elf: usize,
    /// Which version of it.
    pub(crate) version: u8,
    pub(crate) session: Option<SessionId>,
    /// The secret of its session, if it speaks a version of the protocol that knows of them.
    pub(crate) secret: Option<SecretDigest>,
    /// The open stream; messages of others are lost.
    pub(crate) stream: Option<u64>,
    /// Whether `Welcome` has come on this stream.
    pub(crate) is_welcome: bool,
    pub(crate) window: Window,
    /// The largest window it has ever announced: a smaller one takes nothing back.
    pub(crate) window_max: u32,
    pub(crate) held: BTreeMap<Token, Attempt>,
    /// The order in which attempts came, to start them in.
    pub(crate) order: Vec<Token>,
    /// Whether it tells of what it starts.
    pub(crate) tells_starts: bool,
    /// The most that it has ever announced to run at once.
    pub(crate) concurrency_max: u32,
    /// How long the shortest of its jobs ran of which it has told.
    pub(crate) least_ran: Option<Duration>,
    /// When it started what it has started.
    pub(crate) started: BTreeMap<Token, u64>,
    /// The jobs that tasks have submitted, and wait for.
    pub(crate) nested: BTreeMap<Token, JobId>,
    /// The attempts of which the broker has said that they may wait for themselves.
    pub(crate) noticed: BTreeSet<Token>,
    /// Since when those wait of which whoever asks is told that they do.
    pub(crate) held_since: BTreeMap<Token, u64>,
    pub(crate) cancelled: Vec<Token>,
    pub(crate) received: AssignNumber,
    /// When it last said something on its stream.
    pub(crate) spoke_at: u64,
    /// When it last heard something on it, or opened it.
    pub(crate) heard_at: u64,
    /// Whether it has been told to drain.
    pub(crate) is_draining: bool,
    /// Whether it has said goodbye on it.
    pub(crate) has_left: bool,
}

impl Process {
    pub(crate) fn new(instance: InstanceId, elf: usize, version: u8, window: Window) -> Self {
        Self {
            instance,
            elf,
            version,
            session: None,
            secret: None,
            stream: None,
            is_welcome: false,
            window,
            window_max: window.jobs,
            concurrency_max: window.concurrency,
            least_ran: None,
            held: BTreeMap::new(),
            order: Vec::new(),
            tells_starts: false,
            started: BTreeMap::new(),
            nested: BTreeMap::new(),
            noticed: BTreeSet::new(),
            held_since: BTreeMap::new(),
            cancelled: Vec::new(),
            received: AssignNumber(0),
            spoke_at: 0,
            heard_at: 0,
            is_draining: false,
            has_left: false,
        }
    }

    /// Takes an assignment. Invariants: it is one that fits, and windows are never exceeded.
    pub(crate) fn take(&mut self, token: Token) {
        let Self { version, .. } = self;
        holds!(
            FitsItsElf,
            versions::takes(*version, token.job),
            "version {version} gets {token:?}, which does not fit"
        );
        holds!(
            DurableFirst,
            self.held.insert(token, Attempt::Waiting).is_none(),
            "{token:?} is assigned twice"
        );
        self.order.push(token);
        let unfinished = self.held.values().filter(|attempt| !matches!(attempt, Attempt::Over(_))).count();
        holds!(
            WindowsKept,
            unfinished <= self.window_max as usize,
            "window exceeded: {unfinished} held, {} allowed",
            self.window_max
        );
        if self.tells_starts {
            let most = self.concurrency_max + self.prefetched_at_most();
            holds!(
                WindowsKept,
                unfinished <= most as usize,
                "{unfinished} are held, where {most} keep it busy"
            );
        }
    }

    /// What is announced from now on.
    pub(crate) fn announce(&mut self, window: Window) {
        self.window = window;
        self.window_max = self.window_max.max(window.jobs);
        self.concurrency_max = self.concurrency_max.max(window.concurrency);
    }

    /// How much more than it runs it is given at most: a tenth of a second of work, if all were as short as the shortest.
    fn prefetched_at_most(&self) -> u32 {
        let Some(least_ran) = self.least_ran else { return 1 };
        let work = 100_000 * u128::from(self.concurrency_max);
        u32::try_from(work.div_ceil(least_ran.as_micros().max(1))).unwrap()
    }

    /// Starts what there is room for, in the order of assignment. Returns what was started.
    pub(crate) fn start(&mut self, now: u64) -> Vec<Token> {
        let running = self.held.values().filter(|attempt| **attempt == Attempt::Running).count();
        let room = (self.window.concurrency as usize).saturating_sub(running);
        let mut started = Vec::new();
        for token in &self.order {
            if started.len() == room {
                break;
            }
            if let Some(attempt) = self.held.get_mut(token)
                && *attempt == Attempt::Waiting
            {
                *attempt = Attempt::Running;
                self.started.insert(*token, now);
                started.push(*token);
            }
        }
        started
    }

    pub(crate) fn forget(&mut self, token: Token) {
        self.held.remove(&token);
        self.started.remove(&token);
        self.order.retain(|other| *other != token);
        self.cancelled.retain(|other| *other != token);
    }

    pub(crate) fn keep_only(&mut self, keep: &[Token]) {
        self.held.retain(|token, _| keep.contains(token));
        self.started.retain(|token, _| keep.contains(token));
        self.order.retain(|token| keep.contains(token));
        self.cancelled.retain(|token| keep.contains(token));
    }

    /// How long it has run an attempt, if it has and says so.
    pub(crate) fn ran(&self, token: Token, now: u64) -> Option<Duration> {
        let started = self.started.get(&token).filter(|_| self.tells_starts)?;
        Some(Duration::from_micros(now - started))
    }

    /// What it tells to have been started.
    pub(crate) fn starts(&self, now: u64) -> Vec<Start> {
        let running = self.held.iter().filter(|(_, attempt)| **attempt == Attempt::Running);
        running.filter_map(|(&token, _)| Some(Start { token, ago: self.ran(token, now)? })).collect()
    }

    pub(crate) fn held_tokens(&self) -> Vec<Token> {
        self.held.keys().copied().collect()
    }
}
