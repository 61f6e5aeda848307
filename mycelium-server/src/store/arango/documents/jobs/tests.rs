use std::collections::BTreeMap;

use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob};
use mycelium_core::ids::{
    Build, ContentDigest, FailureId, FinishNumber, FlowId, JobId, JobNumber, PolicyId, Revision,
    SubmissionId, Timestamp,
};
use mycelium_core::image::{JobHead, LiveJob, Tries};
use mycelium_core::signature::Shape;
use mycelium_core::status::ExpiredWhy;
use serde_json::Value;

use super::*;
use crate::store::record::Encoded;
use crate::store::{JobAfter, JobChange, SpecRecord};

fn head(number: u8) -> JobHead {
    JobHead {
        id: JobId::new([number; 16]),
        flow: FlowId::new([7; 16]),
        elf: "scale".into(),
        task: "task_weigh".into(),
        priority: -3,
        labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]).into(),
        policy: PolicyId(2),
        number: JobNumber(u64::MAX - 1),
        submitted_at: Timestamp(1_764_411_409_123_456),
        shape: Shape::of(["grams".into()]),
    }
}

fn spec(number: u8, body: usize) -> SpecRecord {
    SpecRecord {
        head: JobHead { policy: PolicyId::default(), ..head(number) },
        digest: ContentDigest(u64::MAX),
        depends_on: vec![JobId::new([1; 16]), JobId::new([2; 16])],
        evaluate: true,
        gathered_by: Some(JobId::new([3; 16])),
        begins_at: Some(Timestamp(5_000)),
        body: Bytes::from(vec![0xff; body]),
    }
}

fn running() -> Running {
    Running {
        session: SessionId(9),
        instance: InstanceId::new([0xcc; 16]),
        revision: Revision::new([0xdd; 32]),
        build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
        since: Timestamp(2_000_001),
        started: Some(Timestamp(3_000_001)),
    }
}

fn attempts() -> Vec<PastAttempt> {
    let ends = [
        AttemptEnd::Returned,
        AttemptEnd::Failed,
        AttemptEnd::Cancelled,
        AttemptEnd::HandedBack,
        AttemptEnd::NotHeld,
        AttemptEnd::ElfLost,
        AttemptEnd::ElfLostBefore,
    ];
    let attempt = |(number, how): (u32, AttemptEnd)| PastAttempt {
        number: Attempt(number),
        held: running(),
        ended_at: Timestamp(3_000_002),
        how,
        failure: (how == AttemptEnd::Failed).then_some(FailureId::new([7; 16])),
    };
    (1..).zip(ends).map(attempt).collect()
}

fn live(number: u8) -> LiveJob {
    LiveJob {
        head: head(number),
        digest: ContentDigest(u64::MAX),
        waits_for: vec![JobId::new([2; 16])],
        submission: Some(SubmissionId::new([5; 16])),
        attempt: Attempt(8),
        elves_lost: 1,
        elves_lost_alone: 1,
        beside: vec![JobId::new([9; 16])],
        evaluate: true,
        running: None,
        expires_at: Some(Timestamp(7_000)),
        queued_at: Some(Timestamp(6_000)),
        tries: Tries { failed: 2, failed_max: 5, not_before: Some(Timestamp(8_000)) },
        attempts: attempts(),
    }
}

fn finished(number: u8, end: End<Encoded>) -> FinishedJob<Encoded> {
    FinishedJob {
        head: head(number),
        finish_number: FinishNumber(4),
        end,
        finished_at: Timestamp(5_000_003),
        attempt: Attempt(8),
        elves_lost: 1,
        ran: Some(running()),
        elements: Some(3),
        attempts: attempts(),
    }
}

fn change(created: Option<SpecRecord>, after: JobAfter) -> JobChange {
    JobChange { id: JobId::new([4; 16]), flow: FlowId::new([7; 16]), created, revived: None, after }
}

/// Inserts a document over another, as `overwriteMode: "update"` with `keepNull: false` does.
fn write(document: &mut serde_json::Map<String, Value>, change: &JobChange, outputs: Option<&[&str]>) {
    let update = JobUpdate::of(change, outputs).unwrap();
    let Value::Object(update) = serde_json::to_value(update).unwrap() else { panic!("an object") };
    for (name, value) in update {
        if value.is_null() {
            document.remove(&name);
        } else {
            document.insert(name, value);
        }
    }
}

fn read(document: &serde_json::Map<String, Value>) -> JobDocument {
    serde_json::from_value(Value::Object(document.clone())).unwrap()
}

#[test]
fn a_job_is_read_as_what_was_written_all_its_life() {
    let mut document = serde_json::Map::new();
    let created = spec(4, 100);
    write(&mut document, &change(Some(created.clone()), JobAfter::Live(live(4))), None);
    assert!(document.contains_key("open") && !document.contains_key("fin"));
    assert_eq!(read(&document).live().unwrap(), live(4));
    assert_eq!(read(&document).spec().unwrap(), created);
    assert_eq!(document["status"], "PENDING");
    assert_eq!(document["labels"]["site"], "north");
    assert_eq!(document["submit_date"], "2025-11-29T10:16:49.123456Z");

    let runs = LiveJob {
        running: Some(running()),
        submission: None,
        evaluate: false,
        waits_for: Vec::new(),
        attempts: Vec::new(),
        ..live(4)
    };
    write(&mut document, &change(None, JobAfter::Live(runs.clone())), None);
    assert_eq!(read(&document).live().unwrap(), runs);
    assert_eq!(document["status"], "RUNNING");
    assert_eq!((&document["assign_ms"], &document["start_ms"]), (&2_000.into(), &3_000.into()));
    write(&mut document, &change(None, JobAfter::Evaluate), None);
    assert_eq!(read(&document).live().unwrap(), LiveJob { evaluate: true, ..runs.clone() });

    for end in [
        End::Done(Bytes::new()),
        End::Failed(FailureId::new([9; 16])),
        End::UpstreamFailed(JobId::new([2; 16])),
        End::Cancelled,
        End::Expired(ExpiredWhy::Queue),
        End::Expired(ExpiredWhy::Total),
        End::Skipped,
    ] {
        let ended = finished(4, end);
        let (record, _) = crate::store::record::split_outputs(&ended);
        write(&mut document, &change(None, JobAfter::Finished(ended)), Some(&["value"]));
        assert!(document.contains_key("fin") && !document.contains_key("open"));
        assert_eq!(read(&document).finished().unwrap(), record);
        assert_eq!(read(&document).spec().unwrap(), created, "that stays");
        assert_eq!(document["outputs"], serde_json::json!(["value"]));
        // It is retried.
        write(&mut document, &change(None, JobAfter::Live(runs.clone())), None);
        assert!(!document.contains_key("fin") && !document.contains_key("outputs"));
        assert_eq!(read(&document).live().unwrap(), runs);
    }
}

#[test]
fn what_is_dropped_leaves_nothing_but_its_key() {
    let created = || Some(spec(4, 10));
    let mut document = serde_json::Map::new();
    write(&mut document, &change(created(), JobAfter::Live(live(4))), None);
    write(
        &mut document,
        &change(None, JobAfter::Finished(finished(4, End::Failed(FailureId::new([9; 16]))))),
        None,
    );
    write(&mut document, &change(None, JobAfter::Dropped), None);
    let left: Vec<&str> = document.keys().map(String::as_str).collect();
    assert_eq!(left, ["_key", "gone"]);
    assert!(JobUpdate::of(&change(created(), JobAfter::Dropped), None).is_none(), "it was never there");
}

#[test]
fn a_large_body_stands_elsewhere() {
    let mut document = serde_json::Map::new();
    let large = spec(4, BODY_HERE_BYTES_MAX + 1);
    write(&mut document, &change(Some(large.clone()), JobAfter::Live(live(4))), None);
    assert!(!document.contains_key("body"));
    assert_eq!(read(&document).outline().unwrap(), crate::store::record::outline(large));
    assert!(read(&document).spec().unwrap_err().to_string().contains("`body` is missing"));
}

#[test]
fn what_people_have_edited_is_damaged_and_named() {
    let mut document = serde_json::Map::new();
    write(&mut document, &change(Some(spec(4, 10)), JobAfter::Live(live(4))), None);
    let name = format!("Jobs/{}", JobId::new([4; 16]));
    document.remove("task");
    let error = read(&document).live().unwrap_err();
    assert!(
        error.is_damage() && error.to_string().contains(&name) && error.to_string().contains("`task`"),
        "{error}"
    );
    document.insert("task".to_owned(), "task_weigh".into());
    document.insert("status".to_owned(), "DONE".into());
    assert!(read(&document).live().unwrap_err().is_damage());
    assert!(read(&document).finished().unwrap_err().is_damage());
    document.insert("body".to_owned(), "AAAA".into());
    assert!(read(&document).spec().unwrap_err().is_damage());
}
