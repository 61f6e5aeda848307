//! What attempts have left for those that come after them, by job.

use mycelium_core::ids::{Attempt, JobId};
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source};
use super::super::text::{Base64, Moment, Text};
use super::{Error, LARGE_PAGE, Section, missing_of};
use crate::store::{Batch, CheckpointRecord};

#[derive(Default)]
pub(super) struct Checkpoints;

#[derive(Serialize, Deserialize)]
struct Line {
    job: Text<JobId>,
    attempt: u32,
    stored_at: Moment,
    payload: Base64,
}

impl Section for Checkpoints {
    const NAME: &'static str = "checkpoints";
    const IS_NEW: bool = true;
    /// The last.
    type Place = Option<Text<JobId>>;

    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut Self::Place,
        out: &mut Out<'_>,
    ) -> Result<bool, Error> {
        let jobs = source.store.list_checkpoints(place.map(|Text(job)| job), LARGE_PAGE).wait()?;
        let records = source.store.checkpoints(&jobs).wait()?;
        for (job, record) in jobs.iter().zip(records) {
            let record = record.ok_or_else(|| missing_of(*job, "checkpoint"))?;
            *place = Some(Text(*job));
            let CheckpointRecord { job, attempt: Attempt(attempt), at, body } = record;
            let line = Line { job: Text(job), attempt, stored_at: at.into(), payload: Base64(body) };
            out.line(&line)?;
        }
        Ok(!jobs.is_empty())
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let Line { job: Text(job), attempt, stored_at, payload: Base64(body) } = line::read(line)?;
        batch.checkpoints.push(CheckpointRecord {
            job,
            attempt: Attempt(attempt),
            at: stored_at.into(),
            body,
        });
        Ok(())
    }
}
