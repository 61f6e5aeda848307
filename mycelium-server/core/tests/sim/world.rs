//! The clock: what happens, and in which order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mycelium_core::command::{Command, StreamEnd, Window};
use mycelium_core::effects::Assignment;
use mycelium_core::ids::{Clocks, InstanceId, RequestId, SecretDigest, SessionId, Steady, Timestamp, Token};
use mycelium_core::image::PauseTarget;
use mycelium_core::{Config, Core};

use super::client::{Client, Request};
use super::deadlines::RUN_MARGIN;
use super::elf::Process;
use super::evaluator::Evaluator;
use super::invariants::Invariant;
use super::length::Length;
use super::oracle::Oracle;
use super::rng::Rng;
use super::seen::{Counts, Seen};
use super::store::Store;
use super::versions;
use actions::Asked;
use clock::Ahead;
use confirming::Confirming;
use events::{Event, FromElf, ToElf};

mod actions;
mod clock;
mod confirming;
mod deletions;
mod drains;
mod elves;
mod events;
mod explains;
mod nested;
mod network;
mod pauses;
mod recalls;
mod requests;
mod shell;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// How long after the last fault everything must have ended.
const ENDS_WITHIN: u64 = 600 * SECOND;
/// How far somebody sets the wall clock; that may take twice as much longer then.
const SET_BY: u64 = 3_600 * SECOND;
/// How many batches a run may take: more means that the core keeps itself busy.
const BATCHES_MAX: u64 = 200_000;
/// How late a batch may be without being taken for a stall.
const LATE_MAX: u64 = SECOND;
/// How long after a stall the broker has read what came meanwhile.
const READ_AFTER_STALL: u64 = 20 * MS;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) batches: u64,
    pub(crate) rebuilds: u64,
    pub(crate) jobs: usize,
    /// How often what has happened.
    pub(crate) seen: Counts,
    /// How often each invariant was checked.
    pub(crate) checked: [u64; Invariant::ALL.len()],
    /// How long after the last fault everything had ended.
    pub(crate) ended_after: Duration,
    /// Everything that went into the core and came out of it, if asked for.
    pub(crate) log: String,
}

/// A stream, from the broker's side.
#[derive(Debug, Clone)]
struct Stream {
    process: usize,
    /// What it said `Hello` as.
    version: u8,
    session: Option<SessionId>,
    /// When its latest message in either direction arrives: messages of a stream stay in order.
    busy_until: [u64; 2],
    /// In which directions, to the elf and to the broker, nothing arrives any more.
    holes: [bool; 2],
    confirming: Confirming,
}

struct World {
    rng: Rng,
    length: Length,
    now: u64,
    config: Config,
    core: Core,
    store: Store,
    oracle: Oracle,
    client: Client,
    evaluator: Evaluator,
    requests: BTreeMap<RequestId, Request>,
    next_request: u64,
    processes: Vec<Process>,
    streams: BTreeMap<u64, Stream>,
    next_stream: u64,
    /// With the secret that goes with a new session.
    hellos: BTreeMap<RequestId, (u64, Option<SecretDigest>)>,
    of_session: BTreeMap<SessionId, u64>,
    /// Which process was to drain, if there is one.
    drains: BTreeMap<RequestId, Option<usize>>,
    /// What was asked of actions.
    asked: BTreeMap<RequestId, Asked>,
    /// Assignments whose arguments take longer to compute.
    aside: BTreeMap<Token, Assignment>,
    /// What is paused, or was before the latest batch or within it.
    paused_lately: BTreeSet<PauseTarget>,
    inbox: VecDeque<Waiting>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    is_batch_due: bool,
    /// Whether the core has had a batch since it was rebuilt: only then its timers are set.
    is_timed: bool,
    ahead: Ahead,
    /// Until when the broker stands still, or stood still last.
    stalled_until: u64,
    /// How late the broker's next batch is.
    late_by: u64,
    next_attachment: u32,
    has_faults: bool,
    keeps_log: bool,
    outcome: Outcome,
}

/// What waits for the core.
#[derive(Debug)]
enum Waiting {
    Command(Box<Command>),
    /// The arguments of an attempt do not fit that version, which its session is of.
    Unfit {
        session: SessionId,
        token: Token,
        version: u8,
    },
    /// The stream closed, which says something of the session only as long as it has no other.
    Closed {
        session: SessionId,
        stream: u64,
        end: StreamEnd,
    },
}

/// The session that speaks, if it is one: which is a sign of life.
fn speaker(command: &Command) -> Option<SessionId> {
    match command {
        Command::Hello(hello) => hello.resume,
        Command::SetWindow { session, .. }
        | Command::Heartbeat { session, .. }
        | Command::Starts { session, .. }
        | Command::Reports { session, .. }
        | Command::Outcomes { session, .. }
        | Command::Draining { session }
        | Command::Goodbye { session } => Some(*session),
        Command::Submit(_)
        | Command::Cancel(_)
        | Command::Retry(_)
        | Command::StartNow(_)
        | Command::Delete(_)
        | Command::Deletions(_)
        | Command::Pin(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Drain(_)
        | Command::Action(_)
        | Command::StreamClosed { .. }
        | Command::ProcessGone { .. }
        | Command::ArgumentsFailed { .. }
        | Command::Unfit { .. }
        | Command::ArgumentsDelayed { .. }
        | Command::ArgumentsReady { .. }
        | Command::Evaluated { .. }
        | Command::Heard { .. }
        | Command::Stalled { .. } => None,
    }
}

fn secret(rng: &mut Rng) -> SecretDigest {
    let (a, b) = (rng.id(), rng.id());
    SecretDigest::new(std::array::from_fn(|at| if at < 16 { a[at] } else { b[at - 16] }))
}

/// Runs one seed. Panics where something does not hold.
pub(crate) fn run(seed: u64, length: Length, keeps_log: bool, adjust: impl FnOnce(&mut Config)) -> Outcome {
    let mut config = Config {
        lease: Duration::from_secs(30),
        run_margin: RUN_MARGIN,
        submission_idle_max: Duration::from_secs(60),
        finished_kept: 6,
        step_max: 3,
        unfinished_max: length.jobs() as u64 * 5 / 4,
        evaluations_max: 2,
        ..Config::default()
    };
    adjust(&mut config);
    // A run that a panic has ended has left its counts.
    Invariant::take_checked();
    let mut world = World::new(seed, length, config, keeps_log);
    world.run();
    Outcome { checked: Invariant::take_checked(), ..world.outcome }
}

impl World {
    fn new(seed: u64, length: Length, config: Config, keeps_log: bool) -> Self {
        let mut rng = Rng::new(seed);
        let processes = [(1, 1), (8, 2), (3, 1), (1, 2)]
            .into_iter()
            .enumerate()
            .map(|(index, (jobs, concurrency))| {
                let window = Window { jobs, concurrency, occupied: 0 };
                let (instance, elf) = (InstanceId::new(rng.id()), index % 2);
                let version = versions::any(&mut rng);
                Process { tells_starts: index > 0, ..Process::new(instance, elf, version, window) }
            })
            .collect();
        Self {
            core: Core::new(config.clone()),
            rng,
            length,
            now: SECOND,
            config,
            store: Store::default(),
            oracle: Oracle::default(),
            client: Client::default(),
            evaluator: Evaluator::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            processes,
            streams: BTreeMap::new(),
            next_stream: 0,
            hellos: BTreeMap::new(),
            of_session: BTreeMap::new(),
            drains: BTreeMap::new(),
            asked: BTreeMap::new(),
            aside: BTreeMap::new(),
            paused_lately: BTreeSet::new(),
            inbox: VecDeque::new(),
            events: BTreeMap::new(),
            next_event: 0,
            is_batch_due: false,
            is_timed: false,
            ahead: Ahead::default(),
            stalled_until: 0,
            late_by: 0,
            next_attachment: 0,
            has_faults: true,
            keeps_log,
            outcome: Outcome {
                batches: 0,
                rebuilds: 0,
                jobs: 0,
                seen: Counts::default(),
                checked: [0; Invariant::ALL.len()],
                ended_after: Duration::ZERO,
                log: String::new(),
            },
        }
    }

    fn see(&mut self, seen: Seen) {
        self.outcome.seen.see(seen);
    }

    fn clocks(&self) -> Clocks {
        Clocks { steady: Steady(self.now), wall: Timestamp(self.now + self.ahead.now) }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((time, self.next_event), event);
    }

    fn after(&mut self, delay_max: u64, event: Event) {
        let time = self.now + 1 + self.rng.below(delay_max);
        self.at(time, event);
    }

    fn run(&mut self) {
        let faults_until = u64::try_from(self.length.faults().as_micros()).unwrap();
        for process in 0..self.processes.len() {
            let instance = self.processes[process].instance;
            self.after(SECOND, Event::Connect { process, instance });
        }
        self.after(SECOND, Event::Idea);
        self.after(SECOND, Event::AskAgain);
        self.after(self.length.apart(5 * SECOND), Event::Mishap);
        self.after(self.length.apart(40 * SECOND), Event::Stall);
        if self.rng.percent(50) {
            self.after(self.length.apart(100 * SECOND), Event::SetClock);
        }
        self.after(SECOND, Event::Look);
        self.after(self.length.apart(20 * SECOND), Event::Delete);
        self.after(self.length.apart(20 * SECOND), Event::Pause);
        self.after(self.length.apart(60 * SECOND), Event::Drain);
        self.after(self.length.apart(40 * SECOND), Event::Act);
        self.after(SECOND, Event::GoOnActing);
        while let Some(((time, _), event)) = self.events.pop_first() {
            if let Some(due) = self.core.next_deadline()
                && due.0 < time
                && !self.is_batch_due
            {
                self.next_event += 1;
                self.events.insert((time, self.next_event), event);
                self.now = self.now.max(due.0);
                self.is_batch_due = true;
                self.at(self.now, Event::Batch);
                continue;
            }
            self.now = self.now.max(time);
            if self.has_faults && self.now > faults_until {
                self.heal();
            }
            let is_idle = self.inbox.is_empty() && !self.core.has_work();
            if !self.has_faults && self.store.live.is_empty() && is_idle && self.has_acted() {
                break;
            }
            if self.now > faults_until + ENDS_WITHIN + if self.ahead.is_set { 2 * SET_BY } else { 0 } {
                break;
            }
            if self.now < self.stalled_until && event.is_of_broker() {
                // A batch comes first: the broker's other tasks take a moment to read what has come meanwhile.
                let pause = if matches!(event, Event::Batch) { 0 } else { READ_AFTER_STALL };
                self.at(self.stalled_until + pause, event);
                continue;
            }
            self.handle(event);
            if (!self.inbox.is_empty() || self.core.has_work()) && !self.is_batch_due {
                self.is_batch_due = true;
                self.after(5 * MS, Event::Batch);
            }
        }
        self.oracle.acknowledged_jobs_are_kept(&self.store);
        self.store.check_flow_counts();
        let why: Vec<_> = self.store.live.keys().map(|id| (id, self.core.explain(*id))).collect();
        holds!(EndsInTime, why.is_empty(), "without faults, these do not end: {why:?}");
        Oracle::everything_has_ended(&self.store);
        self.outcome.jobs = self.store.finished.len();
        self.outcome.ended_after = Duration::from_micros(self.now.saturating_sub(faults_until));
    }

    /// Faults end: every stream is opened anew, since what was lost on the old ones stays lost. From now on there is
    /// somebody for every job.
    fn heal(&mut self) {
        self.has_faults = false;
        for index in 0..self.processes.len() {
            self.processes[index].version = versions::TAKES_ALL;
            self.processes[index].announce(Window { jobs: 3, concurrency: 1, occupied: 0 });
            if let Some(stream) = self.processes[index].stream {
                self.cut(stream);
            }
        }
        self.set_clock_right();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Batch => self.batch(),
            Event::Idea => self.idea(),
            Event::AskAgain => self.ask_again(),
            Event::Answer(request, answer) => self.on_answer(request, answer),
            Event::FromElf { stream, message } => self.on_message(stream, message),
            Event::StreamGone { stream } => self.on_stream_gone(stream),
            Event::StreamEnded { stream } => self.on_stream_ended(stream),
            Event::Look => self.look(),
            Event::Confirm { process, instance } => self.confirm(process, instance),
            Event::ToElf { stream, message } => self.on_elf_message(stream, message),
            Event::Evaluate(evaluation) => self.evaluate(evaluation),
            Event::Late(command) => self.inbox.push_back(Waiting::Command(command)),
            Event::Connect { process, instance } => self.connect(process, instance),
            Event::Beat { process, instance } => self.beat(process, instance),
            Event::TellStart { process, instance, token } => self.tell_start(process, instance, token),
            Event::Report { process, instance, token } => self.say_how_far(process, instance, token),
            Event::TaskEnds { process, instance, token } => self.task_ends(process, instance, token),
            Event::ArgumentsReady { stream, session, tokens } => {
                if self.of_session.get(&session) == Some(&stream) {
                    let command = Command::ArgumentsReady { session, tokens };
                    self.inbox.push_back(Waiting::Command(Box::new(command)));
                }
            }
            Event::Mishap => self.mishap(),
            Event::Delete => self.delete(),
            Event::Pause => self.pause(),
            Event::Resume(target) => self.resume(target),
            Event::Stall => self.stall(),
            Event::SetClock => self.set_clock(),
            Event::Drain => self.drain(),
            Event::Leave { process, instance } => self.leave(process, instance),
            Event::Stop { process, instance } => self.stop(process, instance),
            Event::Act => self.act(),
            Event::GoOnActing => self.go_on_acting(),
        }
    }
}
