//! Records as bytes: a byte that numbers the record's form, then a protobuf message. Fields may be added; what changes
//! meaning gets the next number, and this module goes on reading the earlier ones.
//!
//! Nothing here panics on what it reads: bytes that cannot be right give [`Malformed`].

mod catalog;
mod jobs;
mod words;

use bytes::{Buf, Bytes};
use mycelium_core::ids::{Build, Commit, FinishNumber, FlowNumber, JobNumber, SessionId, Timestamp};
use mycelium_core::image::Counters;
use prost::Message;

use super::message;
use super::signposts::Behind;
use super::words::{Numbering, Words};
pub(super) use jobs::{EndRecord, Outputs};

/// The form that is written.
const FORM: u8 = 1;

/// Bytes that are no record, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// A record that is stored under a key which tells part of it.
pub(super) trait Record: Sized {
    /// The protobuf message.
    type Message: Message + Default;
    /// What the key tells.
    type Key: Copy;

    /// Without `words`, all stands in the message itself.
    fn to_message(&self, words: Option<&mut Numbering<'_>>) -> Self::Message;
    /// Without `words`, one that has some is malformed.
    fn from_message(key: Self::Key, message: Self::Message, words: Option<&Words>)
    -> Result<Self, Malformed>;
}

/// Writes a record into `buffer`, in place of what was there.
pub(super) fn encode<R: Record>(record: &R, buffer: &mut Vec<u8>, words: Option<&mut Numbering<'_>>) {
    let message = record.to_message(words);
    buffer.clear();
    buffer.reserve(1 + message.encoded_len());
    buffer.push(FORM);
    message.encode_raw(buffer);
}

/// Reads a record.
pub(super) fn decode<R: Record>(
    key: R::Key,
    mut bytes: Bytes,
    words: Option<&Words>,
) -> Result<R, Malformed> {
    let message = match bytes.try_get_u8() {
        Ok(FORM) => R::Message::decode(bytes).map_err(|error| Malformed(error.to_string()))?,
        Ok(form) => return Err(Malformed(format!("the record has the unknown form {form}"))),
        Err(_) => return Err(Malformed("the record is empty".to_owned())),
    };
    R::from_message(key, message, words)
}

fn id<I>(bytes: &[u8], from: impl Fn(&[u8]) -> Option<I>, what: &str) -> Result<I, Malformed> {
    from(bytes).ok_or_else(|| Malformed(format!("the {what} has {} bytes", bytes.len())))
}

fn build(text: &str) -> Result<Build, Malformed> {
    Build::new(text).ok_or_else(|| Malformed(format!("a build of {} bytes", text.len())))
}

fn optional<I>(
    bytes: Option<&Vec<u8>>,
    from: impl Fn(&[u8]) -> Option<I>,
    what: &str,
) -> Result<Option<I>, Malformed> {
    bytes.map(|bytes| id(bytes, from, what)).transpose()
}

/// What is written with every commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The numbers that only rise.
    pub(super) counters: Counters,
    /// The latest moment at which a job finished.
    pub(super) finished_until: Timestamp,
    /// Jobs that finished before that although they came later, because the clock had been set back.
    pub(super) behind: Vec<Behind>,
}

impl Record for Head {
    type Message = message::Head;
    type Key = ();

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Head {
        message::Head {
            commit: self.counters.commit.0,
            job: self.counters.job.0,
            flow: self.counters.flow.0,
            finish: self.counters.finish.0,
            session: self.counters.session.0,
            finished_until: self.finished_until.0,
            behind: self
                .behind
                .iter()
                .map(|Behind { lowest, last }| message::Behind { lowest: lowest.0, last: last.0 })
                .collect(),
        }
    }

    fn from_message((): (), message: message::Head, _: Option<&Words>) -> Result<Self, Malformed> {
        Ok(Self {
            counters: Counters {
                commit: Commit(message.commit),
                job: JobNumber(message.job),
                flow: FlowNumber(message.flow),
                finish: FinishNumber(message.finish),
                session: SessionId(message.session),
            },
            finished_until: Timestamp(message.finished_until),
            behind: message
                .behind
                .iter()
                .map(|behind| Behind { lowest: Timestamp(behind.lowest), last: FinishNumber(behind.last) })
                .collect(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
