//! The core against a model that knows no indexes, no queues and no counts: it looks at everything each time.
//!
//! What an evaluation comes to follows from the number of its job.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::command::{
    Begins, Cancel, Command, Elements, ElfOffer, Evaluated, EvaluationResult, Hello, KnownFinished, NewFlow,
    NewJob, Outcome, OutcomeResult, Preconditions, Scope, StreamEnd, Submit, TaskOffer, Window,
};
use mycelium_core::effects::{Effects, Evaluation, EvaluationWhat, JobRecord};
use mycelium_core::ids::{
    Attachment, Attempt, Build, Clocks, ContentDigest, EvaluationNumber, FlowId, InstanceId, JobId,
    RequestId, Revision, SessionId, SignatureId, Steady, Timestamp, Token,
};
use mycelium_core::image::JobHead;
use mycelium_core::signature::{Judged, Parameter, Shape, Signature};
use mycelium_core::status::{FinalStatus, Status};
use mycelium_core::{Config, Core};
use proptest::prelude::*;

const TASKS: [&str; 2] = ["task_one", "task_two"];
/// Beside the tasks that a session offers: whether these require an argument that every other job brings.
const REQUIRES: u8 = 4;

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// Jobs with their flow, task, priority, kind, and how far back the jobs lie that they depend on.
    Submit(u8, Vec<(u8, i32, Kind, Vec<u8>)>),
    CancelJob(u8),
    CancelFlow(u8),
    Connect {
        window: u32,
        tasks: u8,
    },
    Disconnect(u8),
    Goodbye(u8),
    SetWindow(u8, u32),
    /// A running job ends; which one, and how.
    End(u8, u8),
}

/// What is special about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Condition,
    List,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![4 => Just(Kind::Plain), 1 => Just(Kind::Condition), 1 => Just(Kind::List)];
    let job = (0..2_u8, 0..3_i32, kind, prop::collection::vec(1..6_u8, 0..3));
    prop_oneof![
        4 => (0..3_u8, prop::collection::vec(job, 1..5)).prop_map(|(flow, jobs)| Step::Submit(flow, jobs)),
        1 => any::<u8>().prop_map(Step::CancelJob),
        1 => (0..3_u8).prop_map(Step::CancelFlow),
        2 => (0..4_u32, 1..8_u8).prop_map(|(window, tasks)| Step::Connect { window, tasks }),
        1 => any::<u8>().prop_map(Step::Disconnect),
        1 => any::<u8>().prop_map(Step::Goodbye),
        1 => (any::<u8>(), 0..4_u32).prop_map(|(session, window)| Step::SetWindow(session, window)),
        8 => (any::<u8>(), 0..5_u8).prop_map(|(job, how)| Step::End(job, how)),
    ]
}

#[derive(Debug, Clone)]
struct ModelJob {
    flow: u8,
    task: u8,
    priority: i32,
    depends_on: Vec<usize>,
    kind: Kind,
    /// The jobs of the elements of its list, as far as they were submitted.
    elements: Vec<usize>,
    status: Status,
    attempt: u32,
    session: u64,
    /// Whether the sessions that require an argument, and those that do not, have turned it down.
    turned_down: [bool; 2],
}

#[derive(Debug, Clone)]
struct ModelSession {
    is_connected: bool,
    window: u32,
    tasks: u8,
    /// Cancelled attempts that it still holds.
    cancelled_in_flight: u32,
}

/// The naive scheduler. Jobs are known by their place in the order of submission.
#[derive(Debug, Default)]
struct Model {
    jobs: Vec<ModelJob>,
    sessions: BTreeMap<u64, ModelSession>,
    last_session: u64,
}

/// Whether a job brings the argument that some sessions require.
fn brings(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Whether the jobs that depend on one go on.
fn ended_well(status: Status) -> bool {
    matches!(status, Status::Final(end) if end.lets_dependents_go_on())
}

fn ended_badly(status: Status) -> bool {
    matches!(status, Status::Final(end) if !end.lets_dependents_go_on())
}

impl Model {
    fn settle(&mut self) {
        loop {
            let before: Vec<Status> = self.jobs.iter().map(|job| job.status).collect();
            for job in &mut self.jobs {
                if job.status != Status::Pending {
                    continue;
                }
                let is_done = |on: &usize| before[*on] == Status::Final(FinalStatus::Done);
                if job.depends_on.iter().chain(&job.elements).any(|on| ended_badly(before[*on])) {
                    job.status = Status::Final(FinalStatus::UpstreamFailed);
                } else if job.kind == Kind::Plain && job.depends_on.iter().all(is_done) {
                    job.status = Status::Ready;
                }
            }
            if self.jobs.iter().map(|job| job.status).eq(before) {
                return;
            }
        }
    }

    fn held(&self, id: u64) -> u32 {
        let is_held = |job: &&ModelJob| job.status == Status::Running && job.session == id;
        u32::try_from(self.jobs.iter().filter(is_held).count()).unwrap()
            + self.sessions[&id].cancelled_in_flight
    }

    fn place(&mut self) {
        self.settle();
        loop {
            let mut open: Vec<(u32, u64)> = self
                .sessions
                .iter()
                .map(|(id, session)| (self.held(*id), *id, session))
                .filter(|(held, _, session)| session.is_connected && *held < session.window)
                .map(|(held, id, _)| (held, id))
                .collect();
            open.sort_unstable();
            let best = open.iter().find_map(|(_, id)| {
                let offered = self.sessions[id].tasks;
                let requires = offered & REQUIRES != 0;
                let takes = |(number, job): &(usize, &ModelJob)| {
                    job.status == Status::Ready
                        && offered & (1 << job.task) != 0
                        && (brings(*number) || !requires)
                        && !job.turned_down[usize::from(requires)]
                };
                let ready = self.jobs.iter().enumerate().filter(takes);
                let best = ready.min_by_key(|(number, job)| (-job.priority, *number));
                best.map(|(number, _)| (number, *id))
            });
            let Some((number, id)) = best else { return };
            let job = &mut self.jobs[number];
            job.status = Status::Running;
            job.attempt += 1;
            job.session = id;
        }
    }

    /// Whether the core may ask for this.
    fn may_be_evaluated(&self, number: usize, what: EvaluationWhat) -> bool {
        let job = &self.jobs[number];
        let status = |on: &usize| self.jobs[*on].status;
        let is_skipped = |on: &usize| status(on) == Status::Final(FinalStatus::Skipped);
        let elements_ended = match what {
            EvaluationWhat::Decide => true,
            EvaluationWhat::Gather { elements } => {
                elements as usize == job.elements.len()
                    && job.elements.iter().all(|element| ended_well(status(element)))
            }
        };
        job.status == Status::Pending
            && job.depends_on.iter().all(|on| ended_well(status(on)))
            && (job.kind != Kind::Plain || job.depends_on.iter().any(is_skipped))
            && elements_ended
    }

    fn cancel(&mut self, which: impl Fn(usize, &ModelJob) -> bool) {
        for number in 0..self.jobs.len() {
            let job = &mut self.jobs[number];
            if matches!(job.status, Status::Final(_)) || !which(number, job) {
                continue;
            }
            if job.status == Status::Running
                && let Some(session) = self.sessions.get_mut(&job.session)
            {
                session.cancelled_in_flight += 1;
            }
            job.status = Status::Final(FinalStatus::Cancelled);
        }
    }
}

fn id(number: usize) -> JobId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    JobId::new(bytes)
}

fn flow(number: u8) -> FlowId {
    FlowId::new([number + 1; 16])
}

fn digest(id: JobId) -> ContentDigest {
    ContentDigest(u64::from_be_bytes(id.as_bytes()[8..].try_into().unwrap()))
}

fn new_job(number: usize, job: &ModelJob) -> NewJob {
    NewJob {
        head: JobHead {
            id: id(number),
            elf: Arc::from("elf"),
            task: Arc::from(TASKS[usize::from(job.task)]),
            priority: job.priority,
            shape: Shape::of(brings(number).then(|| Arc::from("b"))),
            ..JobHead::default()
        },
        depends_on: job.depends_on.iter().map(|on| id(*on)).collect(),
        evaluate: job.kind != Kind::Plain,
        digest: digest(id(number)),
        judged: Judged::NOT,
        policy: None,
        begins: Begins::default(),
        spec: Attachment(0),
    }
}

fn task_offer(task: &str, is_required: bool) -> TaskOffer {
    let parameter = Parameter { name: Arc::from("b"), is_required };
    let id = SignatureId::new([u8::from(is_required); 16]);
    let signature = Arc::new(Signature::new(id, vec![parameter]));
    TaskOffer { task: Arc::from(task), revision: Revision::new([0; 32]), signature, policy: None }
}

fn nth<T: Copy>(items: &[T], number: u8) -> Option<T> {
    items.get(usize::from(number).checked_rem(items.len())?).copied()
}

/// The core with its model.
struct Pair {
    core: Core,
    model: Model,
    finished: BTreeMap<JobId, FinalStatus>,
    requests: u64,
    answers: u64,
    now: Clocks,
}

impl Pair {
    fn take(&mut self, step: Step) {
        let sessions: Vec<u64> = self.model.sessions.keys().copied().collect();
        let command = match step {
            Step::Submit(flow_number, jobs) => Some(self.submit(flow_number, jobs)),
            Step::CancelJob(number) => {
                let number = usize::from(number).checked_rem(self.model.jobs.len());
                number.map(|number| {
                    let job = &self.model.jobs[number];
                    let is_final = matches!(job.status, Status::Final(_));
                    let elements = if is_final { vec![] } else { job.elements.clone() };
                    self.model.cancel(|other, _| other == number || elements.contains(&other));
                    self.cancel(Scope::Jobs(vec![id(number)]))
                })
            }
            Step::CancelFlow(number) => {
                self.model.cancel(|_, job| job.flow == number);
                Some(self.cancel(Scope::Flow(flow(number))))
            }
            Step::Connect { window, tasks } => Some(self.connect(window, tasks)),
            Step::Disconnect(number) => nth(&sessions, number).map(|session| {
                self.model.sessions.get_mut(&session).unwrap().is_connected = false;
                Command::StreamClosed { session: SessionId(session), end: StreamEnd::ByShell }
            }),
            Step::Goodbye(number) => nth(&sessions, number).map(|session| {
                self.model.sessions.remove(&session);
                for job in self.model.jobs.iter_mut().filter(|job| job.session == session) {
                    if job.status == Status::Running {
                        job.status = Status::Ready;
                    }
                }
                Command::Goodbye { session: SessionId(session) }
            }),
            Step::SetWindow(number, jobs) => nth(&sessions, number).map(|session| {
                self.model.sessions.get_mut(&session).unwrap().window = jobs;
                let window = Window { jobs, concurrency: 1, occupied: 0 };
                Command::SetWindow { session: SessionId(session), elf: Arc::from("elf"), window }
            }),
            Step::End(number, how) => self.end(number, how),
        };
        self.model.place();
        let mut evaluations = self.batches(command.into_iter().collect());
        while !evaluations.is_empty() {
            let mut commands = Vec::new();
            for evaluation in evaluations {
                self.evaluate(evaluation, &mut commands);
            }
            self.model.place();
            evaluations = self.batches(commands);
        }
        self.compare();
    }

    /// Answers an evaluation. Now and then it cannot be done at once, with some of the elements submitted already.
    fn evaluate(&mut self, evaluation: Evaluation, commands: &mut Vec<Command>) {
        let Evaluation { job, number, what, .. } = evaluation;
        let place = usize::try_from(u64::from_be_bytes(job.as_bytes()[8..].try_into().unwrap())).unwrap();
        self.answers += 1;
        let result = if matches!(self.model.jobs[place].status, Status::Final(_)) {
            // It ended meanwhile, and what it comes to changes nothing.
            EvaluationResult::Run
        } else {
            assert!(self.model.may_be_evaluated(place, what), "job {place} is evaluated: {what:?}");
            let is_put_off = self.answers.is_multiple_of(5);
            match (what, self.model.jobs[place].kind) {
                (EvaluationWhat::Decide, Kind::List) => {
                    let elements = place % 4;
                    self.submit_elements(
                        place,
                        number,
                        elements - elements.min(usize::from(is_put_off)),
                        commands,
                    );
                    EvaluationResult::Expanded { elements: u32::try_from(elements).unwrap() }
                }
                (EvaluationWhat::Decide, _) if place.is_multiple_of(7) => {
                    EvaluationResult::Failed(Attachment(0))
                }
                (EvaluationWhat::Decide, _) if place.is_multiple_of(2) => EvaluationResult::Skip,
                (EvaluationWhat::Decide, _) => EvaluationResult::Run,
                (EvaluationWhat::Gather { .. }, _) => EvaluationResult::Gathered(Attachment(0)),
            }
        };
        let result = if self.answers.is_multiple_of(5) { EvaluationResult::Again } else { result };
        if let Some(status) = match result {
            EvaluationResult::Run => Some(Status::Ready),
            EvaluationResult::Skip => Some(Status::Final(FinalStatus::Skipped)),
            EvaluationResult::Failed(_) => Some(Status::Final(FinalStatus::Failed)),
            EvaluationResult::Gathered(_) => Some(Status::Final(FinalStatus::Done)),
            EvaluationResult::Expanded { .. } | EvaluationResult::Again => None,
        } && self.model.jobs[place].status == Status::Pending
        {
            self.model.jobs[place].status = status;
        }
        commands.push(Command::Evaluated { evaluated: vec![Evaluated { job, number, result }] });
    }

    fn submit_elements(
        &mut self,
        of: usize,
        number: EvaluationNumber,
        elements: usize,
        commands: &mut Vec<Command>,
    ) {
        while self.model.jobs[of].elements.len() < elements {
            let element = self.model.jobs.len();
            let job = ModelJob {
                depends_on: vec![],
                kind: Kind::Plain,
                elements: vec![],
                ..self.model.jobs[of].clone()
            };
            self.model.jobs.push(job);
            self.model.jobs[of].elements.push(element);
        }
        let job = self.model.jobs[of].clone();
        let new =
            job.elements.iter().take(elements).map(|element| new_job(*element, &self.model.jobs[*element]));
        let new: Vec<NewJob> = new.collect();
        let mut submit = self.submit_command(job.flow, new);
        submit.elements = Some(Elements { of: id(of), number, first: 0 });
        submit.preconditions.finished = self
            .finished
            .iter()
            .map(|(id, status)| KnownFinished {
                id: *id,
                flow: flow(job.flow),
                status: *status,
                digest: digest(*id),
                is_stub: false,
            })
            .collect();
        commands.push(Command::Submit(submit));
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// What an up-to-date store would say of everything.
    fn preconditions(&self) -> Preconditions {
        Preconditions { as_of: self.core.status().counters.commit, ..Preconditions::default() }
    }

    fn submit(&mut self, flow_number: u8, jobs: Vec<(u8, i32, Kind, Vec<u8>)>) -> Command {
        let mut new = Vec::new();
        for (task, priority, kind, back) in jobs {
            let number = self.model.jobs.len();
            let mut depends_on: Vec<usize> =
                back.iter().filter_map(|back| number.checked_sub(usize::from(*back))).collect();
            depends_on.sort_unstable();
            depends_on.dedup();
            let job = ModelJob {
                flow: flow_number,
                task,
                priority,
                depends_on,
                kind,
                elements: vec![],
                status: Status::Pending,
                attempt: 0,
                session: 0,
                turned_down: [false; 2],
            };
            new.push(new_job(number, &job));
            self.model.jobs.push(job);
        }
        Command::Submit(self.submit_command(flow_number, new))
    }

    fn submit_command(&mut self, flow_number: u8, jobs: Vec<NewJob>) -> Submit {
        Submit {
            request: self.request(),
            flow: flow(flow_number),
            new_flow: NewFlow { name: Arc::from("flow"), ..NewFlow::default() },
            part: None,
            elements: None,
            jobs,
            preconditions: self.preconditions(),
        }
    }

    fn cancel(&mut self, scope: Scope) -> Command {
        Command::Cancel(Cancel {
            request: self.request(),
            scope,
            preconditions: self.preconditions(),
            action: None,
        })
    }

    fn connect(&mut self, window: u32, tasks: u8) -> Command {
        self.model.last_session += 1;
        let session = self.model.last_session;
        self.model
            .sessions
            .insert(session, ModelSession { is_connected: true, window, tasks, cancelled_in_flight: 0 });
        let offered = TASKS.iter().enumerate().filter(|(task, _)| tasks & (1 << task) != 0);
        let offer = ElfOffer {
            elf: Arc::from("elf"),
            tasks: offered.map(|(_, name)| task_offer(name, tasks & REQUIRES != 0)).collect(),
            window: Window { jobs: window, concurrency: 1, occupied: 0 },
        };
        let mut instance = [0; 16];
        instance[..8].copy_from_slice(&session.to_be_bytes());
        Command::Hello(Hello {
            knows_recall: false,
            knows_drain: false,
            needs_secret: false,
            request: self.request(),
            instance: InstanceId::new(instance),
            build: Build::UNKNOWN,
            resume: None,
            secret: None,
            secret_new: None,
            elves: vec![offer],
            held: vec![],
            tells_starts: false,
        })
    }

    fn end(&mut self, number: u8, how: u8) -> Option<Command> {
        let jobs = &self.model.jobs;
        let running: Vec<usize> =
            (0..jobs.len()).filter(|&number| jobs[number].status == Status::Running).collect();
        let number = nth(&running, number)?;
        let (status, result) = match how {
            0 => (Status::Final(FinalStatus::Failed), OutcomeResult::Failure(Attachment(0))),
            1 => (Status::Ready, OutcomeResult::Released),
            _ => (Status::Final(FinalStatus::Done), OutcomeResult::Outputs(Attachment(0))),
        };
        let job = &mut self.model.jobs[number];
        let requires = self.model.sessions.get(&job.session).is_some_and(|of| of.tasks & REQUIRES != 0);
        if how == 4 {
            job.status = Status::Ready;
            job.turned_down[usize::from(requires)] = true;
            let token = Token { job: id(number), attempt: Attempt(job.attempt) };
            return Some(Command::Unfit { session: SessionId(job.session), token });
        }
        job.status = status;
        let token = Token { job: id(number), attempt: Attempt(job.attempt) };
        let outcomes = vec![Outcome { token, result, failed: None, ran: None }];
        Some(Command::Outcomes { session: SessionId(job.session), outcomes })
    }

    /// Gives what was handed out to be evaluated.
    fn batches(&mut self, commands: Vec<Command>) -> Vec<Evaluation> {
        let before = self.now;
        // Pauses end within it, so that the model need not know of them.
        self.now.steady = before.steady.after(Duration::from_secs(60));
        let now = self.now;
        let mut effects = Effects::default();
        let mut evaluations = Vec::new();
        for command in commands {
            self.core.apply(before, command, &mut effects);
        }
        loop {
            self.core.finish_batch(now, &mut effects);
            self.core.check_invariants().unwrap();
            for write in effects.jobs {
                if let JobRecord::Finished(finished) = write.after {
                    self.finished.insert(write.id, finished.end.status());
                }
            }
            evaluations.append(&mut effects.evaluations);
            if !self.core.has_work() {
                return evaluations;
            }
            effects = Effects::default();
        }
    }

    fn compare(&self) {
        for (number, job) in self.model.jobs.iter().enumerate() {
            let found = match (self.core.job(id(number)), self.finished.get(&id(number))) {
                (Some(view), None) => {
                    let session = view.running.map(|running| running.session.0);
                    (view.status, Some(view.attempt.0), session)
                }
                (None, Some(status)) => (Status::Final(*status), None, None),
                (live, finished) => panic!("job {number} is {live:?} and {finished:?}"),
            };
            let is_live = !matches!(job.status, Status::Final(_));
            let session = (job.status == Status::Running).then_some(job.session);
            assert_eq!(found, (job.status, is_live.then_some(job.attempt), session), "job {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_does(
        step_max in 1..5_usize,
        steps in prop::collection::vec(step(), 1..50),
    ) {
        // No session ends by its lease.
        let lease = Duration::from_secs(1_000_000);
        let core = Core::new(Config { lease, step_max, evaluations_max: step_max, ..Config::default() });
        let model = Model::default();
        let mut pair = Pair { core, model, finished: BTreeMap::new(), requests: 0, answers: 0, now: Clocks { steady: Steady(1), wall: Timestamp(1) } };
        for step in steps {
            pair.take(step);
        }
    }
}
