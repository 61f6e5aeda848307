//! What a batch changes of jobs, assembled so that each record is stored once.

use crate::effects::{FinishedJob, Revived, SpecRecord};
use crate::ids::{Attempt, FlowId, JobId};
use crate::index::Slot;
use crate::status::Status;

/// A job that the batch has changed.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) id: JobId,
    pub(crate) flow: FlowId,
    /// How it showed before the batch; `None` if it did not.
    pub(crate) before: Option<(Status, Attempt)>,
    pub(crate) created: Option<SpecRecord>,
    pub(crate) revived: Option<Revived>,
    /// The jobs to be written as those it waits for.
    pub(crate) waits_for: Vec<JobId>,
    pub(crate) to_store: ToStore,
    pub(crate) now: Now,
}

/// What of a job that was touched is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ToStore {
    /// Nothing: only its status has changed.
    Nothing,
    /// That it is to be evaluated. The jobs it waits for are not known any more; they stay as they were stored.
    Flag,
    /// Its record.
    Record,
}

/// Where a job that was touched is now.
#[derive(Debug)]
pub(crate) enum Now {
    /// Still unfinished.
    Live(Slot),
    /// Finished with this batch.
    Finished(Box<FinishedJob>),
    /// Dropped with its submission.
    Dropped,
}
