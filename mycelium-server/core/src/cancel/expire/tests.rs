use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, NewJob, OutcomeResult, Retry};
use crate::effects::{Effects, End, Reply, Send};
use crate::ids::{Attachment, Clocks, SessionId, Timestamp, Token};
use crate::policy::{Policy, Timeouts};
use crate::status::{ExpiredWhy, Status};
use crate::testing::{TestEnv, after, assigned, ends, id, job, offer, reply, revivable, stored, token};

const QUEUE: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_micros(1);
const EXPIRED_QUEUE: End = End::Expired(ExpiredWhy::Queue);
const EXPIRED_TOTAL: End = End::Expired(ExpiredWhy::Total);

fn timed(job: NewJob, queue: Option<Duration>, total: Option<Duration>) -> NewJob {
    let timeouts = Timeouts { queue, total, ..Timeouts::default() };
    NewJob { policy: Some(Arc::new(Policy { timeouts, ..Policy::default() })), ..job }
}

fn recalled(effects: &Effects) -> Vec<Token> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Recall { tokens, .. } = send {
            all.extend(tokens);
        }
    }
    all
}

#[test]
fn a_job_that_is_not_started_in_time_expires_and_what_depends_on_it_ends() {
    let mut env = TestEnv::new();
    let began = env.now.wall;
    let effects = env.submit(vec![timed(job(1, &[]), Some(QUEUE), None), job(2, &[1])]);
    assert_eq!(stored(&effects, 1).unwrap().queued_at, Some(began));
    assert_eq!(env.core.job(id(1)).unwrap().expires_at, Some(began.after(QUEUE)));
    after(&mut env, QUEUE - TICK);
    assert_eq!(ends(&[env.batch([])]), [], "not early");
    after(&mut env, TICK);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady));
    let expected = [(id(1), EXPIRED_QUEUE), (id(2), End::UpstreamFailed(id(1)))];
    assert_eq!(ends(&[env.batch([])]), expected);
    assert_eq!(env.core.next_deadline(), None);
}

#[test]
fn what_waits_for_others_or_was_started_does_not_wait_to_be_started() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, 9)], vec![]);
    env.submit(vec![timed(job(1, &[]), Some(QUEUE), None), timed(job(2, &[1]), Some(QUEUE), None)]);
    env.start(1, token(1, 1), Duration::ZERO);
    after(&mut env, QUEUE * 3);
    assert_eq!(ends(&[env.batch([Command::Heard { session: SessionId(1) }])]), []);
    assert_eq!((env.status(1), env.status(2)), (Some(Status::Running), Some(Status::Pending)));
    // It comes back, and waits anew.
    let began = env.now.wall;
    env.batch([Command::Draining { session: SessionId(1) }]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Released);
    assert_eq!(stored(&effects, 1).unwrap().queued_at, Some(began));
    after(&mut env, QUEUE);
    let expected = [(id(1), EXPIRED_QUEUE), (id(2), End::UpstreamFailed(id(1)))];
    assert_eq!(ends(&[env.batch([])]), expected);
}

#[test]
fn what_a_process_holds_is_recalled_and_expires_when_it_is_given_back() {
    for is_started in [false, true] {
        let mut env = TestEnv::new();
        env.telling_hello(1, None, vec![offer(9, 1)], vec![]);
        let effects = env.submit(vec![timed(job(1, &[]), Some(QUEUE), None)]);
        assert_eq!(assigned(&effects), [(1, token(1, 1))]);
        after(&mut env, QUEUE);
        let effects = env.batch([]);
        assert_eq!((recalled(&effects), ends(&[effects])), (vec![token(1, 1)], vec![]));
        if is_started {
            env.start(1, token(1, 1), Duration::ZERO);
            let done = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
            assert_eq!(ends(&[done]), [(id(1), End::Done(Attachment(1)))], "it was started after all");
        } else {
            let effects = env.outcome(1, token(1, 1), OutcomeResult::Released);
            assert_eq!(ends(std::slice::from_ref(&effects)), [(id(1), EXPIRED_QUEUE)]);
            assert_eq!(assigned(&effects), []);
        }
    }
}

#[test]
fn a_job_that_does_not_end_in_time_expires_wherever_it_stands() {
    let mut env = TestEnv::new();
    let jobs =
        vec![job(1, &[]), timed(job(2, &[1]), None, Some(TOTAL)), timed(job(3, &[]), None, Some(TOTAL))];
    env.submit(jobs);
    env.telling_hello(1, None, vec![offer(9, 9)], vec![]);
    env.start(1, token(3, 1), Duration::ZERO);
    after(&mut env, TOTAL - TICK);
    assert_eq!(ends(&[env.batch([Command::Heard { session: SessionId(1) }])]), []);
    after(&mut env, TICK);
    let effects = env.batch([]);
    assert_eq!(ends(std::slice::from_ref(&effects)), [(id(2), EXPIRED_TOTAL), (id(3), EXPIRED_TOTAL)]);
    let told = |send: &Send| matches!(send, Send::Cancel { tokens, .. } if *tokens == [token(3, 1)]);
    assert!(effects.sends.iter().any(told), "{:?}", effects.sends);
    let late = env.outcome(1, token(3, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(ends(&[late]), [], "what comes late changes nothing");
}

#[test]
fn a_retry_by_hand_begins_the_time_anew() {
    let mut env = TestEnv::new();
    env.submit(vec![timed(job(1, &[]), None, Some(TOTAL))]);
    after(&mut env, TOTAL);
    let ended = env.batch([]);
    let (request, preconditions) = (env.request(), env.preconditions());
    let mut jobs = vec![revivable(&ended, 1, &[])];
    jobs[0].policy = timed(job(1, &[]), None, Some(TOTAL)).policy;
    let retry = Retry { request, jobs, dependents: vec![], preconditions, flows: vec![], action: None };
    let effects = env.batch([Command::Retry(retry)]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 1, revived: 0 })));
    assert_eq!(stored(&effects, 1).unwrap().expires_at, Some(env.now.wall.after(TOTAL)));
    after(&mut env, TOTAL - TICK);
    assert_eq!(ends(&[env.batch([])]), []);
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([])]), [(id(1), EXPIRED_TOTAL)]);
}

/// The wall clock is set back or forward by an hour while a job waits.
#[test]
fn a_wall_clock_that_is_set_lets_nothing_expire_early() {
    for (queue, total) in [(Some(QUEUE), None), (None, Some(QUEUE))] {
        for forward in [false, true] {
            let mut env = TestEnv::new();
            let hour = Duration::from_secs(3_600);
            env.now.wall = Timestamp(0).after(hour * 2);
            env.submit(vec![timed(job(1, &[]), queue, total)]);
            let set = |wall: Timestamp| if forward { wall.after(hour) } else { wall.before(hour) };
            let step = |now: Clocks, by| Clocks { steady: now.steady.after(by), wall: now.wall.after(by) };
            env.now.wall = set(env.now.wall);
            env.now = step(env.now, QUEUE - TICK);
            assert_eq!(ends(&[env.batch([])]), [], "forward: {forward}");
            env.now = step(env.now, TICK);
            let effects = env.batch([]);
            assert_eq!(ends(&[effects]).is_empty(), !forward, "by the wall clock it is not over");
            env.now = step(env.now, hour);
            let late = env.batch([]);
            assert_eq!(ends(&[late]).is_empty(), forward);
        }
    }
}

fn pass(env: &mut TestEnv, by: Duration) {
    env.now = Clocks { steady: env.now.steady.after(by), wall: env.now.wall.after(by) };
}

#[test]
fn a_job_that_moves_after_the_wall_clock_was_set_forward_has_as_much_time_as_before() {
    let mut env = TestEnv::new();
    env.submit(vec![timed(job(1, &[]), None, Some(TOTAL))]);
    env.now.wall = env.now.wall.after(Duration::from_secs(3_600));
    let effects = env.telling_hello(1, None, vec![offer(9, 9)], vec![]);
    assert_eq!(assigned(&effects), [(1, token(1, 1))]);
    env.start(1, token(1, 1), Duration::ZERO);
    pass(&mut env, TOTAL - TICK);
    assert_eq!(ends(&[env.batch([])]), []);
    pass(&mut env, TICK);
    assert_eq!(ends(&[env.batch([])]), [(id(1), EXPIRED_TOTAL)]);
}

#[test]
fn a_job_waits_no_longer_than_half_a_minute_after_the_wall_clock_was_set_back_and_forward_again() {
    let mut env = TestEnv::new();
    let hour = Duration::from_secs(3_600);
    env.now.wall = Timestamp(0).after(hour * 2);
    env.submit(vec![timed(job(1, &[]), None, Some(TOTAL))]);
    env.now.wall = env.now.wall.before(hour);
    pass(&mut env, TOTAL);
    assert_eq!(ends(&[env.batch([])]), [], "by the wall clock it is not over");
    env.now.wall = env.now.wall.after(hour);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(Duration::from_secs(30))));
    pass(&mut env, Duration::from_secs(30));
    assert_eq!(ends(&[env.batch([])]), [(id(1), EXPIRED_TOTAL)]);
}

#[test]
fn the_time_without_a_broker_counts_and_so_does_that_in_which_it_stood_still() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![timed(job(1, &[]), Some(QUEUE), Some(TOTAL))]);
    let (live, flows) = (stored(&effects, 1).unwrap(), effects.records.flows.clone());
    let policies = effects.records.policies.clone();
    after(&mut env, QUEUE - TICK);
    env.restart_with_policies(vec![live.clone()], flows.clone(), policies.clone());
    assert!(env.core.has_work(), "its timers are to be set");
    assert_eq!(ends(&[env.batch([])]), []);
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([])]), [(id(1), EXPIRED_QUEUE)]);

    env.restart_with_policies(vec![live], flows, policies);
    env.run_out();
    assert_eq!(env.core.next_deadline(), Some(env.now.steady), "it was over before");
    assert_eq!(ends(&[env.batch([])]), [(id(1), EXPIRED_QUEUE)]);

    let mut env = TestEnv::new();
    env.submit(vec![timed(job(1, &[]), Some(QUEUE), None)]);
    after(&mut env, QUEUE);
    assert_eq!(ends(&[env.batch([Command::Stalled { by: QUEUE }])]), [(id(1), EXPIRED_QUEUE)]);
}
