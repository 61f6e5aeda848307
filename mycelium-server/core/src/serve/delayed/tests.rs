use std::time::Duration;

use crate::command::{Command, OutcomeResult, Scope, StreamEnd};
use crate::effects::{Effects, Send, Verdict};
use crate::ids::{AssignNumber, Attachment, SessionId, Token};
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, id, job, offer, token};

const SESSION: SessionId = SessionId(1);

fn delayed(env: &mut TestEnv, tokens: &[Token]) -> Effects {
    env.batch([Command::ArgumentsDelayed { session: SESSION, tokens: tokens.to_vec() }])
}

fn ready(env: &mut TestEnv, tokens: &[Token]) -> Effects {
    env.batch([Command::ArgumentsReady { session: SESSION, tokens: tokens.to_vec() }])
}

fn beat(env: &mut TestEnv, held: &[Token], received: u64) -> Effects {
    let received = AssignNumber(received);
    env.batch([Command::Heartbeat { session: SESSION, held: held.to_vec(), received }])
}

fn sent(session: SessionId, tokens: Vec<Token>, first: u64) -> Send {
    Send::Ready { session, tokens, first: AssignNumber(first) }
}

/// An elf that runs one job at a time and holds three of four, of which the first has stepped aside.
fn first_of_three_aside() -> TestEnv {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(3, 1)], vec![]);
    let effects = env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[]), job(4, &[])]);
    assert_eq!(assigned(&effects), [(1, token(1, 1)), (1, token(2, 1)), (1, token(3, 1))]);
    assert_eq!(delayed(&mut env, &[token(1, 1)]), Effects::default(), "nothing is stored, and nobody told");
    env
}

#[test]
fn what_is_aside_is_not_missed_by_a_heartbeat() {
    let mut env = first_of_three_aside();
    beat(&mut env, &[token(2, 1), token(3, 1)], 3);
    assert_eq!(env.status(1), Some(Status::Running));
    let effects = ready(&mut env, &[token(1, 1)]);
    assert_eq!(effects.sends, [sent(SESSION, vec![token(1, 1)], 4)], "numbered after what was sent before");
    // Only now it can be missed.
    beat(&mut env, &[token(2, 1), token(3, 1)], 3);
    assert_eq!(env.status(1), Some(Status::Running));
    let effects = beat(&mut env, &[token(2, 1), token(3, 1)], 4);
    assert_eq!(assigned(&effects), [(1, token(1, 2))]);
}

#[test]
fn what_is_aside_keeps_its_place_in_the_window() {
    let mut env = first_of_three_aside();
    assert_eq!(env.status(4), Some(Status::Ready));
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(7)));
    assert_eq!(assigned(&effects), [(1, token(4, 1))]);
}

#[test]
fn what_is_aside_is_not_the_end_of_its_elf() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(3, 1)], vec![]);
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[])]);
    delayed(&mut env, &[token(1, 1)]);
    after(&mut env, Duration::from_secs(31));
    env.batch([]);
    // The second was the first to reach it.
    let lost = [1, 2, 3].map(|number| env.core.job(id(number)).map(|job| job.elves_lost));
    assert_eq!(lost, [Some(0), Some(1), Some(0)]);
}

#[test]
fn an_elf_never_hears_of_what_was_cancelled_while_it_was_aside() {
    let mut env = first_of_three_aside();
    env.cancel(Scope::Jobs(vec![id(1)]));
    let effects = ready(&mut env, &[token(1, 1)]);
    assert_eq!(effects.sends[0], sent(SESSION, vec![], 4));
    assert_eq!(assigned(&effects), [(1, token(4, 1))], "and its place in the window is free");
}

#[test]
fn a_resumed_session_gives_back_what_was_aside() {
    let mut env = first_of_three_aside();
    env.hello(1, Some(1), vec![offer(3, 1)], vec![token(2, 1), token(3, 1)]);
    assert_eq!(env.status(1), Some(Status::Running), "it is assigned anew");
    // What the old stream computed is of no use any more.
    let effects = ready(&mut env, &[token(1, 1)]);
    assert_eq!(effects.sends, [sent(SESSION, vec![], 5)]);
    let effects = env.outcome(1, token(1, 2), OutcomeResult::Outputs(Attachment(7)));
    let Some(Send::OutcomeAcks { acks, .. }) = effects.sends.first() else { panic!("{effects:?}") };
    assert_eq!(*acks, [(token(1, 2), Verdict::Recorded)]);
}

#[test]
fn what_was_put_together_for_one_stream_does_not_reach_the_next() {
    let mut env = first_of_three_aside();
    let resumed = env.hello_command(1, Some(1), vec![offer(3, 1)], vec![token(2, 1), token(3, 1)]);
    let effects = env.batch([
        Command::ArgumentsReady { session: SESSION, tokens: vec![token(1, 1)] },
        Command::StreamClosed { session: SESSION, end: StreamEnd::Broken },
        resumed,
    ]);
    assert!(!effects.sends.iter().any(|sent| matches!(sent, Send::Ready { .. })), "{:?}", effects.sends);
    assert_eq!(assigned(&effects), [(1, token(1, 2))], "it is put together anew");
}

#[test]
fn words_about_what_is_not_held_change_nothing() {
    let mut env = first_of_three_aside();
    delayed(&mut env, &[token(1, 1), token(9, 1), token(2, 7)]);
    let effects = ready(&mut env, &[token(3, 1), token(9, 1), token(2, 7)]);
    assert_eq!(effects.sends, [sent(SESSION, vec![], 4)], "what is not aside is not sent a second time");
    let other = Command::ArgumentsReady { session: SessionId(5), tokens: vec![token(1, 1)] };
    assert_eq!(env.batch([other]), Effects::default());
}

#[test]
fn what_was_aside_is_recalled_for_who_could_have_begun_it_meanwhile() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(2, 1)], vec![]);
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.start(1, token(1, 1), Duration::ZERO);
    delayed(&mut env, &[token(2, 1)]);
    let recalled = |effects: &Effects| {
        let tokens =
            |send: &Send| if let Send::Recall { tokens, .. } = send { tokens.clone() } else { vec![] };
        effects.sends.iter().flat_map(tokens).collect::<Vec<Token>>()
    };
    let effects = env.telling_hello(2, None, vec![offer(1, 1)], vec![]);
    assert_eq!(recalled(&effects), [], "it has not been sent");
    let effects = ready(&mut env, &[token(2, 1)]);
    assert_eq!(recalled(&effects), [token(2, 1)]);
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(2, token(2, 2))]);
}
