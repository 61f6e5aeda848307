use std::time::Duration;

use crate::Explanation;
use crate::command::{Command, OutcomeResult, Scope};
use crate::effects::{Effects, End};
use crate::ids::{AssignNumber, Attachment, SessionId};
use crate::status::Status;
use crate::testing::{FLOW, TestEnv, after, assigned, ends, id, job, offer, token};

const S1: SessionId = SessionId(1);

/// A job with an elf that holds its first attempt.
fn env() -> TestEnv {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env
}

/// Gives the job back once more; the pause that follows.
fn give_back(env: &mut TestEnv, attempt: u32, how: OutcomeResult) -> Duration {
    let effects = env.outcome(1, token(1, attempt), how);
    if let Some(Explanation::HandedBack { until, .. }) = env.core.explain(id(1)) {
        assert_eq!(assigned(&effects), [], "it is offered again while it pauses");
        assert_eq!(env.core.next_deadline(), Some(until));
        return until.since(env.now.steady);
    }
    assert_eq!(assigned(&effects), [(1, token(1, attempt + 1))]);
    Duration::ZERO
}

/// Lets the pause end; what is assigned then.
fn wait(env: &mut TestEnv, pause: Duration) -> Effects {
    env.now.steady = env.now.steady.after(pause - Duration::from_micros(1));
    assert_eq!(assigned(&env.batch([])), [], "a moment too early");
    env.now.steady = env.now.steady.after(Duration::from_micros(1));
    env.batch([])
}

#[test]
fn a_job_handed_back_once_is_offered_at_once_and_then_after_pauses_that_double() {
    for how in [OutcomeResult::Released, OutcomeResult::Cancelled] {
        let mut env = env();
        let mut pauses = Vec::new();
        for attempt in 1..=12 {
            let pause = give_back(&mut env, attempt, how);
            pauses.push(pause.as_millis());
            if !pause.is_zero() {
                assert_eq!(env.status(1), Some(Status::Ready));
                let beat = Command::Heartbeat { session: S1, held: vec![], received: AssignNumber(0) };
                env.batch([beat]);
                // The lease, which is as long as the longest pause, is kept by beats.
                let beat = Command::Heartbeat { session: S1, held: vec![], received: AssignNumber(0) };
                after(&mut env, pause / 2);
                env.batch([beat]);
                assert_eq!(assigned(&wait(&mut env, pause - pause / 2)), [(1, token(1, attempt + 1))]);
            }
        }
        let doubling = [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(pauses, doubling, "{how:?}");
    }
}

#[test]
fn a_pause_says_how_often_and_holds_up_no_other_job() {
    let mut env = env();
    env.submit(vec![job(2, &[])]);
    give_back(&mut env, 1, OutcomeResult::Released);
    let effects = env.outcome(1, token(1, 2), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(1, token(2, 1))], "the next in the queue");
    let until = env.now.steady.after(Duration::from_millis(100));
    assert_eq!(env.core.explain(id(1)), Some(Explanation::HandedBack { times: 2, until }));
    let result = OutcomeResult::Outputs(Attachment(7));
    assert_eq!(assigned(&env.outcome(1, token(2, 1), result)), [], "a free window does not end the pause");
    after(&mut env, Duration::from_millis(100));
    assert_eq!(assigned(&env.batch([])), [(1, token(1, 3))]);
    env.outcome(1, token(1, 3), result);
    assert_eq!(env.status(1), None, "it has ended like any other");
    assert_eq!(
        env.core.next_deadline(),
        Some(env.now.steady.after(Duration::from_secs(30))),
        "but for the lease"
    );
}

#[test]
fn attempts_given_up_by_heartbeat_resume_and_goodbye_count_too() {
    let mut env = env();
    let beat = |received| Command::Heartbeat { session: S1, held: vec![], received: AssignNumber(received) };
    assert_eq!(assigned(&env.batch([beat(1)])), [(1, token(1, 2))], "the first time at once");
    assert_eq!(assigned(&env.hello(1, Some(1), vec![offer(1, 1)], vec![])), []);
    assert!(matches!(env.core.explain(id(1)), Some(Explanation::HandedBack { times: 2, .. })));
    after(&mut env, Duration::from_millis(100));
    assert_eq!(assigned(&env.batch([])), [(1, token(1, 3))]);
    env.batch([Command::Goodbye { session: S1 }]);
    assert_eq!(assigned(&env.hello(2, None, vec![offer(1, 1)], vec![])), []);
    assert!(matches!(env.core.explain(id(1)), Some(Explanation::HandedBack { times: 3, .. })));
}

#[test]
fn a_job_that_pauses_can_be_cancelled_by_itself_and_with_its_flow() {
    for scope in [Scope::Jobs(vec![id(1)]), Scope::Flow(FLOW)] {
        let mut env = env();
        give_back(&mut env, 1, OutcomeResult::Released);
        give_back(&mut env, 2, OutcomeResult::Released);
        let mut effects = vec![env.cancel(scope)];
        effects.extend(env.run_out());
        assert_eq!(ends(&effects), [(id(1), End::Cancelled)]);
        after(&mut env, Duration::from_secs(1));
        assert_eq!(assigned(&env.batch([])), []);
    }
}
