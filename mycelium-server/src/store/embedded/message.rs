//! The protobuf messages of the records, form 1. Tags are part of the format: add, never reuse.
//!
//! Ids are byte strings, lists of jobs their ids one after the other, moments microseconds since the Unix epoch.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Of `specs`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Spec {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) flow: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) elf: String,
    #[prost(string, tag = "3")]
    pub(super) task: String,
    #[prost(sint32, tag = "4")]
    pub(super) priority: i32,
    #[prost(uint64, tag = "5")]
    pub(super) number: u64,
    #[prost(uint64, tag = "6")]
    pub(super) submitted_at: u64,
    #[prost(fixed64, tag = "7")]
    pub(super) digest: u64,
    #[prost(bytes = "vec", tag = "8")]
    pub(super) depends_on: Vec<u8>,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "10")]
    pub(super) evaluate: bool,
    #[prost(bytes = "vec", optional, tag = "11")]
    pub(super) gathered_by: Option<Vec<u8>>,
    #[prost(btree_map = "string, string", tag = "12")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(uint32, tag = "13")]
    pub(super) policy: u32,
    #[prost(message, optional, tag = "14")]
    pub(super) shape: Option<Shape>,
    /// The word with elf, task and shape, which are unset then; 0 if they stand here.
    #[prost(uint32, tag = "15")]
    pub(super) call: u32,
    #[prost(uint64, tag = "16")]
    pub(super) begins_at: u64,
}

/// Within [`Spec`], [`Live`] and [`Finished`]: the names of the arguments. Missing where they were not stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shape {
    #[prost(string, repeated, tag = "1")]
    pub(super) names: Vec<String>,
}

/// Of `live`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Live {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) flow: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) elf: String,
    #[prost(string, tag = "3")]
    pub(super) task: String,
    #[prost(sint32, tag = "4")]
    pub(super) priority: i32,
    #[prost(uint64, tag = "5")]
    pub(super) number: u64,
    #[prost(uint64, tag = "6")]
    pub(super) submitted_at: u64,
    #[prost(fixed64, tag = "7")]
    pub(super) digest: u64,
    #[prost(bytes = "vec", tag = "8")]
    pub(super) waits_for: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(super) submission: Option<Vec<u8>>,
    #[prost(uint32, tag = "10")]
    pub(super) attempt: u32,
    #[prost(uint32, tag = "11")]
    pub(super) elves_lost: u32,
    #[prost(message, optional, tag = "12")]
    pub(super) running: Option<Running>,
    #[prost(bool, tag = "13")]
    pub(super) evaluate: bool,
    #[prost(btree_map = "string, string", tag = "14")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(uint32, tag = "15")]
    pub(super) policy: u32,
    #[prost(message, repeated, tag = "16")]
    pub(super) attempts: Vec<PastAttempt>,
    #[prost(message, optional, tag = "17")]
    pub(super) shape: Option<Shape>,
    #[prost(uint32, tag = "18")]
    pub(super) elves_lost_alone: u32,
    #[prost(bytes = "vec", tag = "19")]
    pub(super) beside: Vec<u8>,
    /// The word with elf, task and shape, which are unset then; 0 if they stand here.
    #[prost(uint32, tag = "20")]
    pub(super) call: u32,
    /// By when it is to have ended; 0 if it is not.
    #[prost(uint64, tag = "24")]
    pub(super) expires_at: u64,
    /// Since when it waits to be started in time; 0 if it does not.
    #[prost(uint64, tag = "25")]
    pub(super) queued_at: u64,
    #[prost(uint32, tag = "26")]
    pub(super) failed: u32,
    #[prost(uint32, tag = "27")]
    pub(super) failed_max: u32,
    #[prost(uint64, tag = "28")]
    pub(super) not_before: u64,
}

/// Within [`Live`] and [`PastAttempt`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Running {
    #[prost(uint64, tag = "1")]
    pub(super) session: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) instance: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) revision: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) since: u64,
    /// 0: at `since`, unless it is `unstarted`.
    #[prost(uint64, tag = "5")]
    pub(super) started: u64,
    #[prost(bool, tag = "6")]
    pub(super) unstarted: bool,
    #[prost(string, tag = "7")]
    pub(super) build: String,
    /// The word with revision and build, which are unset then; 0 if they stand here.
    #[prost(uint32, tag = "8")]
    pub(super) program: u32,
}

/// Of `finished`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Finished {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) flow: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) elf: String,
    #[prost(string, tag = "4")]
    pub(super) task: String,
    #[prost(sint32, tag = "5")]
    pub(super) priority: i32,
    #[prost(uint64, tag = "6")]
    pub(super) number: u64,
    #[prost(uint32, tag = "7")]
    pub(super) status: u32,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(super) failure: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(super) cause: Option<Vec<u8>>,
    #[prost(uint64, tag = "10")]
    pub(super) submitted_at: u64,
    #[prost(uint64, tag = "11")]
    pub(super) finished_at: u64,
    #[prost(uint32, tag = "12")]
    pub(super) attempt: u32,
    #[prost(uint32, tag = "13")]
    pub(super) elves_lost: u32,
    #[prost(message, optional, tag = "14")]
    pub(super) ran: Option<Ran>,
    #[prost(uint32, optional, tag = "15")]
    pub(super) elements: Option<u32>,
    #[prost(btree_map = "string, string", tag = "16")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(uint32, tag = "17")]
    pub(super) policy: u32,
    #[prost(message, repeated, tag = "18")]
    pub(super) attempts: Vec<PastAttempt>,
    #[prost(message, optional, tag = "19")]
    pub(super) shape: Option<Shape>,
    /// The word with elf, task and shape, which are unset then; 0 if they stand here.
    #[prost(uint32, tag = "20")]
    pub(super) call: u32,
    /// If it has expired: which time of its was over; else 0.
    #[prost(uint32, tag = "22")]
    pub(super) expired: u32,
}

/// Within [`Finished`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ran {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) instance: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) revision: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(super) since: u64,
    #[prost(uint64, tag = "4")]
    pub(super) session: u64,
    /// 0: at `since`, unless it is `unstarted`.
    #[prost(uint64, tag = "5")]
    pub(super) started: u64,
    #[prost(bool, tag = "6")]
    pub(super) unstarted: bool,
    #[prost(string, tag = "7")]
    pub(super) build: String,
    /// The word with revision and build, which are unset then; 0 if they stand here.
    #[prost(uint32, tag = "8")]
    pub(super) program: u32,
}

/// Within [`Live`] and [`Finished`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PastAttempt {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) held: Option<Running>,
    #[prost(uint64, tag = "3")]
    pub(super) ended_at: u64,
    #[prost(uint32, tag = "4")]
    pub(super) how: u32,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(super) failure: Option<Vec<u8>>,
}

/// Of `ends`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct End {
    #[prost(uint64, tag = "1")]
    pub(super) finish_number: u64,
    #[prost(oneof = "Outputs", tags = "2, 3")]
    pub(super) outputs: Option<Outputs>,
}

/// Within [`End`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Outputs {
    #[prost(bytes = "bytes", tag = "2")]
    Here(Bytes),
    #[prost(bool, tag = "3")]
    Apart(bool),
}

/// Of `catalog`: what is written with every commit.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Head {
    #[prost(uint64, tag = "1")]
    pub(super) commit: u64,
    #[prost(uint64, tag = "2")]
    pub(super) job: u64,
    #[prost(uint64, tag = "3")]
    pub(super) flow: u64,
    #[prost(uint64, tag = "4")]
    pub(super) finish: u64,
    #[prost(uint64, tag = "5")]
    pub(super) session: u64,
    #[prost(uint64, tag = "6")]
    pub(super) finished_until: u64,
    #[prost(message, repeated, tag = "7")]
    pub(super) behind: Vec<Behind>,
}

/// Of [`Head`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Behind {
    #[prost(uint64, tag = "1")]
    pub(super) lowest: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last: u64,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Flow {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    #[prost(uint64, tag = "3")]
    pub(super) created_at: u64,
    #[prost(uint64, tag = "4")]
    pub(super) done: u64,
    #[prost(uint64, tag = "5")]
    pub(super) failed: u64,
    #[prost(uint64, tag = "6")]
    pub(super) upstream_failed: u64,
    #[prost(uint64, tag = "7")]
    pub(super) cancelled: u64,
    #[prost(uint64, tag = "8")]
    pub(super) skipped: u64,
    #[prost(btree_map = "string, string", tag = "9")]
    pub(super) labels: BTreeMap<String, String>,
    /// The attempt during which it was submitted; empty and 0 if there is none.
    #[prost(bytes = "vec", tag = "10")]
    pub(super) of_job: Vec<u8>,
    #[prost(uint32, tag = "11")]
    pub(super) of_attempt: u32,
    #[prost(uint64, tag = "12")]
    pub(super) expired: u64,
    #[prost(bool, tag = "13")]
    pub(super) pinned: bool,
    /// 0: it was not.
    #[prost(uint64, tag = "14")]
    pub(super) deleted_at: u64,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Session {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) instance: Vec<u8>,
    /// Empty if it has none.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) secret: Vec<u8>,
}

/// Of `catalog`. Times are microseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Action {
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    #[prost(string, tag = "2")]
    pub(super) filter: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) flow: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) failure: Option<Vec<u8>>,
    #[prost(string, tag = "5")]
    pub(super) by: String,
    #[prost(uint64, tag = "6")]
    pub(super) began_at: u64,
    #[prost(uint64, tag = "7")]
    pub(super) upto: u64,
    #[prost(uint64, tag = "8")]
    pub(super) place: u64,
    #[prost(uint64, optional, tag = "9")]
    pub(super) total: Option<u64>,
    #[prost(uint64, tag = "10")]
    pub(super) done: u64,
    #[prost(uint64, tag = "11")]
    pub(super) refused: u64,
    #[prost(uint64, optional, tag = "12")]
    pub(super) ended_at: Option<u64>,
}

/// Of `catalog`. What is paused: the mycelium, if it names nothing else.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pause {
    #[prost(string, optional, tag = "1")]
    pub(super) elf: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) task: Option<String>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) flow: Option<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    pub(super) since: u64,
    #[prost(string, tag = "5")]
    pub(super) by: String,
    #[prost(string, tag = "6")]
    pub(super) reason: String,
}

/// Of `catalog`. What a policy leaves open is missing; times are microseconds, factor and jitter thousandths.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Policy {
    #[prost(uint32, optional, tag = "1")]
    pub(super) attempts: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) first: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    pub(super) factor: Option<u32>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) cap: Option<u64>,
    #[prost(uint32, optional, tag = "5")]
    pub(super) jitter: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub(super) never: Option<FailureTypes>,
    #[prost(bool, optional, tag = "7")]
    pub(super) panics: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) argument_errors: Option<bool>,
    #[prost(uint64, optional, tag = "9")]
    pub(super) queue: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    pub(super) run: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub(super) total: Option<u64>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) progress: Option<u64>,
}

/// Within [`Policy`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FailureTypes {
    #[prost(string, repeated, tag = "1")]
    pub(super) types: Vec<String>,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Submission {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) flow: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) next_part: u32,
    #[prost(bool, tag = "3")]
    pub(super) sealed: bool,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Failure {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) occurrences: u64,
    #[prost(uint64, tag = "3")]
    pub(super) first_seen: u64,
    #[prost(uint64, tag = "4")]
    pub(super) last_seen: u64,
    #[prost(string, tag = "5")]
    pub(super) elf: String,
    #[prost(string, tag = "6")]
    pub(super) task: String,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Occurrence {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) job: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) attempt: u32,
    #[prost(uint64, tag = "3")]
    pub(super) at: u64,
    #[prost(string, tag = "4")]
    pub(super) message: String,
    #[prost(string, tag = "5")]
    pub(super) details: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) cause_messages: Vec<String>,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Elf {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) body: Bytes,
    #[prost(uint64, tag = "3")]
    pub(super) first_seen: u64,
    #[prost(uint64, tag = "4")]
    pub(super) last_seen: u64,
}

/// Of `catalog`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Revision {
    #[prost(string, tag = "1")]
    pub(super) elf: String,
    #[prost(string, tag = "2")]
    pub(super) task: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) revision: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) first_seen: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) body: Bytes,
}

/// Of `catalog` and `index`: what records of jobs have in common.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Word {
    #[prost(oneof = "WordKind", tags = "1, 2")]
    pub(super) kind: Option<WordKind>,
}

/// Within [`Word`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum WordKind {
    #[prost(message, tag = "1")]
    Call(Call),
    #[prost(message, tag = "2")]
    Program(Program),
}

/// Within [`Word`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Call {
    #[prost(string, tag = "1")]
    pub(super) elf: String,
    #[prost(string, tag = "2")]
    pub(super) task: String,
    #[prost(message, optional, tag = "3")]
    pub(super) shape: Option<Shape>,
}

/// Within [`Word`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Program {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) revision: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) build: String,
}
