//! What was asked for, so that tests can say how often it may be.

use std::collections::BTreeMap;

/// Requests and statements since the start, or since they were reset.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By method and path without names and ids, as `POST /_api/cursor`.
    pub requests: BTreeMap<String, u64>,
    /// By the text of each statement that was run, also where it failed.
    pub statements: BTreeMap<String, u64>,
    /// By the text of each statement that was explained.
    pub explained: BTreeMap<String, u64>,
    /// Statements that committed writes.
    pub commits: u64,
    /// The most statements that wrote at the same time.
    pub writing_at_once_max: u64,
    pub(crate) writing: u64,
}

impl Counters {
    /// Requests of all endpoints.
    #[must_use]
    pub fn requests_in_all(&self) -> u64 {
        self.requests.values().sum()
    }

    pub(crate) fn request(&mut self, endpoint: &str) {
        *self.requests.entry(endpoint.to_owned()).or_default() += 1;
    }

    pub(crate) fn statement(&mut self, text: &str) {
        *self.statements.entry(text.to_owned()).or_default() += 1;
    }

    pub(crate) fn explain(&mut self, text: &str) {
        *self.explained.entry(text.to_owned()).or_default() += 1;
    }

    pub(crate) fn writes(&mut self) {
        self.writing += 1;
        self.writing_at_once_max = self.writing_at_once_max.max(self.writing);
    }
}
