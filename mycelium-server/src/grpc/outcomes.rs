//! Reads what an elf reports of attempts.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{Outcome, OutcomeResult};
use mycelium_core::ids::Attachment;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, outcome};
use prost::Message as _;

use super::declare::token;
use super::status::Error;
use crate::blobs::{Blob, BlobError};
use crate::broker::{Body, FailureBody, Handle};
use crate::values::{Checked, check_payload};

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

/// Turns a report into what the core takes, once its tokens are checked. Outputs that are malformed make their attempt fail.
///
/// So does an output that is a blob which is not there: see [`refuse_missing`].
pub(crate) fn outcomes(reported: v1::Outcomes) -> Result<Outcomes, Error> {
    let mut outcomes = Vec::with_capacity(reported.outcomes.len());
    let mut bodies = Vec::with_capacity(reported.outcomes.len());
    let mut blobs = Vec::new();
    for (index, reported) in reported.outcomes.into_iter().enumerate() {
        let token = reported.token.as_ref().and_then(token).ok_or_else(|| no_token(index))?;
        // A message holds far fewer outcomes than 2^32.
        let attachment = Attachment(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
        let result = match reported.result {
            Some(outcome::Result::Outputs(outputs)) => match check_outputs(&outputs) {
                Ok(named) => {
                    let encoded = Bytes::from(outputs.encode_to_vec());
                    let digests = named.iter().map(|blob| blob.digest).collect();
                    blobs.extend(named.into_iter().map(|blob| (index, blob)));
                    bodies.push(Body::Outputs { outputs: Arc::new(outputs), encoded, blobs: digests });
                    OutcomeResult::Outputs(attachment)
                }
                Err(message) => {
                    bodies.push(Body::Failure(FailureBody::result_type(message)));
                    OutcomeResult::Refused(attachment)
                }
            },
            Some(outcome::Result::Failure(failure)) => {
                bodies.push(Body::Failure(FailureBody::new(failure)));
                OutcomeResult::Failure(attachment)
            }
            Some(outcome::Result::Released(v1::Released {})) => OutcomeResult::Released,
            Some(outcome::Result::Cancelled(v1::Cancelled {})) => OutcomeResult::Cancelled,
            None => {
                let message = "the elf reported an outcome without a result".to_owned();
                bodies.push(Body::Failure(FailureBody::result_type(message)));
                OutcomeResult::Refused(attachment)
            }
        };
        outcomes.push(Outcome { token, result });
    }
    Ok(Outcomes { outcomes, bodies, blobs })
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
            *body = Body::Failure(FailureBody::result_type(message));
            outcome.result = OutcomeResult::Refused(attachment);
        }
    }
    Ok(())
}

/// Gives the blobs that the outputs name.
fn check_outputs(outputs: &v1::Outputs) -> Result<Vec<Blob>, String> {
    if outputs.outputs.len() > limits::OUTPUTS_MAX {
        return Err(format!(
            "{} outputs were reported, and the most is {}",
            outputs.outputs.len(),
            limits::OUTPUTS_MAX
        ));
    }
    let mut bytes = 0;
    let mut blobs = Vec::new();
    for output in &outputs.outputs {
        let payload =
            output.payload.as_ref().ok_or_else(|| format!("output `{}` has no value", output.name))?;
        let checked = check_payload(&output.name, payload);
        match checked.map_err(|error| format!("output `{}`: {error}", output.name))? {
            Checked::Inline(inline) => bytes += inline,
            Checked::Blob(blob) => blobs.push(blob),
        }
    }
    if bytes > limits::JOB_BYTES_MAX {
        return Err(format!(
            "the outputs come to {bytes} bytes inline, and the most is {}: send large ones as blobs",
            limits::JOB_BYTES_MAX
        ));
    }
    Ok(blobs)
}
