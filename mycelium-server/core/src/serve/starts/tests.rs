use std::time::Duration;

use crate::command::{Command, NewJob, Outcome, OutcomeResult, Scope};
use crate::effects::{Effects, JobRecord};
use crate::ids::{Attachment, SessionId, Timestamp};
use crate::image::{AttemptEnd, LiveJob, PastAttempt, Running};
use crate::status::{FinalStatus, Status};
use crate::testing::{FLOW, SECOND, TestEnv, after, assigned, clocks, id, job, offer, token};

const S1: SessionId = SessionId(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// A core with a session that tells of starts, and these jobs.
fn serving(window: u32, concurrency: u32, jobs: &[u8]) -> TestEnv {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(window, concurrency)], vec![]);
    env.submit(jobs.iter().map(|&number| job(number, &[])).collect());
    env
}

fn live(effects: &Effects, number: u8) -> Option<&LiveJob> {
    let write = effects.jobs.iter().find(|write| write.id == id(number))?;
    match &write.after {
        JobRecord::Live(live) => Some(live),
        JobRecord::Evaluate | JobRecord::Finished(_) | JobRecord::Dropped => None,
    }
}

fn started(running: Option<Running>) -> Option<Timestamp> {
    running.and_then(|running| running.started)
}

#[test]
fn a_start_is_told_at_once_and_stored_with_the_next_commit_there_is() {
    let mut env = serving(2, 2, &[1, 2]);
    assert_eq!(env.status(1), Some(Status::Assigned));
    let (flow, counts) = (env.core.flow(FLOW).unwrap(), env.core.status());
    assert_eq!((flow.assigned, flow.running, counts.assigned, counts.running), (2, 0, 2, 0));

    env.now = clocks(5 * SECOND);
    let effects = env.start(1, token(1, 1), Duration::from_secs(1));
    let changes: Vec<_> = effects.changes.iter().map(|change| (change.job, change.status)).collect();
    assert_eq!(changes, [(id(1), Status::Running)]);
    assert!(effects.is_nothing_to_store() && effects.jobs.is_empty(), "a start causes no commit");
    assert_eq!(started(env.core.job(id(1)).unwrap().running), Some(Timestamp(4 * SECOND)));
    let elf = env.core.elf("elf").unwrap();
    assert_eq!((elf.assigned, elf.running), (1, 1));

    let effects = env.submit(vec![job(3, &[1])]);
    assert_eq!(started(live(&effects, 1).unwrap().running), Some(Timestamp(4 * SECOND)));
    assert_eq!(effects.changes.len(), 1, "it is told once");
    let effects = env.submit(vec![job(4, &[1])]);
    assert_eq!(live(&effects, 1), None, "and stored once");
}

#[test]
fn starts_of_what_is_not_held_and_starts_told_again_change_nothing() {
    let mut env = serving(1, 1, &[1]);
    env.now = clocks(3 * SECOND);
    env.start(1, token(1, 1), Duration::ZERO);
    for (session, told) in [(1, token(1, 1)), (1, token(1, 2)), (1, token(9, 1)), (7, token(1, 1))] {
        let effects = env.start(session, told, Duration::from_secs(1));
        assert_eq!(effects, Effects::default(), "{told:?}");
    }
    assert_eq!(started(env.core.job(id(1)).unwrap().running), Some(Timestamp(3 * SECOND)));
}

#[test]
fn no_attempt_was_started_before_it_was_assigned() {
    let mut env = serving(1, 1, &[1]);
    env.now = clocks(3 * SECOND);
    env.start(1, token(1, 1), HOUR);
    let running = env.core.job(id(1)).unwrap().running.unwrap();
    assert_eq!(running.started, Some(running.since));
}

#[test]
fn what_takes_little_is_told_with_its_outcome_and_costs_nothing_more() {
    for (ran, expected) in [(Some(Duration::from_millis(2)), 5 * SECOND - 2_000), (None, SECOND)] {
        let mut env = serving(1, 1, &[1]);
        env.now = clocks(5 * SECOND);
        let outcomes = vec![Outcome {
            token: token(1, 1),
            result: OutcomeResult::Outputs(Attachment(0)),
            failed: None,
            ran,
        }];
        let effects = env.batch([Command::Outcomes { session: S1, outcomes }]);
        assert_eq!((effects.jobs.len(), effects.changes.len(), effects.sends.len()), (1, 1, 1));
        let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
        assert_eq!(started(finished.ran), Some(Timestamp(expected)));
    }
}

#[test]
fn what_failed_without_having_been_started_was_not() {
    let mut env = serving(1, 1, &[1]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(0)));
    let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    assert_eq!(started(finished.ran), None);
}

#[test]
fn an_elf_that_does_not_tell_starts_what_it_is_given() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.submit(vec![job(1, &[])]);
    assert_eq!(env.status(1), Some(Status::Running));
    assert_eq!(started(live(&effects, 1).unwrap().running), Some(Timestamp(SECOND)));

    // It comes back as one that tells, and then as one that does not.
    let mut env = serving(1, 1, &[1]);
    let effects = env.hello(1, Some(1), vec![offer(1, 1)], vec![token(1, 1)]);
    assert_eq!(env.status(1), Some(Status::Running));
    assert_eq!(started(live(&effects, 1).unwrap().running), Some(Timestamp(SECOND)));
}

/// How the attempts of all these jobs ended when their elf was lost.
fn lost(env: &mut TestEnv, jobs: &[u8]) -> Vec<(u8, AttemptEnd)> {
    after(env, Duration::from_secs(31));
    let effects = env.batch([]);
    let end = |number: &u8| {
        let PastAttempt { how, .. } = *live(&effects, *number)?.attempts.last()?;
        Some((*number, how))
    };
    jobs.iter().filter_map(end).collect()
}

/// A job that goes before the others.
fn urgent(number: u8) -> NewJob {
    let mut job = job(number, &[]);
    job.head.priority = 1;
    job
}

#[test]
fn what_was_started_counts_when_the_elf_is_lost_and_what_may_have_come_next() {
    use AttemptEnd::{ElfLost, ElfLostBefore};
    let mut env = serving(5, 2, &[1, 2, 3]);
    env.start(1, token(2, 1), Duration::ZERO);
    env.start(1, token(3, 1), Duration::ZERO);
    let ends = lost(&mut env, &[1, 2, 3]);
    assert_eq!(
        ends,
        [(1, ElfLostBefore), (2, ElfLost), (3, ElfLost)],
        "what it has told, and not what came first"
    );

    // It runs one more, of which it has not told: the best of the others.
    let mut env = serving(4, 2, &[1, 2]);
    env.submit(vec![urgent(4)]);
    env.start(1, token(1, 1), Duration::ZERO);
    let ends = lost(&mut env, &[1, 2, 4]);
    assert_eq!(ends, [(1, ElfLost), (2, ElfLostBefore), (4, ElfLost)]);
}

#[test]
fn a_cancelled_attempt_that_was_started_takes_its_place_among_what_runs() {
    let mut env = serving(3, 1, &[1, 2, 3]);
    env.cancel(Scope::Jobs(vec![id(1)]));
    env.start(1, token(1, 1), Duration::ZERO);
    let ends = lost(&mut env, &[2]);
    assert_eq!(ends, [(2, AttemptEnd::ElfLostBefore)]);
}

#[test]
fn what_was_started_and_is_given_back_counts_as_handed_back() {
    let mut env = serving(1, 1, &[1]);
    env.start(1, token(1, 1), Duration::ZERO);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(1, token(1, 2))], "the first time it is offered at once");
    env.start(1, token(1, 2), Duration::ZERO);
    let effects = env.outcome(1, token(1, 2), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [], "and then it pauses");
    let attempts = env.core.attempts(id(1)).unwrap();
    let ends: Vec<_> = attempts.iter().map(|attempt| (attempt.how, attempt.held.started.is_some())).collect();
    assert_eq!(ends, [(AttemptEnd::HandedBack, true); 2]);
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 0);
}

#[test]
fn a_restart_knows_what_was_started() {
    for is_started in [true, false] {
        let mut env = serving(1, 1, &[]);
        let stored = env.submit(vec![job(1, &[])]);
        if is_started {
            env.start(1, token(1, 1), Duration::ZERO);
        }
        let later = env.submit(vec![job(2, &[1])]);
        let jobs = vec![live(&later, 1).or(live(&stored, 1)).unwrap().clone()];
        env.restart_with(jobs, stored.records.flows, vec![S1]);
        let expected = if is_started { Status::Running } else { Status::Assigned };
        assert_eq!(env.status(1), Some(expected));
        // Told again when the session is resumed: it is news only if it was not known.
        env.telling_hello(1, Some(1), vec![offer(1, 1)], vec![token(1, 1)]);
        let effects = env.start(1, token(1, 1), Duration::ZERO);
        assert_eq!(effects.changes.is_empty(), is_started);
        let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
        assert_eq!(effects.changes[0].status, Status::Final(FinalStatus::Done));
    }
}
