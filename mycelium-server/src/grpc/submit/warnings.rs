//! What a submission is told that is taken although nobody is known who takes its jobs.

use std::fmt::Display;

use mycelium_proto::limits;

use crate::broker::Standing;
use crate::documents::cut;

/// Warnings, each once.
#[derive(Default)]
pub(super) struct Warnings(Vec<String>);

impl Warnings {
    /// Nobody is known who takes something of this elf.
    pub(super) fn add(&mut self, elf: &str, standing: &Standing, problem: &dyn Display) {
        if self.0.len() == limits::WARNINGS_MAX {
            return;
        }
        let who = if standing.is_served() {
            "no process that was heard since the broker started takes a job of"
        } else {
            "no process is there, and what was declared last does not take a job, of"
        };
        let mut text = format!("{who} elf `{elf}`: {problem}");
        cut(&mut text, limits::WARNING_BYTES_MAX);
        if !self.0.contains(&text) {
            self.0.push(text);
        }
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.0
    }
}
