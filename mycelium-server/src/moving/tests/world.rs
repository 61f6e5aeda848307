//! A store in which there is something of everything, and all that can be read of a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob, Records};
use mycelium_core::ids::{
    ActionId, Attempt, Build, Commit, ContentDigest, FailureId, FinishNumber, FlowId, FlowNumber, InstanceId,
    JobId, JobNumber, PolicyId, Revision, SecretDigest, SessionId, SubmissionId, Timestamp, Token,
};
use mycelium_core::image::{
    ActionKind, ActionRecord, AttemptEnd, Counters, FlowRecord, JobHead, LiveJob, PastAttempt, PauseRecord,
    PauseTarget, PropagationRecord, Running, SessionRecord, SubmissionRecord, Tries,
};
use mycelium_core::labels::Labels;
use mycelium_core::policy::{Policy, PolicyRecord, RetryPolicy, Timeouts};
use mycelium_core::signature::Shape;
use mycelium_core::status::{ExpiredWhy, FinalCounts};
use mycelium_proto::v1::{self, payload};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::store::{
    Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord, ElfRecord, FinishedQuery, FlowQuery, JobAfter,
    JobChange, Knowledge, NewFailure, OccurrenceRecord, RevisionRecord, SpecRecord, Storage, wait_for,
};

pub(super) const FINISHED: u64 = 40;
const UNFINISHED: u64 = 20;
/// Moments are about this one.
const NOW: u64 = 1_767_225_600_000_000;

pub(super) fn job(number: u64) -> JobId {
    let mut id = [0x10; 16];
    // Ids are not in the order of the numbers.
    id[..8].copy_from_slice(&(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    JobId::new(id)
}

fn flow(number: u8) -> FlowId {
    FlowId::new([0xf0 | number; 16])
}

fn failure(number: u8) -> FailureId {
    FailureId::new([0xb0 | number; 16])
}

fn submission(number: u8) -> SubmissionId {
    SubmissionId::new([0xa0 | number; 16])
}

fn labels(number: u64) -> Labels {
    let pairs = [("team", "apiary".to_owned()), ("odd", (number % 2).to_string())];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
    if number.is_multiple_of(3) { Labels::NONE } else { BTreeMap::from(pairs).into() }
}

fn held(number: u64) -> Running {
    Running {
        session: SessionId(number % 3 + 1),
        instance: InstanceId::new([number as u8 % 3 + 1; 16]),
        revision: Revision::new([number as u8; 32]),
        build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
        since: Timestamp(NOW + number),
        started: (!number.is_multiple_of(3)).then_some(Timestamp(NOW + number + number % 2)),
    }
}

fn tries(number: u64) -> Tries {
    let failed = u32::from(number.is_multiple_of(3));
    Tries { failed, failed_max: 5 * failed, not_before: number.is_multiple_of(5).then_some(Timestamp(NOW)) }
}

fn attempts(number: u64) -> Vec<PastAttempt> {
    use AttemptEnd::{Cancelled, ElfLost, ElfLostBefore, Failed, HandedBack, NotHeld, Returned};
    let ends = [Returned, Failed, Cancelled, HandedBack, NotHeld, ElfLost, ElfLostBefore];
    let past = |(number, how)| PastAttempt {
        number: Attempt(number),
        held: held(number.into()),
        ended_at: Timestamp(NOW + 9),
        how,
        failure: (how == Failed).then_some(FailureId::new([7; 16])),
    };
    (1..).zip(ends).take(number as usize % 8).map(past).collect()
}

/// Some were stored before shapes were, and some have no arguments.
fn shape(number: u64) -> Shape {
    match number % 3 {
        0 => Shape::UNKNOWN,
        names => Shape::of(["grams", "unit"].into_iter().take(names as usize - 1).map(Into::into)),
    }
}

fn head(number: u64) -> JobHead {
    JobHead {
        id: job(number),
        flow: flow(number as u8 % 2 + 1),
        elf: "scale".into(),
        task: if number.is_multiple_of(2) { "task_weigh" } else { "task_tare" }.into(),
        priority: number as i32 - 5,
        labels: labels(number),
        policy: PolicyId(number as u32 % 2),
        number: JobNumber(number),
        submitted_at: Timestamp(NOW - 1_000 + number),
        shape: shape(number),
    }
}

fn policy() -> PolicyRecord {
    let retry = RetryPolicy {
        attempts: Some(5),
        first: Some(Duration::from_micros(1_500)),
        never: Some([Arc::from("NotFound")].into()),
        panics: Some(false),
        ..RetryPolicy::default()
    };
    let timeouts = Timeouts { total: Some(Duration::from_secs(60)), ..Timeouts::default() };
    PolicyRecord { id: PolicyId(1), policy: Policy { retry, timeouts } }
}

fn pauses() -> Vec<PauseRecord> {
    let targets = [
        PauseTarget::Mycelium,
        PauseTarget::Elf("scale".into()),
        PauseTarget::Task { elf: "scale".into(), task: "task_weigh".into() },
        PauseTarget::Flow(FlowId::new([7; 16])),
    ];
    let pause =
        |target| PauseRecord { target, since: Timestamp(NOW), by: "ada@host".into(), reason: "".into() };
    targets.map(pause).into()
}

fn actions() -> Vec<ActionRecord> {
    let first = ActionRecord {
        id: ActionId::new([1; 16]),
        kind: ActionKind::Retry,
        filter: "failure:ab12".into(),
        flow: None,
        failure: Some(FailureId::new([2; 16])),
        by: "ada@host".into(),
        began_at: Timestamp(NOW),
        upto: 99,
        place: 7,
        total: None,
        done: 3,
        refused: 1,
        ended_at: None,
    };
    let (id, kind, flow) = (ActionId::new([2; 16]), ActionKind::Delete, Some(FlowId::new([7; 16])));
    let (failure, total, ended_at) = (None, Some(5), Some(Timestamp(NOW + 9)));
    let second = ActionRecord { id, kind, flow, failure, total, ended_at, ..first.clone() };
    vec![
        first.clone(),
        second,
        ActionRecord { id: ActionId::new([3; 16]), kind: ActionKind::Cancel, ..first },
    ]
}

fn spec(number: u64) -> SpecRecord {
    SpecRecord {
        head: JobHead { policy: PolicyId::default(), ..head(number) },
        digest: ContentDigest(u64::MAX - number),
        depends_on: (1..number).rev().take(number as usize % 4).map(job).collect(),
        evaluate: number.is_multiple_of(7),
        gathered_by: number.is_multiple_of(9).then(|| job(number + 1)),
        begins_at: number.is_multiple_of(5).then_some(Timestamp(NOW)),
        body: vec![number as u8; 10 * number as usize].into(),
    }
}

/// What a job returned: JSON, a blob, something else, and what is no message.
fn outputs(number: u64) -> Bytes {
    let payload =
        |encoding: &str, content| v1::Payload { encoding: encoding.to_owned(), content: Some(content) };
    let inline = |text: String| payload::Content::Inline(text.into());
    let blob = v1::BlobRef { digest: blob(1).as_bytes().to_vec().into(), size: 3 };
    let large = format!("\"{}\"", "x".repeat(3_000));
    let payloads = match number % 8 {
        0 => vec![payload("", inline("{\"grams\": 12.50}".to_owned()))],
        1 => vec![payload("", inline("1".to_owned())), payload("", inline(large))],
        2 => vec![payload("", payload::Content::Blob(blob))],
        3 => vec![payload("text/plain", inline("12".to_owned()))],
        4 => vec![payload("", inline("[1,\n2]".to_owned()))],
        5 => vec![payload("", inline(" 1".to_owned()))],
        6 => return Bytes::from_static(b"\xff\xfe"),
        _ => Vec::new(),
    };
    let named = (0..).zip(payloads);
    let named =
        named.map(|(at, payload)| v1::NamedOutput { name: format!("output {at}"), payload: Some(payload) });
    v1::Outputs { outputs: named.collect() }.encode_to_vec().into()
}

fn finished(number: u64) -> JobChange {
    let end = match number % 9 {
        1 => End::Failed(failure(1)),
        2 => End::UpstreamFailed(job(1)),
        3 => End::Cancelled,
        4 => End::Skipped,
        5 => End::Expired(ExpiredWhy::Queue),
        6 => End::Expired(ExpiredWhy::Total),
        _ => End::Done(outputs(number)),
    };
    let record = FinishedJob {
        head: head(number),
        // Some numbers are of jobs that were retried since.
        finish_number: FinishNumber(number + number / 10),
        end,
        // The clock is set back now and then.
        finished_at: Timestamp(NOW + number % 11),
        attempt: Attempt(number as u32 % 8),
        elves_lost: number as u32 % 2,
        ran: number.is_multiple_of(2).then(|| held(number)),
        elements: number.is_multiple_of(5).then_some(4),
        attempts: attempts(number),
    };
    let after = JobAfter::Finished(record);
    JobChange { id: job(number), flow: head(number).flow, created: Some(spec(number)), revived: None, after }
}

/// Adds a job of which the records do not say the same, which a broker does not write and some stores cannot keep.
pub(super) fn add_contradictory(store: &dyn Storage) {
    let counters = store.load(&mut |_| {}).wait().unwrap().counters;
    let mut change = unfinished(FINISHED + UNFINISHED + 1);
    change.created.as_mut().unwrap().head.priority = 99;
    let mut batch = Batch { counters, jobs: vec![change], ..Batch::default() };
    batch.counters.commit.0 += 1;
    store.commit(&batch).wait().unwrap();
}

fn unfinished(number: u64) -> JobChange {
    let is_running = number.is_multiple_of(4);
    let live = LiveJob {
        head: head(number),
        digest: spec(number).digest,
        waits_for: if is_running { Vec::new() } else { spec(number).depends_on },
        submission: (!is_running && number.is_multiple_of(3)).then(|| submission(1)),
        attempt: Attempt(number as u32 % 7 + 1),
        elves_lost: 0,
        elves_lost_alone: number as u32 % 3,
        beside: if number.is_multiple_of(5) { vec![job(number), job(1)] } else { Vec::new() },
        evaluate: number.is_multiple_of(7),
        running: is_running.then(|| held(number)),
        attempts: attempts(number),
        expires_at: number.is_multiple_of(4).then_some(Timestamp(NOW + number)),
        queued_at: number.is_multiple_of(8).then_some(Timestamp(NOW)),
        tries: tries(number),
    };
    let (id, flow, after) = (job(number), live.head.flow, JobAfter::Live(live));
    JobChange { id, flow, created: Some(spec(number)), revived: None, after }
}

fn seen(failure_number: u8, of: u64, at: u64) -> NewFailure {
    let message = format!("broken \"{of}\"\n");
    let body =
        v1::Failure { r#type: "ScaleError".to_owned(), message: message.clone(), ..Default::default() };
    NewFailure {
        id: failure(failure_number),
        body: body.encode_to_vec().into(),
        occurrence: OccurrenceRecord {
            job: job(of),
            attempt: Attempt(2),
            at: Timestamp(NOW + at),
            message,
            details: "details".to_owned(),
            cause_messages: vec!["cause".to_owned(), String::new()],
        },
        elf: "scale".into(),
        task: "task_weigh".into(),
    }
}

pub(super) fn blob(number: u8) -> BlobDigest {
    BlobDigest::new(Sha256::digest(blob_bytes(number)).into())
}

fn blob_bytes(number: u8) -> Vec<u8> {
    vec![number; 100 * usize::from(number)]
}

/// Blobs, some of them used and one not.
pub(super) fn write_blobs(folder: &Path) {
    for number in 1..=6 {
        let path = super::super::blob_files::path_of(folder, blob(number));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, blob_bytes(number)).unwrap();
    }
    std::fs::create_dir_all(folder.join("staging")).unwrap();
    std::fs::write(folder.join("staging/half"), "half").unwrap();
}

/// Puts something of everything into an empty store.
pub(super) fn fill(store: &dyn Storage) {
    let flows = [(1, "daily report"), (2, ""), (5, "daily report")].map(|(number, name)| FlowRecord {
        id: flow(number),
        name: name.into(),
        labels: labels(u64::from(number)),
        number: FlowNumber(u64::from(number)),
        created_at: Timestamp(NOW - u64::from(number)),
        finished: FinalCounts {
            done: 1,
            failed: 2,
            upstream_failed: 3,
            cancelled: 4,
            skipped: 5,
            expired: 6,
        },
        on_behalf_of: (number == 2).then(|| Token { job: job(3), attempt: Attempt(2) }),
        pinned: number == 5,
        deleted_at: None,
    });
    let session = |number: u64| SessionRecord {
        id: SessionId(number),
        instance: InstanceId::new([number as u8; 16]),
        secret: number.is_multiple_of(2).then(|| SecretDigest::new([number as u8; 32])),
    };
    let submissions = (1..=9).map(|number| SubmissionRecord {
        id: submission(number),
        flow: flow(1),
        next_part: u32::from(number),
        sealed: number > 2,
    });
    let elf = |name: &str| ElfRecord {
        name: name.into(),
        body: v1::ElfDeclaration { name: name.to_owned(), ..Default::default() }.encode_to_vec().into(),
        first_seen: Timestamp(NOW),
        last_seen: Timestamp(NOW + 5),
    };
    let kept = |elf: &str, task: &str, number: u8| RevisionRecord {
        elf: elf.into(),
        task: task.into(),
        revision: Revision::new([number; 32]),
        first_seen: Timestamp(NOW + u64::from(number) % 3),
        body: vec![number; 50].into(),
    };
    let uses = (1..=7).flat_map(|number| {
        [BlobRole::Kept, BlobRole::Argument].map(|role| BlobUse {
            blob: blob(number),
            job: job(u64::from(number)),
            role,
        })
    });
    let mut failures: Vec<_> = (1..=5).map(|at| seen(1, 1 + at % 2, 20 - at)).collect();
    failures.extend([seen(2, 9, 30), seen(3, 8, 5)]);
    let counters = Counters {
        commit: Commit(1),
        job: JobNumber(1_000),
        flow: FlowNumber(1_001),
        finish: FinishNumber(1_002),
        session: SessionId(1_003),
    };
    let mut batch = Batch {
        counters: Counters { commit: Commit(1), ..Counters::default() },
        jobs: (1..=FINISHED).map(finished).collect(),
        records: Records {
            flows: flows.to_vec(),
            sessions_opened: vec![session(1), session(2), session(3)],
            submissions: submissions.collect(),
            propagations_begun: vec![PropagationRecord { cause: job(1) }],
            policies: vec![policy()],
            pauses: pauses(),
            actions: actions(),
            ..Records::default()
        },
        failures,
        elves: vec![elf("scale"), elf("bee"), elf("bear")],
        revisions: (1..=5).map(|number| kept("scale", "task_weigh", number)).collect(),
        blob_uses_begun: uses.collect(),
        checkpoints: [FINISHED, FINISHED + 2, FINISHED + 1].map(checkpoint).to_vec(),
        ..Batch::default()
    };
    batch.revisions.extend([kept("scale", "", 1), kept("bee", "task_hum", 1)]);
    batch.jobs.extend((FINISHED + 1..=FINISHED + UNFINISHED).map(unfinished));
    wait_for(Knowledge::default().prepare(store, &mut batch)).unwrap();
    store.commit(&batch).wait().unwrap();
    let empty = Batch { counters: Counters { commit: Commit(2), ..counters }, ..Batch::default() };
    store.commit(&empty).wait().unwrap();
}

fn checkpoint(number: u64) -> CheckpointRecord {
    let body = vec![7; 1_000].into();
    CheckpointRecord { job: job(number), attempt: Attempt(3), at: Timestamp(NOW + number), body }
}

/// All that can be read of a store, by every way there is, but for how many commits it took.
pub(super) fn everything(store: &dyn Storage) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: &dyn std::fmt::Debug| found.push(format!("{what:?}"));

    let mut live = Vec::new();
    let mut image = store.load(&mut |job| live.push(job)).wait().unwrap();
    live.sort_by_key(|job| job.head.id);
    image.flows.sort_by_key(|flow| flow.id);
    image.sessions.sort_by_key(|session| session.id);
    image.submissions.sort_by_key(|submission| submission.id);
    image.pauses.sort_by_key(|pause| pause.target.clone());
    image.actions.sort_by_key(|action| action.id);
    image.counters.commit = Commit(0);
    say(&(live, &image));
    let secrets: Vec<_> = image.sessions.iter().map(|one| one.secret.map(|one| *one.as_bytes())).collect();
    say(&secrets);

    let jobs: Vec<JobId> = (1..=FINISHED + UNFINISHED + 1).map(job).collect();
    say(&store.specs(&jobs).wait().unwrap());
    say(&store.outlines(&jobs).wait().unwrap());
    say(&store.unfinished(&jobs).wait().unwrap());
    say(&store.finished(&jobs).wait().unwrap());
    say(&store.outputs(&jobs).wait().unwrap());
    say(&store.dependents(&jobs, None, 10_000).wait().unwrap());
    let all = FinishedQuery { limit: 1_000, ..FinishedQuery::default() };
    let queries = [
        all.clone(),
        FinishedQuery { flow: Some(flow(1)), ..all.clone() },
        FinishedQuery { elf: Some("scale".to_owned()), task: Some("task_tare".to_owned()), ..all.clone() },
        FinishedQuery { labels: labels(1), ..all.clone() },
        FinishedQuery {
            finished_from: Some(Timestamp(NOW + 3)),
            finished_before: Some(Timestamp(NOW + 8)),
            ..all.clone()
        },
        FinishedQuery { statuses: vec![mycelium_core::status::FinalStatus::Failed], ..all },
    ];
    for query in &queries {
        say(&store.list_finished(query).wait().unwrap().jobs);
    }

    let flows: Vec<FlowId> = (1..=6).map(flow).collect();
    say(&store.flows(&flows).wait().unwrap());
    say(&store.flow_named("daily report").wait().unwrap());
    say(&store.list_flows(&FlowQuery { limit: 100, ..FlowQuery::default() }).wait().unwrap());
    let labelled = FlowQuery { labels: labels(1), limit: 100, ..FlowQuery::default() };
    say(&store.list_flows(&labelled).wait().unwrap());
    let submissions: Vec<SubmissionId> = (1..=10).map(submission).collect();
    say(&store.submissions(&submissions).wait().unwrap());
    say(&store.list_submissions(None, 100).wait().unwrap());

    let elves = store.list_elves(None, 100).wait().unwrap();
    say(&elves);
    let names: Vec<Arc<str>> = elves.iter().map(|elf| elf.name.clone()).collect();
    say(&store.elves(&names).wait().unwrap());
    for name in &names {
        let kept = store.list_revisions(name, None, 100).wait().unwrap();
        let keys: Vec<_> =
            kept.iter().map(|(_, kept)| (kept.elf.clone(), kept.task.clone(), kept.revision)).collect();
        say(&(kept, store.revisions(&keys).wait().unwrap()));
    }
    let failures = store.list_failures(None, 100).wait().unwrap().entries;
    for (_, record) in &failures {
        say(&store.failures(&[record.id]).wait().unwrap());
        say(&store.list_occurrences(record.id, None, 100).wait().unwrap());
        let of: Vec<_> = jobs.iter().map(|job| (record.id, *job)).collect();
        say(&store.occurrences_of(&of).wait().unwrap());
    }
    say(&failures);
    let blobs: Vec<BlobDigest> = (1..=8).map(blob).collect();
    say(&store.blob_uses(&blobs, None, 100).wait().unwrap());
    say(&store.list_blob_uses(None, 100).wait().unwrap());
    say(&store.checkpoints(&jobs).wait().unwrap());
    say(&store.list_checkpoints(None, 100).wait().unwrap());
    found
}
