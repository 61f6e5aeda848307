use std::sync::Arc;

use crate::command::{Command, ElfOffer, NewJob, TaskOffer};
use crate::effects::{Effects, JobRecord, JobWrite, Send};
use crate::ids::{InstanceId, SessionId, SignatureId, Token};
use crate::image::{AttemptEnd, JobHead};
use crate::signature::{Judged, Parameter, Shape, Signature};
use crate::status::Status;
use crate::testing::{FLOW, REVISION, TestEnv, assigned, id, instance, job, offer, shape, task_offer, token};
use crate::views::Explanation;

fn with_shape(number: u8, shape: Shape) -> NewJob {
    let job = job(number, &[]);
    NewJob { head: JobHead { shape, ..job.head }, ..job }
}

fn takes(required: &[&str], optional: &[&str]) -> ElfOffer {
    ElfOffer { tasks: vec![task_offer("task_run", required, optional)], ..offer(5, 1) }
}

/// Takes `a`, and is told from others of the kind by a number, as by its schemas.
fn version(number: u8) -> ElfOffer {
    let parameters = vec![Parameter { name: Arc::from("a"), is_required: true }];
    let signature = Arc::new(Signature::new(SignatureId::new([number; 16]), parameters));
    let task = TaskOffer { task: Arc::from("task_run"), revision: REVISION, signature, policy: None };
    ElfOffer { tasks: vec![task], ..offer(5, 1) }
}

fn unfit(env: &mut TestEnv, session: u64, token: Token) -> Effects {
    env.batch([Command::Unfit { session: SessionId(session), token }])
}

fn are_judged(effects: &Effects) -> Vec<bool> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Assign { assignments, .. } = send {
            all.extend(assignments.iter().map(|assignment| assignment.is_judged));
        }
    }
    all
}

fn unfit_of(env: &TestEnv, number: u8) -> (u32, Vec<(SessionId, InstanceId)>) {
    match env.core.explain(id(number)) {
        Some(Explanation::NoFittingInstance { instances, some }) => (instances, some),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_goes_only_to_those_that_take_its_arguments_and_holds_nobody_up() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![takes(&["a", "b"], &[])], vec![]);
    let effects = env.submit(vec![with_shape(1, shape(&["a"])), with_shape(2, shape(&["a", "b"]))]);
    assert_eq!(assigned(&effects), [(1, token(2, 1))]);
    assert_eq!(env.status(1), Some(Status::Ready));
    assert_eq!(unfit_of(&env, 1), (1, vec![(SessionId(1), instance(1))]));
    // Who takes it gets it, whoever came first.
    let effects = env.hello(2, None, vec![takes(&["a"], &["b"])], vec![]);
    assert_eq!(assigned(&effects), [(2, token(1, 1))]);
}

#[test]
fn a_session_that_declares_something_else_gets_what_fits_that() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![takes(&["a", "b"], &[])], vec![]);
    env.submit(vec![with_shape(1, shape(&["a"]))]);
    let effects = env.hello(1, Some(1), vec![takes(&["a"], &[])], vec![]);
    assert_eq!(assigned(&effects), [(1, token(1, 1))]);
    let effects = env.submit(vec![with_shape(2, shape(&["a", "b"]))]);
    assert_eq!(assigned(&effects), []);
}

#[test]
fn values_that_were_judged_are_not_judged_again_and_those_turned_down_go_elsewhere() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![version(1)], vec![]);
    let judged = |all: &[(u8, bool)]| {
        Judged::by(all.iter().map(|(number, takes)| (SignatureId::new([*number; 16]), *takes)))
    };
    let job = |number, judged| NewJob { judged, ..with_shape(number, shape(&["a"])) };
    let effects = env.submit(vec![
        job(1, judged(&[(1, true)])),
        job(2, judged(&[(1, false)])),
        job(3, judged(&[(2, true)])),
    ]);
    assert_eq!(assigned(&effects), [(1, token(1, 1)), (1, token(3, 1))]);
    assert_eq!(are_judged(&effects), [true, false]);
    assert_eq!(unfit_of(&env, 2).0, 1);
    let effects = env.hello(2, None, vec![version(2)], vec![]);
    assert_eq!((assigned(&effects), are_judged(&effects)), (vec![(2, token(2, 1))], vec![false]));
}

#[test]
fn an_attempt_that_does_not_fit_goes_back_uncounted_and_not_to_that_declaration_again() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![version(1)], vec![]);
    env.submit(vec![with_shape(1, shape(&["a"]))]);
    // Four times, each another declaration: nothing of it makes the job pause.
    for attempt in 1..=4 {
        let next = u8::try_from(attempt + 1).unwrap();
        let session = u64::from(attempt);
        let effects = unfit(&mut env, session, token(1, attempt));
        assert_eq!(assigned(&effects), [], "attempt {attempt}");
        assert_eq!(env.status(1), Some(Status::Ready));
        let effects = env.hello(next, None, vec![version(next)], vec![]);
        assert_eq!(assigned(&effects), [(session + 1, token(1, attempt + 1))]);
    }
    let attempts = env.core.attempts(id(1)).unwrap();
    assert!(attempts.iter().all(|attempt| attempt.how == AttemptEnd::NotHeld), "{attempts:?}");
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 0);
    // Said twice, it changes nothing; nor does what is said of an attempt that is not held.
    unfit(&mut env, 5, token(1, 5));
    let effects = unfit(&mut env, 5, token(1, 5));
    assert!(effects.is_nothing_to_store(), "{effects:?}");
    unfit(&mut env, 99, token(1, 5));
    assert_eq!(unfit_of(&env, 1).0, 5);
}

#[test]
fn more_declarations_than_are_remembered_make_a_job_pause() {
    let mut env = TestEnv::new();
    env.submit(vec![with_shape(1, shape(&["a"]))]);
    let mut attempt = 0;
    for number in 1..=u8::try_from(Judged::MAX).unwrap() + 1 {
        env.hello(number, None, vec![version(number)], vec![]);
        attempt += 1;
        unfit(&mut env, u64::from(number), token(1, attempt));
    }
    // The first time it comes back, it does so at once, and the next time it pauses.
    let last = u64::try_from(Judged::MAX).unwrap() + 1;
    unfit(&mut env, last, token(1, attempt + 1));
    assert!(matches!(env.core.explain(id(1)), Some(Explanation::HandedBack { times: 2, .. })));
}

#[test]
fn what_nobody_declares_any_more_makes_room_for_others() {
    let mut env = TestEnv::new();
    env.submit(vec![with_shape(1, shape(&["a"]))]);
    for number in 1..=u8::try_from(Judged::MAX).unwrap() * 2 {
        env.hello(number, None, vec![version(number)], vec![]);
        unfit(&mut env, number.into(), token(1, number.into()));
        env.batch([Command::Goodbye { session: SessionId(number.into()) }]);
    }
    assert_eq!(env.status(1), Some(Status::Ready));
    let explained = env.core.explain(id(1));
    assert_eq!(explained, Some(Explanation::NoInstance { instances: 0 }), "and it does not pause");
}

#[test]
fn a_cancelled_attempt_that_does_not_fit_frees_its_slot() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![ElfOffer { window: offer(1, 1).window, ..version(1) }], vec![]);
    env.submit(vec![with_shape(1, shape(&["a"])), with_shape(2, shape(&["a"]))]);
    let effects = env.cancel(crate::command::Scope::Jobs(vec![id(1)]));
    assert_eq!(assigned(&effects), []);
    assert_eq!(assigned(&unfit(&mut env, 1, token(1, 1))), [(1, token(2, 1))]);
}

#[test]
fn a_restarted_core_knows_shapes_and_takes_those_of_before_for_fitting() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![with_shape(1, shape(&["a"])), with_shape(2, Shape::UNKNOWN)]);
    let live = |write: &JobWrite| match &write.after {
        JobRecord::Live(live) => Some(live.clone()),
        JobRecord::Evaluate | JobRecord::Finished(_) | JobRecord::Dropped => None,
    };
    let jobs = effects.jobs.iter().filter_map(live).collect();
    env.restart(jobs, vec![env.core.flow(FLOW).unwrap().record]);
    let effects = env.hello(1, None, vec![takes(&["b"], &[])], vec![]);
    assert_eq!((assigned(&effects), are_judged(&effects)), (vec![(1, token(2, 1))], vec![false]));
    assert_eq!(env.status(1), Some(Status::Ready));
}
