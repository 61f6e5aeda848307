//! The clock, the network, and the broker's shell.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::command::{
    Command, ElfOffer, EvaluationResult, Hello, Outcome as Report, OutcomeResult, Window,
};
use mycelium_core::effects::{Assignment, Effects, Evaluation, Refusal, Reply, Send, Verdict};
use mycelium_core::ids::{
    AssignNumber, Attachment, Clocks, InstanceId, RequestId, Revision, SecretDigest, SessionId, Steady,
    Timestamp, Token,
};
use mycelium_core::{Config, Core};

use super::client::{Client, ELVES, Request, TASKS, Wish};
use super::elf::{Attempt, Process};
use super::evaluator::{self, Evaluator, Next, digest, element, elements_of};
use super::oracle::Oracle;
use super::rng::Rng;
use super::store::Store;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// How long things go wrong.
const FAULTS_UNTIL: u64 = 240 * SECOND;
/// When everything must have ended.
const END: u64 = FAULTS_UNTIL + 3_600 * SECOND;
/// How many batches a run may take: more means that the core keeps itself busy.
const BATCHES_MAX: u64 = 200_000;
/// How late a batch may be without being taken for a stall.
const LATE_MAX: u64 = SECOND;
/// How long after a stall the broker has read what came meanwhile.
const READ_AFTER_STALL: u64 = 20 * MS;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    pub(crate) batches: u64,
    pub(crate) rebuilds: u64,
    pub(crate) jobs: usize,
    /// Everything that went into the core and came out of it, if asked for.
    pub(crate) log: String,
}

#[derive(Debug, Clone)]
enum Event {
    /// The broker takes a batch of what has come.
    Batch,
    /// The client has an idea.
    Idea,
    /// The client asks again for what was not answered.
    AskAgain,
    /// An answer reaches the client.
    Answer(RequestId, Result<Reply, Refusal>),
    /// A message of an elf reaches the broker.
    FromElf { stream: u64, message: FromElf },
    /// The broker sees that a stream is gone.
    StreamGone { stream: u64 },
    /// A message of the broker reaches an elf.
    ToElf { stream: u64, message: ToElf },
    /// An evaluation that was handed out begins.
    Evaluate(Evaluation),
    /// A command comes, or comes a second time, late.
    Late(Command),
    /// A process opens a stream.
    Connect { process: usize, instance: InstanceId },
    /// A process gives a sign of life.
    Beat { process: usize, instance: InstanceId },
    /// A task ends.
    TaskEnds { process: usize, instance: InstanceId, token: Token },
    /// Arguments that take longer to compute are there, if their stream still is.
    ArgumentsReady { stream: u64, session: SessionId, tokens: Vec<Token> },
    /// Something happens to a process or its stream.
    Mishap,
    /// The broker stands still: its process is paused, or its disk hangs.
    Stall,
}

impl Event {
    /// Whether it needs the broker's process to happen.
    fn is_of_broker(&self) -> bool {
        match self {
            Self::Batch
            | Self::FromElf { .. }
            | Self::StreamGone { .. }
            | Self::Evaluate(_)
            | Self::ArgumentsReady { .. }
            | Self::Late(_) => true,
            Self::Idea
            | Self::AskAgain
            | Self::Answer(..)
            | Self::ToElf { .. }
            | Self::Connect { .. }
            | Self::Beat { .. }
            | Self::TaskEnds { .. }
            | Self::Mishap
            | Self::Stall => false,
        }
    }
}

#[derive(Debug, Clone)]
enum FromElf {
    Hello { resume: Option<SessionId>, held: Vec<Token>, window: Window },
    SetWindow(Window),
    Beat { held: Vec<Token>, received: AssignNumber },
    Outcomes(Vec<Report>),
    Draining,
    Goodbye,
}

#[derive(Debug, Clone)]
enum ToElf {
    Welcome { session: SessionId, keep: Vec<Token>, secret: Option<SecretDigest> },
    Assign { assignments: Vec<Assignment>, last: AssignNumber },
    Cancel(Vec<Token>),
    Acks(Vec<(Token, Verdict)>),
    Unknown(Vec<Token>),
    Closed,
}

/// A stream, from the broker's side.
#[derive(Debug, Clone, Copy)]
struct Stream {
    process: usize,
    session: Option<SessionId>,
    /// When its latest message in either direction arrives: messages of a stream stay in order.
    busy_until: [u64; 2],
}

struct World {
    rng: Rng,
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
    /// Assignments whose arguments take longer to compute.
    aside: BTreeMap<Token, Assignment>,
    inbox: VecDeque<Waiting>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    is_batch_due: bool,
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
    /// The stream closed, which says something of the session only as long as it has no other.
    Closed {
        session: SessionId,
        stream: u64,
    },
}

/// The session that speaks, if it is one: which is a sign of life.
fn speaker(command: &Command) -> Option<SessionId> {
    match command {
        Command::Hello(hello) => hello.resume,
        Command::SetWindow { session, .. }
        | Command::Heartbeat { session, .. }
        | Command::Outcomes { session, .. }
        | Command::Draining { session }
        | Command::Goodbye { session } => Some(*session),
        Command::Submit(_)
        | Command::Cancel(_)
        | Command::Retry(_)
        | Command::StreamClosed { .. }
        | Command::ArgumentsFailed { .. }
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
pub(crate) fn run(seed: u64, keeps_log: bool, adjust: impl FnOnce(&mut Config)) -> Outcome {
    let mut config = Config {
        lease: Duration::from_secs(30),
        submission_idle_max: Duration::from_secs(60),
        finished_kept: 6,
        step_max: 3,
        unfinished_max: 150,
        evaluations_max: 2,
        ..Config::default()
    };
    adjust(&mut config);
    let mut world = World::new(seed, config, keeps_log);
    world.run();
    world.outcome
}

impl World {
    fn new(seed: u64, config: Config, keeps_log: bool) -> Self {
        let mut rng = Rng::new(seed);
        let processes = (0..4)
            .map(|index| {
                let window = Window { jobs: 1 + index % 3, concurrency: 1 + index % 2 };
                Process::new(InstanceId::new(rng.id()), (index % 2) as usize, window)
            })
            .collect();
        Self {
            core: Core::new(config.clone()),
            rng,
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
            aside: BTreeMap::new(),
            inbox: VecDeque::new(),
            events: BTreeMap::new(),
            next_event: 0,
            is_batch_due: false,
            stalled_until: 0,
            late_by: 0,
            next_attachment: 0,
            has_faults: true,
            keeps_log,
            outcome: Outcome::default(),
        }
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
        for process in 0..self.processes.len() {
            let instance = self.processes[process].instance;
            self.after(SECOND, Event::Connect { process, instance });
        }
        self.after(SECOND, Event::Idea);
        self.after(SECOND, Event::AskAgain);
        self.after(5 * SECOND, Event::Mishap);
        self.after(40 * SECOND, Event::Stall);
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
            if self.has_faults && self.now > FAULTS_UNTIL {
                self.heal();
            }
            let is_idle = self.inbox.is_empty() && !self.core.has_work();
            if !self.has_faults && self.store.live.is_empty() && is_idle {
                break;
            }
            if self.now > END {
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
        Oracle::everything_has_ended(&self.store);
        self.outcome.jobs = self.store.finished.len();
    }

    /// Faults end: every stream is opened anew, since what was lost on the old ones stays lost.
    fn heal(&mut self) {
        self.has_faults = false;
        for index in 0..self.processes.len() {
            self.processes[index].window = Window { jobs: 2, concurrency: 2 };
            self.processes[index].window_max = self.processes[index].window_max.max(2);
            if let Some(stream) = self.processes[index].stream {
                self.cut(stream);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Batch => self.batch(),
            Event::Idea => self.idea(),
            Event::AskAgain => self.ask_again(),
            Event::Answer(request, answer) => self.on_answer(request, answer),
            Event::FromElf { stream, message } => self.on_message(stream, message),
            Event::StreamGone { stream } => self.on_stream_gone(stream),
            Event::ToElf { stream, message } => self.on_elf_message(stream, message),
            Event::Evaluate(evaluation) => self.evaluate(evaluation),
            Event::Late(command) => self.inbox.push_back(Waiting::Command(Box::new(command))),
            Event::Connect { process, instance } => self.connect(process, instance),
            Event::Beat { process, instance } => self.beat(process, instance),
            Event::TaskEnds { process, instance, token } => self.task_ends(process, instance, token),
            Event::ArgumentsReady { stream, session, tokens } => {
                if self.of_session.get(&session) == Some(&stream) {
                    let command = Command::ArgumentsReady { session, tokens };
                    self.inbox.push_back(Waiting::Command(Box::new(command)));
                }
            }
            Event::Mishap => self.mishap(),
            Event::Stall => self.stall(),
        }
    }

    // The client.

    fn idea(&mut self) {
        if !self.has_faults {
            return;
        }
        if self.store.live.len() < 120
            && let Some(wish) = self.client.make_wish(&mut self.rng, &self.store, &mut self.oracle)
        {
            self.ask(wish);
        }
        self.after(1_500 * MS, Event::Idea);
    }

    fn ask(&mut self, wish: Wish) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let again_at = Timestamp(self.now + 10 * SECOND);
        self.inbox.push_back(Waiting::Command(Box::new(wish.command(request, &self.store))));
        if self.rng.percent(3) {
            let command = wish.command(request, &self.store);
            self.after(20 * SECOND, Event::Late(command));
        }
        self.requests.insert(request, Request { wish, again_at });
    }

    fn ask_again(&mut self) {
        let due: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.again_at.0 <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(request) = self.requests.remove(&id)
                && (self.has_faults || matches!(request.wish, Wish::Submit { .. }))
            {
                self.ask(request.wish);
            }
        }
        self.after(2 * SECOND, Event::AskAgain);
    }

    fn on_answer(&mut self, request: RequestId, answer: Result<Reply, Refusal>) {
        if let Some((evaluation, submitted)) = self.evaluator.answered(request) {
            return self.on_elements_answer(evaluation, submitted, answer.is_ok());
        }
        let Some(Request { wish, .. }) = self.requests.remove(&request) else { return };
        match (answer, wish) {
            (Err(Refusal::FactsStale), wish) => self.ask(wish),
            (Err(_), _) => {}
            (Ok(_), Wish::Submit { flow, submission, parts, at }) if at + 1 < parts.len() => {
                if !self.rng.percent(10) {
                    self.ask(Wish::Submit { flow, submission, parts, at: at + 1 });
                }
            }
            (Ok(_), Wish::Submit { parts, .. }) => {
                let ids = parts.iter().flatten().map(|job| job.head.id);
                self.client.known.extend(ids.clone());
                self.oracle.acknowledged.extend(ids);
                self.oracle.acknowledged_jobs_are_kept(&self.store);
            }
            (Ok(_), Wish::CancelJobs(_) | Wish::CancelFlow(_) | Wish::Retry(_)) => {}
        }
    }

    // The evaluator.

    fn evaluate(&mut self, evaluation: Evaluation) {
        if self.has_faults && self.rng.percent(10) {
            return self.evaluated(evaluation, EvaluationResult::Again);
        }
        for list in self.client.new_lists.drain(..) {
            for index in 0..elements_of(list.head.id) {
                self.oracle.digests.insert(element(list.head.id, index), digest(list.head.id, index));
            }
            self.evaluator.lists.insert(list.head.id, list);
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.next_attachment += 1;
        let tag = Attachment(self.next_attachment);
        self.oracle.evaluations.insert(tag, evaluation.job);
        let next = self.evaluator.begin(evaluation, request, tag, &self.store);
        self.go_on_evaluating(evaluation, next);
    }

    fn go_on_evaluating(&mut self, evaluation: Evaluation, next: Next) {
        match next {
            Next::Submit(command) => self.after(200 * MS, Event::Late(*command)),
            Next::Answer(result) => self.evaluated(evaluation, result),
        }
    }

    fn on_elements_answer(&mut self, evaluation: Evaluation, submitted: u32, is_taken: bool) {
        if !is_taken {
            return self.evaluated(evaluation, EvaluationResult::Again);
        }
        let ids = (0..submitted).map(|index| element(evaluation.job, index));
        self.oracle.acknowledged.extend(ids.clone());
        self.client.known.extend(ids);
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let next = self.evaluator.go_on(evaluation, submitted, request, &self.store);
        self.go_on_evaluating(evaluation, next);
    }

    fn evaluated(&mut self, evaluation: Evaluation, result: EvaluationResult) {
        let slow = if self.has_faults { 5 * SECOND } else { SECOND };
        self.after(slow, Event::Late(evaluator::answer(evaluation, result)));
    }

    // The broker's shell.

    fn batch(&mut self) {
        self.is_batch_due = false;
        self.outcome.batches += 1;
        assert!(self.outcome.batches < BATCHES_MAX, "the core keeps itself busy");
        let now = Clocks { steady: Steady(self.now), wall: Timestamp(self.now) };
        let mut effects = Effects::default();
        let late_by = std::mem::take(&mut self.late_by);
        if late_by > LATE_MAX {
            let stalled = Command::Stalled { by: Duration::from_micros(late_by - LATE_MAX) };
            self.core.apply(now, stalled, &mut effects);
        }
        for _ in 0..1 + self.rng.below(8) {
            let command = match self.inbox.pop_front() {
                None => break,
                Some(Waiting::Command(command)) => *command,
                // A stream that was replaced may close when it likes.
                Some(Waiting::Closed { session, stream })
                    if self.of_session.get(&session) != Some(&stream) =>
                {
                    continue;
                }
                Some(Waiting::Closed { session, .. }) => {
                    self.of_session.remove(&session);
                    Command::StreamClosed { session }
                }
            };
            if self.keeps_log {
                writeln!(self.outcome.log, "{now:?} {command:?}").unwrap();
            }
            self.core.apply(now, command, &mut effects);
            self.attach(&effects);
        }
        self.spare_heard(now, &mut effects);
        self.core.finish_batch(now, &mut effects);
        self.core.check_invariants().unwrap();
        if self.keeps_log {
            writeln!(self.outcome.log, "{now:?} {effects:?}").unwrap();
        }
        let fate = if self.has_faults { self.rng.below(1_000) } else { 999 };
        if fate < 20 && effects.counters.is_some() {
            // Failed, or uncertain and applied all the same, or the broker dies around the commit: in each case the
            // shell goes back to what the store has.
            if fate < 10 {
                self.commit(&effects);
            }
            self.rebuild();
            return;
        }
        self.commit(&effects);
        self.release(effects);
    }

    /// Renews the leases that are about to end of elves whose words wait to be applied.
    fn spare_heard(&mut self, now: Clocks, effects: &mut Effects) {
        for session in self.core.leases_over(now) {
            let is_heard = self.inbox.iter().any(|waiting| match waiting {
                Waiting::Command(command) => speaker(command) == Some(session),
                Waiting::Closed { .. } => false,
            });
            if is_heard {
                self.core.apply(now, Command::Heard { session }, effects);
            } else {
                self.who_beats_is_not_lost(session);
            }
        }
    }

    /// Invariant: no lease ends of an elf that has kept beating on an open stream, whether the broker stood still or not.
    fn who_beats_is_not_lost(&self, session: SessionId) {
        let is_open = |process: &&Process| {
            process.is_welcome
                && process.session == Some(session)
                && process.stream.is_some_and(|stream| self.streams.contains_key(&stream))
        };
        if let Some(process) = self.processes.iter().find(is_open) {
            let silent_for = self.now - process.spoke_at;
            assert!(silent_for > 10 * SECOND, "session {session} ends, and was silent for {silent_for} us");
        }
    }

    /// If the last command was a `Hello`, its session has this stream from now on, and not only once that is durable.
    fn attach(&mut self, effects: &Effects) {
        if let Some((request, Ok(Reply::Welcome { session, .. }))) = effects.replies.last()
            && let Some((stream, _)) = self.hellos.get(request)
            && self.streams.contains_key(stream)
        {
            self.of_session.insert(*session, *stream);
        }
    }

    fn commit(&mut self, effects: &Effects) {
        self.oracle.outcomes_are_as_reported(&self.store, effects);
        self.oracle.count_retries(effects);
        self.store.commit(effects, &self.oracle.digests);
    }

    /// The broker starts again from its store. Everything on its way is lost.
    fn rebuild(&mut self) {
        self.outcome.rebuilds += 1;
        self.inbox.clear();
        self.hellos.clear();
        self.of_session.clear();
        self.oracle.forget_handed_back();
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            self.cut(stream);
        }
        self.streams.clear();
        let (image, jobs) = self.store.image();
        self.config.evaluations_after = self.core.last_evaluation();
        let mut restore = Core::restore(self.config.clone(), Steady(self.now));
        for job in jobs {
            restore.job(job).unwrap();
        }
        self.core = restore.finish(image).unwrap();
        self.core.check_invariants().unwrap();
        let counts = self.core.status();
        let unfinished = counts.pending + counts.ready + counts.running + counts.unsealed;
        assert_eq!(unfinished, self.store.live.len() as u64, "a rebuilt core has every job");
        self.oracle.acknowledged_jobs_are_kept(&self.store);
    }

    fn release(&mut self, effects: Effects) {
        for (request, answer) in effects.replies {
            if let Some((stream, secret)) = self.hellos.remove(&request) {
                if let Ok(Reply::Welcome { session, keep, resumed }) = answer
                    && let Some(entry) = self.streams.get_mut(&stream)
                {
                    entry.session = Some(session);
                    let secret = secret.filter(|_| !resumed);
                    self.send_to_elf(stream, ToElf::Welcome { session, keep, secret });
                }
            } else {
                self.oracle.strangers_resume_nothing(request, &answer);
                self.after(20 * MS, Event::Answer(request, answer));
            }
        }
        for send in effects.sends {
            self.release_send(send);
        }
        for evaluation in effects.evaluations {
            self.after(500 * MS, Event::Evaluate(evaluation));
        }
    }

    fn release_send(&mut self, send: Send) {
        let (session, message) = match send {
            Send::Assign { session, assignments, first } => {
                for assignment in &assignments {
                    self.oracle.dispatched_is_durable(&self.store, session, assignment);
                    self.oracle.attempts_only_rise(assignment.token);
                    self.oracle.pauses_are_kept(assignment.token.job, self.now);
                    self.oracle.dependencies_are_done(&self.store, assignment.token.job);
                }
                let last = AssignNumber(first.0 + assignments.len() as u64 - 1);
                let assignments = self.put_aside(session, assignments);
                if assignments.is_empty() {
                    return;
                }
                (session, ToElf::Assign { assignments, last })
            }
            Send::Ready { tokens, .. } if tokens.is_empty() => return,
            Send::Ready { session, tokens, first } => {
                let last = AssignNumber(first.0 + tokens.len() as u64 - 1);
                let assignments = tokens.iter().map(|token| self.aside.remove(token).unwrap()).collect();
                (session, ToElf::Assign { assignments, last })
            }
            Send::Cancel { session, tokens } => (session, ToElf::Cancel(tokens)),
            Send::OutcomeAcks { session, acks } => (session, ToElf::Acks(acks)),
            Send::HeartbeatAck { session, unknown } => (session, ToElf::Unknown(unknown)),
            Send::SessionOver { session } => (session, ToElf::Closed),
        };
        if let ToElf::Acks(acks) = &message {
            for (token, verdict) in acks {
                if let Some(&result) = self.oracle.last_reports.get(&(session, *token)) {
                    self.oracle.one_outcome_per_job(*token, *verdict, result);
                    self.oracle.count_handed_back(*token, *verdict, result, self.now);
                }
            }
        }
        let may_be_lost = !matches!(message, ToElf::Assign { .. } | ToElf::Closed);
        if may_be_lost && self.has_faults && self.rng.percent(4) {
            return;
        }
        if let Some(&stream) = self.of_session.get(&session) {
            self.send_to_elf(stream, message);
        }
    }

    /// The arguments of some take longer to compute. Gives the others.
    fn put_aside(&mut self, session: SessionId, assignments: Vec<Assignment>) -> Vec<Assignment> {
        let Some(&stream) = self.of_session.get(&session) else { return assignments };
        let (aside, others): (Vec<_>, Vec<_>) = assignments.into_iter().partition(|_| self.rng.percent(15));
        if !aside.is_empty() {
            let tokens: Vec<Token> = aside.iter().map(|assignment| assignment.token).collect();
            self.aside.extend(aside.into_iter().map(|assignment| (assignment.token, assignment)));
            let command = Command::ArgumentsDelayed { session, tokens: tokens.clone() };
            self.inbox.push_back(Waiting::Command(Box::new(command)));
            self.after(10 * SECOND, Event::ArgumentsReady { stream, session, tokens });
        }
        others
    }

    fn on_message(&mut self, stream: u64, message: FromElf) {
        let Some(entry) = self.streams.get(&stream).copied() else { return };
        let process = &self.processes[entry.process];
        if let FromElf::Hello { resume, held, window } = message {
            self.next_request += 1;
            let request = RequestId(self.next_request);
            // Every other process speaks a version of the protocol that knows of secrets.
            let secret_new = (entry.process % 2 == 1).then(|| secret(&mut self.rng));
            self.hellos.insert(request, (stream, secret_new));
            let tasks = if entry.process == 3 { &TASKS[..1] } else { &TASKS[..] };
            let revision = Revision::new([1; 32]);
            let offer = ElfOffer {
                elf: Arc::from(ELVES[process.elf]),
                tasks: tasks.iter().map(|task| (Arc::from(*task), revision)).collect(),
                window,
            };
            let (instance, secret) = (process.instance, process.secret);
            let elves = vec![offer];
            let hello = Hello { request, instance, resume, secret, secret_new, elves, held };
            self.inbox.push_back(Waiting::Command(Box::new(Command::Hello(hello))));
            return;
        }
        let Some(session) = entry.session else { return };
        let command = match message {
            FromElf::Hello { .. } => return,
            FromElf::SetWindow(window) => {
                Command::SetWindow { session, elf: Arc::from(ELVES[process.elf]), window }
            }
            FromElf::Beat { held, received } => Command::Heartbeat { session, held, received },
            FromElf::Outcomes(outcomes) => {
                for report in &outcomes {
                    self.oracle.last_reports.insert((session, report.token), report.result);
                    if let OutcomeResult::Outputs(tag)
                    | OutcomeResult::Failure(tag)
                    | OutcomeResult::Refused(tag) = report.result
                    {
                        self.oracle.reports.insert(tag, (session, report.token, report.result));
                    }
                }
                if self.has_faults && self.rng.percent(12) {
                    let outcomes = outcomes.clone();
                    self.after(20 * SECOND, Event::Late(Command::Outcomes { session, outcomes }));
                }
                Command::Outcomes { session, outcomes }
            }
            FromElf::Draining => Command::Draining { session },
            FromElf::Goodbye => Command::Goodbye { session },
        };
        self.inbox.push_back(Waiting::Command(Box::new(command)));
    }

    fn on_stream_gone(&mut self, stream: u64) {
        if let Some(Stream { session: Some(session), .. }) = self.streams.remove(&stream) {
            self.inbox.push_back(Waiting::Closed { session, stream });
        }
    }

    // The network.

    fn send_to_elf(&mut self, stream: u64, message: ToElf) {
        let delay = self.rng.below(if self.has_faults { 200 * MS } else { 5 * MS });
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.busy_until[0] = entry.busy_until[0].max(self.now + delay) + 1;
        let time = entry.busy_until[0];
        self.at(time, Event::ToElf { stream, message });
    }

    fn send_to_broker(&mut self, stream: u64, message: FromElf) {
        let delay = self.rng.below(if self.has_faults { 200 * MS } else { 5 * MS });
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.busy_until[1] = entry.busy_until[1].max(self.now + delay) + 1;
        let time = entry.busy_until[1];
        self.at(time, Event::FromElf { stream, message });
    }

    /// Cuts a stream: what is on its way is lost. The two sides notice at different times.
    fn cut(&mut self, stream: u64) {
        let is_of_it = |event: &Event| match event {
            Event::FromElf { stream: other, .. } | Event::ToElf { stream: other, .. } => *other == stream,
            _ => false,
        };
        self.events.retain(|_, event| !is_of_it(event));
        let slow = if self.has_faults { 15 * SECOND } else { SECOND };
        self.after(slow, Event::StreamGone { stream });
        let index = self.processes.iter().position(|process| process.stream == Some(stream));
        if let Some(process) = index {
            self.processes[process].stream = None;
            self.processes[process].is_welcome = false;
            let instance = self.processes[process].instance;
            self.after(slow, Event::Connect { process, instance });
        }
    }

    fn mishap(&mut self) {
        if !self.has_faults {
            return;
        }
        let process = usize::try_from(self.rng.below(self.processes.len() as u64)).unwrap();
        match self.rng.below(11) {
            10 => self.steal(process),
            0..4 => {
                if let Some(stream) = self.processes[process].stream {
                    self.cut(stream);
                }
            }
            4..6 => self.kill(process),
            6..8 => {
                let window = Window {
                    jobs: u32::try_from(self.rng.below(5)).unwrap(),
                    concurrency: u32::try_from(1 + self.rng.below(2)).unwrap(),
                };
                self.processes[process].window = window;
                self.processes[process].window_max = self.processes[process].window_max.max(window.jobs);
                self.say(process, FromElf::SetWindow(window));
            }
            8 => {
                let waiting = self.processes[process].held.iter();
                let waiting =
                    waiting.filter(|(_, attempt)| **attempt == Attempt::Waiting).map(|(token, _)| *token);
                if let Some(token) = waiting.max() {
                    self.report(process, token, OutcomeResult::Released);
                }
            }
            _ => {
                self.say(process, FromElf::Draining);
                if self.rng.percent(50) {
                    self.say(process, FromElf::Goodbye);
                    let keep = [];
                    self.processes[process].keep_only(&keep);
                }
            }
        }
        self.after(8 * SECOND, Event::Mishap);
    }

    fn stall(&mut self) {
        if !self.has_faults {
            return;
        }
        self.stalled_until = self.now + SECOND + self.rng.below(80 * SECOND);
        self.late_by = self.stalled_until - self.now;
        if !self.is_batch_due {
            self.is_batch_due = true;
            self.at(self.stalled_until, Event::Batch);
        }
        for stream in self.streams.values_mut() {
            stream.busy_until[1] = stream.busy_until[1].max(self.stalled_until + READ_AFTER_STALL);
        }
        let next = self.stalled_until + SECOND + self.rng.below(60 * SECOND);
        self.at(next, Event::Stall);
    }

    /// Somebody who knows instance and session of a process, and not its secret, says hello in its place.
    fn steal(&mut self, process: usize) {
        let entry = &self.processes[process];
        let (instance, resume, held) = (entry.instance, entry.session, entry.held_tokens());
        if entry.secret.is_none() {
            return;
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.oracle.strangers.insert(request);
        let wrong = secret(&mut self.rng);
        let secret = self.rng.percent(50).then_some(wrong);
        let secret_new = self.rng.percent(50).then_some(wrong);
        let hello = Hello { request, instance, resume, secret, secret_new, elves: Vec::new(), held };
        self.inbox.push_back(Waiting::Command(Box::new(Command::Hello(hello))));
    }

    // The elves.

    fn kill(&mut self, process: usize) {
        if let Some(stream) = self.processes[process].stream {
            self.cut(stream);
        }
        let elf = self.processes[process].elf;
        let window = Window { jobs: 2, concurrency: 1 };
        let instance = InstanceId::new(self.rng.id());
        self.processes[process] = Process::new(instance, elf, window);
        self.after(10 * SECOND, Event::Connect { process, instance });
    }

    fn connect(&mut self, process: usize, instance: InstanceId) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.stream.is_some() {
            return;
        }
        self.next_stream += 1;
        let stream = self.next_stream;
        let read_from = self.now.max(self.stalled_until + READ_AFTER_STALL);
        let busy_until = [self.now, read_from];
        self.streams.insert(stream, Stream { process, session: None, busy_until });
        let hello = FromElf::Hello { resume: entry.session, held: entry.held_tokens(), window: entry.window };
        self.processes[process].stream = Some(stream);
        self.processes[process].is_welcome = false;
        self.send_to_broker(stream, hello);
        // If no answer comes, or the stream is lost without a word, the next beat finds out.
        self.after(5 * SECOND, Event::Beat { process, instance });
    }

    /// Says something, if there is a stream to say it on.
    fn say(&mut self, process: usize, message: FromElf) {
        if self.processes[process].is_welcome
            && let Some(stream) = self.processes[process].stream
        {
            self.processes[process].spoke_at = self.now;
            self.send_to_broker(stream, message);
        }
    }

    fn beat(&mut self, process: usize, instance: InstanceId) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.stream.is_none() {
            return;
        }
        let is_open = entry.stream.is_some_and(|stream| self.streams.contains_key(&stream));
        if !is_open || !entry.is_welcome {
            if let Some(stream) = entry.stream {
                self.cut(stream);
            }
            return;
        }
        let beat = FromElf::Beat { held: entry.held_tokens(), received: entry.received };
        self.say(process, beat);
        self.at(self.now + 5 * SECOND, Event::Beat { process, instance });
    }

    fn on_elf_message(&mut self, stream: u64, message: ToElf) {
        let index = self.processes.iter().position(|process| process.stream == Some(stream));
        let Some(process) = index else { return };
        let entry = &mut self.processes[process];
        match message {
            ToElf::Welcome { session, keep, secret } => {
                if entry.session != Some(session) {
                    entry.secret = secret;
                }
                // What was received on other streams says nothing here: a restarted broker numbers anew.
                entry.received = AssignNumber(0);
                entry.session = Some(session);
                entry.is_welcome = true;
                entry.keep_only(&keep);
                let again: Vec<Report> = entry
                    .held
                    .iter()
                    .filter_map(|(token, attempt)| match attempt {
                        Attempt::Over(result) => Some(Report { token: *token, result: *result }),
                        Attempt::Waiting | Attempt::Running => None,
                    })
                    .collect();
                if !again.is_empty() {
                    self.say(process, FromElf::Outcomes(again));
                }
            }
            ToElf::Assign { assignments, last } => {
                entry.received = last;
                for assignment in assignments {
                    assert_eq!(&*assignment.elf, ELVES[entry.elf], "jobs go to their elf");
                    entry.take(assignment.token);
                }
            }
            ToElf::Cancel(tokens) => {
                for token in tokens {
                    if entry.held.contains_key(&token) {
                        entry.cancelled.push(token);
                    }
                }
            }
            ToElf::Acks(acks) => acks.into_iter().for_each(|(token, _)| entry.forget(token)),
            ToElf::Unknown(tokens) => tokens.into_iter().for_each(|token| entry.forget(token)),
            ToElf::Closed => {
                entry.keep_only(&[]);
                self.cut(stream);
            }
        }
        self.start_tasks(process);
    }

    fn start_tasks(&mut self, process: usize) {
        let instance = self.processes[process].instance;
        for token in self.processes[process].start() {
            let time = if self.rng.percent(5) { 20 * SECOND } else { 1_500 * MS };
            self.after(time, Event::TaskEnds { process, instance, token });
        }
    }

    fn task_ends(&mut self, process: usize, instance: InstanceId, token: Token) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.held.get(&token) != Some(&Attempt::Running) {
            return;
        }
        // Some jobs kill every elf they meet.
        if token.job.as_bytes()[15] < 6 {
            self.kill(process);
            return;
        }
        self.next_attachment += 1;
        let tag = Attachment(self.next_attachment);
        let is_cancelled = entry.cancelled.contains(&token);
        let result = match self.rng.below(100) {
            _ if is_cancelled => OutcomeResult::Cancelled,
            0..75 => OutcomeResult::Outputs(tag),
            75..90 => OutcomeResult::Failure(tag),
            90..95 => OutcomeResult::Refused(tag),
            _ if self.has_faults => OutcomeResult::Cancelled,
            _ => OutcomeResult::Outputs(tag),
        };
        self.report(process, token, result);
        self.start_tasks(process);
    }

    fn report(&mut self, process: usize, token: Token, result: OutcomeResult) {
        self.processes[process].held.insert(token, Attempt::Over(result));
        self.say(process, FromElf::Outcomes(vec![Report { token, result }]));
    }
}
