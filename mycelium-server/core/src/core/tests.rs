use std::sync::Arc;

use crate::command::OutcomeResult;
use crate::effects::{
    Assignment, Change, Effects, End, FinishedJob, JobRecord, JobWrite, Records, Reply, Send, SpecRecord,
    Verdict,
};
use crate::ids::{
    AssignNumber, Attachment, Attempt, Build, Commit, ContentDigest, FinishNumber, FlowNumber, JobNumber,
    RequestId, SessionId, Timestamp,
};
use crate::image::{Counters, FlowRecord, JobHead, LiveJob, Running, SessionRecord, Tries};
use crate::labels::Labels;
use crate::status::{FinalCounts, FinalStatus, Status};
use crate::testing::{FLOW, REVISION, SECOND, TestEnv, id, instance, job, offer, token};
use crate::timers::TimerKey;

fn flow_record(done: u64) -> FlowRecord {
    FlowRecord {
        id: FLOW,
        name: Arc::from("flow"),
        labels: Labels::default(),
        number: FlowNumber(1),
        created_at: Timestamp(SECOND),
        on_behalf_of: None,
        finished: FinalCounts { done, ..FinalCounts::default() },
        pinned: false,
        deleted_at: None,
    }
}

fn live(number: u8, waits_for: &[u8]) -> LiveJob {
    LiveJob {
        head: JobHead {
            id: id(number),
            flow: FLOW,
            elf: Arc::from("elf"),
            task: Arc::from("task_run"),
            number: JobNumber(number.into()),
            submitted_at: Timestamp(SECOND),
            shape: crate::testing::shape(&[]),
            ..JobHead::default()
        },
        digest: ContentDigest(number.into()),
        waits_for: waits_for.iter().map(|&number| id(number)).collect(),
        submission: None,
        attempt: Attempt(0),
        elves_lost: 0,
        elves_lost_alone: 0,
        beside: Vec::new(),
        evaluate: false,
        running: None,
        expires_at: None,
        queued_at: None,
        tries: Tries::default(),
        attempts: Vec::new(),
    }
}

fn running(number: u8) -> LiveJob {
    let running = Running {
        session: SessionId(1),
        instance: instance(1),
        revision: REVISION,
        build: Build::UNKNOWN,
        since: Timestamp(SECOND),
        started: Some(Timestamp(SECOND)),
    };
    LiveJob { attempt: Attempt(1), running: Some(running), ..live(number, &[]) }
}

fn write(number: u8, after: JobRecord) -> JobWrite {
    JobWrite { id: id(number), flow: FLOW, created: None, revived: None, after }
}

fn created(number: u8, depends_on: &[u8]) -> Option<SpecRecord> {
    let LiveJob { head, digest, .. } = live(number, &[]);
    let depends_on = depends_on.iter().map(|&number| id(number)).collect();
    let body = Attachment(number.into());
    Some(SpecRecord { head, digest, depends_on, evaluate: false, gathered_by: None, begins_at: None, body })
}

fn change(number: u8, status: Status, attempt: u32) -> Change {
    Change { job: id(number), flow: FLOW, status, attempt: Attempt(attempt), end: None }
}

fn assign(number: u8, assign: u64) -> Send {
    let assignment = Assignment {
        priority: 0,
        token: token(number, 1),
        flow: FLOW,
        elf: Arc::from("elf"),
        task: Arc::from("task_run"),
        is_judged: false,
        run_timeout: None,
        progress_timeout: None,
    };
    Send::Assign { session: SessionId(1), assignments: vec![assignment], first: AssignNumber(assign) }
}

/// 1 -> 2: submitted, run and done, with every effect on the way.
#[test]
fn a_hop_in_a_chain_is_one_batch() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![job(1, &[]), job(2, &[1])]);
    let mut counters =
        Counters { commit: Commit(1), job: JobNumber(2), flow: FlowNumber(1), ..Counters::default() };
    let expected = Effects {
        jobs: vec![
            JobWrite { created: created(1, &[]), ..write(1, JobRecord::Live(live(1, &[]))) },
            JobWrite { created: created(2, &[1]), ..write(2, JobRecord::Live(live(2, &[1]))) },
        ],
        records: Records { flows: vec![flow_record(0)], ..Records::default() },
        counters: Some(counters),
        replies: vec![(RequestId(1), Ok(Reply::Submitted { created: 2, existing: 0 }))],
        changes: vec![change(1, Status::Ready, 0), change(2, Status::Pending, 0)],
        ..Effects::default()
    };
    assert_eq!(effects, expected);

    let effects = env.hello(1, None, vec![offer(1, 1)], vec![]);
    counters = Counters { commit: Commit(2), session: SessionId(1), ..counters };
    let welcome = Reply::Welcome { session: SessionId(1), resumed: false, keep: vec![] };
    let session = SessionRecord { id: SessionId(1), instance: instance(1), secret: None };
    let expected = Effects {
        jobs: vec![write(1, JobRecord::Live(running(1)))],
        records: Records { sessions_opened: vec![session], ..Records::default() },
        counters: Some(counters),
        sends: vec![assign(1, 1)],
        replies: vec![(RequestId(2), Ok(welcome))],
        changes: vec![change(1, Status::Running, 1)],
        ..Effects::default()
    };
    assert_eq!(effects, expected);

    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(77)));
    counters = Counters { commit: Commit(3), finish: FinishNumber(1), ..counters };
    let end = End::Done(Attachment(77));
    let finished = FinishedJob {
        head: live(1, &[]).head,
        finish_number: FinishNumber(1),
        end,
        finished_at: Timestamp(SECOND),
        attempt: Attempt(1),
        elves_lost: 0,
        ran: running(1).running,
        elements: None,
        attempts: Vec::new(),
    };
    let done = Change { end: Some(end), ..change(1, Status::Final(FinalStatus::Done), 1) };
    let acks = vec![(token(1, 1), Verdict::Recorded)];
    let expected = Effects {
        jobs: vec![write(1, JobRecord::Finished(finished)), write(2, JobRecord::Live(running(2)))],
        records: Records { flows: vec![flow_record(1)], ..Records::default() },
        counters: Some(counters),
        sends: vec![Send::OutcomeAcks { session: SessionId(1), acks }, assign(2, 2)],
        changes: vec![done, change(2, Status::Running, 1)],
        ..Effects::default()
    };
    assert_eq!(effects, expected);
}

#[test]
fn a_batch_without_commands_changes_nothing() {
    let mut env = TestEnv::new();
    assert_eq!(env.batch([]), Effects::default());
    assert_eq!(env.core.next_deadline(), None);
    assert!(!env.core.has_work());
}

#[test]
fn an_outcome_counts_once() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));

    let effects = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(2)));
    let acks = vec![(token(1, 1), Verdict::Duplicate)];
    let sends = vec![Send::OutcomeAcks { session: SessionId(1), acks }];
    assert_eq!(effects, Effects { sends, ..Effects::default() });

    let effects = env.outcome(1, token(1, 2), OutcomeResult::Failure(Attachment(2)));
    let acks = vec![(token(1, 2), Verdict::Stale)];
    let sends = vec![Send::OutcomeAcks { session: SessionId(1), acks }];
    assert_eq!(effects, Effects { sends, ..Effects::default() });
    assert_eq!(env.core.status().outcomes_stale, 1);
}

#[test]
#[should_panic(expected = "every session has a lease")]
fn a_core_that_contradicts_itself_ends_no_batch() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let session = env.core.sessions.find(SessionId(1)).unwrap();
    env.core.timers.cancel(TimerKey::Lease(session));
    env.core.finish_batch(env.now, &mut Effects::default());
}
