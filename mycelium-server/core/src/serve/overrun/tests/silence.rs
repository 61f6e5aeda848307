//! Attempts that are to report now and then.

use super::*;

const WITHIN: Duration = Duration::from_secs(3);
const SILENT: End = End::Failed(FailedBy::Silent(WITHIN));

fn quiet() -> NewJob {
    let timeouts = Timeouts { progress: Some(WITHIN), ..Timeouts::default() };
    NewJob { policy: Some(Arc::new(Policy { timeouts, ..Policy::default() })), ..job(1, &[]) }
}

fn beats() -> Command {
    Command::Heartbeat { session: S1, held: vec![token(1, 1)], received: AssignNumber(u64::MAX) }
}

fn reports(attempt: u32) -> Command {
    Command::Reports { session: S1, tokens: vec![token(9, 1), token(1, attempt)] }
}

fn started() -> TestEnv {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![quiet()]);
    env.start(1, token(1, 1), Duration::ZERO);
    env
}

#[test]
fn what_reports_nothing_ends_when_its_process_names_it_after_its_time_and_the_margin() {
    let mut env = started();
    after(&mut env, WITHIN + MARGIN - TICK);
    assert_eq!(ends(&[env.batch([beats()])]), []);
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([heard()])]), [], "what is not named may have said what has not come");
    let effects = env.batch([beats()]);
    assert_eq!(ends(std::slice::from_ref(&effects)), [(id(1), SILENT)]);
    assert!(cancelled(&effects), "{:?}", effects.sends);
    assert_eq!(env.core.elf("elf").unwrap().instances[0].occupied, 1, "its place is taken");
}

#[test]
fn what_is_told_late_to_have_been_started_may_have_reported_before() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![quiet()]);
    after(&mut env, Duration::from_secs(3_600));
    env.start(1, token(1, 1), Duration::from_secs(3_600));
    after(&mut env, WITHIN + MARGIN - TICK);
    assert_eq!(ends(&[env.batch([beats()])]), []);
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([beats()])]), [(id(1), SILENT)]);
}

#[test]
fn what_reports_goes_on_for_as_long_as_it_does() {
    let mut env = started();
    for _ in 0..10 {
        after(&mut env, WITHIN + MARGIN - TICK);
        assert_eq!(ends(&[env.batch([reports(1)]), env.batch([beats()])]), []);
    }
    after(&mut env, WITHIN + MARGIN - TICK);
    assert_eq!(ends(&[env.batch([reports(2), beats()])]), [], "another attempt's, and its own is in time");
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([beats()])]), [(id(1), SILENT)]);
}

#[test]
fn what_cannot_be_heard_is_not_silent() {
    let mut env = started();
    after(&mut env, WITHIN);
    env.batch([Command::StreamClosed { session: S1, end: StreamEnd::Broken }]);
    after(&mut env, MARGIN);
    env.telling_hello(1, Some(1), vec![offer(1, 1)], vec![token(1, 1)]);
    after(&mut env, WITHIN + MARGIN - TICK);
    assert_eq!(ends(&[env.batch([beats()])]), []);
    // Nor while the broker stands still.
    let by = Duration::from_secs(3_600);
    after(&mut env, by);
    assert_eq!(ends(&[env.batch([Command::Stalled { by }, beats()])]), []);
    after(&mut env, TICK);
    assert_eq!(ends(&[env.batch([beats()])]), [(id(1), SILENT)]);
}

#[test]
fn who_may_be_silent_is_and_a_silent_attempt_is_tried_again_by_its_policy() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(1, 1)], vec![]);
    let retry = RetryPolicy { attempts: Some(2), ..RetryPolicy::default() };
    let timeouts = Timeouts { progress: Some(WITHIN), ..Timeouts::default() };
    env.submit(vec![NewJob { policy: Some(Arc::new(Policy { retry, timeouts })), ..job(1, &[]) }]);
    after(&mut env, WITHIN + MARGIN);
    assert_eq!(ends(&[env.batch([beats()])]), [], "it was not started");
    env.start(1, token(1, 1), Duration::ZERO);
    after(&mut env, WITHIN + MARGIN);
    let effects = env.batch([beats()]);
    assert_eq!(ends(std::slice::from_ref(&effects)), []);
    let by: Vec<FailedBy> = effects.failed.iter().map(|failed| failed.by).collect();
    assert_eq!(by, [FailedBy::Silent(WITHIN)]);
}
