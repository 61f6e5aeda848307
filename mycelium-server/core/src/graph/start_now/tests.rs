use std::time::Duration;

use crate::command::{Begins, Command, NewJob, OutcomeResult, Retry, RevivableJob, Scope};
use crate::effects::{End, Refusal, Reply};
use crate::ids::{Attachment, Timestamp};
use crate::image::Tries;
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, ends, id, job, offer, reply, revivable, stored, token};
use crate::views::Explanation;

const TICK: Duration = Duration::from_micros(1);
const DELAY: Duration = Duration::from_secs(9);

fn delayed(number: u8, depends_on: &[u8], by: Duration) -> NewJob {
    NewJob { begins: Begins { at: None, after: Some(by) }, ..job(number, depends_on) }
}

#[test]
fn a_job_begins_at_its_moment_and_holds_up_nobody_behind_it() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let until = env.now.wall.after(DELAY);
    let effects = env.submit(vec![delayed(1, &[], DELAY), job(2, &[])]);
    assert_eq!(assigned(&effects), [(1, token(2, 1))]);
    assert_eq!(stored(&effects, 1).unwrap().tries.not_before, Some(until));
    assert_eq!(env.core.explain(id(1)), Some(Explanation::Delayed { until }));
    assert_eq!(env.core.job(id(1)).unwrap().tries.not_before, Some(until));
    after(&mut env, DELAY - TICK);
    assert_eq!(assigned(&env.batch([])), [], "not early");
    after(&mut env, TICK);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady));
    let effects = env.batch([]);
    assert_eq!(assigned(&effects), [(1, token(1, 1))]);
    assert_eq!(stored(&effects, 1).unwrap().tries, Tries::default(), "nothing is left of it");
}

#[test]
fn of_a_moment_and_a_delay_the_later_counts_and_what_is_over_is_none() {
    let mut env = TestEnv::new();
    let now = env.now.wall;
    let with = |number, at, after| NewJob { begins: Begins { at, after }, ..job(number, &[]) };
    let jobs = vec![
        with(1, Some(now.after(DELAY)), Some(2 * DELAY)),
        with(2, Some(now.after(3 * DELAY)), Some(DELAY)),
        with(3, Some(Timestamp(1)), None),
    ];
    let effects = env.submit(jobs);
    let of = |number| stored(&effects, number).unwrap().tries.not_before;
    assert_eq!([of(1), of(2), of(3)], [Some(now.after(2 * DELAY)), Some(now.after(3 * DELAY)), None]);
}

#[test]
fn what_waits_for_others_begins_when_both_are_over() {
    for is_first in [true, false] {
        let mut env = TestEnv::new();
        env.hello(1, None, vec![offer(9, 9)], vec![]);
        env.submit(vec![job(1, &[]), delayed(2, &[1], DELAY)]);
        if is_first {
            after(&mut env, 2 * DELAY);
            assert_eq!(assigned(&env.batch([])), []);
        }
        env.hello(1, Some(1), vec![offer(9, 9)], vec![token(1, 1)]);
        env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
        assert_eq!(env.status(2), Some(Status::Ready));
        if !is_first {
            after(&mut env, DELAY);
        }
        env.hello(2, None, vec![offer(9, 9)], vec![]);
        env.run_out();
        assert_eq!(env.status(2), Some(Status::Running), "{is_first}");
    }
}

#[test]
fn the_delay_goes_on_while_no_broker_runs_and_a_step_of_the_clock_ends_none_early() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![delayed(1, &[], DELAY)]);
    let flows = effects.records.flows.clone();
    env.now.wall = env.now.wall.after(DELAY - TICK);
    env.restart(vec![stored(&effects, 1).unwrap()], flows);
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    assert_eq!(env.status(1), Some(Status::Ready));
    env.now.wall = env.now.wall.before(DELAY);
    env.now.steady = env.now.steady.after(TICK);
    env.batch([]);
    assert_eq!(env.status(1), Some(Status::Ready), "the clock was set back");
    env.now.wall = env.now.wall.after(3 * DELAY);
    env.batch([]);
    assert_eq!(env.status(1), Some(Status::Ready), "the clock was set forward");
    env.now.steady = env.now.steady.after(DELAY + TICK);
    env.batch([]);
    assert_eq!(env.status(1), Some(Status::Running));
}

#[test]
fn what_is_started_by_hand_begins_at_once_and_that_is_stored() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    env.submit(vec![delayed(1, &[], DELAY), job(2, &[]), delayed(3, &[2], DELAY)]);
    let effects = env.start_now(&[1, 2, 3]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Started { started: 1 })));
    assert_eq!(assigned(&effects), [(1, token(1, 1))]);
    assert_eq!(stored(&effects, 1).unwrap().tries.not_before, None);
    assert_eq!(env.core.explain(id(3)), Some(Explanation::WaitsForJobs { count: 1 }));
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(0)));
    assert_eq!(assigned(&effects), [], "what waited for others kept its moment");
    assert_eq!(assigned(&env.start_now(&[3])), [(1, token(3, 1))]);
    let effects = env.start_now(&[2, 3]);
    assert_eq!(
        reply(&effects),
        Some(&Ok(Reply::Started { started: 0 })),
        "what has ended, or runs, does not wait"
    );
    let effects = env.start_now(&[1, 9]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::JobNotFound(id(9)))));
}

#[test]
fn what_is_brought_back_waits_for_its_moment_if_that_is_still_to_come() {
    let mut env = TestEnv::new();
    let submitted_at = env.now.wall;
    env.submit(vec![delayed(1, &[], DELAY)]);
    let effects = env.cancel(Scope::Jobs(vec![id(1)]));
    after(&mut env, DELAY / 3);
    let begins_at = Some(submitted_at.after(DELAY));
    let jobs = vec![RevivableJob { begins_at, ..revivable(&effects, 1, &[]) }];
    let (request, preconditions) = (env.request(), env.preconditions());
    let retry = Retry { request, jobs, dependents: vec![], preconditions, flows: vec![], action: None };
    let effects = env.batch([Command::Retry(retry)]);
    assert_eq!(stored(&effects, 1).unwrap().tries.not_before, Some(submitted_at.after(DELAY)));
}

#[test]
fn what_is_cancelled_while_it_waits_leaves_nothing_behind() {
    let mut env = TestEnv::new();
    env.submit(vec![delayed(1, &[], DELAY), job(2, &[1])]);
    let mut all = vec![env.cancel(Scope::Jobs(vec![id(1)]))];
    all.extend(env.run_out());
    assert_eq!(ends(&all), [(id(1), End::Cancelled), (id(2), End::UpstreamFailed(id(1)))]);
    assert_eq!(env.core.next_deadline(), None);
}
