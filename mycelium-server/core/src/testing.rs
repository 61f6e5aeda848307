//! What the tests beside the code have in common: a core whose invariants are checked after every step, and builders.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{
    Begins, Cancel, Command, Elements, ElfOffer, Evaluated, EvaluationResult, Failed, FailureClass, Hello,
    NewFlow, NewJob, Outcome, OutcomeResult, Part, Preconditions, RevivableJob, Scope, Start, StartNow,
    Submit, TaskOffer, Window,
};
use crate::effects::{Effects, End, EvaluationWhat, JobRecord, Refusal, Reply, Send};
use crate::ids::{
    Attachment, Attempt, Build, Clocks, Commit, ContentDigest, EvaluationNumber, FailureId, FlowId,
    InstanceId, JobId, RequestId, Revision, SessionId, SignatureId, Steady, SubmissionId, Timestamp, Token,
};
use crate::image::{FlowRecord, Image, JobHead, LiveJob, SessionRecord};
use crate::policy::PolicyRecord;
use crate::signature::{Judged, Parameter, Shape, Signature};
use crate::status::Status;
use crate::{Config, Core};

pub(crate) const FLOW: FlowId = FlowId::new([200; 16]);
pub(crate) const SUBMISSION: SubmissionId = SubmissionId::new([201; 16]);
pub(crate) const REVISION: Revision = Revision::new([9; 32]);
pub(crate) const SECOND: u64 = 1_000_000;

pub(crate) fn id(number: u8) -> JobId {
    JobId::new([number; 16])
}

pub(crate) fn instance(number: u8) -> InstanceId {
    InstanceId::new([number; 16])
}

pub(crate) fn token(job: u8, attempt: u32) -> Token {
    Token { job: id(job), attempt: Attempt(attempt) }
}

/// A job of the elf `elf` with the task `task_run`; its spec and digest are its number.
pub(crate) fn job(number: u8, depends_on: &[u8]) -> NewJob {
    NewJob {
        head: JobHead {
            id: id(number),
            elf: Arc::from("elf"),
            task: Arc::from("task_run"),
            shape: shape(&[]),
            ..JobHead::default()
        },
        depends_on: depends_on.iter().map(|&number| id(number)).collect(),
        evaluate: false,
        digest: ContentDigest(number.into()),
        judged: Judged::NOT,
        policy: None,
        begins: Begins::default(),
        spec: Attachment(number.into()),
    }
}

pub(crate) fn offer(window: u32, concurrency: u32) -> ElfOffer {
    ElfOffer {
        elf: Arc::from("elf"),
        tasks: vec![task_offer("task_run", &[], &[])],
        window: Window { jobs: window, concurrency, occupied: 0 },
    }
}

/// A task that takes arguments of these names.
pub(crate) fn task_offer(task: &str, required: &[&str], optional: &[&str]) -> TaskOffer {
    let of = |names: &[&str], is_required| {
        let parameter = |name: &&str| Parameter { name: Arc::from(*name), is_required };
        names.iter().map(parameter).collect::<Vec<_>>()
    };
    let parameters = [of(required, true), of(optional, false)].concat();
    // Names tell signatures apart here; tests that need two of the same names make up the id.
    let mut id = [0; 16];
    let text = format!("{required:?}{optional:?}");
    text.bytes()
        .enumerate()
        .for_each(|(place, byte)| id[place % 16] ^= byte.rotate_left((place / 16) as u32));
    let signature = Arc::new(Signature::new(SignatureId::new(id), parameters));
    TaskOffer { task: Arc::from(task), revision: REVISION, signature, policy: None }
}

/// A failure of this type, of the task itself.
pub(crate) fn failed(kind: &str) -> Failed {
    let (class, advice) = (FailureClass::Task, None);
    Failed { id: FailureId::new([66; 16]), kind: Arc::from(kind), class, advice }
}

/// What is stored of an unfinished job.
pub(crate) fn stored(effects: &Effects, number: u8) -> Option<LiveJob> {
    let write = effects.jobs.iter().find(|write| write.id == id(number))?;
    match &write.after {
        JobRecord::Live(live) => Some(live.clone()),
        JobRecord::Evaluate | JobRecord::Finished(_) | JobRecord::Dropped => None,
    }
}

/// The names of arguments.
pub(crate) fn shape(names: &[&str]) -> Shape {
    Shape::of(names.iter().map(|name| Arc::from(*name)))
}

/// Both clocks at so many microseconds.
pub(crate) fn clocks(micros: u64) -> Clocks {
    Clocks { steady: Steady(micros), wall: Timestamp(micros) }
}

/// A core, the time, and what the last batch came to.
pub(crate) struct TestEnv {
    pub(crate) core: Core,
    pub(crate) now: Clocks,
    requests: u64,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        adjust(&mut config);
        Self { core: Core::new(config), now: clocks(SECOND), requests: 0 }
    }

    /// One batch of these commands.
    pub(crate) fn batch(&mut self, commands: impl IntoIterator<Item = Command>) -> Effects {
        let mut effects = Effects::default();
        for command in commands {
            self.core.apply(self.now, command, &mut effects);
        }
        self.core.finish_batch(self.now, &mut effects);
        self.core.check_invariants().unwrap();
        effects
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// What a store that is up to date would say.
    pub(crate) fn preconditions(&self) -> Preconditions {
        Preconditions { as_of: self.commit(), ..Preconditions::default() }
    }

    pub(crate) fn commit(&self) -> Commit {
        self.core.status().counters.commit
    }

    pub(crate) fn submit_command(&mut self, jobs: Vec<NewJob>) -> Submit {
        Submit {
            request: self.request(),
            flow: FLOW,
            new_flow: NewFlow { name: Arc::from("flow"), ..NewFlow::default() },
            part: None,
            elements: None,
            jobs,
            preconditions: self.preconditions(),
        }
    }

    pub(crate) fn submit(&mut self, jobs: Vec<NewJob>) -> Effects {
        let command = self.submit_command(jobs);
        self.batch([Command::Submit(command)])
    }

    pub(crate) fn submit_part(&mut self, index: u32, seal: bool, jobs: Vec<NewJob>) -> Effects {
        let mut command = self.submit_command(jobs);
        command.part = Some(Part { submission: SUBMISSION, index, seal });
        self.batch([Command::Submit(command)])
    }

    /// Opens a session, or resumes one.
    pub(crate) fn hello(
        &mut self,
        number: u8,
        resume: Option<u64>,
        offers: Vec<ElfOffer>,
        held: Vec<Token>,
    ) -> Effects {
        let hello = self.hello_command(number, resume, offers, held);
        self.batch([hello])
    }

    pub(crate) fn hello_command(
        &mut self,
        number: u8,
        resume: Option<u64>,
        offers: Vec<ElfOffer>,
        held: Vec<Token>,
    ) -> Command {
        let request = self.request();
        let resume = resume.map(SessionId);
        Command::Hello(Hello {
            knows_recall: false,
            knows_drain: false,
            needs_secret: false,
            request,
            instance: instance(number),
            build: Build::UNKNOWN,
            resume,
            secret: None,
            secret_new: None,
            elves: offers,
            held,
            tells_starts: false,
        })
    }

    /// The same process, but one that tells of starts, and gives back what is recalled.
    pub(crate) fn telling_hello(
        &mut self,
        number: u8,
        resume: Option<u64>,
        offers: Vec<ElfOffer>,
        held: Vec<Token>,
    ) -> Effects {
        let mut command = self.hello_command(number, resume, offers, held);
        if let Command::Hello(hello) = &mut command {
            hello.tells_starts = true;
            hello.knows_recall = true;
            hello.knows_drain = true;
        }
        self.batch([command])
    }

    /// An attempt was started so long ago.
    pub(crate) fn start(&mut self, session: u64, token: Token, ago: Duration) -> Effects {
        let starts = vec![Start { token, ago }];
        self.batch([Command::Starts { session: SessionId(session), starts }])
    }

    pub(crate) fn outcome(&mut self, session: u64, token: Token, result: OutcomeResult) -> Effects {
        self.report(session, Outcome { token, result, failed: None, ran: None })
    }

    pub(crate) fn report(&mut self, session: u64, outcome: Outcome) -> Effects {
        self.batch([Command::Outcomes { session: SessionId(session), outcomes: vec![outcome] }])
    }

    /// An attempt fails, and its job may be tried again.
    pub(crate) fn fail(&mut self, session: u64, token: Token, failed: Failed) -> Effects {
        let (result, failed) = (OutcomeResult::Failure(Attachment(77)), Some(Box::new(failed)));
        self.report(session, Outcome { token, result, failed, ran: None })
    }

    /// Jobs are not to wait for their moment.
    pub(crate) fn start_now(&mut self, jobs: &[u8]) -> Effects {
        let jobs = jobs.iter().map(|&number| id(number)).collect();
        let command = StartNow { request: self.request(), jobs, preconditions: self.preconditions() };
        self.batch([Command::StartNow(command)])
    }

    pub(crate) fn cancel(&mut self, scope: Scope) -> Effects {
        let command =
            Cancel { request: self.request(), scope, preconditions: self.preconditions(), action: None };
        self.batch([Command::Cancel(command)])
    }

    pub(crate) fn status(&self, number: u8) -> Option<Status> {
        self.core.job(id(number)).map(|job| job.status)
    }

    /// Runs batches until no work is left; all their effects one after the other.
    pub(crate) fn run_out(&mut self) -> Vec<Effects> {
        let mut all = Vec::new();
        while self.core.has_work() {
            all.push(self.batch([]));
            assert!(all.len() < 1_000, "the core keeps itself busy");
        }
        all
    }
}

/// How jobs ended in these effects.
pub(crate) fn ends(effects: &[Effects]) -> Vec<(JobId, End)> {
    let writes = effects.iter().flat_map(|effects| &effects.jobs);
    writes
        .filter_map(|write| match &write.after {
            JobRecord::Finished(finished) => Some((write.id, finished.end)),
            JobRecord::Live(_) | JobRecord::Evaluate | JobRecord::Dropped => None,
        })
        .collect()
}

pub(crate) fn assigned(effects: &Effects) -> Vec<(u64, Token)> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Assign { session, assignments, .. } = send {
            all.extend(assignments.iter().map(|assignment| (session.0, assignment.token)));
        }
    }
    all
}

pub(crate) fn reply(effects: &Effects) -> Option<&Result<Reply, Refusal>> {
    effects.replies.last().map(|(_, answer)| answer)
}

pub(crate) fn after(env: &mut TestEnv, time: Duration) {
    env.now = clocks(env.now.steady.after(time).0);
}

/// A job with a condition or a list.
pub(crate) fn evaluated_job(number: u8, depends_on: &[u8]) -> NewJob {
    NewJob { evaluate: true, ..job(number, depends_on) }
}

impl TestEnv {
    /// Answers an evaluation.
    pub(crate) fn answer(&mut self, number: u8, evaluation: u64, result: EvaluationResult) -> Effects {
        let evaluated = Evaluated { job: id(number), number: EvaluationNumber(evaluation), result };
        self.batch([Command::Evaluated { evaluated: vec![evaluated] }])
    }

    /// Submits jobs for the elements of a list, from the first on.
    pub(crate) fn submit_elements(
        &mut self,
        of: u8,
        evaluation: u64,
        first: u32,
        jobs: Vec<NewJob>,
    ) -> Effects {
        let mut command = self.submit_command(jobs);
        command.elements = Some(Elements { of: id(of), number: EvaluationNumber(evaluation), first });
        self.batch([Command::Submit(command)])
    }

    /// Rebuilds the core from records: what a restart does.
    pub(crate) fn restart(&mut self, jobs: Vec<LiveJob>, flows: Vec<FlowRecord>) {
        self.restart_with(jobs, flows, Vec::new());
    }

    /// As [`restart`](Self::restart), with sessions of the process 1.
    pub(crate) fn restart_with(
        &mut self,
        jobs: Vec<LiveJob>,
        flows: Vec<FlowRecord>,
        sessions: Vec<SessionId>,
    ) {
        self.restart_from(jobs, Image { flows, ..Image::default() }, sessions);
    }

    /// As [`restart`](Self::restart), with policies.
    pub(crate) fn restart_with_policies(
        &mut self,
        jobs: Vec<LiveJob>,
        flows: Vec<FlowRecord>,
        policies: Vec<PolicyRecord>,
    ) {
        self.restart_from(jobs, Image { flows, policies, ..Image::default() }, Vec::new());
    }

    /// As [`restart_with`](Self::restart_with), with all else that an image has.
    pub(crate) fn restart_from(&mut self, jobs: Vec<LiveJob>, image: Image, sessions: Vec<SessionId>) {
        let record = |id| SessionRecord { id, instance: instance(1), secret: None };
        let sessions = sessions.into_iter().map(record).collect();
        let counters = self.core.status().counters;
        let config = Config { evaluations_after: self.core.last_evaluation(), ..Config::default() };
        let mut restore = Core::restore(config, self.now.steady);
        for job in jobs {
            restore.job(job).unwrap();
        }
        self.core = restore.finish(Image { counters, sessions, ..image }).unwrap();
        self.core.check_invariants().unwrap();
    }
}

/// The evaluations that were handed out.
pub(crate) fn handed_out(effects: &Effects) -> Vec<(JobId, u64, EvaluationWhat)> {
    effects
        .evaluations
        .iter()
        .map(|evaluation| (evaluation.job, evaluation.number.0, evaluation.what))
        .collect()
}

/// What the store would say of a job that ended in these effects.
pub(crate) fn revivable(effects: &Effects, number: u8, depends_on: &[u8]) -> RevivableJob {
    let write = effects.jobs.iter().find(|write| write.id == id(number)).unwrap();
    let JobRecord::Finished(finished) = &write.after else { panic!("{write:?}") };
    RevivableJob {
        head: finished.head.clone(),
        depends_on: depends_on.iter().map(|&number| id(number)).collect(),
        evaluate: false,
        digest: job(number, &[]).digest,
        policy: None,
        begins_at: None,
        attempt: finished.attempt,
        attempts: finished.all_attempts(),
        status: finished.end.status(),
        finish_number: finished.finish_number,
    }
}
