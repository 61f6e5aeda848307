//! What the store said of finished jobs, beside what the core remembers of them.

use crate::command::{Facts, FinishedFact};
use crate::ids::JobId;

/// The finished jobs that the store named, ordered so that one is found fast.
pub(crate) struct Finished(Vec<FinishedFact>);

impl Finished {
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut finished = facts.finished.clone();
        finished.sort_unstable_by_key(|fact| fact.id);
        Self(finished)
    }

    pub(crate) fn find(&self, id: &JobId) -> Option<&FinishedFact> {
        let index = self.0.binary_search_by_key(id, |fact| fact.id).ok()?;
        self.0.get(index)
    }
}
