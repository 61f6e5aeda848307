//! Reads what an elf reports of attempts.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{Outcome, OutcomeResult};
use mycelium_core::ids::{Attachment, SessionId, Token};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, outcome, payload};
use mycelium_values::json::{self, is_json_encoding};
use mycelium_values::schema::Schema;
use prost::Message as _;

use super::declare::{how_long, token};
use crate::blobs::{Blob, BlobError};
use crate::broker::{BadOutput, Body, CallError, FailureBody, Handle, TaskSignature, in_order};
use crate::compute::Tasks;
use crate::defect;
use crate::error::Error;
use crate::values::{Located, locate_payload};

/// What an elf reported, as the core takes it.
pub(crate) struct Outcomes {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) bodies: Vec<Body>,
    /// The blobs that outputs name, each with the index of its outcome.
    blobs: Vec<(usize, Blob)>,
}

/// Makes sure that every outcome names an attempt: a token that names no job makes the whole message worthless.
pub(crate) fn check_tokens(reported: &v1::Outcomes) -> Result<(), Error> {
    match reported.outcomes.iter().position(|outcome| outcome.token.as_ref().and_then(token).is_none()) {
        None => Ok(()),
        Some(index) => Err(no_token(index)),
    }
}

fn no_token(index: usize) -> Error {
    Error::field(format!("outcomes[{index}].token"), "must name a job of 16 bytes")
}

/// Reports whose inline outputs come to more bytes are checked on a thread that may block.
const BYTES_HERE_MAX: usize = 256 * 1024;

/// Turns a report into what the core takes, once its tokens are checked. Outputs that are malformed, or not those that
/// their task declares, make their attempt fail.
///
/// So does an output that is a blob which is not there: see [`refuse_missing`].
pub(crate) async fn read_outcomes(
    handle: &Handle,
    session: SessionId,
    tasks: &Tasks,
    reported: v1::Outcomes,
) -> Result<Outcomes, Error> {
    let mut tokens = Vec::with_capacity(reported.outcomes.len());
    for (index, reported) in reported.outcomes.iter().enumerate() {
        tokens.push(reported.token.as_ref().and_then(token).ok_or_else(|| no_token(index))?);
    }
    for (reported, token) in reported.outcomes.iter().zip(&tokens) {
        let (outcome, is_failure) = match &reported.result {
            Some(outcome::Result::Outputs(_)) => ("returned", false),
            Some(outcome::Result::Failure(_)) | None => ("failed", true),
            Some(outcome::Result::Released(_)) => ("released", false),
            Some(outcome::Result::Cancelled(_)) => ("cancelled", false),
        };
        tasks.spans().came_to(*token, outcome, is_failure);
    }
    let tasks = tasks.take(handle, session, &tokens).await?;
    if inline_bytes(&reported) <= BYTES_HERE_MAX {
        return Ok(outcomes(reported, &tokens, &tasks));
    }
    let read = move || defect::catch("a report of outcomes", || outcomes(reported, &tokens, &tasks));
    let read = tokio::task::spawn_blocking(read).await.map_err(|_stopping| CallError::Stopping)?;
    Ok(read.map_err(CallError::from)?)
}

fn inline_bytes(reported: &v1::Outcomes) -> usize {
    let outputs = reported.outcomes.iter().flat_map(|outcome| match &outcome.result {
        Some(outcome::Result::Outputs(outputs)) => outputs.outputs.as_slice(),
        Some(_) | None => &[],
    });
    let payloads = outputs.filter_map(|output| output.payload.as_ref());
    payloads
        .map(|payload| match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes.len(),
            Some(payload::Content::Blob(_)) | None => 0,
        })
        .sum()
}

fn outcomes(reported: v1::Outcomes, tokens: &[Token], tasks: &[Option<Arc<TaskSignature>>]) -> Outcomes {
    let mut outcomes = Vec::with_capacity(tokens.len());
    let mut bodies = Vec::with_capacity(tokens.len());
    let mut blobs = Vec::new();
    for (index, ((reported, token), task)) in reported.outcomes.into_iter().zip(tokens).zip(tasks).enumerate()
    {
        // A message holds far fewer outcomes than 2^32.
        let attachment = Attachment(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
        let ran = how_long(reported.ran);
        let mut failed = None;
        let result = match reported.result {
            Some(outcome::Result::Outputs(outputs)) => match check_outputs(outputs, task.as_deref()) {
                Ok((outputs, named)) => {
                    let encoded = Bytes::from(outputs.encode_to_vec());
                    let digests = named.iter().map(|blob| blob.digest).collect();
                    blobs.extend(named.into_iter().map(|blob| (index, blob)));
                    bodies.push(Body::Outputs { encoded, blobs: digests });
                    OutcomeResult::Outputs(attachment)
                }
                Err(BadOutput { what, message }) => {
                    let body = result_type(message, task.as_deref(), &what);
                    failed = Some(body.failed.clone());
                    bodies.push(Body::Failure(body));
                    OutcomeResult::Refused(attachment)
                }
            },
            Some(outcome::Result::Failure(failure)) => {
                let body = FailureBody::new(failure);
                failed = Some(body.failed.clone());
                bodies.push(Body::Failure(body));
                OutcomeResult::Failure(attachment)
            }
            Some(outcome::Result::Released(v1::AttemptReleased {})) => OutcomeResult::Released,
            Some(outcome::Result::Cancelled(v1::AttemptCancelled {})) => OutcomeResult::Cancelled,
            None => {
                let message = "the elf reported an outcome without a result".to_owned();
                bodies.push(Body::Failure(result_type(message, task.as_deref(), "no result")));
                OutcomeResult::Refused(attachment)
            }
        };
        outcomes.push(Outcome { token: *token, result, failed, ran });
    }
    Outcomes { outcomes, bodies, blobs }
}

/// The failure of an attempt whose outputs cannot be taken.
fn result_type(message: String, task: Option<&TaskSignature>, what: &str) -> FailureBody {
    let failure = FailureBody::result_type(message);
    match task {
        Some(task) => failure.in_task(&task.elf, &task.task, Some(what)),
        // It is of an attempt that the session does not hold: nothing comes of it.
        None => failure,
    }
}

/// Sees to it that the blobs which outputs name are there and stay: an attempt whose outputs name others fails.
pub(crate) async fn refuse_missing(handle: &Handle, reported: &mut Outcomes) -> Result<(), BlobError> {
    for (index, blob) in std::mem::take(&mut reported.blobs) {
        let message = match handle.blobs().require(&[blob]).await {
            Ok(()) => continue,
            Err(error @ (BlobError::NotFound(_) | BlobError::Differs(_))) => {
                format!("an output is a blob that was not written before: {error}")
            }
            Err(error) => return Err(error),
        };
        let Some(outcome) = reported.outcomes.get_mut(index) else { continue };
        if let OutcomeResult::Outputs(attachment) = outcome.result
            && let Some(body) = reported.bodies.get_mut(attachment.0 as usize)
        {
            let failure = FailureBody::result_type(message);
            outcome.failed = Some(failure.failed.clone());
            *body = Body::Failure(failure);
            outcome.result = OutcomeResult::Refused(attachment);
        }
    }
    Ok(())
}

/// Puts outputs into the order in which `task` declares them, and holds each against its schema. Gives the blobs that
/// they name.
fn check_outputs(
    outputs: v1::Outputs,
    task: Option<&TaskSignature>,
) -> Result<(v1::Outputs, Vec<Blob>), BadOutput> {
    if outputs.outputs.len() > limits::OUTPUTS_MAX {
        let (len, max) = (outputs.outputs.len(), limits::OUTPUTS_MAX);
        let message = format!("{len} outputs were reported, and the most is {max}");
        return Err(BadOutput::new("too many", message));
    }
    if let Some(v1::NamedOutput { name, .. }) = outputs.outputs.iter().find(|output| output.payload.is_none())
    {
        return Err(BadOutput::new(format!("{name} empty"), format!("output `{name}` has no value")));
    }
    let outputs = match task {
        Some(task) => in_order(outputs.outputs, &task.outputs)?,
        None => outputs.outputs,
    };
    let mut bytes = 0;
    let mut blobs = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        let schema = task.and_then(|task| task.outputs.get(index)?.schema.as_ref());
        match check_output(output, schema)? {
            Located::Inline(inline) => bytes += inline.len(),
            Located::Blob(blob) => blobs.push(blob),
        }
    }
    if bytes > limits::JOB_BYTES_MAX {
        let max = limits::JOB_BYTES_MAX;
        let message = format!(
            "the outputs come to {bytes} bytes inline, and the most is {max}: send large ones as blobs"
        );
        return Err(BadOutput::new("too large", message));
    }
    Ok((v1::Outputs { outputs }, blobs))
}

/// Checks one output: its size, that it is JSON if it says so, and its type. What is a blob was judged by the runtime
/// that wrote it.
fn check_output<'a>(output: &'a v1::NamedOutput, schema: Option<&Schema>) -> Result<Located<'a>, BadOutput> {
    let name = output.name.as_str();
    let bad = |problem: &dyn std::fmt::Display| BadOutput::new(name, format!("output `{name}`: {problem}"));
    let empty = || BadOutput::new(name, format!("output `{name}` has no value"));
    let payload = output.payload.as_ref().ok_or_else(empty)?;
    let located = locate_payload(name, payload).map_err(|error| bad(&error))?;
    if let Located::Inline(bytes) = located
        && is_json_encoding(&payload.encoding)
    {
        match schema {
            Some(schema) => schema.judge(bytes).map_err(|misfit| bad(&misfit))?,
            None => drop(json::check(bytes).map_err(|error| bad(&error))?),
        }
    }
    Ok(located)
}
