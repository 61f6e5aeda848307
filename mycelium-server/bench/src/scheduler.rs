//! The scheduler with jobs to do, and a process that does them as soon as it is told.

use std::sync::Arc;

use mycelium_core::command::{
    Begins, Command, ElfOffer, Hello, NewFlow, NewJob, Outcome, OutcomeResult, Part, Preconditions, Submit,
    TaskOffer, Window,
};
use mycelium_core::effects::{Effects, Send};
use mycelium_core::ids::{
    Attachment, Build, Clocks, Commit, ContentDigest, FlowId, InstanceId, JobId, RequestId, Revision,
    SessionId, SignatureId, Steady, Timestamp,
};
use mycelium_core::image::JobHead;
use mycelium_core::signature::{Judged, Shape, Signature};
use mycelium_core::{Config, Core};

const NOW: Clocks = Clocks { steady: Steady(1), wall: Timestamp(1) };
const WINDOW: u32 = 4_096;

/// The id of a job by its number.
pub fn id(number: u64) -> JobId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    JobId::new(bytes)
}

/// A scheduler, and what is known of it from outside.
#[derive(Debug)]
pub struct Scheduler {
    core: Core,
    elf: Arc<str>,
    task: Arc<str>,
    shape: Shape,
    commit: Commit,
    /// The number of the next job.
    next: u64,
    /// What the process reports with the next turn.
    outcomes: Vec<Outcome>,
}

impl Scheduler {
    /// One to which nobody has connected.
    pub fn without_elves() -> Self {
        Self {
            core: Core::new(Config::default()),
            elf: Arc::from("elf"),
            task: Arc::from("task_one"),
            shape: Shape::of([]),
            commit: Commit(0),
            next: 0,
            outcomes: Vec::new(),
        }
    }

    /// One with a process that has a window of 4,096 jobs.
    pub fn with_elf() -> Self {
        let mut scheduler = Self::without_elves();
        let (revision, signature) =
            (Revision::new([0; 32]), Signature::new(SignatureId::default(), Vec::new()));
        let signature = Arc::new(signature);
        let offer = ElfOffer {
            elf: scheduler.elf.clone(),
            tasks: vec![TaskOffer { task: scheduler.task.clone(), revision, signature, policy: None }],
            window: Window { jobs: WINDOW, concurrency: 8, occupied: 0 },
        };
        let hello = Hello {
            knows_recall: false,
            knows_drain: false,
            needs_secret: false,
            request: RequestId(0),
            instance: InstanceId::new([1; 16]),
            build: Build::UNKNOWN,
            resume: None,
            secret: None,
            secret_new: None,
            elves: vec![offer],
            held: vec![],
            tells_starts: false,
        };
        let mut effects = Effects::default();
        scheduler.core.apply(NOW, Command::Hello(hello), &mut effects);
        scheduler.finish(&mut effects);
        scheduler
    }

    /// Submits jobs by their numbers, with those that they depend on.
    pub fn submit(&mut self, jobs: Vec<(u64, Vec<JobId>)>, part: Option<Part>) {
        let mut effects = Effects::default();
        self.apply_submit(jobs, part, &mut effects);
        loop {
            self.finish(&mut effects);
            if !self.core.has_work() {
                break;
            }
            effects = Effects::default();
        }
    }

    /// One batch: new jobs, and the outcomes of all that were assigned in the one before. Returns how many those are.
    pub fn turn(&mut self, jobs: u64) -> u64 {
        let mut effects = Effects::default();
        let new = (self.next..self.next + jobs).map(|number| (number, Vec::new())).collect();
        self.next += jobs;
        self.apply_submit(new, None, &mut effects);
        let outcomes = std::mem::take(&mut self.outcomes);
        let done = outcomes.len() as u64;
        self.core.apply(NOW, Command::Outcomes { session: SessionId(1), outcomes }, &mut effects);
        self.finish(&mut effects);
        for send in effects.sends {
            if let Send::Assign { assignments, .. } = send {
                let outcome = |token| Outcome {
                    token,
                    result: OutcomeResult::Outputs(Attachment(1)),
                    failed: None,
                    ran: None,
                };
                self.outcomes.extend(assignments.iter().map(|assignment| outcome(assignment.token)));
            }
        }
        done
    }

    fn apply_submit(&mut self, jobs: Vec<(u64, Vec<JobId>)>, part: Option<Part>, effects: &mut Effects) {
        let job = |(number, depends_on)| NewJob {
            head: JobHead {
                id: id(number),
                elf: self.elf.clone(),
                task: self.task.clone(),
                shape: self.shape.clone(),
                ..JobHead::default()
            },
            depends_on,
            evaluate: false,
            digest: ContentDigest(number),
            judged: Judged::NOT,
            policy: None,
            begins: Begins::default(),
            spec: Attachment(0),
        };
        let submit = Submit {
            request: RequestId(1),
            flow: FlowId::new([1; 16]),
            new_flow: NewFlow { name: Arc::from("flow"), ..NewFlow::default() },
            part,
            elements: None,
            jobs: jobs.into_iter().map(job).collect(),
            preconditions: Preconditions { as_of: self.commit, ..Preconditions::default() },
        };
        self.core.apply(NOW, Command::Submit(submit), effects);
    }

    fn finish(&mut self, effects: &mut Effects) {
        self.core.finish_batch(NOW, effects);
        self.commit = effects.counters.map_or(self.commit, |counters| counters.commit);
    }
}
