//! Reads what an elf reports of attempts.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{Command, Outcome, OutcomeResult};
use mycelium_core::ids::{Attachment, SessionId};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, outcome};
use prost::Message as _;

use super::declare::token;
use super::status::Error;
use crate::broker::{Body, FailureBody};
use crate::values::check_payload;

/// Turns a report into a command. Outputs that are malformed make their attempt fail; a token that names no job makes
/// the whole message worthless.
pub(crate) fn outcomes(session: SessionId, reported: v1::Outcomes) -> Result<(Command, Vec<Body>), Error> {
    let mut outcomes = Vec::with_capacity(reported.outcomes.len());
    let mut bodies = Vec::with_capacity(reported.outcomes.len());
    for (index, reported) in reported.outcomes.into_iter().enumerate() {
        let token =
            reported.token.as_ref().and_then(token).ok_or_else(|| {
                Error::field(format!("outcomes[{index}].token"), "must name a job of 16 bytes")
            })?;
        // A message holds far fewer outcomes than 2^32.
        let attachment = Attachment(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
        let result = match reported.result {
            Some(outcome::Result::Outputs(outputs)) => match check_outputs(&outputs) {
                Ok(()) => {
                    let encoded = Bytes::from(outputs.encode_to_vec());
                    bodies.push(Body::Outputs { outputs: Arc::new(outputs), encoded });
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
    Ok((Command::Outcomes { session, outcomes }, bodies))
}

fn check_outputs(outputs: &v1::Outputs) -> Result<(), String> {
    if outputs.outputs.len() > limits::OUTPUTS_MAX {
        return Err(format!(
            "{} outputs were reported, and the most is {}",
            outputs.outputs.len(),
            limits::OUTPUTS_MAX
        ));
    }
    let mut bytes = 0;
    for output in &outputs.outputs {
        let payload =
            output.payload.as_ref().ok_or_else(|| format!("output `{}` has no value", output.name))?;
        bytes += check_payload(&output.name, payload)
            .map_err(|error| format!("output `{}`: {error}", output.name))?;
    }
    if bytes > limits::JOB_BYTES_MAX {
        return Err(format!("the outputs come to {bytes} bytes, and the most is {}", limits::JOB_BYTES_MAX));
    }
    Ok(())
}
