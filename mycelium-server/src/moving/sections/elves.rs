//! Elves, by name, and all revisions of them and of their tasks.

use mycelium_core::ids::Revision;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source};
use super::super::text::{Base64, Hex, Moment};
use super::{Error, LARGE_PAGE, Section};
use crate::store::{Batch, ElfRecord, RevisionCursor, RevisionRecord};

#[derive(Default)]
pub(super) struct Elves;

#[derive(Serialize, Deserialize)]
struct ElfLine {
    elf: String,
    first_seen: Moment,
    last_seen: Moment,
    body: Base64,
}

impl Section for Elves {
    const NAME: &'static str = "elves";
    /// The name of the last.
    type Place = Option<String>;

    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut Option<String>,
        out: &mut Out<'_>,
    ) -> Result<bool, Error> {
        let page = source.store.list_elves(place.as_deref(), LARGE_PAGE).wait()?;
        let is_read = page.is_empty();
        for ElfRecord { name, body, first_seen, last_seen } in page {
            *place = Some(name.to_string());
            let (elf, body) = (name.to_string(), Base64(body));
            out.line(&ElfLine { elf, first_seen: first_seen.into(), last_seen: last_seen.into(), body })?;
        }
        Ok(!is_read)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let ElfLine { elf, first_seen, last_seen, body: Base64(body) } = line::read(line)?;
        let (first_seen, last_seen) = (first_seen.into(), last_seen.into());
        batch.elves.push(ElfRecord { name: elf.into(), body, first_seen, last_seen });
        Ok(())
    }
}

/// A broker stores revisions with the elf that declares them, so that each is found by the name of an elf.
#[derive(Default)]
pub(super) struct Revisions;

#[derive(Serialize, Deserialize)]
struct RevisionLine {
    elf: String,
    /// Empty for the elf as a whole.
    task: String,
    revision: Hex<32>,
    first_seen: Moment,
    body: Base64,
}

/// An elf, and how far its revisions have been read.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct RevisionPlace {
    elf: Option<String>,
    /// If there may be more of that elf.
    after: Option<Base64>,
}

impl Section for Revisions {
    const NAME: &'static str = "revisions";
    type Place = RevisionPlace;

    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut RevisionPlace,
        out: &mut Out<'_>,
    ) -> Result<bool, Error> {
        if place.after.is_none() {
            let mut next = source.store.list_elves(place.elf.as_deref(), 1).wait()?;
            let Some(elf) = next.pop() else { return Ok(false) };
            place.elf = Some(elf.name.to_string());
        }
        let elf = place.elf.as_deref().unwrap_or_default();
        let after = place.after.take().map(|Base64(place)| RevisionCursor(place.to_vec()));
        let page = source.store.list_revisions(elf, after.as_ref(), LARGE_PAGE).wait()?;
        for (RevisionCursor(at), kept) in page {
            place.after = Some(Base64(at.into()));
            let RevisionRecord { elf, task, revision, first_seen, body } = kept;
            out.line(&RevisionLine {
                elf: elf.to_string(),
                task: task.to_string(),
                revision: Hex(*revision.as_bytes()),
                first_seen: first_seen.into(),
                body: Base64(body),
            })?;
        }
        Ok(true)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let RevisionLine { elf, task, revision: Hex(revision), first_seen, body: Base64(body) } =
            line::read(line)?;
        let (revision, first_seen) = (Revision::new(revision), first_seen.into());
        batch.revisions.push(RevisionRecord {
            elf: elf.into(),
            task: task.into(),
            revision,
            first_seen,
            body,
        });
        Ok(())
    }
}
