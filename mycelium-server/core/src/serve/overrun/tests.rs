#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for what it asks after")]

use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, ElfOffer, NewJob, OutcomeResult, Scope, StreamEnd, Window};
use crate::effects::{Effects, End, FailedBy, Send, Verdict};
use crate::ids::{AssignNumber, Attachment, Clocks, SessionId, Timestamp};
use crate::image::{AttemptEnd, Image};
use crate::policy::{Policy, RetryPolicy, Timeouts};
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, ends, id, job, offer, stored, token};

mod silence;

const RUN: Duration = Duration::from_secs(4);
/// As it is unless set otherwise.
const MARGIN: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_micros(1);
const S1: SessionId = SessionId(1);
const ENDED: End = End::Failed(FailedBy::TimedOut(RUN));

fn policy(run: Option<Duration>) -> Option<Arc<Policy>> {
    let timeouts = Timeouts { run, ..Timeouts::default() };
    Some(Arc::new(Policy { timeouts, ..Policy::default() }))
}

fn timed(number: u8, run: Duration) -> NewJob {
    NewJob { policy: policy(Some(run)), ..job(number, &[]) }
}

/// An elf that declares how long its task may run.
fn declares(window: u32, run: Duration) -> Vec<ElfOffer> {
    let mut offer = offer(window, window);
    offer.tasks[0].policy = policy(Some(run));
    vec![offer]
}

fn heard() -> Command {
    Command::Heard { session: S1 }
}

fn cancelled(effects: &Effects) -> bool {
    let told = |send: &Send| matches!(send, Send::Cancel { tokens, .. } if *tokens == [token(1, 1)]);
    effects.sends.iter().any(told)
}

#[test]
fn what_runs_on_ends_when_its_time_and_the_margin_are_over_and_its_place_stays_taken() {
    // By the job; by the process; by the job, whatever the process says.
    let cases = [
        (Some(RUN), offer(1, 1)),
        (None, declares(1, RUN).remove(0)),
        (Some(RUN), declares(1, RUN / 4).remove(0)),
    ];
    for (own, offer) in cases {
        let mut env = TestEnv::new();
        env.telling_hello(1, None, vec![offer], vec![]);
        let effects = env.submit(vec![NewJob { policy: policy(own), ..job(1, &[]) }, job(2, &[])]);
        let sent = effects.sends.iter().find_map(|send| match send {
            Send::Assign { assignments, .. } => Some(assignments[0].run_timeout),
            _ => None,
        });
        assert_eq!(sent, Some(Some(RUN)), "the process is told");
        after(&mut env, RUN * 3);
        // It has waited there until a moment ago.
        env.start(1, token(1, 1), Duration::from_secs(1));
        after(&mut env, RUN + MARGIN - Duration::from_secs(1) - TICK);
        assert_eq!(ends(&[env.batch([heard()])]), [], "not early");
        after(&mut env, TICK);
        let effects = env.batch([heard()]);
        assert_eq!(ends(std::slice::from_ref(&effects)), [(id(1), ENDED)]);
        assert!(cancelled(&effects), "{:?}", effects.sends);
        assert_eq!(assigned(&effects), [], "its place is taken");
        assert_eq!(env.core.elf("elf").unwrap().instances[0].occupied, 1);

        let late = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
        assert_eq!(ends(std::slice::from_ref(&late)), [], "what comes late changes nothing");
        let verdicts: Vec<Verdict> = late
            .sends
            .iter()
            .filter_map(|send| match send {
                Send::OutcomeAcks { acks, .. } => Some(acks[0].1),
                _ => None,
            })
            .collect();
        assert_eq!((verdicts, assigned(&late)), (vec![Verdict::Duplicate], vec![(1, token(2, 1))]));
        assert_eq!(env.core.elf("elf").unwrap().instances[0].occupied, 0);
    }
}

#[test]
fn what_ends_in_time_leaves_no_timer_and_what_it_comes_back_to_is_timed_from_its_own_start() {
    for how in [OutcomeResult::Outputs(Attachment(1)), OutcomeResult::Released] {
        let mut env = TestEnv::with(|config| config.lease = Duration::from_secs(3_600));
        env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
        env.submit(vec![timed(1, RUN)]);
        env.start(1, token(1, 1), Duration::ZERO);
        let timed_to = env.now.steady.after(RUN + MARGIN);
        assert_eq!(env.core.next_deadline(), Some(timed_to));
        after(&mut env, RUN / 2);
        let effects = env.outcome(1, token(1, 1), how);
        assert!(env.core.next_deadline() > Some(timed_to), "but for the lease");
        if how == OutcomeResult::Released {
            assert_eq!(assigned(&effects), [(1, token(1, 2))]);
            env.start(1, token(1, 2), Duration::ZERO);
            assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(RUN + MARGIN)));
            env.cancel(Scope::Jobs(vec![id(1)]));
            assert!(env.core.next_deadline() > Some(timed_to.after(MARGIN)), "but for the lease");
        }
    }
}

#[test]
fn of_one_that_tells_of_no_starts_nothing_is_timed() {
    let mut env = TestEnv::new();
    env.hello(1, None, declares(1, RUN), vec![]);
    let effects = env.submit(vec![timed(1, RUN)]);
    assert_eq!((assigned(&effects), env.status(1)), (vec![(1, token(1, 1))], Some(Status::Running)));
    after(&mut env, Duration::from_secs(29));
    assert_eq!(ends(&[env.batch([heard()])]), []);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(Duration::from_secs(30))), "its lease");
}

#[test]
fn the_time_in_which_the_broker_stood_still_does_not_count_nor_does_a_wall_clock_that_is_set() {
    for by in [Duration::ZERO, Duration::from_secs(3_600)] {
        let mut env = TestEnv::new();
        env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
        env.submit(vec![timed(1, RUN)]);
        env.start(1, token(1, 1), Duration::ZERO);
        let steady = env.now.steady.after(by + RUN + MARGIN - TICK);
        env.now = Clocks { steady, wall: Timestamp(0).after(Duration::from_secs(1_000_000)) };
        assert_eq!(ends(&[env.batch([Command::Stalled { by }, heard()])]), []);
        env.now.steady = env.now.steady.after(TICK);
        assert_eq!(ends(&[env.batch([heard()])]), [(id(1), ENDED)]);
    }
}

#[test]
fn it_begins_anew_when_the_broker_does_and_the_process_has_come_back() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, declares(1, RUN), vec![]);
    let created = env.submit(vec![job(1, &[])]);
    env.start(1, token(1, 1), Duration::ZERO);
    after(&mut env, RUN + MARGIN - TICK);
    // The start is stored with the next commit.
    let effects = env.submit(vec![job(2, &[])]);
    let live = effects.jobs.iter().find_map(|write| match &write.after {
        crate::effects::JobRecord::Live(live) if write.id == id(1) => Some(live.clone()),
        _ => None,
    });
    let image = Image { flows: created.records.flows.clone(), ..Image::default() };
    env.restart_from(vec![live.unwrap()], image, vec![S1]);
    after(&mut env, TICK);
    env.telling_hello(1, Some(1), declares(1, RUN), vec![token(1, 1)]);
    // It tells of it once more.
    env.start(1, token(1, 1), RUN + MARGIN);
    after(&mut env, RUN + MARGIN - TICK);
    assert_eq!(ends(&[env.batch([heard()])]), []);
    // A stream that is opened again changes nothing.
    env.telling_hello(1, Some(1), declares(1, RUN), vec![token(1, 1)]);
    after(&mut env, TICK);
    let effects = env.batch([heard()]);
    assert_eq!(ends(std::slice::from_ref(&effects)), [(id(1), ENDED)]);
    let crate::effects::JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    let attempts: Vec<AttemptEnd> = finished.all_attempts().iter().map(|attempt| attempt.how).collect();
    assert_eq!(attempts, [AttemptEnd::Failed]);
}

#[test]
fn places_where_something_goes_on_that_is_over_get_nothing() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, 2)], vec![]);
    let set = |jobs, occupied| {
        let window = Window { jobs, concurrency: 2, occupied };
        Command::SetWindow { session: S1, elf: Arc::from("elf"), window }
    };
    env.batch([set(8, 2)]);
    let effects = env.submit((1..=4).map(|number| job(number, &[])).collect());
    assert_eq!((assigned(&effects), env.core.elf("elf").unwrap().instances[0].occupied), (vec![], 2));
    let effects = env.batch([set(8, 1)]);
    assert_eq!(assigned(&effects).len(), 2, "one to run, and one to run next");
    // What was given to it before it was known is taken back for whoever is free.
    env.batch([set(8, 2)]);
    let effects = env.telling_hello(2, None, vec![offer(9, 2)], vec![]);
    let recalled = |send: &Send| matches!(send, Send::Recall { session: S1, .. });
    assert_eq!(assigned(&effects).len(), 2);
    env.outcome(2, token(3, 1), OutcomeResult::Outputs(Attachment(1)));
    let effects = env.outcome(2, token(4, 1), OutcomeResult::Outputs(Attachment(1)));
    assert!(effects.sends.iter().any(recalled), "{:?}", effects.sends);
}

#[test]
fn what_ran_for_too_long_is_tried_again_by_its_policy_while_its_place_stays_taken() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
    let retry = RetryPolicy { attempts: Some(2), jitter: Some(0), ..RetryPolicy::default() };
    let timeouts = Timeouts { run: Some(RUN), ..Timeouts::default() };
    env.submit(vec![NewJob { policy: Some(Arc::new(Policy { retry, timeouts })), ..job(1, &[]) }]);
    env.start(1, token(1, 1), Duration::ZERO);
    after(&mut env, RUN + MARGIN);
    let effects = env.batch([heard()]);
    assert_eq!(ends(std::slice::from_ref(&effects)), []);
    assert!(cancelled(&effects), "{:?}", effects.sends);
    let by: Vec<FailedBy> = effects.failed.iter().map(|failed| failed.by).collect();
    assert_eq!(by, [FailedBy::TimedOut(RUN)]);
    let live = stored(&effects, 1).unwrap();
    assert_eq!((live.tries.failed, live.attempts[0].how), (1, AttemptEnd::TimedOut));
    after(&mut env, Duration::from_secs(1));
    assert_eq!(assigned(&env.batch([heard()])), [], "its place is taken");
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Cancelled);
    assert_eq!(assigned(&effects), [(1, token(1, 2))]);
}
