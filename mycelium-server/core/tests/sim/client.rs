//! What those who orchestrate ask for: made up from the seed, asked again until it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use mycelium_core::command::{Cancel, Command, NewFlow, NewJob, Part, Retry, Scope, StartNow, Submit};
use mycelium_core::ids::{
    Attachment, ContentDigest, FlowId, JobId, RequestId, SubmissionId, Timestamp, Token,
};
use mycelium_core::image::JobHead;
use mycelium_core::labels::Labels;
use mycelium_core::policy::{Policy, RetryPolicy};

use super::deadlines::timeouts;
use super::evaluator::{Kind, kind};
use super::oracle::Oracle;
use super::rng::Rng;
use super::store::Store;
use super::tries::begins;
use super::versions;

pub(crate) const ELVES: [&str; 2] = ["baker", "smith"];
pub(crate) const TASKS: [&str; 2] = ["task_one", "task_two"];

/// The tasks that a process offers.
pub(crate) fn tasks(process: usize) -> &'static [&'static str] {
    if process == 3 { &TASKS[..1] } else { &TASKS }
}

/// Something that was asked for and is not answered yet.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// Jobs, in one part or several, of which `at` is next.
    Submit {
        flow: FlowId,
        on_behalf_of: Option<Token>,
        submission: Option<SubmissionId>,
        parts: Vec<Vec<NewJob>>,
        at: usize,
    },
    /// Jobs cancelled.
    CancelJobs(Vec<JobId>),
    /// A flow cancelled.
    CancelFlow(FlowId),
    /// Jobs retried.
    Retry(Vec<JobId>),
    /// Jobs begun before their moment.
    StartNow(Vec<JobId>),
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) wish: Wish,
    /// When to ask again if there is no answer.
    pub(crate) again_at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    flows: Vec<FlowId>,
    /// Jobs that new ones may depend on, and that may be cancelled or retried.
    pub(crate) known: Vec<JobId>,
    /// Jobs with a list that anyone tried to submit.
    pub(crate) new_lists: Vec<NewJob>,
    next_spec: u32,
}

impl Client {
    pub(crate) fn make_wish(&mut self, rng: &mut Rng, store: &Store, oracle: &mut Oracle) -> Option<Wish> {
        match rng.below(100) {
            0..60 => Some(self.submit(rng, oracle)),
            60..74 => {
                let jobs: Vec<JobId> = (0..1 + rng.below(3)).filter_map(|_| rng.pick(&self.known)).collect();
                Some(Wish::CancelJobs(jobs))
            }
            74..80 => {
                let flow = rng.pick(&self.flows)?;
                oracle.flows_cancelled.insert(flow);
                Some(Wish::CancelFlow(flow))
            }
            80..83 => {
                let jobs: Vec<JobId> = (0..1 + rng.below(3)).filter_map(|_| rng.pick(&self.known)).collect();
                oracle.tries.started_by_hand.extend(&jobs);
                Some(Wish::StartNow(jobs))
            }
            _ => {
                let finished: Vec<JobId> = store.finished.keys().copied().collect();
                let jobs: Vec<JobId> = (0..1 + rng.below(3)).filter_map(|_| rng.pick(&finished)).collect();
                Some(Wish::Retry(jobs))
            }
        }
    }

    fn submit(&mut self, rng: &mut Rng, oracle: &mut Oracle) -> Wish {
        if self.flows.is_empty() || rng.percent(30) {
            self.flows.push(FlowId::new(rng.id()));
        }
        let flow = rng.pick(&self.flows).unwrap();
        let is_parted = rng.percent(30);
        let mut own: Vec<JobId> = Vec::new();
        let parts = (0..if is_parted { 1 + rng.below(3) } else { 1 })
            .map(|_| {
                // Jobs of a part may depend on each other in any order: shuffled, they do.
                let mut jobs: Vec<NewJob> = Vec::new();
                for _ in 0..1 + rng.below(6) {
                    let job = self.new_job(rng, &own, oracle);
                    own.push(job.head.id);
                    let place = usize::try_from(rng.below(jobs.len() as u64 + 1)).unwrap();
                    jobs.insert(place, job);
                }
                jobs
            })
            .collect();
        let submission = is_parted.then(|| SubmissionId::new(rng.id()));
        Wish::Submit { flow, on_behalf_of: None, submission, parts, at: 0 }
    }

    /// A task submits a job for its own elf. Returns which.
    pub(crate) fn nest(
        &mut self,
        rng: &mut Rng,
        elf: usize,
        by: Token,
        oracle: &mut Oracle,
    ) -> (JobId, Wish) {
        let job = loop {
            let job = self.new_job(rng, &[], oracle);
            if kind(job.head.id) == Kind::Plain {
                break job;
            }
        };
        let job =
            NewJob { head: JobHead { elf: Arc::from(ELVES[elf]), ..job.head }, depends_on: vec![], ..job };
        let (id, flow) = (job.head.id, FlowId::new(rng.id()));
        (id, Wish::Submit { flow, on_behalf_of: Some(by), submission: None, parts: vec![vec![job]], at: 0 })
    }

    fn new_job(&mut self, rng: &mut Rng, own: &[JobId], oracle: &mut Oracle) -> NewJob {
        let mut depends_on: Vec<JobId> = Vec::new();
        for _ in 0..rng.below(3) {
            let on = if rng.percent(70) { rng.pick(own) } else { rng.pick(&self.known) };
            depends_on.extend(on.filter(|on| !depends_on.contains(on)));
        }
        let id = JobId::new(rng.id());
        let digest = ContentDigest(rng.next());
        oracle.digests.insert(id, digest);
        self.next_spec += 1;
        let job = NewJob {
            head: JobHead {
                id,
                elf: Arc::from(rng.pick(&ELVES).unwrap()),
                task: Arc::from(rng.pick(&TASKS).unwrap()),
                priority: i32::try_from(rng.below(3)).unwrap(),
                labels: labels(id),
                shape: versions::shape(id),
                ..JobHead::default()
            },
            depends_on,
            evaluate: kind(id) != Kind::Plain,
            digest,
            judged: versions::judged(rng, id),
            policy: policy(id),
            begins: begins(id),
            spec: Attachment(self.next_spec),
        };
        if kind(id) == Kind::List {
            self.new_lists.push(job.clone());
        }
        job
    }
}

/// Some jobs have a policy of their own.
pub(crate) fn policy(id: JobId) -> Option<Arc<Policy>> {
    let retry =
        RetryPolicy { attempts: Some(1 + u32::from(id.as_bytes()[14] % 4)), ..RetryPolicy::default() };
    let retry = if id.as_bytes()[13].is_multiple_of(4) { retry } else { RetryPolicy::default() };
    let policy = Policy { retry, timeouts: timeouts(id) };
    (policy != Policy::default()).then(|| Arc::new(policy))
}

/// Some jobs have labels, of which there are few.
fn labels(id: JobId) -> Labels {
    match id.as_bytes()[15] % 8 {
        number @ 0..=2 => BTreeMap::from([("number".to_owned(), number.to_string())]).into(),
        _ => Labels::default(),
    }
}

impl Wish {
    /// The command, with what the store says now.
    pub(crate) fn command(&self, request: RequestId, store: &Store) -> Command {
        match self {
            Self::Submit { flow, on_behalf_of, submission, parts, at } => {
                let jobs = parts[*at].clone();
                let named = jobs.iter().flat_map(|job| job.depends_on.iter().copied().chain([job.head.id]));
                let mut preconditions = store.preconditions(named, Some(*flow));
                preconditions.submission_sealed =
                    submission.and_then(|id| store.submissions.get(&id)).is_some_and(|record| record.sealed);
                let part = submission.map(|submission| Part {
                    submission,
                    index: u32::try_from(*at).unwrap(),
                    seal: *at + 1 == parts.len(),
                });
                Command::Submit(Submit {
                    request,
                    flow: *flow,
                    new_flow: NewFlow {
                        name: Arc::from("flow"),
                        on_behalf_of: *on_behalf_of,
                        ..NewFlow::default()
                    },
                    part,
                    elements: None,
                    jobs,
                    preconditions,
                })
            }
            Self::CancelJobs(jobs) => Command::Cancel(Cancel {
                request,
                scope: Scope::Jobs(jobs.clone()),
                preconditions: store.preconditions(jobs.iter().copied(), None),
                action: None,
            }),
            Self::CancelFlow(flow) => Command::Cancel(Cancel {
                request,
                scope: Scope::Flow(*flow),
                preconditions: store.preconditions([], Some(*flow)),
                action: None,
            }),
            Self::StartNow(jobs) => Command::StartNow(StartNow {
                request,
                jobs: jobs.clone(),
                preconditions: store.preconditions(jobs.iter().copied(), None),
            }),
            Self::Retry(named) => {
                let jobs: Vec<_> = named.iter().filter_map(|id| store.revivable(*id)).collect();
                let dependents = store.upstream_failed_dependents(named);
                let dependents: Vec<_> = dependents.iter().filter_map(|id| store.revivable(*id)).collect();
                let all = || jobs.iter().chain(&dependents);
                let preconditions =
                    store.preconditions(all().flat_map(|job| job.depends_on.iter().copied()), None);
                let flows = all().filter_map(|job| store.flows.get(&job.head.flow).cloned()).collect();
                Command::Retry(Retry { request, jobs, dependents, preconditions, flows, action: None })
            }
        }
    }
}
