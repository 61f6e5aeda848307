//! Puts together what the jobs for the elements of a list returned.

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;

use super::super::operands::{OUTPUTS_BYTES_MAX, read_outputs};
use super::super::payloads::PayloadWriter;
use super::Answer;
use crate::blobs::{Blob, BlobError, Piece};
use crate::broker::{CallError, Handle, Report};
use crate::store::Reads;
use crate::values::{element_id, splice_whole};

/// How many jobs' outputs are read at once. They come to 1 MiB each at the most.
const CHUNK: usize = 16;

/// The list of what was returned, as the output of the job that has the list.
pub(super) struct Gathered {
    pub(super) outputs: v1::Outputs,
    /// The blob that was made for it.
    pub(super) blob: Option<Blob>,
}

/// All of them have ended, done or skipped.
pub(super) async fn gather(handle: &Handle, list: JobId, elements: u32) -> Answer {
    match put_together(handle, list, elements).await {
        Ok(Ok(gathered)) => Answer::Gathered(Box::new(gathered)),
        Ok(Err(answer)) => answer,
        Err(CallError::Blob(error)) if error.is_damage() => Answer::damaged(error.to_string()),
        Err(CallError::Defect(defect) | CallError::Blob(BlobError::Defect(defect))) => {
            Answer::underivable(defect.to_string())
        }
        Err(error) => {
            tracing::error!(job = %list, error = %Report(&error), "cannot read what a list returned");
            Answer::Again
        }
    }
}

async fn put_together(
    handle: &Handle,
    list: JobId,
    elements: u32,
) -> Result<Result<Gathered, Answer>, CallError> {
    let text = |text: &'static str| Piece::Bytes(Bytes::from_static(text.as_bytes()));
    let mut writer = PayloadWriter::new(handle.blobs().clone());
    writer.write(text("[")).await?;
    let mut first = 0;
    while first < elements {
        let end = elements.min(first + CHUNK as u32);
        let jobs: Vec<JobId> = (first..end).map(|index| element_id(list, index)).collect();
        let wholes = match handle.read(move |store| read_wholes(store, &jobs)).await? {
            Ok(wholes) => wholes,
            Err(answer) => return Ok(Err(answer)),
        };
        for whole in wholes {
            if first > 0 {
                writer.write(text(",")).await?;
            }
            first += 1;
            for piece in whole {
                writer.write(piece).await?;
            }
        }
    }
    writer.write(text("]")).await?;
    let (payload, blob) = writer.finish().await?;
    let output = v1::NamedOutput { name: "value".to_owned(), payload: Some(payload) };
    Ok(Ok(Gathered { outputs: v1::Outputs { outputs: vec![output] }, blob }))
}

/// What jobs returned, in pieces; or why it cannot be part of a list.
fn read_wholes(store: &dyn Reads, jobs: &[JobId]) -> Result<Result<Vec<Vec<Piece>>, Answer>, CallError> {
    let of_elements = |problem| format!("what the jobs for the elements returned: {problem}");
    let outputs = match read_outputs(store, jobs.iter().copied().collect(), OUTPUTS_BYTES_MAX)? {
        Ok(outputs) => outputs,
        Err(problem) => return Ok(Err(Answer::underivable(of_elements(problem)))),
    };
    if let Some(damage) = outputs.damage_of(jobs) {
        return Ok(Err(Answer::damaged(damage)));
    }
    let wholes: Result<_, String> = jobs.iter().map(|job| splice_whole(*job, &outputs.outputs)).collect();
    Ok(wholes.map_err(|problem| Answer::underivable(of_elements(problem))))
}
