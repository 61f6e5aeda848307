//! What jobs need which blobs.

use mycelium_core::ids::JobId;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source};
use super::super::text::Text;
use super::{Error, PAGE, Section};
use crate::store::{Batch, BlobDigest, BlobRole, BlobUse};

#[derive(Default)]
pub(super) struct Uses;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Line {
    blob: Text<BlobDigest>,
    job: Text<JobId>,
    role: Role,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Role {
    Kept,
    Argument,
}

impl Section for Uses {
    const NAME: &'static str = "blob_uses";
    /// The last.
    type Place = Option<Line>;

    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut Option<Line>,
        out: &mut Out<'_>,
    ) -> Result<bool, Error> {
        let page = source.store.list_blob_uses(place.map(BlobUse::from), PAGE as usize).wait()?;
        let is_read = page.is_empty();
        for used in page {
            let line = Line::from(used);
            *place = Some(line);
            out.line(&line)?;
        }
        Ok(!is_read)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        batch.blob_uses_begun.push(line::read::<Line>(line)?.into());
        Ok(())
    }
}

impl From<BlobUse> for Line {
    fn from(BlobUse { blob, job, role }: BlobUse) -> Self {
        let role = match role {
            BlobRole::Kept => Role::Kept,
            BlobRole::Argument => Role::Argument,
        };
        Self { blob: Text(blob), job: Text(job), role }
    }
}

impl From<Line> for BlobUse {
    fn from(Line { blob: Text(blob), job: Text(job), role }: Line) -> Self {
        let role = match role {
            Role::Kept => BlobRole::Kept,
            Role::Argument => BlobRole::Argument,
        };
        Self { blob, job, role }
    }
}
