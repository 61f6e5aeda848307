//! Computes what decides how jobs go on: conditions, the lists that they are run over, and the lists of what the jobs for
//! their elements returned.
//!
//! The core hands out a bounded number of evaluations, once it is durable that they are due, and is answered each of
//! them. Nothing is lost with an answer: after a restart, and after a commit that failed, the core asks anew.

mod expand;
mod gather;
mod inputs;

use std::future::Future;
use std::time::Duration;

use mycelium_core::command::{Evaluated, EvaluationResult};
use mycelium_core::effects::{Evaluation, EvaluationWhat};
use mycelium_core::ids::{Attachment, FlowId, JobId};
use prost::Message as _;
use tokio::sync::mpsc;
use tracing::Span;

use super::failed::Failed;
use super::operands::{OUTPUTS_BYTES_MAX, Operands, ReadOutputs};
use super::quick::{QUICK_OUTPUTS_BYTES, QuickOperands};
use crate::blobs::Blobs;
use crate::broker::{Body, CallError, FailureBody, Handle, Party};
use crate::defect;
use crate::fair::Turns;
use crate::report::Report;
use crate::values::{Decision, decide};
use expand::Expansion;
use gather::Gathered;
use inputs::{Inputs, Subject, TooMuch, inputs, subjects};

/// How many evaluations are done in one piece.
const CHUNK: usize = 16;
/// How many lists are in memory at once, to be expanded.
const LISTS_MAX: usize = 4;
/// How long to wait before an evaluation that cannot be done now is asked for again.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// An answer to the core.
enum Answer {
    Run,
    Skip,
    /// It cannot be computed.
    Failed(FailureBody),
    Expanded {
        elements: u32,
    },
    Gathered(Box<Gathered>),
    Again,
}

impl Answer {
    /// It cannot be computed; `reason` is for people.
    fn underivable(reason: String) -> Self {
        Self::Failed(FailureBody::value_derivation(reason))
    }

    /// It could not be computed.
    fn of_failed(job: JobId, failed: Failed) -> Self {
        match failed {
            Failed::Permanent(failure) => Self::Failed(failure),
            Failed::Transient(error) => {
                tracing::error!(%job, error = %Report(&error), "cannot read what to evaluate");
                Self::Again
            }
        }
    }
}

/// What has come of an evaluation.
enum Step {
    Answer(Answer),
    /// There is a list, which is computed when there is room for it.
    List,
    /// It takes longer, and is computed when it is the flow's turn.
    Slow,
    /// Jobs have to be submitted first.
    Expand(Box<Expansion>),
    /// The outputs of jobs have to be read first.
    Gather {
        elements: u32,
    },
}

/// How much one evaluation may take.
enum Try {
    /// A first try, beside others.
    Quick,
    /// All that the limits of the contract allow.
    Full { blobs: Blobs, runtime: tokio::runtime::Handle },
}

/// Runs until the owner of the core is gone. Each piece is a task of its own; how many there are at once is bounded by
/// what the core hands out.
pub(crate) async fn run(handle: Handle, mut evaluations: mpsc::Receiver<Evaluation>) {
    let lists = Turns::new(LISTS_MAX);
    let mut taken = Vec::with_capacity(CHUNK);
    while evaluations.recv_many(&mut taken, CHUNK).await > 0 {
        let answers = answer_all(handle.clone(), lists.clone(), std::mem::take(&mut taken));
        handle.tasks().spawn("evaluations", answers);
    }
}

/// Answers the core each of these, whatever happens: without an answer a job would wait for ever.
async fn answer_all(handle: Handle, lists: Turns<FlowId>, evaluations: Vec<Evaluation>) {
    let work = evaluate(handle.clone(), lists, evaluations.clone());
    if let Err(defect) = defect::catch_async("evaluations", work).await {
        let failed = |evaluation| (evaluation, Answer::underivable(defect.to_string()));
        // Of those that are answered already, or will be, the first answer counts.
        send(&handle, evaluations.into_iter().map(failed).collect()).await;
    }
}

async fn evaluate(handle: Handle, lists: Turns<FlowId>, evaluations: Vec<Evaluation>) {
    let decided = defect::catch_async("evaluations", steps(&handle, &evaluations)).await;
    let steps = match decided.unwrap_or_else(|defect| Err(defect.into())) {
        Ok(steps) => steps,
        // Each alone, so that only those fail of which it comes again.
        Err(CallError::Defect(_)) => evaluations.iter().map(|evaluation| alone(*evaluation)).collect(),
        Err(error) => {
            tracing::error!(error = %Report(&error), "cannot read what to evaluate");
            evaluations.iter().map(|_| Step::Answer(Answer::Again)).collect()
        }
    };
    let mut answers = Vec::with_capacity(steps.len());
    for (evaluation, step) in evaluations.into_iter().zip(steps) {
        let (handle, to) = (handle.clone(), handle.clone());
        match step {
            Step::Answer(answer) => answers.push((evaluation, answer)),
            Step::List | Step::Expand(_) => {
                let lists = lists.clone();
                let work = async move {
                    let _room = lists.turn(evaluation.flow, 1).await;
                    decide_alone(&handle, evaluation).await
                };
                answer_with(to, evaluation, work);
            }
            Step::Slow => {
                let work = async move { decide_alone(&handle, evaluation).await };
                answer_with(to, evaluation, work);
            }
            Step::Gather { elements } => {
                let work = async move { gather::gather(&handle, evaluation.job, elements).await };
                answer_with(to, evaluation, work);
            }
        }
    }
    send(&handle, answers).await;
}

/// What is not done together with others.
fn alone(evaluation: Evaluation) -> Step {
    match evaluation.what {
        EvaluationWhat::Gather { elements } => Step::Gather { elements },
        EvaluationWhat::Decide => Step::List,
    }
}

/// Answers the core with what `work` comes to. If it panics, the evaluation fails: without an answer its job would wait
/// for ever.
fn answer_with(handle: Handle, evaluation: Evaluation, work: impl Future<Output = Answer> + Send + 'static) {
    let tasks = handle.tasks().clone();
    tasks.spawn("an evaluation", async move {
        let answer = defect::catch_async("an evaluation", work).await;
        let answer = answer.unwrap_or_else(|defect| Answer::underivable(defect.to_string()));
        send(&handle, vec![(evaluation, answer)]).await;
    });
}

/// Computes what takes longer when it is the flow's turn, and if it is a list submits the jobs for its elements.
async fn decide_alone(handle: &Handle, evaluation: Evaluation) -> Answer {
    match decide_fully(handle, evaluation).await {
        Ok(Step::Answer(answer)) => answer,
        Ok(Step::Expand(expansion)) => expansion.submit(handle, evaluation).await,
        // What was decided is decided, and nothing is gathered before.
        Ok(Step::List | Step::Slow | Step::Gather { .. }) => Answer::Again,
        Err(failed) => Answer::of_failed(evaluation.job, failed),
    }
}

/// Answers the core. What is to be tried again is answered after a pause, and the rest does not wait for that.
async fn send(handle: &Handle, answers: Vec<(Evaluation, Answer)>) {
    let (again, answers): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(_, answer)| matches!(answer, Answer::Again));
    for (answers, pause) in [(answers, Duration::ZERO), (again, AGAIN_PAUSE)] {
        if answers.is_empty() {
            continue;
        }
        tokio::time::sleep(pause).await;
        let mut evaluated = Vec::with_capacity(answers.len());
        let mut bodies = Vec::new();
        for (Evaluation { job, number, .. }, answer) in answers {
            // A piece has far fewer bodies than 2^32.
            let attachment = Attachment(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
            let result = match answer {
                Answer::Run => EvaluationResult::Run,
                Answer::Skip => EvaluationResult::Skip,
                Answer::Expanded { elements } => EvaluationResult::Expanded { elements },
                Answer::Again => EvaluationResult::Again,
                Answer::Failed(failure) => {
                    bodies.push(Body::Failure(failure));
                    EvaluationResult::Failed(attachment)
                }
                Answer::Gathered(gathered) => {
                    let Gathered { outputs, blob } = *gathered;
                    let encoded = outputs.encode_to_vec().into();
                    let blobs = blob.into_iter().map(|blob| blob.digest).collect();
                    bodies.push(Body::Outputs { encoded, blobs });
                    EvaluationResult::Gathered(attachment)
                }
            };
            evaluated.push(Evaluated { job, number, result });
        }
        if handle.evaluated(evaluated, bodies).await.is_err() {
            // The broker stops: the next one asks anew.
            return;
        }
    }
}

/// Does what can be done without the core. What the evaluations are computed from is read for all of them together.
async fn steps(handle: &Handle, evaluations: &[Evaluation]) -> Result<Vec<Step>, CallError> {
    // Until it is known better.
    let mut steps: Vec<Step> = evaluations.iter().map(|evaluation| alone(*evaluation)).collect();
    let decided = |(_, evaluation): &(usize, &Evaluation)| evaluation.what == EvaluationWhat::Decide;
    let (places, jobs): (Vec<usize>, Vec<JobId>) = evaluations
        .iter()
        .enumerate()
        .filter(decided)
        .map(|(place, evaluation)| (place, evaluation.job))
        .unzip();
    let mut open = Vec::with_capacity(places.len());
    for (place, subject) in places.into_iter().zip(subjects(handle, &jobs).await?) {
        match subject {
            Ok(subject) if subject.spec.for_each.is_some() => steps[place] = Step::List,
            Ok(subject) => open.push((place, subject)),
            Err(failure) => steps[place] = Step::Answer(Answer::Failed(failure)),
        }
    }
    let mut parts = vec![open];
    while let Some(part) = parts.pop() {
        match inputs(handle, part, QUICK_OUTPUTS_BYTES).await? {
            Ok(Inputs { subjects, outputs }) => {
                let decide = move || {
                    let decide = |(place, subject)| Ok((place, decide_job(subject, &outputs, &Try::Quick)?));
                    subjects.into_iter().map(decide).collect::<Result<Vec<_>, CallError>>()
                };
                for (place, step) in handle.aside(decide).await? {
                    steps[place] = step;
                }
            }
            Err(TooMuch { mut subjects, .. }) => match &subjects[..] {
                [(place, _)] => steps[*place] = Step::Slow,
                several => {
                    let rest = subjects.split_off(several.len() / 2);
                    parts.extend([rest, subjects]);
                }
            },
        }
    }
    Ok(steps)
}

async fn decide_fully(handle: &Handle, evaluation: Evaluation) -> Result<Step, Failed> {
    let turn = handle.turn(Party::Flow(evaluation.flow)).await;
    let subject = match subjects(handle, &[evaluation.job]).await?.pop() {
        Some(subject) => subject.map_err(Failed::Permanent)?,
        None => return Ok(Step::Answer(Answer::Again)),
    };
    let Inputs { subjects, outputs } = match inputs(handle, vec![((), subject)], OUTPUTS_BYTES_MAX).await? {
        Ok(inputs) => inputs,
        Err(TooMuch { failure, .. }) => return Err(Failed::Permanent(failure)),
    };
    let how = Try::Full { blobs: handle.blobs().clone(), runtime: tokio::runtime::Handle::current() };
    let decide = move || subjects.into_iter().map(|((), subject)| decide_job(subject, &outputs, &how)).next();
    let decided = handle.evaluate(turn, decide).await?;
    Ok(decided.transpose()?.unwrap_or(Step::Answer(Answer::Again)))
}

/// Decides how a job goes on. Blocks if it may take its time.
///
/// # Errors
/// What another try may mend.
fn decide_job(subject: Subject, outputs: &ReadOutputs, how: &Try) -> Result<Step, CallError> {
    // A defect must not keep the jobs beside it, and this one for ever, from going on.
    let decided = defect::catch("a condition or list", || decide_or_fail(subject, outputs, how));
    match decided.unwrap_or_else(|defect| Err(Failed::underivable(defect.to_string()))) {
        Ok(step) => Ok(step),
        Err(Failed::Permanent(failure)) => Ok(Step::Answer(Answer::Failed(failure))),
        Err(Failed::Transient(error)) => Err(error),
    }
}

fn decide_or_fail(subject: Subject, outputs: &ReadOutputs, how: &Try) -> Result<Step, Failed> {
    let Subject { job, record, spec, named, skipped, origin } = subject;
    let _deciding = origin.map_or_else(Span::none, |origin| origin.evaluation(job)).entered();
    let decision = match how {
        Try::Quick => {
            let operands = QuickOperands::default();
            let decision = decide(&spec, &outputs.outputs, &skipped, &operands);
            if operands.takes_more() {
                return Ok(Step::Slow);
            }
            decision
        }
        Try::Full { blobs, runtime } => {
            let operands = Operands::new(blobs, runtime.clone());
            let decision = decide(&spec, &outputs.outputs, &skipped, &operands);
            if let Some(unavailable) = operands.unavailable() {
                return Err(unavailable.into());
            }
            decision
        }
    };
    Ok(match decision {
        Decision::Run => Step::Answer(Answer::Run),
        Decision::Skip => Step::Answer(Answer::Skip),
        Decision::Fail(problem) => Step::Answer(match outputs.damage_of(&named) {
            Some(failure) => Answer::Failed(failure),
            None => Answer::Failed(FailureBody::value_derivation(problem).in_task(
                &spec.elf,
                &spec.task,
                Some(if spec.for_each.is_some() { "list" } else { "condition" }),
            )),
        }),
        Decision::Expand(elements) => match Expansion::new(job, &record, spec, elements) {
            Ok(expansion) => Step::Expand(Box::new(expansion)),
            Err(error) => Step::Answer(Answer::underivable(error.to_string())),
        },
    })
}

#[cfg(test)]
mod tests;
