use std::time::Duration;

use super::RESUMED_WITHIN;
use crate::command::{Command, OutcomeResult, StreamEnd};
use crate::effects::{Send, Verdict};
use crate::ids::{AssignNumber, Attachment, SessionId};
use crate::image::AttemptEnd;
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, id, job, offer, token};

const SECOND: Duration = Duration::from_secs(1);
const S1: SessionId = SessionId(1);

fn closed(end: StreamEnd) -> Command {
    Command::StreamClosed { session: S1, end }
}

fn unconfirmed(received: u64) -> Command {
    closed(StreamEnd::Unconfirmed { received: AssignNumber(received) })
}

/// An elf that holds jobs 1 to 3, 25 s after its last word.
fn silent() -> TestEnv {
    let mut env = TestEnv::new();
    env.submit((1..=3).map(|number| job(number, &[])).collect());
    env.hello(1, None, vec![offer(3, 1)], vec![]);
    after(&mut env, 25 * SECOND);
    env
}

/// In how many seconds its session ends.
fn left(env: &TestEnv) -> u64 {
    env.core.next_deadline().unwrap().since(env.now.steady).as_secs()
}

#[test]
fn a_stream_that_ends_is_no_sign_of_life() {
    for end in [StreamEnd::Broken, StreamEnd::ByShell] {
        let mut env = silent();
        env.batch([closed(end)]);
        assert_eq!(left(&env), 5, "{end:?}");
        after(&mut env, 5 * SECOND);
        assert_eq!(env.batch([]).records.sessions_ended, [S1], "{end:?}");
    }
}

#[test]
fn a_stream_that_breaks_leaves_little_of_the_lease_and_a_resumed_session_has_all_of_it() {
    let mut env = silent();
    env.batch([Command::Heartbeat { session: S1, held: vec![token(1, 1)], received: AssignNumber(1) }]);
    assert_eq!(left(&env), 30);
    env.batch([closed(StreamEnd::ByShell)]);
    assert_eq!(left(&env), 30, "that the broker ends it says nothing of the elf");
    let held = vec![token(1, 1), token(2, 1), token(3, 1)];
    env.hello(1, Some(1), vec![offer(3, 1)], held.clone());
    env.batch([closed(StreamEnd::Broken)]);
    assert_eq!(left(&env), 6);
    after(&mut env, 5 * SECOND);
    env.hello(1, Some(1), vec![offer(3, 1)], held);
    assert_eq!((left(&env), env.core.status().running), (30, 3), "nothing was restarted");
}

#[test]
fn what_is_not_confirmed_goes_to_others_and_what_is_stays() {
    let mut env = silent();
    env.hello(2, None, vec![offer(9, 1)], vec![]);
    assert_eq!(assigned(&env.batch([unconfirmed(1)])), [], "its elf may come back with it");
    after(&mut env, RESUMED_WITHIN);
    let effects = env.batch([]);
    assert_eq!(assigned(&effects), [(2, token(2, 2)), (2, token(3, 2))]);
    assert_eq!(env.core.job(id(1)).unwrap().running.map(|running| running.session), Some(S1));
    let attempts = env.core.attempts(id(2)).unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.how).collect::<Vec<_>>(), [AttemptEnd::NotHeld]);
    assert_eq!(env.core.job(id(2)).unwrap().elves_lost, 0);

    // Its elf comes back and had them all the same: it goes on with the one that is still its own.
    let effects = env.hello(1, Some(1), vec![offer(3, 1)], vec![token(1, 1), token(2, 1), token(3, 1)]);
    assert!(effects.sends.is_empty(), "{:?}", effects.sends);
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(1)));
    let acks = vec![(token(2, 1), Verdict::Stale)];
    assert_eq!(effects.sends, [Send::OutcomeAcks { session: S1, acks }]);
}

#[test]
fn what_an_elf_comes_back_with_is_given_to_nobody_else() {
    let mut env = silent();
    env.hello(2, None, vec![offer(9, 1)], vec![]);
    env.batch([unconfirmed(1)]);
    after(&mut env, RESUMED_WITHIN / 2);
    let held = vec![token(1, 1), token(2, 1)];
    assert_eq!(assigned(&env.hello(1, Some(1), vec![offer(2, 1)], held)), [(2, token(3, 2))]);
    after(&mut env, RESUMED_WITHIN);
    assert_eq!(assigned(&env.batch([])), []);
    assert_eq!(env.core.job(id(2)).unwrap().running.map(|running| running.session), Some(S1));
}

#[test]
fn an_elf_whose_process_is_gone_is_lost_at_once_unless_somebody_has_resumed_its_session() {
    let mut env = silent();
    let gone = Command::ProcessGone { session: S1 };
    assert_eq!(env.batch([gone.clone()]).records.sessions_ended, [], "it has a stream");
    let effects = env.batch([closed(StreamEnd::Broken), gone.clone()]);
    assert_eq!(effects.records.sessions_ended, [S1]);
    assert_eq!((env.status(1), env.core.job(id(1)).unwrap().elves_lost), (Some(Status::Ready), 1));
    assert_eq!(env.core.job(id(2)).unwrap().elves_lost, 0, "it runs one at a time");
    assert_eq!(env.batch([gone, unconfirmed(1)]).sends, [], "of what is over nothing is known");
    assert_eq!(env.core.next_deadline(), None);
}
