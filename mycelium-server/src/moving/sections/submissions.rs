//! Submissions in several parts, sealed or open, by id: whoever repeats a part of one that is sealed is to find it so.

use mycelium_core::ids::{FlowId, SubmissionId};
use mycelium_core::image::SubmissionRecord;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source};
use super::super::text::Text;
use super::{Error, PAGE, Section};
use crate::store::Batch;

#[derive(Default)]
pub(super) struct Submissions;

#[derive(Serialize, Deserialize)]
struct Line {
    submission: Text<SubmissionId>,
    flow: Text<FlowId>,
    next_part: u32,
    sealed: bool,
}

impl Section for Submissions {
    const NAME: &'static str = "submissions";
    /// The last.
    type Place = Option<Text<SubmissionId>>;

    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut Self::Place,
        out: &mut Out<'_>,
    ) -> Result<bool, Error> {
        let after = place.map(|Text(id)| id);
        let page = source.store.list_submissions(after, PAGE as usize).wait()?;
        let is_read = page.is_empty();
        for SubmissionRecord { id, flow, next_part, sealed } in page {
            *place = Some(Text(id));
            out.line(&Line { submission: Text(id), flow: Text(flow), next_part, sealed })?;
        }
        Ok(!is_read)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let Line { submission: Text(id), flow: Text(flow), next_part, sealed } = line::read(line)?;
        batch.records.submissions.push(SubmissionRecord { id, flow, next_part, sealed });
        Ok(())
    }
}
