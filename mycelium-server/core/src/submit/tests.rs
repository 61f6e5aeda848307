use crate::Config;
use crate::command::{Command, KnownFinished, OutcomeResult};
use crate::effects::{End, JobRecord, Refusal, Reply};
use crate::ids::{Attachment, ContentDigest, FlowId};
use crate::status::{FinalStatus, Status};
use crate::testing::{FLOW, SUBMISSION, TestEnv, after, assigned, ends, id, job, offer, reply, token};
use crate::{Explanation, ListFilter};

fn submitted(created: u32, existing: u32) -> Option<Result<Reply, Refusal>> {
    Some(Ok(Reply::Submitted { created, existing }))
}

#[test]
fn repeating_a_submission_is_harmless() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1])]);
    let effects = env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[2])]);
    assert_eq!(reply(&effects).cloned(), submitted(1, 2));
    assert_eq!(effects.jobs.len(), 1);
}

#[test]
fn an_id_with_other_content_refuses_the_whole_submission() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    let mut other = job(1, &[]);
    other.digest = ContentDigest(99);
    let effects = env.submit(vec![job(2, &[]), other]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::ContentDiffers(id(1)))));
    assert!(effects.is_nothing_to_store());

    let mut command = env.submit_command(vec![job(1, &[])]);
    command.flow = FlowId::new([3; 16]);
    let effects = env.batch([Command::Submit(command)]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::ContentDiffers(id(1)))));
}

/// 1 -> 2 -> 3 -> 1, and 4 -> 1.
#[test]
fn a_cycle_is_refused_by_a_job_in_it() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![job(4, &[1]), job(1, &[3]), job(2, &[1]), job(3, &[2])]);
    let Some(Err(Refusal::DependencyCycle(found))) = reply(&effects) else { panic!("{effects:?}") };
    assert!([id(1), id(2), id(3)].contains(found));
    assert!(effects.is_nothing_to_store());
    let effects = env.submit(vec![job(1, &[1])]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::DependencyCycle(id(1)))));
}

#[test]
fn unknown_dependencies_and_a_full_backlog_are_refused() {
    let mut env = TestEnv::with(|config| config.unfinished_max = 2);
    let effects = env.submit(vec![job(1, &[9])]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::JobNotFound(id(9)))));
    let effects = env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[])]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::BacklogFull { unfinished: 0, limit: 2 })));
    assert!(effects.is_nothing_to_store());
}

#[test]
fn facts_older_than_what_was_forgotten_are_refused() {
    let mut env = TestEnv::with(|config| config.finished_kept = 0);
    let stale = env.preconditions();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    let mut command = env.submit_command(vec![job(2, &[1])]);
    command.preconditions = stale;
    let effects = env.batch([Command::Submit(command)]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::PreconditionsStale)));
}

/// 1 failed -> 2 -> 3.
#[test]
fn what_depends_on_a_failed_job_ends_at_once() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(9, 1)], vec![]);
    env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(1)));
    let effects = env.submit(vec![job(2, &[1]), job(3, &[2])]);
    let upstream = End::UpstreamFailed(id(1));
    assert_eq!(ends(std::slice::from_ref(&effects)), [(id(2), upstream), (id(3), upstream)]);
    assert_eq!(assigned(&effects), []);
}

/// 1, which the core has forgotten, expired -> 2 -> 3.
#[test]
fn what_depends_on_an_expired_job_ends_at_once() {
    let mut env = TestEnv::new();
    env.submit(vec![job(7, &[])]);
    let mut command = env.submit_command(vec![job(2, &[1]), job(3, &[2])]);
    let (status, digest) = (FinalStatus::Expired, job(1, &[]).digest);
    command.preconditions.finished =
        vec![KnownFinished { id: id(1), flow: FLOW, status, digest, is_stub: false }];
    let effects = env.batch([Command::Submit(command)]);
    let upstream = End::UpstreamFailed(id(1));
    assert_eq!(ends(&[effects]), [(id(2), upstream), (id(3), upstream)]);
}

#[test]
fn jobs_of_a_part_may_depend_on_each_other_in_any_order() {
    let mut env = TestEnv::new();
    let effects = env.submit(vec![job(3, &[2]), job(2, &[1]), job(1, &[])]);
    assert_eq!(reply(&effects).cloned(), submitted(3, 0));
    assert_eq!(env.core.job(id(1)).unwrap().head.number.0, 1);
    assert_eq!(env.core.job(id(3)).unwrap().head.number.0, 3);
}

#[test]
fn parts_stay_hidden_until_sealed() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let effects = env.submit_part(0, false, vec![job(1, &[])]);
    assert_eq!(reply(&effects).cloned(), submitted(1, 0));
    assert_eq!((assigned(&effects), effects.changes), (vec![], vec![]));
    assert_eq!(env.core.explain(id(1)), Some(Explanation::NotSealed { submission: SUBMISSION }));
    assert_eq!(env.core.list_unfinished(&ListFilter::default(), None, 10, 10).jobs, []);
    let effects = env.submit(vec![job(7, &[1])]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::JobNotFound(id(1)))));

    let effects = env.submit_part(0, false, vec![job(1, &[])]);
    assert_eq!(reply(&effects).cloned(), submitted(0, 1), "a repeated part is answered as existing");

    let effects = env.submit_part(1, true, vec![job(2, &[1])]);
    assert_eq!(reply(&effects), None, "the answer waits until all jobs are let in");
    let effects = env.run_out();
    assert_eq!(effects.last().and_then(reply).cloned(), submitted(1, 0));
    assert_eq!((env.status(1), env.status(2)), (Some(Status::Running), Some(Status::Pending)));
    let effects = env.submit_part(1, true, vec![job(2, &[1])]);
    assert_eq!(reply(&effects).cloned(), submitted(0, 1), "even after the seal");
}

#[test]
fn a_refused_part_drops_the_submission() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    env.submit_part(0, false, vec![job(1, &[]), job(2, &[1])]);
    let first = env.submit_part(2, true, vec![]);
    assert_eq!(first.records.submissions_dropped, [SUBMISSION]);
    assert_eq!(reply(&first), None, "the answer waits until nothing is left");
    let rest = env.run_out();
    let expected = Some(1);
    let out_of_order = Refusal::SubmissionOutOfOrder { submission: SUBMISSION, index: 2, expected };
    assert_eq!(rest.last().and_then(reply), Some(&Err(out_of_order)));
    let writes = std::iter::once(&first).chain(&rest).flat_map(|effects| &effects.jobs);
    let dropped: Vec<_> = writes.map(|write| (write.id, &write.after)).collect();
    assert_eq!(dropped, [(id(2), &JobRecord::Dropped), (id(1), &JobRecord::Dropped)]);
    assert_eq!(env.core.job(id(1)), None);
}

#[test]
fn an_idle_submission_is_dropped() {
    let mut env = TestEnv::new();
    env.submit_part(0, false, vec![job(1, &[])]);
    let idle = Config::default().submission_idle_max;
    assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(idle)));
    after(&mut env, idle);
    let effects = env.batch([]);
    assert_eq!(effects.records.submissions_dropped, [SUBMISSION]);
    assert_eq!(env.core.job(id(1)), None);
}

/// 1 fails while 2, which depends on it, is not sealed: 2 ends with the seal.
#[test]
fn a_dependency_that_fails_before_the_seal_counts_with_it() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.submit_part(0, false, vec![job(2, &[1]), job(3, &[2])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(1)));
    assert_eq!(effects.records.propagations_begun.len(), 1, "a restart must not take job 1 to be done");
    assert_eq!(env.status(2), Some(Status::Pending));
    let effects = env.submit_part(1, true, vec![]);
    let upstream = End::UpstreamFailed(id(1));
    let mut all = vec![effects];
    all.extend(env.run_out());
    assert_eq!(ends(&all), [(id(2), upstream), (id(3), upstream)]);
    assert_eq!(all.iter().map(|effects| effects.records.propagations_ended.len()).sum::<usize>(), 1);
}
