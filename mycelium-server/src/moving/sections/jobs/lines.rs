//! What the lines of jobs have in common.

use bytes::Bytes;
use mycelium_core::effects::End;
use mycelium_core::ids::{
    Attempt, Build, ContentDigest, FailureId, FlowId, InstanceId, JobId, JobNumber, PolicyId, Revision,
    SessionId, Timestamp,
};
use mycelium_core::image::{AttemptEnd, JobHead, PastAttempt, Running};
use mycelium_core::signature::Shape;
use mycelium_core::status::ExpiredWhy;
use mycelium_proto::v1::{self, payload};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::super::text::{Base64, Hex, LabelMap, Moment, Text, ids, label_map, texts};
use crate::documents::Outputs;
use crate::store::SpecRecord;
use crate::store::record::{Encoded, Started};

/// What a job is.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    id: Text<JobId>,
    number: u64,
    flow: Text<FlowId>,
    elf: String,
    task: String,
    priority: i32,
    #[serde(default, skip_serializing_if = "LabelMap::is_empty")]
    labels: LabelMap,
    policy: u32,
    submitted: Moment,
    /// The names of its arguments; missing where they were not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argument_names: Option<Vec<String>>,
}

impl Head {
    pub(super) fn of(head: &JobHead) -> Self {
        let JobHead { id, flow, elf, task, priority, labels, policy, number, submitted_at, shape } = head;
        Self {
            id: Text(*id),
            number: number.0,
            flow: Text(*flow),
            elf: elf.to_string(),
            task: task.to_string(),
            priority: *priority,
            labels: label_map(labels),
            policy: policy.0,
            submitted: (*submitted_at).into(),
            argument_names: shape.names().map(|names| names.iter().map(|name| name.to_string()).collect()),
        }
    }

    pub(super) fn read(self) -> JobHead {
        let Self { id, number, flow, elf, task, priority, labels, policy, submitted, argument_names } = self;
        JobHead {
            id: id.0,
            flow: flow.0,
            elf: elf.into(),
            task: task.into(),
            priority,
            labels: labels.into(),
            policy: PolicyId(policy),
            number: JobNumber(number),
            submitted_at: submitted.into(),
            shape: argument_names
                .map_or(Shape::UNKNOWN, |names| Shape::of(names.into_iter().map(Into::into))),
        }
    }
}

/// What was submitted.
#[derive(Serialize, Deserialize)]
pub(super) struct SpecLine {
    digest: Hex<8>,
    depends_on: Vec<Text<JobId>>,
    evaluate: bool,
    gathered_by: Option<Text<JobId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begins: Option<Moment>,
    /// What the job was when it was submitted, if that is not what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<Head>,
    body: Base64,
}

impl SpecLine {
    pub(super) fn of(spec: SpecRecord, now: &JobHead) -> Self {
        let SpecRecord { head, digest, depends_on, evaluate, gathered_by, begins_at, body } = spec;
        Self {
            digest: Hex(digest.0.to_be_bytes()),
            depends_on: texts(&depends_on),
            evaluate,
            gathered_by: gathered_by.map(Text),
            begins: begins_at.map(Moment::from),
            job: (head != submitted(now)).then(|| Head::of(&head)),
            body: Base64(body),
        }
    }

    pub(super) fn read(self, now: &JobHead) -> SpecRecord {
        let Self { digest: Hex(digest), depends_on, evaluate, gathered_by, begins, job, body: Base64(body) } =
            self;
        SpecRecord {
            head: job.map_or_else(|| submitted(now), Head::read),
            digest: ContentDigest(u64::from_be_bytes(digest)),
            depends_on: ids(depends_on),
            evaluate,
            gathered_by: gathered_by.map(|Text(job)| job),
            begins_at: begins.map(Timestamp::from),
            body,
        }
    }
}

/// What a job was when it was submitted, if nothing but its policy is another now: that does not stand there.
fn submitted(now: &JobHead) -> JobHead {
    JobHead { policy: PolicyId::default(), ..now.clone() }
}

/// How a job ended.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum EndLine {
    Done(OutputsLine),
    Failed {
        failure: Text<FailureId>,
    },
    UpstreamFailed {
        cause: Text<JobId>,
    },
    Cancelled,
    Expired {
        #[serde(with = "Why")]
        why: ExpiredWhy,
    },
    Skipped,
}

/// Which time of a job was over.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ExpiredWhy", rename_all = "SCREAMING_SNAKE_CASE")]
enum Why {
    Queue,
    Total,
}

impl EndLine {
    pub(super) fn of(job: JobId, end: End<Encoded>) -> Self {
        match end {
            End::Done(outputs) => Self::Done(OutputsLine::of(job, outputs)),
            End::Failed(failure) => Self::Failed { failure: Text(failure) },
            End::UpstreamFailed(cause) => Self::UpstreamFailed { cause: Text(cause) },
            End::Cancelled => Self::Cancelled,
            End::Expired(why) => Self::Expired { why },
            End::Skipped => Self::Skipped,
        }
    }

    pub(super) fn read(self) -> End<Encoded> {
        match self {
            Self::Done(outputs) => End::Done(outputs.read()),
            Self::Failed { failure: Text(failure) } => End::Failed(failure),
            Self::UpstreamFailed { cause: Text(cause) } => End::UpstreamFailed(cause),
            Self::Cancelled => End::Cancelled,
            Self::Expired { why } => End::Expired(why),
            Self::Skipped => End::Skipped,
        }
    }
}

/// What a job returned.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputsLine {
    /// As JSON, where that is all there is to it: the same bytes come of it again.
    Values(Vec<NamedJson>),
    Base64(Base64),
}

#[derive(Serialize, Deserialize)]
pub(super) struct NamedJson {
    name: String,
    json: Box<RawValue>,
}

impl OutputsLine {
    fn of(job: JobId, encoded: Bytes) -> Self {
        match values(job, &encoded) {
            Some(values) if encode(&values) == encoded => Self::Values(values),
            Some(_) | None => Self::Base64(Base64(encoded)),
        }
    }

    fn read(self) -> Bytes {
        match self {
            Self::Values(values) => encode(&values).into(),
            Self::Base64(Base64(encoded)) => encoded,
        }
    }
}

fn values(job: JobId, encoded: &Bytes) -> Option<Vec<NamedJson>> {
    let outputs = v1::Outputs::from(Outputs::decode(job, encoded.clone()).ok()?).outputs;
    let named = outputs.into_iter().map(|output| {
        let v1::Payload { encoding, content: Some(payload::Content::Inline(inline)) } = output.payload?
        else {
            return None;
        };
        // A line break between two values of a list would end the line.
        let is_plain = encoding.is_empty() && !inline.contains(&b'\n');
        let json = String::from_utf8(inline.into()).ok().filter(|_| is_plain)?;
        Some(NamedJson { name: output.name, json: RawValue::from_string(json).ok()? })
    });
    named.collect()
}

fn encode(values: &[NamedJson]) -> Vec<u8> {
    let output = |value: &NamedJson| {
        let inline = Bytes::copy_from_slice(value.json.get().as_bytes());
        let content = Some(payload::Content::Inline(inline));
        let payload = Some(v1::Payload { encoding: String::new(), content });
        v1::NamedOutput { name: value.name.clone(), payload }
    };
    v1::Outputs { outputs: values.iter().map(output).collect() }.encode_to_vec()
}

/// Who holds an attempt, or held it.
#[derive(Serialize, Deserialize)]
pub(super) struct Held {
    session: u64,
    instance: Text<InstanceId>,
    revision: Hex<32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    build: String,
    since: Moment,
    /// Not there: at `since`, unless it is `unstarted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<Moment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unstarted: bool,
}

impl Held {
    pub(super) fn of(running: Running) -> Self {
        let Started { at, unstarted } = Started::of(&running);
        let Running { session, instance, revision, build, since, started: _ } = running;
        Self {
            session: session.0,
            instance: Text(instance),
            revision: Hex(*revision.as_bytes()),
            build: build.as_str().to_owned(),
            since: since.into(),
            started: at.map(Moment::from),
            unstarted,
        }
    }

    pub(super) fn read(self) -> Running {
        let Self {
            session,
            instance: Text(instance),
            revision: Hex(revision),
            build,
            since,
            started,
            unstarted,
        } = self;
        let since = Timestamp::from(since);
        Running {
            session: SessionId(session),
            instance,
            revision: Revision::new(revision),
            build: Build::new(&build).unwrap_or_default(),
            since,
            started: Started { at: started.map(Timestamp::from), unstarted }.read(since),
        }
    }
}

/// An attempt that is over.
#[derive(Serialize, Deserialize)]
pub(super) struct PastLine {
    number: u32,
    held: Held,
    ended: Moment,
    how: How,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Text<FailureId>>,
}

macro_rules! how {
    ($($how:ident),*) => {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        enum How { $($how),* }

        impl From<AttemptEnd> for How {
            fn from(how: AttemptEnd) -> Self {
                match how { $(AttemptEnd::$how => Self::$how),* }
            }
        }

        impl From<How> for AttemptEnd {
            fn from(how: How) -> Self {
                match how { $(How::$how => Self::$how),* }
            }
        }
    };
}

how!(Returned, Failed, Cancelled, HandedBack, NotHeld, ElfLost, ElfLostBefore, TimedOut);

impl PastLine {
    pub(super) fn of(attempt: &PastAttempt) -> Self {
        let PastAttempt { number, held, ended_at, how, failure } = *attempt;
        let failure = failure.map(Text);
        Self { number: number.0, held: Held::of(held), ended: ended_at.into(), how: how.into(), failure }
    }

    pub(super) fn read(self) -> PastAttempt {
        let Self { number, held, ended, how, failure } = self;
        let failure = failure.map(|Text(failure)| failure);
        let (number, held, ended_at) = (Attempt(number), held.read(), ended.into());
        PastAttempt { number, held, ended_at, how: how.into(), failure }
    }
}
