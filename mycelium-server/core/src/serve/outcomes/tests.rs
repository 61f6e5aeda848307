use std::sync::Arc;
use std::time::Duration;

use crate::command::{Advice, Command, Failed, FailureClass, NewJob, Outcome, OutcomeResult, Retry};
use crate::effects::{Effects, End, FailedBy, Send, Verdict};
use crate::ids::{Attachment, Attempt, SessionId};
use crate::image::{AttemptEnd, Tries};
use crate::policy::{Policy, PolicyRecord, RetryPolicy, Timeouts};
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, ends, failed, id, job, offer, revivable, stored, token};
use crate::views::Explanation;

const TICK: Duration = Duration::from_micros(1);
const SECOND: Duration = Duration::from_secs(1);

/// So many attempts, a second apart, then two, and so on.
fn rules(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts: Some(attempts), jitter: Some(0), ..RetryPolicy::default() }
}

fn policy(attempts: u32) -> Option<Arc<Policy>> {
    Some(Arc::new(Policy { retry: rules(attempts), ..Policy::default() }))
}

fn tried(number: u8, depends_on: &[u8], attempts: u32) -> NewJob {
    NewJob { policy: policy(attempts), ..job(number, depends_on) }
}

fn verdicts(effects: &Effects) -> Vec<Verdict> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::OutcomeAcks { acks, .. } = send {
            all.extend(acks.iter().map(|(_, verdict)| *verdict));
        }
    }
    all
}

fn ended_failed(number: u8) -> Vec<(crate::ids::JobId, End)> {
    vec![(id(number), End::Failed(FailedBy::Reported(Attachment(77))))]
}

#[test]
fn a_job_is_tried_again_after_growing_pauses_and_ends_with_its_last_failure() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 3), job(2, &[1])]);
    for (attempt, pause) in [(1, SECOND), (2, 2 * SECOND)] {
        let effects = env.fail(1, token(1, attempt), failed("E"));
        assert_eq!(verdicts(&effects), [Verdict::Recorded]);
        assert_eq!(ends(std::slice::from_ref(&effects)), []);
        let until = env.now.wall.after(pause);
        let live = stored(&effects, 1).unwrap();
        assert_eq!(live.tries, Tries { failed: attempt, failed_max: 3, not_before: Some(until) });
        let last = live.attempts.last().unwrap();
        assert_eq!((last.number, last.how), (Attempt(attempt), AttemptEnd::Failed));
        assert_eq!(last.failure, Some(failed("E").id));
        let kept = &effects.failed[..];
        assert_eq!(
            kept.iter().map(|kept| (kept.job, kept.attempt, kept.by)).collect::<Vec<_>>(),
            [(id(1), Attempt(attempt), FailedBy::Reported(Attachment(77)))]
        );
        let failure = Some(failed("E").id);
        let expected = Explanation::BackingOff { failed: attempt, failed_max: 3, failure, until };
        assert_eq!(env.core.explain(id(1)), Some(expected));
        after(&mut env, pause - TICK);
        assert_eq!(assigned(&env.batch([Command::Heard { session: SessionId(1) }])), [], "not early");
        after(&mut env, TICK);
        assert_eq!(assigned(&env.batch([])), [(1, token(1, attempt + 1))]);
    }
    let effects = env.fail(1, token(1, 3), failed("E"));
    assert_eq!(effects.failed, [], "what ends a job is stored with it");
    let mut all = vec![effects];
    all.extend(env.run_out());
    assert_eq!(ends(&all), [ended_failed(1)[0], (id(2), End::UpstreamFailed(id(1)))]);
    assert!(env.core.next_deadline().is_some_and(|at| at > env.now.steady), "the lease");
}

#[test]
fn what_backs_off_holds_nobody_up_and_may_be_done_the_next_time() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 2), job(2, &[])]);
    let effects = env.fail(1, token(1, 1), failed("E"));
    assert_eq!(assigned(&effects), [(1, token(2, 1))]);
    after(&mut env, SECOND);
    env.batch([]);
    assert_eq!(env.core.job(id(1)).unwrap().status, Status::Ready);
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(assigned(&effects), [(1, token(1, 2))]);
    let effects = env.outcome(1, token(1, 2), OutcomeResult::Outputs(Attachment(2)));
    assert_eq!(ends(&[effects]), [(id(1), End::Done(Attachment(2)))]);
}

#[test]
fn what_the_job_leaves_open_comes_from_the_process_that_ran_it() {
    let mut env = TestEnv::new();
    let mut declared = offer(9, 9);
    declared.tasks[0].policy = policy(2);
    env.hello(1, None, vec![declared], vec![]);
    let own = RetryPolicy { first: Some(5 * SECOND), jitter: Some(0), ..RetryPolicy::default() };
    let own = Some(Arc::new(Policy { retry: own, ..Policy::default() }));
    env.submit(vec![job(1, &[]), NewJob { policy: own, ..job(2, &[]) }, tried(3, &[], 1)]);
    let waits = |effects: &Effects, number, now: crate::ids::Timestamp| {
        stored(effects, number).map(|live| live.tries.not_before.unwrap().since(now))
    };
    let now = env.now.wall;
    assert_eq!(waits(&env.fail(1, token(1, 1), failed("E")), 1, now), Some(SECOND));
    assert_eq!(waits(&env.fail(1, token(2, 1), failed("E")), 2, now), Some(5 * SECOND));
    assert_eq!(ends(&[env.fail(1, token(3, 1), failed("E"))]), ended_failed(3));
}

#[test]
fn what_would_fail_again_ends_at_once() {
    let never = RetryPolicy { never: Some([Arc::from("NotFound")].into()), ..rules(5) };
    let never = Some(Arc::new(Policy { retry: never, ..Policy::default() }));
    let failures = [
        failed("ReadError::NotFound"),
        Failed { class: FailureClass::Panic, ..failed("Panic") },
        Failed { class: FailureClass::Arguments, ..failed("ArgumentError") },
        Failed { advice: Some(Advice::Never), ..failed("E") },
    ];
    for failure in failures {
        let mut env = TestEnv::new();
        env.hello(1, None, vec![offer(1, 1)], vec![]);
        env.submit(vec![NewJob { policy: never.clone(), ..job(1, &[]) }]);
        assert_eq!(ends(&[env.fail(1, token(1, 1), failure.clone())]), ended_failed(1), "{failure:?}");
    }
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 5)]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(77)));
    assert_eq!(ends(&[effects]), ended_failed(1), "of which nothing is known that speaks for it");
}

#[test]
fn a_report_that_comes_again_changes_nothing_and_is_known() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 3)]);
    env.fail(1, token(1, 1), failed("E"));
    for pause in [Duration::ZERO, SECOND] {
        after(&mut env, pause);
        let effects = env.fail(1, token(1, 1), failed("E"));
        assert_eq!((verdicts(&effects), effects.failed.len()), (vec![Verdict::Duplicate], 0));
        assert_eq!(env.core.job(id(1)).unwrap().tries.failed, 1);
    }
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    let effects = env.fail(2, token(1, 1), failed("E"));
    assert_eq!(verdicts(&effects), [Verdict::Stale], "it is another session's");
}

#[test]
fn attempts_that_were_lost_or_handed_back_do_not_count() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 2)]);
    env.outcome(1, token(1, 1), OutcomeResult::Released);
    env.batch([Command::Goodbye { session: SessionId(1) }]);
    after(&mut env, SECOND);
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    let attempt = env.core.job(id(1)).unwrap().attempt.0;
    assert_eq!(attempt, 3);
    let effects = env.fail(2, token(1, attempt), failed("E"));
    assert_eq!(stored(&effects, 1).unwrap().tries.failed, 1);
}

#[test]
fn counts_and_pauses_outlive_a_restart() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let flows = env.submit(vec![tried(1, &[], 2)]).records.flows;
    let live = stored(&env.fail(1, token(1, 1), failed("E")), 1).unwrap();
    let record = PolicyRecord { id: live.head.policy, policy: Policy::clone(&policy(2).unwrap()) };
    env.restart_with_policies(vec![live], flows, vec![record]);
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    assert_eq!(env.status(1), Some(Status::Ready));
    after(&mut env, SECOND);
    assert_eq!(assigned(&env.batch([])), [(2, token(1, 2))]);
    assert_eq!(ends(&[env.fail(2, token(1, 2), failed("E"))]), ended_failed(1));
}

#[test]
fn a_retry_by_hand_begins_to_count_anew() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![tried(1, &[], 1)]);
    let effects = env.fail(1, token(1, 1), failed("E"));
    let preconditions = env.preconditions();
    let back = crate::command::RevivableJob { policy: policy(2), ..revivable(&effects, 1, &[]) };
    let (request, jobs) = (env.request(), vec![back]);
    let retry = Retry { request, jobs, dependents: vec![], preconditions, flows: vec![], action: None };
    assert_eq!(assigned(&env.batch([Command::Retry(retry)])), [(1, token(1, 2))]);
    let effects = env.fail(1, token(1, 2), failed("E"));
    assert_eq!(stored(&effects, 1).unwrap().tries.failed, 1);
}

#[test]
fn what_backs_off_does_not_wait_to_be_started_and_expires_all_the_same() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
    let timeouts = Timeouts { queue: Some(SECOND / 2), total: Some(10 * SECOND), ..Timeouts::default() };
    let retry = RetryPolicy { first: Some(8 * SECOND), ..rules(9) };
    env.submit(vec![NewJob { policy: Some(Arc::new(Policy { retry, timeouts })), ..job(1, &[]) }]);
    env.start(1, token(1, 1), Duration::ZERO);
    let failed = Some(Box::new(failed("E")));
    let (result, ran) = (OutcomeResult::Failure(Attachment(77)), Some(TICK));
    let live = stored(&env.report(1, Outcome { token: token(1, 1), result, failed, ran }), 1).unwrap();
    assert_eq!(live.queued_at, None);
    env.batch([Command::Goodbye { session: SessionId(1) }]);
    after(&mut env, 8 * SECOND);
    assert_eq!(ends(&[env.batch([])]), [], "it waits from now on");
    after(&mut env, SECOND / 2);
    let effects = env.batch([]);
    assert_eq!(ends(&[effects]).len(), 1);

    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let timeouts = Timeouts { total: Some(10 * SECOND), ..Timeouts::default() };
    let retry = RetryPolicy { first: Some(60 * SECOND), ..rules(9) };
    env.submit(vec![NewJob { policy: Some(Arc::new(Policy { retry, timeouts })), ..job(1, &[]) }]);
    env.fail(1, token(1, 1), crate::testing::failed("E"));
    after(&mut env, 10 * SECOND);
    assert_eq!(ends(&[env.batch([])]).len(), 1);
}
