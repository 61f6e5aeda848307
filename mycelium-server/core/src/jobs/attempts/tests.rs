use std::time::Duration;

use crate::command::{Command, OutcomeResult, Retry, Scope};
use crate::effects::{Effects, JobRecord};
use crate::ids::{AssignNumber, Attachment, Attempt, SessionId};
use crate::image::{ATTEMPTS_KEPT, AttemptEnd, LiveJob, PastAttempt};
use crate::testing::{FLOW, TestEnv, after, id, job, offer, revivable, token};

const OUTPUTS: OutcomeResult = OutcomeResult::Outputs(Attachment(7));

/// The first job with an elf of a window of two that holds its first attempt.
fn env() -> TestEnv {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(2, 1)], vec![]);
    env
}

fn numbered(attempts: &[PastAttempt]) -> Vec<(u32, AttemptEnd)> {
    attempts.iter().map(|attempt| (attempt.number.0, attempt.how)).collect()
}

fn of(env: &TestEnv) -> Vec<(u32, AttemptEnd)> {
    numbered(&env.core.attempts(id(1)).unwrap())
}

fn live(effects: &Effects) -> LiveJob {
    let write = effects.jobs.iter().find(|write| write.id == id(1)).unwrap();
    let JobRecord::Live(live) = &write.after else { panic!("{write:?}") };
    live.clone()
}

#[test]
fn a_job_that_runs_once_has_nothing_more_to_store() {
    for (result, how) in [
        (OUTPUTS, AttemptEnd::Returned),
        (OutcomeResult::Failure(Attachment(7)), AttemptEnd::Failed),
        (OutcomeResult::Refused(Attachment(7)), AttemptEnd::Failed),
    ] {
        let mut env = env();
        assert_eq!(of(&env), []);
        let effects = env.outcome(1, token(1, 1), result);
        let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
        assert_eq!(finished.attempts, []);
        let all = finished.all_attempts();
        assert_eq!(numbered(&all), [(1, how)]);
        assert_eq!((all[0].held.session, all[0].ended_at), (SessionId(1), finished.finished_at));
    }
}

#[test]
fn each_attempt_is_kept_with_how_it_ended() {
    let mut env = env();
    let given_back = env.outcome(1, token(1, 1), OutcomeResult::Released);
    assert_eq!(numbered(&live(&given_back).attempts), [(1, AttemptEnd::HandedBack)]);
    // The second has not arrived when the elf says what it holds.
    let beat =
        Command::Heartbeat { session: SessionId(1), held: vec![token(2, 1)], received: AssignNumber(3) };
    env.batch([beat]);
    after(&mut env, Duration::from_secs(1));
    env.batch([]);
    after(&mut env, Duration::from_secs(31));
    let lost = env.batch([]);
    let expected = [(1, AttemptEnd::HandedBack), (2, AttemptEnd::NotHeld), (3, AttemptEnd::ElfLostBefore)];
    assert_eq!(numbered(&live(&lost).attempts), expected, "the other job was started first");
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    after(&mut env, Duration::from_secs(31));
    env.batch([]);
    assert_eq!(of(&env).last(), Some(&(4, AttemptEnd::ElfLost)));
    env.hello(3, None, vec![offer(1, 1)], vec![]);
    let effects = env.cancel(Scope::Jobs(vec![id(1)]));
    let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    assert_eq!(finished.attempts.len(), 4);
    assert_eq!(numbered(&finished.all_attempts()).last(), Some(&(5, AttemptEnd::Cancelled)));
}

#[test]
fn a_job_that_ends_with_its_elf_has_that_attempt_once() {
    let mut env = TestEnv::with(|config| config.elves_lost_max = 1);
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    after(&mut env, Duration::from_secs(31));
    let effects = env.batch([]);
    let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    assert_eq!(numbered(&finished.all_attempts()), [(1, AttemptEnd::ElfLost)]);
}

#[test]
fn attempts_survive_a_restart_and_a_retry() {
    let mut env = env();
    let given_back = env.outcome(1, token(1, 1), OutcomeResult::Released);
    let stored = LiveJob { running: None, ..live(&given_back) };
    let flow = env.core.flow(FLOW).unwrap().record;
    env.restart(vec![stored], vec![flow]);
    assert_eq!(of(&env), [(1, AttemptEnd::HandedBack)]);
    env.hello(4, None, vec![offer(1, 1)], vec![]);
    let attempt = env.core.job(id(1)).unwrap().attempt;
    assert!(attempt > Attempt(1));
    let session = env.core.status().counters.session.0;
    let failed = env.outcome(session, token(1, attempt.0), OutcomeResult::Failure(Attachment(7)));
    let (request, preconditions) = (env.request(), env.preconditions());
    let jobs = vec![revivable(&failed, 1, &[])];
    env.batch([Command::Retry(Retry {
        request,
        jobs,
        dependents: vec![],
        preconditions,
        flows: vec![],
        action: None,
    })]);
    assert_eq!(of(&env), [(1, AttemptEnd::HandedBack), (attempt.0, AttemptEnd::Failed)]);
}

#[test]
fn the_latest_are_kept_and_all_are_counted() {
    let mut env = env();
    for attempt in 1..=20 {
        env.outcome(1, token(1, attempt), OutcomeResult::Released);
        after(&mut env, Duration::from_secs(25));
        let beat = || Command::Heartbeat { session: SessionId(1), held: vec![], received: AssignNumber(0) };
        env.batch([beat()]);
        after(&mut env, Duration::from_secs(25));
        env.batch([beat()]);
    }
    let kept = of(&env);
    assert_eq!((kept.len(), kept[0].0), (ATTEMPTS_KEPT, 5));
    assert_eq!(env.core.job(id(1)).unwrap().attempt, Attempt(21));
}
