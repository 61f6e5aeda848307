use std::collections::BTreeMap;

use mycelium_core::ids::{
    Attempt, Build, ContentDigest, FailureId, FlowId, InstanceId, JobId, PolicyId, Revision, SubmissionId,
};
use mycelium_core::image::{
    AttemptEnd, FlowRecord, JobHead, LiveJob, PastAttempt, Running, SessionRecord, SubmissionRecord, Tries,
};
use mycelium_core::labels::Labels;
use mycelium_core::signature::Shape;
use proptest::prelude::*;

use super::super::words::Word;
use super::*;
use crate::store::{ElfRecord, FailureRecord, FinishedRecord, OccurrenceRecord, RevisionRecord, SpecRecord};

/// Reads bytes as every record; what comes out is of no matter, as long as something does.
fn decode_as_everything(bytes: &Bytes) {
    fn decode_as<R: Record>(key: R::Key, bytes: &Bytes) {
        let _: Result<R, Malformed> = decode(key, bytes.clone(), None);
    }
    decode_as::<SpecRecord>(JobId::default(), bytes);
    decode_as::<LiveJob>(JobId::default(), bytes);
    decode_as::<FinishedRecord>(FinishNumber(1), bytes);
    decode_as::<EndRecord>((), bytes);
    decode_as::<Head>((), bytes);
    decode_as::<FlowRecord>(FlowId::default(), bytes);
    decode_as::<SessionRecord>(SessionId(1), bytes);
    decode_as::<SubmissionRecord>(SubmissionId::default(), bytes);
    decode_as::<FailureRecord>(FailureId::default(), bytes);
    decode_as::<OccurrenceRecord>((), bytes);
    decode_as::<ElfRecord>((), bytes);
    decode_as::<RevisionRecord>((), bytes);
    decode_as::<Word>((), bytes);
}

fn labels() -> Labels {
    BTreeMap::from([("team".to_owned(), "apiary".to_owned()), ("empty".to_owned(), String::new())]).into()
}

pub(in super::super) fn live() -> LiveJob {
    LiveJob {
        head: JobHead {
            id: JobId::new([1; 16]),
            flow: FlowId::new([2; 16]),
            elf: "scale".into(),
            task: "task_weigh".into(),
            priority: i32::MIN,
            labels: labels(),
            policy: PolicyId(u32::MAX),
            number: JobNumber(u64::MAX),
            submitted_at: Timestamp(1),
            shape: Shape::of(["grams".into(), "".into()]),
        },
        digest: ContentDigest(u64::MAX),
        waits_for: vec![JobId::new([3; 16]), JobId::new([4; 16])],
        submission: Some(SubmissionId::new([5; 16])),
        attempt: Attempt(u32::MAX),
        elves_lost: 6,
        elves_lost_alone: 5,
        beside: vec![JobId::new([6; 16]), JobId::new([7; 16])],
        evaluate: true,
        running: Some(Running {
            session: SessionId(7),
            instance: InstanceId::new([8; 16]),
            revision: Revision::new([9; 32]),
            build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
            since: Timestamp(10),
            started: Some(Timestamp(17)),
        }),
        expires_at: Some(Timestamp(7)),
        queued_at: Some(Timestamp(u64::MAX)),
        tries: Tries { failed: 18, failed_max: u32::MAX, not_before: Some(Timestamp(19)) },
        attempts: vec![PastAttempt {
            number: Attempt(11),
            held: Running {
                session: SessionId(12),
                instance: InstanceId::new([13; 16]),
                revision: Revision::new([14; 32]),
                build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
                since: Timestamp(15),
                started: None,
            },
            ended_at: Timestamp(16),
            how: AttemptEnd::ElfLostBefore,
            failure: Some(FailureId::new([20; 16])),
        }],
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_form in any::<bool>()) {
        if let (true, Some(form)) = (is_form, bytes.first_mut()) {
            *form = FORM;
        }
        decode_as_everything(&bytes.into());
    }

    #[test]
    fn no_damage_to_a_record_makes_it_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        encode(&live(), &mut bytes, None);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        decode_as_everything(&bytes.into());
    }
}

#[test]
fn records_read_as_they_were_written() {
    let mut bytes = Vec::new();
    encode(&live(), &mut bytes, None);
    assert_eq!(decode(live().head.id, bytes.into(), None), Ok(live()));
}

#[test]
fn bytes_that_are_no_record_say_why() {
    let read =
        |bytes: &'static [u8]| decode::<Head>((), Bytes::from_static(bytes), None).unwrap_err().to_string();
    assert_eq!(read(&[]), "the record is empty");
    assert_eq!(read(&[2, 0]), "the record has the unknown form 2");
    let mut bytes = Vec::new();
    encode(&live(), &mut bytes, None);
    bytes[2] = 15;
    let error = decode::<LiveJob>(live().head.id, bytes.into(), None).unwrap_err();
    assert!(!error.to_string().is_empty());
}
