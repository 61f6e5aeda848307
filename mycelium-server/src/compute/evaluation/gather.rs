//! Assembles what the jobs for the elements of a list returned.

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1;
use mycelium_values::Failure;

use super::super::failed::Failed;
use super::super::operands::{OUTPUTS_BYTES_MAX, OUTPUTS_CHUNK, ReadOutputs, read_outputs};
use super::super::payloads::PayloadWriter;
use super::Answer;
use crate::blobs::{Blob, Piece};
use crate::broker::Handle;
use crate::values::{element_id, splice_whole};

/// The list of what was returned, as the output of the job that has the list.
pub(super) struct Gathered {
    pub(super) outputs: v1::Outputs,
    /// The blob that was made for it.
    pub(super) blob: Option<Blob>,
}

/// All of them have ended, done or skipped.
pub(super) async fn gather(handle: &Handle, list: JobId, elements: u32) -> Answer {
    match assemble(handle, list, elements).await {
        Ok(gathered) => Answer::Gathered(Box::new(gathered)),
        Err(failed) => Answer::of_failed(list, failed),
    }
}

async fn assemble(handle: &Handle, list: JobId, elements: u32) -> Result<Gathered, Failed> {
    let text = |text: &'static str| Piece::Bytes(Bytes::from_static(text.as_bytes()));
    let mut writer = PayloadWriter::new(handle.blobs().clone());
    writer.write(text("[")).await?;
    let mut first = 0;
    while first < elements {
        let end = elements.min(first + OUTPUTS_CHUNK as u32);
        let jobs: Vec<JobId> = (first..end).map(|index| element_id(list, index)).collect();
        let outputs =
            read_outputs(&**handle.store(), jobs.iter().copied().collect(), OUTPUTS_BYTES_MAX).await?;
        let wholes = handle.work_on(outputs.bytes, move || Ok(wholes(&jobs, &outputs))).await??;
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
    Ok(Gathered { outputs: v1::Outputs { outputs: vec![output] }, blob })
}

/// What jobs returned, in pieces; or why it cannot be part of a list.
fn wholes(jobs: &[JobId], outputs: &ReadOutputs) -> Result<Vec<Vec<Piece>>, Failed> {
    if let Some(failure) = outputs.damage_of(jobs) {
        return Err(Failed::Permanent(failure));
    }
    let wholes: Result<_, _> = jobs.iter().map(|job| splice_whole(*job, &outputs.outputs)).collect();
    wholes.map_err(|failure: Failure| {
        Failed::underivable(format!("what the jobs for the elements returned: {failure}"))
    })
}
