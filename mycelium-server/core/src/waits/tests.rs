use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, NewFlow, OutcomeResult, Window};
use crate::effects::{Effects, Send};
use crate::ids::{Attachment, FlowId, SessionId, Token};
use crate::testing::{TestEnv, after, id, job, offer, token};
use crate::views::Explanation;

const LOOK: Duration = Duration::from_secs(5);

fn flow(number: u8) -> FlowId {
    FlowId::new([number; 16])
}

/// Submits a job, as a flow of the same number, on behalf of an attempt.
fn submit(env: &mut TestEnv, number: u8, on_behalf_of: Option<Token>) -> Effects {
    let mut submit = env.submit_command(vec![job(number, &[])]);
    submit.flow = flow(number);
    submit.new_flow = NewFlow { name: Arc::from("flow"), on_behalf_of, ..NewFlow::default() };
    env.batch([Command::Submit(submit)])
}

/// The attempts that hold all places that a job waits for, if they are its ancestors.
fn holders(env: &TestEnv, number: u8) -> Option<Vec<Token>> {
    if let Explanation::HeldByAncestors { attempts } = env.core.explain(id(number))? {
        Some(attempts)
    } else {
        None
    }
}

/// What is told within some looks.
fn told(env: &mut TestEnv, looks: u32) -> Vec<Send> {
    let mut told = Vec::new();
    for _ in 0..looks {
        after(env, LOOK);
        // Its elves go on beating.
        let sends = env.batch([1, 2].map(|session| Command::Heard { session: SessionId(session) })).sends;
        told.extend(sends.into_iter().filter(|send| matches!(send, Send::WaitsForItself { .. })));
    }
    told
}

#[test]
fn a_job_that_waits_for_its_own_submitter_is_explained_and_told_once() {
    // It waits for the window, or in it.
    for window in [1, 8] {
        let mut env = TestEnv::new();
        env.hello(1, None, vec![offer(window, 1)], vec![]);
        submit(&mut env, 1, None);
        submit(&mut env, 2, Some(token(1, 1)));
        assert_eq!(holders(&env, 2), Some(vec![token(1, 1)]), "window {window}");
        assert_eq!(holders(&env, 1), None);
        assert_eq!(told(&mut env, 1), [], "it may be about to end");
        let expected = Send::WaitsForItself { session: SessionId(1), attempt: token(1, 1), job: id(2) };
        assert_eq!(told(&mut env, 5), [expected], "window {window}");
        // Another place, and it goes on.
        let more = Window { jobs: window.max(2), concurrency: 2, occupied: 0 };
        env.batch([Command::SetWindow { session: SessionId(1), elf: Arc::from("elf"), window: more }]);
        assert_eq!(holders(&env, 2), None);
    }
}

#[test]
fn of_an_elf_that_tells_what_it_starts_only_that_holds_places() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(8, 1)], vec![]);
    submit(&mut env, 1, None);
    submit(&mut env, 2, Some(token(1, 1)));
    assert_eq!(holders(&env, 2), None, "nothing is started yet");
    env.start(1, token(1, 1), Duration::ZERO);
    assert_eq!(holders(&env, 2), Some(vec![token(1, 1)]));
    assert_eq!(told(&mut env, 2).len(), 1);
    env.start(1, token(2, 1), Duration::ZERO);
    assert_eq!(holders(&env, 2), None, "it runs");
}

#[test]
fn a_job_that_somebody_else_will_make_room_for_is_none() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(2, 2)], vec![]);
    submit(&mut env, 1, None);
    submit(&mut env, 3, None);
    submit(&mut env, 2, Some(token(1, 1)));
    assert_eq!(holders(&env, 2), None, "job 3 ends by itself");
    assert_eq!(told(&mut env, 4), []);
    env.outcome(1, token(3, 1), OutcomeResult::Outputs(Attachment(0)));
    assert_eq!(holders(&env, 2), None, "it has its place");

    // Another process takes it.
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    submit(&mut env, 1, None);
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    submit(&mut env, 3, None);
    submit(&mut env, 2, Some(token(1, 1)));
    assert_eq!(holders(&env, 2), None);
}

#[test]
fn grandchildren_wait_for_all_their_ancestors() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(2, 2)], vec![]);
    submit(&mut env, 1, None);
    submit(&mut env, 2, Some(token(1, 1)));
    assert_eq!(holders(&env, 2), None, "it runs");
    submit(&mut env, 3, Some(token(2, 1)));
    assert_eq!(holders(&env, 3), Some(vec![token(2, 1), token(1, 1)]));
}

#[test]
fn names_that_mean_nothing_are_no_ancestors() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    submit(&mut env, 1, None);
    for (number, named) in [(2, token(9, 1)), (3, token(1, 7)), (4, token(4, 1))] {
        submit(&mut env, number, Some(named));
        assert_eq!(holders(&env, number), None, "{named:?}");
    }
    assert_eq!(told(&mut env, 4), []);
}

#[test]
fn attempts_that_wait_for_the_places_of_each_other_are_found_and_told_of_once() {
    let mut env = TestEnv::new();
    // Of one process with two places, of which a window takes nothing more; and of two processes.
    env.hello(1, None, vec![offer(2, 2)], vec![]);
    env.hello(2, None, vec![offer(1, 4)], vec![]);
    (1..4).for_each(|parent| drop(submit(&mut env, parent, None)));
    submit(&mut env, 11, Some(token(1, 1)));
    submit(&mut env, 12, Some(token(2, 1)));
    assert_eq!(holders(&env, 11), None, "job 3 ends by itself");
    assert_eq!(told(&mut env, 4), []);
    submit(&mut env, 13, Some(token(3, 1)));
    assert_eq!(holders(&env, 12), Some(vec![token(2, 1), token(1, 1), token(3, 1)]), "its own first");
    assert_eq!(holders(&env, 13), Some(vec![token(3, 1), token(1, 1), token(2, 1)]));
    let told = told(&mut env, 6);
    assert!(matches!(told[..], [Send::WaitsForItself { .. }]), "one for all: {told:?}");
    // One that gives up leaves its place to the others.
    env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(0)));
    assert_eq!(holders(&env, 12), None);
}

#[test]
fn a_child_that_runs_holds_nobody_up_for_ever() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(3, 3)], vec![]);
    submit(&mut env, 1, None);
    submit(&mut env, 2, None);
    submit(&mut env, 11, Some(token(1, 1)));
    submit(&mut env, 12, Some(token(2, 1)));
    assert_eq!(holders(&env, 12), None, "job 11 runs, and ends");
    submit(&mut env, 21, Some(token(11, 1)));
    assert_eq!(holders(&env, 12), Some(vec![token(2, 1), token(1, 1), token(11, 1)]), "now it waits too");
}

#[test]
fn what_a_process_holds_that_does_not_give_it_back_waits_for_that_alone() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(8, 1)], vec![]);
    submit(&mut env, 1, None);
    submit(&mut env, 2, Some(token(1, 1)));
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    assert_eq!(holders(&env, 2), Some(vec![token(1, 1)]), "although another process has nothing to do");
    assert_eq!(told(&mut env, 3).len(), 1);
}
