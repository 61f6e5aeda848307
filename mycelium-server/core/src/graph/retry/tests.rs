use crate::command::{Command, KnownFinished, OutcomeResult, Retry, RevivableJob, Scope};
use crate::effects::{Effects, End, Refusal, Reply, Revived};
use crate::ids::Attachment;
use crate::status::{FinalStatus, Status};
use crate::testing::{FLOW, TestEnv, ends, id, job, offer, reply, revivable, token};

fn retry(env: &mut TestEnv, jobs: Vec<RevivableJob>, dependents: Vec<RevivableJob>) -> Effects {
    let request = env.request();
    let preconditions = env.preconditions();
    env.batch([Command::Retry(Retry {
        request,
        jobs,
        dependents,
        preconditions,
        flows: vec![],
        action: None,
    })])
}

/// 1 failed -> 2 -> 4, and 3 cancelled -> 4: with 1 come back 1 and 2, and 4 only together with 3.
#[test]
fn dependents_come_back_when_all_they_depend_on_does() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[]), job(4, &[2, 3])]);
    let third = env.cancel(Scope::Jobs(vec![id(3)]));
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let first = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(1)));
    assert_eq!(ends(std::slice::from_ref(&first)).len(), 2);
    let four = revivable(&third, 4, &[2, 3]);

    let dependents = vec![revivable(&first, 2, &[1]), four.clone()];
    let effects = {
        let jobs = vec![revivable(&first, 1, &[])];
        retry(&mut env, jobs, dependents)
    };
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 1, revived: 1 })));
    let write = effects.jobs.iter().find(|write| write.id == id(1)).unwrap();
    let was = revivable(&first, 1, &[]);
    assert_eq!(write.revived, Some(Revived { finish_number: was.finish_number, status: was.status }));
    assert_eq!(env.core.job(id(1)).unwrap().attempt.0, 2, "attempts go on rising");
    assert_eq!(env.status(2), Some(Status::Pending));
    assert_eq!(env.core.flow(FLOW).unwrap().record.finished.failed, 0);

    let effects = retry(&mut env, vec![revivable(&third, 3, &[])], vec![four]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 1, revived: 1 })));
    assert_eq!(env.core.job(id(4)).unwrap().waiting_for, 2);
}

#[test]
fn what_is_done_or_changed_since_is_refused_and_what_is_unfinished_left_alone() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let failed = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(1)));
    let done = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(1)));
    let effects = retry(&mut env, vec![revivable(&done, 2, &[])], vec![]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::NotRetryable(id(2)))));

    let old = revivable(&failed, 1, &[]);
    retry(&mut env, vec![old.clone()], vec![]);
    let effects = retry(&mut env, vec![old.clone()], vec![]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 0, revived: 0 })));
    env.cancel(Scope::Jobs(vec![id(1)]));
    let effects = retry(&mut env, vec![old], vec![]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::PreconditionsStale)));
}

#[test]
fn a_job_whose_cause_is_not_retried_stays() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1])]);
    let ended = env.cancel(Scope::Jobs(vec![id(1)]));
    let request = env.request();
    let mut preconditions = env.preconditions();
    let (flow, status) = (FLOW, FinalStatus::Cancelled);
    preconditions.finished.push(KnownFinished {
        id: id(1),
        flow,
        status,
        digest: job(1, &[]).digest,
        is_stub: false,
    });
    let jobs = vec![revivable(&ended, 2, &[1])];
    let effects = env.batch([Command::Retry(Retry {
        request,
        jobs,
        dependents: vec![],
        preconditions,
        flows: vec![],
        action: None,
    })]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 0, revived: 0 })));
    assert!(effects.is_nothing_to_store());
}

/// 1 failed -> 3, and 2 cancelled -> 3: 3 names 2, and stays when 2 alone comes back. What comes to depend on 3 then
/// must not name 2, which may yet end done.
#[test]
fn a_cause_that_came_back_is_not_named_any_more() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[1, 2])]);
    let second = env.cancel(Scope::Jobs(vec![id(2)]));
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(1)));
    let three = revivable(&second, 3, &[1, 2]);
    let named_before = env.submit(vec![job(4, &[3])]);
    assert_eq!(ends(&[named_before]), [(id(4), End::UpstreamFailed(id(2)))]);

    let effects = retry(&mut env, vec![revivable(&second, 2, &[])], vec![three]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 1, revived: 0 })));
    let named_after = env.submit(vec![job(5, &[3])]);
    assert_eq!(ends(&[named_after]), [(id(5), End::UpstreamFailed(id(3)))]);
    let done = env.outcome(1, token(2, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(ends(&[done]), [(id(2), End::Done(Attachment(1)))]);
    let named_last = env.submit(vec![job(6, &[3])]);
    assert_eq!(ends(&[named_last]), [(id(6), End::UpstreamFailed(id(3)))]);
}
