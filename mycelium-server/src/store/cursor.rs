//! Places in lists whose order is not that of one number: how they become bytes that sort as the list does.

use mycelium_core::ids::{FailureId, Revision, Timestamp};

use super::{FailureCursor, RevisionCursor};

/// The bytes of `number`, such that a larger number sorts first.
pub(super) fn descending(number: u64) -> [u8; 8] {
    (!number).to_be_bytes()
}

/// Undoes [`descending`]; `None` unless there are 8 bytes.
pub(super) fn from_descending(bytes: &[u8]) -> Option<u64> {
    Some(!u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The place of a revision among those of its elf: newest first.
pub(super) fn revision(first_seen: Timestamp, task: &str, revision: Revision) -> RevisionCursor {
    let mut bytes = Vec::with_capacity(8 + task.len() + 32);
    bytes.extend_from_slice(&descending(first_seen.0));
    bytes.extend_from_slice(task.as_bytes());
    bytes.extend_from_slice(revision.as_bytes());
    RevisionCursor(bytes)
}

/// The task and revision at a place among those of an elf; `None` if it is none.
pub(super) fn task_and_revision(cursor: &[u8]) -> Option<(&str, Revision)> {
    let rest = cursor.get(8..)?;
    let (task, revision) = rest.split_at_checked(rest.len().checked_sub(32)?)?;
    Some((std::str::from_utf8(task).ok()?, Revision::from_slice(revision)?))
}

/// The place of a failure among all: last seen first.
pub(super) fn failure(last_seen: Timestamp, id: FailureId) -> FailureCursor {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend_from_slice(&descending(last_seen.0));
    bytes.extend_from_slice(id.as_bytes());
    FailureCursor(bytes)
}
