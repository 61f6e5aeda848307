//! What lists are asked for, and what they answer.

use std::str::FromStr;

use mycelium_core::ids::{FailureId, FinishNumber, FlowId, FlowNumber, Timestamp};
use mycelium_core::image::FlowRecord;
use mycelium_core::labels::Labels;
use mycelium_core::status::FinalStatus;

use super::FinishedRecord;

/// Which finished jobs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinishedQuery {
    /// Only of this flow.
    pub flow: Option<FlowId>,
    /// Only of this elf.
    pub elf: Option<String>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only with one of these statuses; empty: any.
    pub statuses: Vec<FinalStatus>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those that failed with a failure whose id begins so.
    pub failure: Option<FailurePrefix>,
    /// Only those that finished at or after this moment, in microseconds since the Unix epoch.
    pub finished_from: Option<Timestamp>,
    /// Only those that finished before this moment.
    pub finished_before: Option<Timestamp>,
    /// Begin with jobs that finished before the one with this number.
    pub after: Option<FinishNumber>,
    /// At most so many, and read at most one index entry more. 0 counts as 1.
    pub limit: usize,
}

impl FinishedQuery {
    /// Whether a job fits the filters.
    pub(crate) fn fits(&self, job: &FinishedRecord) -> bool {
        self.flow.is_none_or(|flow| flow == job.head.flow)
            && self.elf.as_deref().is_none_or(|elf| elf == &*job.head.elf)
            && self.task.as_deref().is_none_or(|task| task == &*job.head.task)
            && (self.statuses.is_empty() || self.statuses.contains(&job.end.status()))
            && job.head.labels.contain(&self.labels)
            && self
                .failure
                .as_ref()
                .is_none_or(|prefix| job.end.failure().is_some_and(|id| prefix.begins(*id)))
            && self.finished_from.is_none_or(|from| from <= job.finished_at)
            && self.finished_before.is_none_or(|before| job.finished_at < before)
    }
}

/// Which flows to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowQuery {
    /// Only of this name.
    pub name: Option<String>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Begin with flows that were made before the one with this number.
    pub after: Option<FlowNumber>,
    /// At most so many. 0 counts as 1.
    pub limit: usize,
}

impl FlowQuery {
    /// Whether a flow fits the filters.
    pub(super) fn fits(&self, flow: &FlowRecord) -> bool {
        self.name.as_deref().is_none_or(|name| name == &*flow.name) && flow.labels.contain(&self.labels)
    }

    /// How many entries of a list are read for a page: one more tells whether there are more.
    pub(super) fn read_max(&self) -> usize {
        self.limit.max(1).saturating_add(1)
    }

    /// The page that comes of so many entries of a list.
    pub(super) fn page(&self, mut listed: Listed<FlowRecord>) -> FlowPage {
        let mut next = None;
        if listed.entries.len() == self.read_max() {
            listed.entries.pop();
            next = listed.entries.last().map(|flow| flow.number);
        }
        listed.entries.retain(|flow| self.fits(flow));
        FlowPage { flows: listed.entries, next, damaged: listed.damaged }
    }
}

/// A page of flows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowPage {
    /// The flows: those among the entries read that fit the filters.
    pub flows: Vec<FlowRecord>,
    /// Where the next page begins; `None` if there are no more. May be set with fewer flows than asked for, when no
    /// index serves the filters together.
    pub next: Option<FlowNumber>,
    /// What is wrong with each record or stretch of records that is left out because it is damaged.
    pub damaged: Vec<String>,
}

/// A page of finished jobs.
#[derive(Debug, Clone, Default)]
pub struct FinishedPage {
    /// The jobs: those among the entries read that fit the filters.
    pub jobs: Vec<FinishedRecord>,
    /// Where the next page begins; `None` if there are no more. May be set with fewer jobs than asked for, when no
    /// index serves the filters together.
    pub next: Option<FinishNumber>,
    /// What is wrong, in words, with those that are left out because their records are damaged.
    pub damaged: Vec<String>,
    /// How many index entries were read.
    pub entries_read: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What can be read, as many as asked for if there are as many.
    pub entries: Vec<T>,
    /// What is wrong, in words, with each record or stretch of records that is left out because it is damaged.
    pub damaged: Vec<String>,
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(entries: Vec<T>) -> Self {
        Self { entries, damaged: Vec::new() }
    }
}

/// A place in a list of revisions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionCursor(pub Vec<u8>);

/// A place in a list of failures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureCursor(pub Vec<u8>);

/// The beginning of the id of a failure: at most 32 hexadecimal digits, hyphens left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailurePrefix(String);

impl FromStr for FailurePrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("a failure is named by its id or the first of its hexadecimal digits");
        }
        Ok(Self(digits.to_lowercase()))
    }
}

impl FailurePrefix {
    /// Whether an id begins so.
    pub fn begins(&self, id: FailureId) -> bool {
        let digit = |index: usize| {
            let byte = id.as_bytes().get(index / 2)?;
            char::from_digit((if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf }).into(), 16)
        };
        self.0.chars().enumerate().all(|(index, wanted)| digit(index) == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_begins_with_its_digits() {
        let id = FailureId::new([0xab, 0x12, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f]);
        for (prefix, begins) in [("a", true), ("ab1", true), ("AB12", true), ("ab13", false), ("b", false)] {
            assert_eq!(prefix.parse::<FailurePrefix>().unwrap().begins(id), begins, "{prefix}");
        }
        assert!(id.to_string().parse::<FailurePrefix>().unwrap().begins(id));
        assert!("".parse::<FailurePrefix>().is_err() && "a".repeat(33).parse::<FailurePrefix>().is_err());
    }
}
