//! What sections read from, and what they write to.

use std::path::{Path, PathBuf};

use mycelium_core::ids::{FinishNumber, FlowNumber, JobId, JobNumber};
use mycelium_core::image::Image;
use serde::Serialize;

use super::{Error, line};
use crate::store::{self, FinishedQuery, FlowQuery, Storage};

/// A store that is read from beginning to end, while nobody writes to it.
pub(super) struct Source<'a> {
    pub(super) store: &'a dyn Storage,
    /// What a start reads, but for the jobs.
    pub(super) image: Image,
    /// All unfinished jobs, in the order of their numbers: less of each than a broker keeps that runs it.
    pub(super) unfinished: Vec<(JobNumber, JobId)>,
    /// The newest that there is.
    pub(super) newest_flow: FlowNumber,
    pub(super) newest_finish: FinishNumber,
    /// Where blobs are, if the store has a place for them.
    pub(super) blobs: Option<PathBuf>,
    /// Where blobs are copied to when they are read.
    pub(super) copy_blobs_to: Option<&'a Path>,
}

impl<'a> Source<'a> {
    /// Makes this process the owner of the store, so that no broker writes to it.
    pub(super) fn open(store: &'a dyn Storage) -> Result<Self, Error> {
        let mut unfinished = Vec::new();
        let image = store.load(&mut |job| unfinished.push((job.head.number, job.head.id))).wait()?;
        unfinished.sort_unstable();
        let flows = store.list_flows(&FlowQuery { limit: 1, ..FlowQuery::default() }).wait()?;
        undamaged(flows.damaged)?;
        let finished = store.list_finished(&FinishedQuery { limit: 1, ..FinishedQuery::default() }).wait()?;
        undamaged(finished.damaged)?;
        Ok(Self {
            image,
            unfinished,
            newest_flow: flows.flows.first().map_or(FlowNumber(0), |flow| flow.number),
            newest_finish: finished.jobs.first().map_or(FinishNumber(0), |job| job.finish_number),
            blobs: store.blobs_folder(),
            copy_blobs_to: None,
            store,
        })
    }
}

/// A list that leaves out what is damaged is not what is to be moved.
pub(super) fn undamaged(damaged: Vec<String>) -> Result<(), Error> {
    match damaged.into_iter().next() {
        Some(what) => Err(store::Error::Damaged { what }.into()),
        None => Ok(()),
    }
}

/// A stretch of numbers. Lists run from the newest down and are needed from the oldest up; each number is given out once,
/// so a page as long as a stretch has all of it that there is.
pub(super) struct Window {
    after: u64,
    pub(super) last: u64,
}

impl Window {
    /// The `len` numbers after `after`, as far as there are any up to `newest`.
    pub(super) fn after(after: u64, newest: u64, len: u64) -> Option<Self> {
        (after < newest).then(|| Self { after, last: newest.min(after.saturating_add(len)) })
    }

    /// The first number.
    pub(super) fn first(&self) -> u64 {
        self.after + 1
    }

    /// Where a list begins with the last number: after this one.
    pub(super) fn begin(&self) -> u64 {
        self.last.saturating_add(1)
    }

    /// How long a page has to be.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.last - self.after).unwrap_or(usize::MAX)
    }

    pub(super) fn has(&self, number: u64) -> bool {
        (self.first()..=self.last).contains(&number)
    }
}

/// What takes the lines of a section.
pub(super) trait Sink {
    /// Takes a line, with its break.
    fn take(&mut self, line: &[u8]) -> Result<(), Error>;

    /// A blob of so many bytes was copied.
    fn copied(&mut self, bytes: u64);

    /// Something damaged was left out.
    fn left_out(&mut self, what: String);
}

/// Turns records into lines.
pub(super) struct Out<'a> {
    pub(super) sink: &'a mut dyn Sink,
    line: Vec<u8>,
}

impl<'a> Out<'a> {
    pub(super) fn to(sink: &'a mut dyn Sink) -> Self {
        Self { sink, line: Vec::new() }
    }

    /// Writes a record.
    pub(super) fn line(&mut self, record: &impl Serialize) -> Result<(), Error> {
        line::write(record, &mut self.line).map_err(|error| store::Error::Damaged {
            what: format!("a record cannot be written: {error}"),
        })?;
        self.sink.take(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_up_to_the_newest() {
        let mut after = 0;
        let mut seen = Vec::new();
        while let Some(window) = Window::after(after, 7, 3) {
            seen.push((window.first(), window.last, window.len(), window.begin()));
            assert!(!window.has(after) && window.has(window.last) && !window.has(window.begin()));
            after = window.last;
        }
        assert_eq!(seen, [(1, 3, 3, 4), (4, 6, 3, 7), (7, 7, 1, 8)]);
    }
}
