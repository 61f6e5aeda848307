use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{
    Attempt, Commit, FailureId, FinishNumber, FlowId, FlowNumber, InstanceId, JobId, JobNumber, Revision,
    SecretDigest, SessionId, SubmissionId, Timestamp, Token,
};
use mycelium_core::image::{Counters, FlowRecord, PropagationRecord, SessionRecord, SubmissionRecord};
use mycelium_core::status::FinalCounts;
use mycelium_proto::v1;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::elves::{ElfDocument, RevisionDocument, elves, revisions};
use super::failures::{FailureDocument, OccurrenceDocument, failures};
use super::flows::FlowDocument;
use super::records::{
    CountersDocument, PropagationDocument, RecordDocument, SessionDocument, SubmissionDocument, records,
    use_key, use_of_key,
};
use super::row::Row;
use crate::store::{
    Batch, BlobDigest, BlobRole, BlobUse, ElfRecord, FailureRecord, NewFailure, OccurrenceRecord,
    RevisionRecord,
};

fn stored(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap()
}

/// A document as a statement answers with it.
fn row(document: &Value) -> Row {
    serde_json::from_value(json!({ "k": "a-key", "d": document })).unwrap()
}

/// Reads what was written of a record.
fn read_back<D, R>(document: &impl Serialize) -> R
where
    D: DeserializeOwned,
    R: TryFrom<D, Error: Display>,
{
    row(&stored(document)).read::<D, R>("Some").unwrap()
}

/// The last moment that documents have a text for.
const LAST: u64 = 253_402_300_799_999_999;

fn moments() -> impl Strategy<Value = Timestamp> {
    (0..=LAST).prop_map(Timestamp)
}

fn bodies() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

prop_compose! {
    fn flow_records()(
        id in any::<[u8; 16]>(),
        name in any::<String>(),
        labels in btree_map(any::<String>(), any::<String>(), 0..4),
        number in any::<u64>(),
        created_at in moments(),
        counts in any::<[u64; 6]>(),
        of in proptest::option::of((any::<[u8; 16]>(), any::<u32>())),
        pinned in any::<bool>(),
        deleted_at in proptest::option::of(moments()),
    ) -> FlowRecord {
        let [done, failed, upstream_failed, cancelled, skipped, expired] = counts;
        FlowRecord {
            id: FlowId::new(id),
            name: name.into(),
            labels: labels.into(),
            number: FlowNumber(number),
            created_at,
            finished: FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of: of.map(|(job, attempt)| Token { job: JobId::new(job), attempt: Attempt(attempt) }),
            pinned,
            deleted_at,
        }
    }
}

prop_compose! {
    fn elf_records()(
        name in any::<String>(), body in bodies(), first_seen in moments(), last_seen in moments(),
    ) -> ElfRecord {
        ElfRecord { name: name.into(), body, first_seen, last_seen }
    }
}

prop_compose! {
    fn revision_records()(
        elf in any::<String>(),
        task in any::<String>(),
        revision in any::<[u8; 32]>(),
        first_seen in moments(),
        body in bodies(),
    ) -> RevisionRecord {
        RevisionRecord {
            elf: elf.into(),
            task: task.into(),
            revision: Revision::new(revision),
            first_seen,
            body,
        }
    }
}

prop_compose! {
    fn failure_records()(
        id in any::<[u8; 16]>(),
        body in bodies(),
        occurrences in any::<u64>(),
        first_seen in moments(),
        last_seen in moments(),
        elf in any::<String>(),
        task in any::<String>(),
    ) -> FailureRecord {
        let (elf, task) = (elf.into(), task.into());
        FailureRecord { id: FailureId::new(id), body, occurrences, first_seen, last_seen, elf, task }
    }
}

prop_compose! {
    fn new_failures()(
        record in failure_records(),
        job in any::<[u8; 16]>(),
        attempt in any::<u32>(),
        at in moments(),
        message in any::<String>(),
        details in any::<String>(),
        cause_messages in vec(any::<String>(), 0..3),
    ) -> NewFailure {
        let FailureRecord { id, body, elf, task, .. } = record;
        let (job, attempt) = (JobId::new(job), Attempt(attempt));
        let occurrence = OccurrenceRecord { job, attempt, at, message, details, cause_messages };
        NewFailure { id, body, occurrence, elf, task }
    }
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(
        flow in flow_records(),
        elf in elf_records(),
        revision in revision_records(),
        failure in failure_records(),
        numbers in any::<[u64; 5]>(),
        id in any::<[u8; 16]>(),
        digest in any::<[u8; 32]>(),
        next_part in any::<u32>(),
        flag in any::<bool>(),
    ) {
        prop_assert_eq!(&read_back::<FlowDocument, FlowRecord>(&FlowDocument::from(&flow)), &flow);
        prop_assert_eq!(&read_back::<ElfDocument, ElfRecord>(&ElfDocument::from(&elf)), &elf);
        let document = RevisionDocument::from(&revision);
        prop_assert_eq!(&read_back::<RevisionDocument, RevisionRecord>(&document), &revision);
        let document = FailureDocument::from(failure.clone());
        prop_assert_eq!(&read_back::<FailureDocument, FailureRecord>(&document), &failure);

        let [commit, job, number, finish, session] = numbers;
        let counters = Counters {
            commit: Commit(commit),
            job: JobNumber(job),
            flow: FlowNumber(number),
            finish: FinishNumber(finish),
            session: SessionId(session),
        };
        prop_assert_eq!(read_back::<CountersDocument, Counters>(&CountersDocument::from(counters)), counters);
        let session = SessionRecord {
            id: SessionId(session),
            instance: InstanceId::new(id),
            secret: flag.then(|| SecretDigest::new(digest)),
        };
        let document = SessionDocument::from(&session);
        prop_assert_eq!(read_back::<SessionDocument, SessionRecord>(&document), session);
        let (submission, of) = (SubmissionId::new(id), FlowId::new(id));
        let submission = SubmissionRecord { id: submission, flow: of, next_part, sealed: flag };
        let document = SubmissionDocument::from(&submission);
        prop_assert_eq!(read_back::<SubmissionDocument, SubmissionRecord>(&document), submission);
        let propagation = PropagationRecord { cause: JobId::new(id) };
        let document = PropagationDocument::from(propagation);
        prop_assert_eq!(read_back::<PropagationDocument, PropagationRecord>(&document), propagation);
        let role = if flag { BlobRole::Kept } else { BlobRole::Argument };
        let used = BlobUse { blob: BlobDigest::new(digest), job: JobId::new(id), role };
        prop_assert_eq!(use_of_key(&use_key(&used)), Some(used));
    }

    #[test]
    fn uses_sort_as_their_keys_do(
        mut uses in vec((0..2_u8, 0..3_u8, any::<bool>()), 0..10),
    ) {
        let used = |(blob, job, flag): (u8, u8, bool)| BlobUse {
            blob: BlobDigest::new([blob; 32]),
            job: JobId::new([job; 16]),
            role: if flag { BlobRole::Kept } else { BlobRole::Argument },
        };
        uses.sort_by_key(|one| used(*one));
        let keys: Vec<String> = uses.into_iter().map(|one| use_key(&used(one))).collect();
        prop_assert!(keys.is_sorted());
    }

    /// As the statement does it: counts what is there already, and numbers edges backwards from that.
    #[test]
    fn failures_are_counted_and_their_occurrences_numbered(
        batches in vec(vec((0..3_usize, new_failures()), 0..6), 0..4),
        ids in any::<[[u8; 16]; 3]>(),
    ) {
        let mut counted: BTreeMap<FailureId, FailureRecord> = BTreeMap::new();
        let mut occurrences: BTreeMap<(FailureId, u64), OccurrenceRecord> = BTreeMap::new();
        let mut stored_counts: BTreeMap<String, u64> = BTreeMap::new();
        for batch in batches {
            let batch: Vec<NewFailure> = batch
                .into_iter()
                .map(|(place, failure)| NewFailure { id: FailureId::new(ids[place]), ..failure })
                .collect();
            let written = failures(&batch);
            for document in &written.failures {
                let document = stored(document);
                let key = document["_key"].as_str().unwrap().to_owned();
                *stored_counts.entry(key).or_default() += document["occurrences"].as_u64().unwrap();
            }
            let keys: Vec<_> = written.failures.iter().map(|document| stored(document)["_key"].clone()).collect();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "each is written once");
            let mut numbered = Vec::new();
            for occurrence in &written.occurrences {
                let occurrence = stored(occurrence);
                let mut document = occurrence["document"].clone();
                let count = stored_counts[document["failure"].as_str().unwrap()];
                document["number"] = json!(count - occurrence["back"].as_u64().unwrap());
                let id = FailureId::new(*document["failure"].as_str().unwrap().parse::<FailureId>().unwrap().as_bytes());
                let row = row(&document);
                let (number, record) = row.read::<OccurrenceDocument, (u64, OccurrenceRecord)>("JobFailures").unwrap();
                numbered.push(((id, number), record));
            }
            // As the store in memory does it.
            let mut expected = Vec::new();
            for failure in &batch {
                let seen = failure.counted_on(counted.get(&failure.id).map(FailureRecord::seen));
                counted.insert(failure.id, failure.record(seen));
                expected.push(((failure.id, seen.occurrences), failure.occurrence.clone()));
            }
            prop_assert_eq!(&numbered, &expected);
            occurrences.extend(numbered);
            for document in &written.failures {
                let record: FailureRecord = read_back::<FailureDocument, _>(document);
                let known = &counted[&record.id];
                prop_assert_eq!((record.last_seen, &record.body), (known.last_seen, &known.body));
                prop_assert!(record.first_seen >= known.first_seen);
            }
        }
        prop_assert_eq!(occurrences.len() as u64, counted.values().map(|failure| failure.occurrences).sum::<u64>());
    }
}

fn elf(name: &str, body: &'static [u8], first: u64, last: u64) -> ElfRecord {
    ElfRecord {
        name: name.into(),
        body: Bytes::from_static(body),
        first_seen: Timestamp(first),
        last_seen: Timestamp(last),
    }
}

#[test]
fn of_elves_named_twice_the_last_is_written_as_first_seen_with_the_first() {
    let batch = [elf("a", b"1", 1, 1), elf("b", b"2", 2, 2), elf("a", b"3", 3, 3)];
    let written: Vec<ElfRecord> = elves(&batch).into_iter().map(ElfRecord::from).collect();
    assert_eq!(written, [elf("a", b"3", 1, 3), elf("b", b"2", 2, 2)]);

    let revision = |body: &'static [u8]| RevisionRecord {
        elf: "a".into(),
        task: "t".into(),
        revision: Revision::new([7; 32]),
        first_seen: Timestamp(1),
        body: Bytes::from_static(body),
    };
    let written = revisions(&[revision(b"first"), revision(b"second")]);
    assert_eq!(written.into_iter().map(RevisionRecord::from).collect::<Vec<_>>(), [revision(b"first")]);
}

#[test]
fn what_began_and_ended_in_a_batch_has_ended() {
    let session =
        |number| SessionRecord { id: SessionId(number), instance: InstanceId::new([1; 16]), secret: None };
    let used = BlobUse { blob: BlobDigest::new([1; 32]), job: JobId::new([1; 16]), role: BlobRole::Kept };
    let written = records(&Batch {
        records: Records {
            sessions_opened: vec![session(1), session(2)],
            sessions_ended: vec![SessionId(2), SessionId(3)],
            ..Records::default()
        },
        blob_uses_begun: vec![used],
        blob_uses_ended: vec![used],
        ..Batch::default()
    });
    let written: Vec<Value> = written.iter().map(|document: &RecordDocument| stored(document)).collect();
    let zero = "0000000000000000";
    assert_eq!(
        written,
        [
            json!({
                "_key": "counters", "kind": "counters",
                "commit": zero, "job": zero, "flow": zero, "finish": zero, "session": zero,
            }),
            json!({
                "_key": "session.1", "kind": "session", "load": 1,
                "instance": "01010101-0101-0101-0101-010101010101", "secret": null,
            }),
            json!({ "_key": "session.2", "gone": 1 }),
            json!({ "_key": "session.3", "gone": 1 }),
            json!({ "_key": use_key(&used), "gone": 1 }),
        ]
    );
}

#[test]
fn people_find_what_bodies_say_and_nothing_where_they_are_none() {
    let elf_record = elf("scale", b"", 1, 1);
    let declared = v1::ElfDeclaration {
        name: "scale".to_owned(),
        docs: "Weighs.".to_owned(),
        revision: vec![7; 32].into(),
        tasks: vec![v1::TaskDeclaration { name: "task_weigh".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let record = ElfRecord { body: declared.encode_to_vec().into(), ..elf_record.clone() };
    let document = stored(&ElfDocument::from(&record));
    assert_eq!(document["documentation"], "Weighs.");
    assert_eq!(document["tasks"], json!(["task_weigh"]));
    assert_eq!(document["last_revision"], "07".repeat(32));
    assert_eq!((&document["_key"], &document["ord"]), (&json!("scale"), &json!("7363616c65")));

    let failure = v1::Failure {
        r#type: "Broken".to_owned(),
        message: "it broke".to_owned(),
        frames: vec![v1::Frame { function: "weigh".to_owned(), file: "scale.rs".to_owned(), line: 7 }],
        causes: vec![v1::FailureCause { r#type: "Io".to_owned(), message: "no disk".to_owned() }],
        ..Default::default()
    };
    let record = |body: Bytes| FailureRecord {
        id: FailureId::new([1; 16]),
        body,
        occurrences: 1,
        first_seen: Timestamp(1_500),
        last_seen: Timestamp(2_500),
        elf: "scale".into(),
        task: "task_weigh".into(),
    };
    let document = stored(&FailureDocument::from(record(failure.encode_to_vec().into())));
    assert_eq!((&document["type"], &document["message"]), (&json!("Broken"), &json!("it broke")));
    assert_eq!(document["traceback"], "at weigh (scale.rs:7)\ncaused by Io: no disk\n");
    assert_eq!((&document["first_seen_ms"], &document["last_seen_ms"]), (&json!(1), &json!(2)));

    // No protobuf.
    let body = Bytes::from_static(&[0xff]);
    let document = stored(&ElfDocument::from(&ElfRecord { body: body.clone(), ..elf_record }));
    assert_eq!((&document["documentation"], &document["tasks"]), (&Value::Null, &Value::Null));
    let document = stored(&FailureDocument::from(record(body)));
    assert_eq!((&document["type"], &document["traceback"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_is_damaged_names_its_document() {
    #[track_caller]
    fn is_damaged<D: DeserializeOwned, R: TryFrom<D, Error: Display> + Debug>(document: &Value) {
        let error = row(document).read::<D, R>("Some").unwrap_err();
        assert!(error.is_damage() && error.to_string().contains("Some/a-key"), "{error}");
    }
    is_damaged::<FlowDocument, FlowRecord>(&Value::Null);
    is_damaged::<FlowDocument, FlowRecord>(&json!({ "_key": "no id" }));
    let record = elf("a", b"", 1, 1);
    for (attribute, value) in [
        ("name", json!(7)),
        ("name", Value::Null),
        ("body", json!("no base64!")),
        ("creation_date", json!("yesterday")),
        ("last_seen_date", json!(12)),
    ] {
        let mut document = stored(&ElfDocument::from(&record));
        document[attribute] = value;
        is_damaged::<ElfDocument, ElfRecord>(&document);
    }
    // What is only for people may be edited.
    let mut document = stored(&ElfDocument::from(&record));
    document["documentation"] = json!({ "my": "own" });
    document["mine"] = json!(1);
    assert_eq!(row(&document).read::<ElfDocument, ElfRecord>("Some").unwrap(), record);
    let session = json!({
        "_key": "session.1", "instance": "01010101-0101-0101-0101-010101010101", "secret": "short",
    });
    is_damaged::<SessionDocument, SessionRecord>(&session);
    for key in ["use", "use.x.y.0", "session.1", "", &"use.".repeat(40)] {
        assert_eq!(use_of_key(key), None, "{key}");
    }
}
