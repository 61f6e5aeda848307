//! Puts together what the jobs for the elements of a list returned.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use mycelium_core::ids::JobId;
use mycelium_proto::limits;

use super::Answer;
use crate::broker::{CallError, Handle, Report};
use crate::grpc::dispatch::read_outputs;
use crate::store::Store;
use crate::values::{element_id, gathered, whole_outputs};

/// How many jobs' outputs are read at once.
const CHUNK: usize = 64;

/// All of them have ended, done or skipped.
pub(super) async fn gather(handle: &Handle, list: JobId, elements: u32) -> Answer {
    let store = Arc::clone(handle.store());
    let put_together = handle.evaluate(move || put_together(&*store, list, elements)).await;
    match put_together.and_then(|list| list) {
        Ok(Ok(list)) => match gathered(list) {
            Ok(outputs) => Answer::Gathered(Box::new(outputs)),
            Err(problem) => Answer::Failed(problem),
        },
        Ok(Err(problem)) => Answer::Failed(problem),
        Err(error) => {
            tracing::error!(job = %list, error = %Report(&error), "cannot read what a list returned");
            Answer::Again
        }
    }
}

/// The list, as JSON text. Blocks.
fn put_together(store: &dyn Store, list: JobId, elements: u32) -> Result<Result<Bytes, String>, CallError> {
    let jobs: Vec<JobId> = (0..elements).map(|index| element_id(list, index)).collect();
    let mut gathered = BytesMut::new();
    gathered.put_u8(b'[');
    for chunk in jobs.chunks(CHUNK) {
        let outputs = read_outputs(store, chunk.iter().copied().collect())?;
        let wholes = match whole_outputs(chunk, &outputs) {
            Ok(wholes) => wholes,
            Err(problem) => return Ok(Err(format!("what the jobs for the elements returned: {problem}"))),
        };
        for whole in wholes {
            if gathered.len() > 1 {
                gathered.put_u8(b',');
            }
            gathered.extend_from_slice(&whole);
        }
        // What is too large is not put together to its end.
        if gathered.len() > limits::PAYLOAD_BYTES_MAX {
            break;
        }
    }
    gathered.put_u8(b']');
    Ok(Ok(gathered.freeze()))
}
