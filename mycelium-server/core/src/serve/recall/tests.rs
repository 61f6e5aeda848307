use std::time::Duration;

use crate::command::{Command, NewJob, OutcomeResult, Scope};
use crate::effects::{Effects, Send};
use crate::ids::{Attachment, SessionId, Token};
use crate::image::AttemptEnd;
use crate::status::Status;
use crate::testing::{TestEnv, assigned, id, job, offer, token};

/// A core with a process of which so many jobs run and one more waits.
fn full(concurrency: u8) -> TestEnv {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, concurrency.into())], vec![]);
    env.submit((1..=concurrency + 1).map(|number| job(number, &[])).collect());
    (1..=concurrency).for_each(|number| drop(env.start(1, token(number, 1), Duration::ZERO)));
    env
}

fn recalled(effects: &Effects) -> Vec<(u64, Token)> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Recall { session, tokens } = send {
            all.extend(tokens.iter().map(|token| (session.0, *token)));
        }
    }
    all
}

fn urgent(number: u8) -> NewJob {
    let mut job = job(number, &[]);
    job.head.priority = 1;
    job
}

#[test]
fn what_waits_goes_to_who_can_begin_it_once_it_is_given_back() {
    let mut env = full(2);
    let effects = env.telling_hello(2, None, vec![offer(9, 2)], vec![]);
    assert_eq!((recalled(&effects), assigned(&effects)), (vec![(1, token(3, 1))], vec![]));
    assert_eq!(env.status(3), Some(Status::Assigned), "it is not offered before the answer");
    assert_eq!(recalled(&env.batch([])), [], "once");
    let effects = env.outcome(1, token(3, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(2, token(3, 2))]);
    let attempts = env.core.attempts(id(3)).unwrap();
    assert_eq!((attempts[0].how, attempts[0].held.started), (AttemptEnd::HandedBack, None));
    // It counts for nothing: the next time that it comes back it does not pause.
    let effects = env.outcome(2, token(3, 2), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(2, token(3, 3))]);
}

#[test]
fn what_was_started_meanwhile_is_not_given_back_and_something_else_is() {
    let mut env = full(1);
    env.telling_hello(2, None, vec![offer(9, 1)], vec![]);
    env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
    // The word crossed the start; another job waits behind it now.
    env.submit(vec![job(5, &[]), job(6, &[]), job(7, &[])]);
    env.start(2, token(5, 1), Duration::ZERO);
    env.outcome(2, token(5, 1), OutcomeResult::Outputs(Attachment(0)));
    let effects = env.start(1, token(2, 1), Duration::ZERO);
    assert_eq!(env.status(2), Some(Status::Running));
    assert!(recalled(&effects).iter().all(|(_, recalled)| *recalled != token(2, 1)));
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects).len(), 1, "given back all the same it counts as handed back");
    assert_eq!(env.core.attempts(id(2)).unwrap()[0].how, AttemptEnd::HandedBack);
}

#[test]
fn nothing_is_recalled_of_who_does_not_know_the_word() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 1)], vec![]);
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[])]);
    let effects = env.telling_hello(2, None, vec![offer(9, 1)], vec![]);
    assert_eq!((recalled(&effects), assigned(&effects)), (vec![], vec![]));
}

#[test]
fn no_more_is_recalled_than_can_begin() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, 1)], vec![]);
    env.telling_hello(2, None, vec![offer(9, 1)], vec![]);
    env.submit((1..=4).map(|number| job(number, &[])).collect());
    let effects = env.telling_hello(3, None, vec![offer(9, 1)], vec![]);
    assert_eq!(recalled(&effects).len(), 1, "of two that wait");
    assert_eq!(recalled(&env.batch([])), []);
}

#[test]
fn what_is_less_urgent_makes_room() {
    let mut env = full(1);
    let effects = env.submit(vec![job(8, &[])]);
    assert_eq!(recalled(&effects), [], "what is as urgent waits its turn");
    let effects = env.submit(vec![urgent(9)]);
    assert_eq!(recalled(&effects), [(1, token(2, 1))]);
    let effects = env.outcome(1, token(2, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(1, token(9, 1))]);
}

/// A core with a process that runs a job, and one that was recalled twice.
fn recalled_twice() -> TestEnv {
    let mut env = full(1);
    for (number, attempt) in [(9, 1), (10, 2)] {
        env.submit(vec![urgent(number)]);
        env.outcome(1, token(2, attempt), OutcomeResult::Released);
        env.start(1, token(number, 1), Duration::ZERO);
        env.outcome(1, token(number, 1), OutcomeResult::Outputs(Attachment(0)));
    }
    assert_eq!(env.status(2), Some(Status::Ready), "a place in the window is free, and it would wait there");
    env
}

#[test]
fn what_was_recalled_twice_goes_where_it_begins_at_once() {
    let mut env = recalled_twice();
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
    assert_eq!(assigned(&effects), [(1, token(2, 3))]);
}

#[test]
fn what_stands_behind_it_is_looked_at_again_when_it_is_cancelled() {
    let mut env = recalled_twice();
    assert_eq!(assigned(&env.submit(vec![job(3, &[])])), []);
    assert_eq!(assigned(&env.cancel(Scope::Jobs(vec![id(2)]))), [(1, token(3, 1))]);
}

#[test]
fn a_recall_is_said_again_to_who_comes_back() {
    let mut env = full(1);
    env.telling_hello(2, None, vec![offer(9, 1)], vec![]);
    let held = vec![token(1, 1), token(2, 1)];
    let effects = env.telling_hello(1, Some(1), vec![offer(9, 1)], held.clone());
    assert_eq!(recalled(&effects), [(1, token(2, 1))]);
    // It has forgotten the word.
    let mut command = env.hello_command(1, Some(1), vec![offer(9, 1)], held);
    if let Command::Hello(hello) = &mut command {
        hello.tells_starts = true;
    }
    assert_eq!(recalled(&env.batch([command])), []);
    let effects = env.batch([Command::Goodbye { session: SessionId(1) }]);
    assert_eq!(assigned(&effects), [(2, token(1, 2)), (2, token(2, 2))]);
}
