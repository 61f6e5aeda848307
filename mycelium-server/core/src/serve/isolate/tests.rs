use std::time::Duration;

use crate::Explanation;
use crate::command::{Command, ElfOffer, NewFlow, NewJob, OutcomeResult, Scope, StreamEnd};
use crate::effects::{Effects, End, FailedBy, JobRecord, Send};
use crate::ids::{Attachment, FlowId, SessionId, Token};
use crate::image::LiveJob;
use crate::status::Status;
use crate::testing::{TestEnv, after, assigned, ends, id, instance, job, offer, token};

const DONE: OutcomeResult = OutcomeResult::Outputs(Attachment(0));

/// The newest session is lost, and another process comes.
fn lose(env: &mut TestEnv, elf: u8, window: u32) -> Effects {
    after(env, Duration::from_secs(31));
    let mut lost = env.batch([]);
    let hello = env.hello(elf, None, vec![offer(window, window)], vec![]);
    assert_eq!(assigned(&lost), [], "nobody is there");
    lost.sends = hello.sends;
    lost
}

/// These jobs ran side by side in two processes that were lost, and are assigned to a third.
fn lost_twice(window: u32, jobs: &[u8]) -> (TestEnv, Vec<(u64, Token)>) {
    let mut env = TestEnv::new();
    env.submit(jobs.iter().map(|number| job(*number, &[])).collect());
    env.hello(1, None, vec![offer(window, window)], vec![]);
    let again = lose(&mut env, 2, window);
    let all: Vec<_> = jobs.iter().map(|number| (2, token(*number, 2))).collect();
    assert_eq!(assigned(&again), all, "the first loss makes nobody a suspect");
    let third = assigned(&lose(&mut env, 3, window));
    (env, third)
}

fn lost_of(env: &TestEnv, number: u8) -> Option<u32> {
    env.core.job(id(number)).map(|job| job.elves_lost)
}

#[test]
fn no_two_suspects_run_in_one_process_and_others_go_on_beside_one() {
    let (mut env, third) = lost_twice(4, &[1, 2, 3]);
    assert_eq!(third, [(3, token(1, 3))], "one of them");
    let suspected = Explanation::Suspected { elves_lost: 2, isolated: false, instances: 1, kept: None };
    assert_eq!(env.core.explain(id(2)), Some(suspected));
    let effects = env.submit(vec![job(4, &[]), job(5, &[])]);
    assert_eq!(assigned(&effects), [(3, token(4, 1)), (3, token(5, 1))]);
    // Another process takes another of them, and who is done leaves room for the next.
    assert_eq!(assigned(&env.hello(4, None, vec![offer(4, 4)], vec![])), [(4, token(2, 3))]);
    assert_eq!(assigned(&env.outcome(3, token(4, 1), DONE)), []);
    assert_eq!(assigned(&env.outcome(4, token(2, 3), DONE)), [(4, token(3, 3))]);
}

#[test]
fn a_suspect_that_is_cancelled_counts_until_its_process_lets_go() {
    let (mut env, _) = lost_twice(4, &[1, 2]);
    let effects = env.cancel(Scope::Jobs(vec![id(1)]));
    assert_eq!(assigned(&effects), []);
    assert_eq!(assigned(&env.outcome(3, token(1, 3), OutcomeResult::Cancelled)), [(3, token(2, 3))]);
}

#[test]
fn a_suspect_that_is_lost_again_gets_a_process_to_itself() {
    let (mut env, _) = lost_twice(4, &[1, 2]);
    env.submit(vec![job(3, &[])]);
    assert_eq!(env.status(3), Some(Status::Running));
    let effects = lose(&mut env, 4, 4);
    assert_eq!((lost_of(&env, 1), lost_of(&env, 2), lost_of(&env, 3)), (Some(3), Some(2), Some(1)));
    // The process was empty: it is kept at once.
    assert_eq!(assigned(&effects), [(4, token(1, 4))]);
    assert_eq!((env.status(2), env.status(3)), (Some(Status::Ready), Some(Status::Ready)));
    // Others go on elsewhere, and there when it is over.
    let other = env.hello(5, None, vec![offer(1, 1)], vec![]);
    assert_eq!(assigned(&other), [(5, token(2, 3))]);
    let effects = env.outcome(4, token(1, 4), DONE);
    assert_eq!(assigned(&effects), [(4, token(3, 2))]);
}

/// A job that was lost three times.
fn lost_three_times() -> TestEnv {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    for elf in 1..=3 {
        env.hello(elf, None, vec![offer(4, 4)], vec![]);
        if elf == 3 {
            env.submit(vec![job(3, &[])]);
        }
        after(&mut env, Duration::from_secs(31));
        env.batch([]);
    }
    env.cancel(Scope::Jobs(vec![id(2), id(3)]));
    assert_eq!((lost_of(&env, 1), lost_of(&env, 2)), (Some(3), None));
    env
}

fn other_offer(concurrency: u32) -> ElfOffer {
    ElfOffer { elf: "other".into(), ..offer(4, concurrency) }
}

fn other_job(number: u8) -> NewJob {
    let mut job = job(number, &[]);
    job.head.elf = "other".into();
    job
}

/// The same, and a process that runs two jobs of another elf.
fn waits_for_a_process() -> TestEnv {
    let mut env = lost_three_times();
    env.hello(4, None, vec![other_offer(4)], vec![]);
    let effects = env.submit(vec![other_job(4), other_job(5)]);
    assert_eq!(assigned(&effects).len(), 2);
    env
}

#[test]
fn what_a_process_has_not_started_is_recalled_when_it_is_kept() {
    let mut env = lost_three_times();
    env.telling_hello(4, None, vec![other_offer(1)], vec![]);
    assert_eq!(assigned(&env.submit(vec![other_job(4), other_job(5)])).len(), 2);
    env.start(4, token(4, 1), Duration::ZERO);
    let both = vec![other_offer(1), offer(4, 4)];
    let effects = env.telling_hello(4, Some(4), both, vec![token(4, 1), token(5, 1)]);
    let recall = Send::Recall { session: SessionId(4), tokens: vec![token(5, 1)] };
    assert!(effects.sends.contains(&recall), "{:?}", effects.sends);
    assert_eq!(assigned(&env.outcome(4, token(5, 1), OutcomeResult::Released)), []);
    assert_eq!(assigned(&env.outcome(4, token(4, 1), DONE)), [(4, token(1, 4))], "it is empty");
    assert_eq!(assigned(&env.outcome(4, token(1, 4), DONE)), [(4, token(5, 2))]);
}

#[test]
fn who_waits_for_a_place_in_the_process_that_it_keeps_from_being_emptied_waits_for_itself() {
    let mut env = waits_for_a_process();
    let both = vec![other_offer(4), offer(4, 4)];
    env.hello(4, Some(4), both, vec![token(4, 1), token(5, 1)]);
    let mut child = env.submit_command(vec![other_job(6)]);
    child.flow = FlowId::new([9; 16]);
    child.new_flow = NewFlow { on_behalf_of: Some(token(4, 1)), ..NewFlow::default() };
    assert_eq!(assigned(&env.batch([Command::Submit(child)])), []);
    // However soon job 5 ends.
    let waits = Explanation::HeldByAncestors { attempts: vec![token(4, 1)] };
    assert_eq!(env.core.explain(id(6)), Some(waits));
    env.outcome(4, token(4, 1), DONE);
    assert!(!matches!(env.core.explain(id(6)), Some(Explanation::HeldByAncestors { .. })), "it has ended");
}

#[test]
fn a_process_is_emptied_for_the_job_that_needs_one() {
    let mut env = waits_for_a_process();
    let both = vec![other_offer(4), offer(4, 4)];
    let held = vec![token(4, 1), token(5, 1)];
    assert_eq!(assigned(&env.hello(4, Some(4), both, held)), [], "it runs others");
    let kept =
        Explanation::Suspected { elves_lost: 3, isolated: true, instances: 1, kept: Some((instance(4), 2)) };
    assert_eq!(env.core.explain(id(1)), Some(kept));
    assert_eq!(assigned(&env.submit(vec![job(6, &[])])), [], "it is kept, of whichever elf");
    assert_eq!(assigned(&env.outcome(4, token(4, 1), DONE)), []);
    assert_eq!(assigned(&env.outcome(4, token(5, 1), DONE)), [(4, token(1, 4))], "now it is empty");
    assert_eq!(assigned(&env.outcome(4, token(1, 4), DONE)), [(4, token(6, 1))]);
}

#[test]
fn a_process_is_kept_no_longer_than_it_is_of_use() {
    let both = || vec![other_offer(4), offer(4, 4)];
    let held = || vec![token(4, 1), token(5, 1)];
    let kept = || {
        let mut env = waits_for_a_process();
        env.hello(4, Some(4), both(), held());
        assert_eq!(assigned(&env.submit(vec![job(6, &[])])), []);
        env
    };
    // The job is cancelled.
    let mut env = kept();
    assert_eq!(assigned(&env.cancel(Scope::Jobs(vec![id(1)]))), [(4, token(6, 1))]);
    // Another process is empty.
    let mut env = kept();
    assert_eq!(
        assigned(&env.hello(5, None, vec![offer(1, 1)], vec![])),
        [(4, token(6, 1)), (5, token(1, 4))]
    );
    // It offers the elf no more.
    let mut env = kept();
    let mut only = both();
    only.truncate(1);
    env.hello(4, Some(4), only, held());
    assert_eq!(
        env.core.explain(id(1)),
        Some(Explanation::NoInstance { instances: 0 }),
        "and another would be kept"
    );
    // It is lost; whoever comes next gets the job.
    let mut env = kept();
    after(&mut env, Duration::from_secs(31));
    env.batch([]);
    assert_eq!(assigned(&env.hello(5, None, vec![offer(4, 4)], vec![])), [(5, token(1, 4))]);
    assert_eq!(env.status(6), Some(Status::Ready));
}

#[test]
fn another_process_is_kept_at_once_when_the_stream_of_the_one_that_was_is_gone() {
    let mut env = lost_three_times();
    let both = || vec![other_offer(1), offer(4, 4)];
    for elf in [4, 5] {
        env.hello(elf, None, vec![other_offer(1)], vec![]);
        assert_eq!(assigned(&env.submit(vec![other_job(elf)])), [(elf.into(), token(elf, 1))]);
    }
    for elf in [4, 5] {
        env.hello(elf, Some(elf.into()), both(), vec![token(elf, 1)]);
    }
    let kept_by = |number| Some((instance(number), 1));
    let suspected =
        |instances, kept| Some(Explanation::Suspected { elves_lost: 3, isolated: true, instances, kept });
    assert_eq!(env.core.explain(id(1)), suspected(2, kept_by(4)));
    let closed = Command::StreamClosed { session: SessionId(4), end: StreamEnd::Broken };
    env.batch([closed]);
    assert_eq!(env.core.explain(id(1)), suspected(1, kept_by(5)));
    assert_eq!(assigned(&env.outcome(5, token(5, 1), DONE)), [(5, token(1, 4))]);
}

#[test]
fn only_losses_of_a_process_that_held_nothing_else_end_a_job() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    // Beside others it may be lost as often as it will.
    for elf in 1..=2 {
        env.hello(elf, None, vec![offer(2, 2)], vec![]);
        env.submit(vec![job(10 + elf, &[])]);
        assert_eq!(env.status(10 + elf), Some(Status::Running));
        after(&mut env, Duration::from_secs(31));
        assert_eq!(ends(&[env.batch([])]), []);
        env.cancel(Scope::Jobs(vec![id(10 + elf)]));
    }
    assert_eq!(lost_of(&env, 1), Some(2));
    let first = lose(&mut env, 3, 2);
    assert_eq!((ends(&[first]), lost_of(&env, 1)), (vec![], Some(2)));
    let second = lose(&mut env, 4, 2);
    assert_eq!((ends(&[second]), lost_of(&env, 1)), (vec![], Some(3)), "alone once");
    let third = lose(&mut env, 5, 2);
    assert_eq!(third.blamed, [(id(1), vec![id(11), id(12)])]);
    assert_eq!(ends(&[third]), [(id(1), End::Failed(FailedBy::ElvesLost(2)))]);
}

#[test]
fn a_restart_knows_who_is_a_suspect_and_who_ran_beside() {
    let live = |effects: &Effects| -> Vec<LiveJob> {
        let after = effects.jobs.iter().map(|write| &write.after);
        let live = after.filter_map(|after| match after {
            JobRecord::Live(live) => Some(live.clone()),
            JobRecord::Evaluate | JobRecord::Finished(_) | JobRecord::Dropped => None,
        });
        live.collect()
    };
    let mut env = TestEnv::new();
    let flows = env.submit(vec![job(1, &[]), job(2, &[])]).records.flows;
    let mut stored = Vec::new();
    for _ in 1..=3 {
        env.hello(1, None, vec![offer(4, 4)], vec![]);
        after(&mut env, Duration::from_secs(31));
        let lost = live(&env.batch([]));
        stored.retain(|job: &LiveJob| lost.iter().all(|lost| lost.head.id != job.head.id));
        stored.extend(lost);
    }
    env.restart_with(stored.clone(), flows.clone(), vec![]);
    let assigned_then = env.hello(1, None, vec![offer(4, 4)], vec![]);
    assert_eq!(assigned(&assigned_then), [(4, token(1, 4))], "it has the process to itself");

    let running =
        live(&assigned_then).into_iter().chain(stored.into_iter().filter(|job| job.head.id == id(2)));
    env.restart_with(running.collect(), flows, vec![SessionId(4)]);
    let effects = env.hello(1, Some(4), vec![offer(4, 4)], vec![token(1, 4)]);
    assert_eq!(assigned(&effects), [], "after another restart too");
    after(&mut env, Duration::from_secs(31));
    let effects = env.batch([]);
    assert_eq!(effects.blamed, [(id(1), vec![id(2)])]);
    assert_eq!(ends(&[effects]), [(id(1), End::Failed(FailedBy::ElvesLost(2)))]);
}
