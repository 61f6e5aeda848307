//! What is evaluated: all of it follows from the id of the job.

use std::collections::BTreeMap;

use mycelium_core::command::{Command, Elements, Evaluated, EvaluationResult, NewFlow, NewJob, Submit};
use mycelium_core::effects::{Evaluation, EvaluationWhat};
use mycelium_core::ids::{Attachment, ContentDigest, JobId, RequestId};
use mycelium_core::image::JobHead;
use mycelium_core::status::FinalStatus;

use super::client::policy;
use super::store::Store;
use super::tries::begins;

/// What is special about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Condition,
    List,
}

pub(crate) fn kind(job: JobId) -> Kind {
    match job.as_bytes()[14] {
        0..40 => Kind::Condition,
        40..70 => Kind::List,
        _ => Kind::Plain,
    }
}

/// What the evaluation of a job without a list comes to. One with a condition is taken to need no value of a job that
/// was skipped.
pub(crate) fn decision(job: JobId) -> EvaluationResult {
    match job.as_bytes()[12] % 8 {
        0 if kind(job) == Kind::Condition => EvaluationResult::Failed(Attachment(0)),
        0..4 => EvaluationResult::Skip,
        _ => EvaluationResult::Run,
    }
}

pub(crate) fn elements_of(list: JobId) -> u32 {
    u32::from(list.as_bytes()[12] % 5)
}

pub(crate) fn element(list: JobId, index: u32) -> JobId {
    let mut bytes = *list.as_bytes();
    bytes[14] = u8::MAX;
    bytes[13] ^= u8::try_from(index + 1).unwrap();
    JobId::new(bytes)
}

/// The evaluations in the shell's hands that take several steps: the jobs of elements are being submitted.
#[derive(Debug, Default)]
pub(crate) struct Evaluator {
    /// The jobs that have lists.
    pub(crate) lists: BTreeMap<JobId, NewJob>,
    under_way: BTreeMap<RequestId, (Evaluation, u32)>,
}

/// What to do next about an evaluation.
pub(crate) enum Next {
    /// Jobs to be submitted.
    Submit(Box<Command>),
    /// An answer.
    Answer(EvaluationResult),
}

impl Evaluator {
    /// Begins an evaluation.
    pub(crate) fn begin(
        &mut self,
        evaluation: Evaluation,
        request: RequestId,
        tag: Attachment,
        store: &Store,
    ) -> Next {
        let job = evaluation.job;
        match (evaluation.what, kind(job)) {
            (EvaluationWhat::Gather { elements }, _) => {
                same!(OrderKept, elements, elements_of(job), "elements of {job}");
                for index in 0..elements {
                    let status = store.finished.get(&element(job, index)).map(|end| end.end.status());
                    holds!(
                        OrderKept,
                        status.is_some_and(FinalStatus::lets_dependents_go_on),
                        "element {index} of {job} is gathered and {status:?}"
                    );
                }
                Next::Answer(EvaluationResult::Gathered(tag))
            }
            (EvaluationWhat::Decide, Kind::List) => self.go_on(evaluation, 0, request, store),
            (EvaluationWhat::Decide, _) => Next::Answer(match decision(job) {
                EvaluationResult::Failed(_) => EvaluationResult::Failed(tag),
                other => other,
            }),
        }
    }

    /// The evaluation that a request was made for, and the first element that it did not submit.
    pub(crate) fn answered(&mut self, request: RequestId) -> Option<(Evaluation, u32)> {
        self.under_way.remove(&request)
    }

    /// Submits the elements from `first` on, two at a time.
    pub(crate) fn go_on(
        &mut self,
        evaluation: Evaluation,
        first: u32,
        request: RequestId,
        store: &Store,
    ) -> Next {
        let job = evaluation.job;
        let elements = elements_of(job);
        if first == elements {
            return Next::Answer(EvaluationResult::Expanded { elements });
        }
        let end = elements.min(first + 2);
        let list = &self.lists[&job];
        let jobs: Vec<NewJob> = (first..end)
            .map(|index| NewJob {
                head: JobHead { id: element(job, index), ..list.clone().head },
                evaluate: false,
                depends_on: Vec::new(),
                digest: digest(job, index),
                policy: policy(element(job, index)),
                begins: begins(element(job, index)),
                ..list.clone()
            })
            .collect();
        let flow = store.specs[&job].flow;
        let preconditions = store.preconditions(jobs.iter().map(|job| job.head.id), Some(flow));
        self.under_way.insert(request, (evaluation, end));
        Next::Submit(Box::new(Command::Submit(Submit {
            request,
            flow,
            new_flow: NewFlow { name: "flow".into(), ..NewFlow::default() },
            part: None,
            elements: Some(Elements { of: job, number: evaluation.number, first }),
            jobs,
            preconditions,
        })))
    }
}

pub(crate) fn digest(list: JobId, index: u32) -> ContentDigest {
    let bytes: [u8; 8] = list.as_bytes()[..8].try_into().unwrap();
    ContentDigest(u64::from_be_bytes(bytes) ^ u64::from(index))
}

pub(crate) fn answer(evaluation: Evaluation, result: EvaluationResult) -> Command {
    let Evaluation { job, number, .. } = evaluation;
    Command::Evaluated { evaluated: vec![Evaluated { job, number, result }] }
}
