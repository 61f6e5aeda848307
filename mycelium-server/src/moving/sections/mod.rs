//! The parts of an export: a file of lines for each kind of record.
//!
//! A section reads its records from a store, page by page, in an order that is the same for every store that holds them;
//! so the lines of two stores that hold the same are the same, byte for byte. And it turns a line into a change of a store
//! again.

mod blobs;
mod checkpoints;
mod elves;
mod failures;
mod flows;
mod jobs;
mod sessions;
mod submissions;
mod uses;

use mycelium_core::ids::JobId;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) use self::blobs::Blobs;
use super::Error;
use super::line::Malformed;
use super::source::{Out, Source};
use crate::store::Batch;

/// How many records of a kind of which there are many are read at once.
const PAGE: u64 = if cfg!(test) { 7 } else { 1_000 };
/// How many are read at once of those that can have megabytes each.
const LARGE_PAGE: usize = if cfg!(test) { 2 } else { 8 };

/// A part of an export.
pub(super) trait Section: Default {
    /// The name of its file, without its ending. Part of the format.
    const NAME: &'static str;
    /// Whether its lines change the store. Part of the format: an import that goes on counts commits.
    const IS_STORED: bool = true;
    /// Whether exports that an earlier version has made have no such file.
    const IS_NEW: bool = false;
    /// How far it has been read.
    type Place: Serialize + DeserializeOwned + Default + Clone;

    /// Reads on from `place`, and moves it on; `false` after the last page.
    fn read(
        &mut self,
        source: &Source<'_>,
        place: &mut Self::Place,
        out: &mut Out<'_>,
    ) -> Result<bool, Error>;

    /// Adds what a line says to a batch, and sees to it that its counters are not below the numbers in it.
    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed>;
}

/// Does something with each section.
pub(super) trait Visitor {
    /// With this one.
    fn visit<S: Section>(&mut self) -> Result<(), Error>;
}

/// Goes through all sections, in the order in which they are imported. Part of the format.
///
/// No record needs another to be there before it, but for numbers that rise: flows, occurrences and finished jobs are in
/// their order.
pub(super) fn visit(visitor: &mut impl Visitor) -> Result<(), Error> {
    visitor.visit::<flows::Flows>()?;
    visitor.visit::<elves::Elves>()?;
    visitor.visit::<elves::Revisions>()?;
    visitor.visit::<failures::Failures>()?;
    visitor.visit::<submissions::Submissions>()?;
    visitor.visit::<jobs::Finished>()?;
    visitor.visit::<jobs::Unfinished>()?;
    visitor.visit::<uses::Uses>()?;
    visitor.visit::<checkpoints::Checkpoints>()?;
    visitor.visit::<sessions::Sessions>()?;
    visitor.visit::<Blobs>()
}

/// Something that a record leads to is missing.
fn missing(what: String) -> Error {
    Error::Store(crate::store::Error::Damaged { what })
}

fn missing_of(job: JobId, what: &str) -> Error {
    missing(format!("the {what} of job {job} cannot be found"))
}
