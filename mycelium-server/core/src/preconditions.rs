//! Finished jobs that the store knows, beside those that the core remembers.

use crate::command::{KnownFinished, Preconditions};
use crate::ids::JobId;

/// The finished jobs that the store named, ordered so that one is found fast.
pub(crate) struct Finished(Vec<KnownFinished>);

impl Finished {
    pub(crate) fn new(preconditions: &Preconditions) -> Self {
        let mut finished = preconditions.finished.clone();
        finished.sort_unstable_by_key(|known| known.id);
        Self(finished)
    }

    pub(crate) fn find(&self, id: &JobId) -> Option<&KnownFinished> {
        let index = self.0.binary_search_by_key(id, |known| known.id).ok()?;
        self.0.get(index)
    }
}
