use std::sync::Arc;
use std::time::Duration;

use crate::Explanation;
use crate::command::{Command, NewJob, OutcomeResult, Pause, Resume, Scope};
use crate::effects::{Effects, JobRecord, Refusal, Reply, Send};
use crate::ids::{Attachment, FlowId, SessionId, Token};
use crate::image::{AttemptEnd, Image, LiveJob, PauseRecord, PauseTarget};
use crate::status::{FinalStatus, Status};
use crate::testing::{FLOW, TestEnv, assigned, ends, id, job, offer, reply, task_offer, token};

fn elf() -> PauseTarget {
    PauseTarget::Elf(Arc::from("elf"))
}

fn task(task: &str) -> PauseTarget {
    PauseTarget::Task { elf: Arc::from("elf"), task: Arc::from(task) }
}

fn pause(env: &mut TestEnv, target: PauseTarget) -> Effects {
    let (request, as_of) = (env.request(), env.commit());
    let (by, reason) = (Arc::from("ada@host"), Arc::from("the disk"));
    env.batch([Command::Pause(Pause { request, target, by, reason, is_stored: false, as_of })])
}

fn resume(env: &mut TestEnv, target: PauseTarget) -> Effects {
    let request = env.request();
    env.batch([Command::Resume(Resume { request, target })])
}

/// Goes on until nothing is left to do. What came of it.
fn settle(env: &mut TestEnv) -> Vec<(u64, Token)> {
    let mut all = assigned(&env.batch([]));
    while env.core.has_work() {
        all.extend(assigned(&env.batch([])));
    }
    all
}

/// A job of another task of the elf.
fn other(number: u8) -> NewJob {
    let mut other = job(number, &[]);
    other.head.task = Arc::from("task_other");
    other
}

/// A core with a process that takes two tasks, and would take nine jobs at once.
fn served() -> TestEnv {
    let mut env = TestEnv::new();
    let mut offer = offer(9, 9);
    offer.tasks.push(task_offer("task_other", &[], &[]));
    env.telling_hello(1, None, vec![offer], vec![]);
    env
}

fn recalled(effects: &Effects) -> Vec<Token> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Recall { tokens, .. } = send {
            all.extend(tokens.iter().copied());
        }
    }
    all
}

fn is_paused(env: &TestEnv, number: u8) -> bool {
    matches!(env.core.explain(id(number)), Some(Explanation::Paused { .. }))
}

#[test]
fn nothing_of_what_is_paused_is_assigned_and_the_rest_is() {
    for target in [PauseTarget::Mycelium, elf(), task("task_run"), PauseTarget::Flow(FLOW)] {
        let mut env = served();
        // The flow has to be there.
        env.submit(vec![job(1, &[])]);
        env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
        pause(&mut env, target.clone());
        let effects = env.submit(vec![job(2, &[]), other(3)]);
        let others = if target == task("task_run") { vec![(1, token(3, 1))] } else { vec![] };
        assert_eq!(assigned(&effects), others, "{target:?}");
        assert_eq!(settle(&mut env), [], "{target:?}");
        assert!(!env.core.has_work(), "what is paused keeps nobody busy: {target:?}");
        assert!(is_paused(&env, 2), "{target:?}");
        let Some(Explanation::Paused { pauses }) = env.core.explain(id(2)) else { panic!("{target:?}") };
        let expected = PauseRecord {
            target: target.clone(),
            since: env.now.wall,
            by: Arc::from("ada@host"),
            reason: Arc::from("the disk"),
        };
        assert_eq!(pauses, [expected]);
        let effects = resume(&mut env, target.clone());
        let mut all = assigned(&effects);
        all.extend(settle(&mut env));
        assert!(all.contains(&(1, token(2, 1))), "{target:?}: {all:?}");
        assert_eq!(env.status(3), Some(Status::Assigned));
    }
}

#[test]
fn other_flows_go_past_one_that_is_paused_and_it_comes_back_to_its_place() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    env.submit((1..=9).map(|number| job(number, &[])).collect());
    pause(&mut env, PauseTarget::Flow(FLOW));
    let mut command = env.submit_command(vec![job(20, &[]), job(21, &[])]);
    command.flow = FlowId::new([7; 16]);
    env.batch([Command::Submit(command)]);
    let mut all = assigned(&env.telling_hello(1, None, vec![offer(1, 1)], vec![]));
    all.extend(settle(&mut env));
    assert_eq!(all, [(1, token(20, 1))]);
    resume(&mut env, PauseTarget::Flow(FLOW));
    settle(&mut env);
    let mut order = Vec::new();
    let mut next = token(20, 1);
    for _ in 0..11 {
        let mut given = assigned(&env.outcome(1, next, OutcomeResult::Outputs(Attachment(0))));
        given.extend(settle(&mut env));
        let Some(&(_, token)) = given.first() else { break };
        order.push(token.job);
        next = token;
    }
    assert_eq!(order, (1..=9).chain([21]).map(id).collect::<Vec<_>>(), "in the order of their submission");
}

#[test]
fn what_runs_goes_on_and_what_is_not_started_comes_back() {
    for target in [PauseTarget::Mycelium, elf(), task("task_run"), PauseTarget::Flow(FLOW)] {
        let mut env = served();
        env.submit(vec![job(1, &[]), job(2, &[])]);
        env.start(1, token(1, 1), Duration::ZERO);
        let mut told = recalled(&pause(&mut env, target.clone()));
        told.extend(recalled(&env.batch([])));
        assert_eq!(told, [token(2, 1)], "{target:?}");
        let effects = env.outcome(1, token(2, 1), OutcomeResult::Released);
        assert_eq!((assigned(&effects), settle(&mut env)), (vec![], vec![]), "{target:?}");
        assert_eq!(env.status(2), Some(Status::Ready));
        assert_eq!(env.status(1), Some(Status::Running));
        let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
        assert_eq!(ends(&[effects]).len(), 1, "{target:?}");
        resume(&mut env, target.clone());
        settle(&mut env);
        assert_eq!(env.status(2), Some(Status::Assigned), "{target:?}");
    }
}

#[test]
fn what_was_not_sent_yet_is_not_sent() {
    let mut env = served();
    env.submit(vec![job(1, &[])]);
    let delayed = Command::ArgumentsDelayed { session: SessionId(1), tokens: vec![token(1, 1)] };
    env.batch([delayed]);
    let effects = pause(&mut env, elf());
    assert_eq!(recalled(&effects), [], "its process has not heard of it");
    assert_eq!(env.status(1), Some(Status::Ready));
    assert_eq!(env.core.attempts(id(1)).unwrap()[0].how, AttemptEnd::NotHeld);
    let ready = Command::ArgumentsReady { session: SessionId(1), tokens: vec![token(1, 1)] };
    let effects = env.batch([ready]);
    let is_sent = |send: &Send| matches!(send, Send::Ready { tokens, .. } if !tokens.is_empty());
    assert!(!effects.sends.iter().any(is_sent), "{:?}", effects.sends);
    assert_eq!(assigned(&resume(&mut env, elf())), [(1, token(1, 2))]);
}

#[test]
fn who_pauses_first_is_who_paused_it_and_what_is_not_paused_is_not_resumed() {
    let mut env = served();
    let effects = pause(&mut env, elf());
    let Some(Ok(Reply::Paused { pause: first, is_new: true })) = reply(&effects) else {
        panic!("{effects:?}")
    };
    let first = first.clone();
    assert_eq!(effects.records.pauses, std::slice::from_ref(&first));
    env.now.wall = env.now.wall.after(Duration::from_secs(9));
    let effects = pause(&mut env, elf());
    assert_eq!(reply(&effects), Some(&Ok(Reply::Paused { pause: first.clone(), is_new: false })));
    assert!(effects.is_nothing_to_store());
    let effects = resume(&mut env, elf());
    assert_eq!(reply(&effects), Some(&Ok(Reply::Resumed { pause: Some(first) })));
    assert_eq!(effects.records.pauses_ended, [elf()]);
    let effects = resume(&mut env, elf());
    assert_eq!(reply(&effects), Some(&Ok(Reply::Resumed { pause: None })));
    assert!(effects.is_nothing_to_store());
}

#[test]
fn a_flow_that_is_not_there_is_not_paused_and_there_are_only_so_many_pauses() {
    let mut env = served();
    let refused = Err(Refusal::FlowNotFound(FLOW));
    assert_eq!(reply(&pause(&mut env, PauseTarget::Flow(FLOW))), Some(&refused));
    for number in 0..super::PAUSES_MAX {
        let target = PauseTarget::Elf(Arc::from(format!("elf {number}")));
        assert!(matches!(reply(&pause(&mut env, target)), Some(Ok(Reply::Paused { is_new: true, .. }))));
    }
    let refused = Err(Refusal::TooManyPauses { limit: super::PAUSES_MAX });
    assert_eq!(reply(&pause(&mut env, PauseTarget::Mycelium)), Some(&refused));
}

#[test]
fn what_is_paused_can_be_cancelled_and_fails_with_what_it_waits_for() {
    let mut env = served();
    env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[])]);
    env.start(1, token(1, 1), Duration::ZERO);
    env.start(1, token(3, 1), Duration::ZERO);
    pause(&mut env, PauseTarget::Flow(FLOW));
    let failed = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(0)));
    let all = ends(&[failed, env.batch([])]);
    assert_eq!(
        all.iter().map(|(_, end)| end.status()).collect::<Vec<_>>(),
        [FinalStatus::Failed, FinalStatus::UpstreamFailed]
    );
    env.submit(vec![job(4, &[])]);
    settle(&mut env);
    assert!(is_paused(&env, 4));
    env.cancel(Scope::Flow(FLOW));
    settle(&mut env);
    assert_eq!((env.status(4), env.core.n_unfinished()), (None, 0));
    // It is paused still, whether the core remembers it or not.
    env.submit(vec![job(5, &[])]);
    assert_eq!(settle(&mut env), []);
}

#[test]
fn a_restart_knows_what_is_paused() {
    for target in [PauseTarget::Mycelium, elf(), task("task_run"), PauseTarget::Flow(FLOW)] {
        let mut env = served();
        let effects = env.submit(vec![job(1, &[]), job(2, &[])]);
        let flows = effects.records.flows.clone();
        let mut jobs = Vec::new();
        for write in effects.jobs {
            if let JobRecord::Live(live) = write.after {
                jobs.push(live);
            }
        }
        let (by, reason) = (Arc::from("ada"), Arc::from(""));
        let pauses = vec![PauseRecord { target: target.clone(), since: env.now.wall, by, reason }];
        let [first, second] = jobs.try_into().unwrap();
        let jobs = vec![first, LiveJob { running: None, ..second }];
        env.restart_from(jobs, Image { flows, pauses, ..Image::default() }, vec![SessionId(1)]);
        let effects = env.telling_hello(1, Some(1), vec![offer(9, 9)], vec![token(1, 1)]);
        assert_eq!(recalled(&effects), [token(1, 1)], "{target:?}");
        assert_eq!((assigned(&effects), settle(&mut env)), (vec![], vec![]), "{target:?}");
        assert!(is_paused(&env, 2), "{target:?}");
        let mut given = assigned(&resume(&mut env, target.clone()));
        given.extend(settle(&mut env));
        assert_eq!(given, [(1, token(2, 2))], "{target:?}");
    }
}
