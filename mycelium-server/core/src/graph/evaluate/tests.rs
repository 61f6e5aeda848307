use crate::Explanation;
use crate::command::{
    Command, EvaluationResult, KnownFinished, OutcomeResult, Retry, RevivableJob, Scope, Submit,
};
use crate::effects::{Change, Effects, End, EvaluationWhat, FailedBy, JobRecord, JobWrite, Refusal, Reply};
use crate::ids::{Attachment, Attempt, FlowId, JobId};
use crate::image::LiveJob;
use crate::status::{FinalStatus, Status};
use crate::testing::{
    FLOW, TestEnv, assigned, ends, evaluated_job, handed_out, id, job, offer, reply, revivable, token,
};

const DECIDE: EvaluationWhat = EvaluationWhat::Decide;

fn live(effects: &Effects, number: u8) -> LiveJob {
    let write = effects.jobs.iter().find(|write| write.id == id(number)).unwrap();
    match &write.after {
        JobRecord::Live(live) => live.clone(),
        other @ (JobRecord::Evaluate | JobRecord::Finished(_) | JobRecord::Dropped) => panic!("{other:?}"),
    }
}

fn done(env: &mut TestEnv, number: u8) -> Effects {
    env.outcome(1, token(number, 1), OutcomeResult::Outputs(Attachment(70)))
}

/// 1 -> 2 with a condition -> 3, which comes to `false`, with every effect on the way.
#[test]
fn a_condition_that_is_not_met_skips_the_job_and_what_depends_on_it_is_evaluated() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let submitted = env.submit(vec![job(1, &[]), evaluated_job(2, &[1]), job(3, &[2])]);
    assert!(live(&submitted, 2).evaluate && !live(&submitted, 3).evaluate);
    assert_eq!(handed_out(&submitted), []);

    let effects = done(&mut env, 1);
    assert_eq!(handed_out(&effects), [(id(2), 1, DECIDE)]);
    assert_eq!(assigned(&effects), [], "a job that is to be evaluated is not ready");
    assert_eq!(env.status(2), Some(Status::Pending));
    assert_eq!(env.core.explain(id(2)), Some(Explanation::Evaluating { is_gathering: false }));

    let mut effects = env.answer(2, 1, EvaluationResult::Skip);
    let end = Some(End::Skipped);
    let status = Status::Final(FinalStatus::Skipped);
    let skipped = Change { job: id(2), flow: FLOW, status, attempt: Attempt(0), end };
    assert_eq!(effects.changes, [skipped]);
    assert_eq!(handed_out(&effects), [(id(3), 2, DECIDE)]);
    assert_eq!(effects.records.flows[0].finished.skipped, 1);
    let flagged =
        JobWrite { id: id(3), flow: FLOW, created: None, revived: None, after: JobRecord::Evaluate };
    assert_eq!(effects.jobs.pop(), Some(flagged));
    assert_eq!(ends(&[effects]), [(id(2), End::Skipped)]);

    let effects = env.answer(3, 2, EvaluationResult::Run);
    assert_eq!(assigned(&effects), [(1, token(3, 1))]);
    assert!(live(&effects, 3).evaluate, "a restart evaluates it again");
}

#[test]
fn what_cannot_be_evaluated_fails_and_its_dependents_with_it() {
    let mut env = TestEnv::new();
    let submitted = env.submit(vec![evaluated_job(1, &[]), job(2, &[1])]);
    assert_eq!(handed_out(&submitted), [(id(1), 1, DECIDE)]);
    let effects = env.answer(1, 1, EvaluationResult::Failed(Attachment(5)));
    let failed = End::Failed(FailedBy::Reported(Attachment(5)));
    assert_eq!(ends(&[effects]), [(id(1), failed), (id(2), End::UpstreamFailed(id(1)))]);
}

#[test]
fn only_the_evaluation_under_way_counts() {
    let mut env = TestEnv::new();
    env.submit(vec![evaluated_job(1, &[])]);
    let effects = env.answer(1, 1, EvaluationResult::Again);
    assert_eq!(handed_out(&effects), [(id(1), 2, DECIDE)]);
    assert_eq!(env.answer(1, 1, EvaluationResult::Skip), Effects::default());
    assert_eq!(env.status(1), Some(Status::Pending));
    env.cancel(Scope::Jobs(vec![id(1)]));
    assert_eq!(env.answer(1, 2, EvaluationResult::Run), Effects::default());
}

#[test]
fn evaluations_are_handed_out_up_to_the_limit_and_in_order() {
    let mut env = TestEnv::with(|config| config.evaluations_max = 2);
    let effects = env.submit((1..=4).map(|number| evaluated_job(number, &[])).collect());
    assert_eq!(handed_out(&effects), [(id(1), 1, DECIDE), (id(2), 2, DECIDE)]);
    // One that is over makes no room before it is answered: the shell is still at it.
    assert_eq!(handed_out(&env.cancel(Scope::Jobs(vec![id(1), id(3)]))), []);
    assert_eq!(handed_out(&env.answer(1, 1, EvaluationResult::Run)), [(id(4), 4, DECIDE)]);
}

#[test]
fn flows_take_turns_with_their_evaluations() {
    let mut env = TestEnv::with(|config| config.evaluations_max = 1);
    env.submit((1..=4).map(|number| evaluated_job(number, &[])).collect());
    for (flow, numbers) in [(201, [5, 6]), (202, [7, 8])] {
        let jobs = numbers.map(|number| evaluated_job(number, &[])).to_vec();
        let command = env.submit_command(jobs);
        env.batch([Command::Submit(Submit { flow: FlowId::new([flow; 16]), ..command })]);
    }
    let mut order = Vec::new();
    let (mut job, mut number) = (1, 1);
    loop {
        order.push(job);
        let effects = env.answer(job, number, EvaluationResult::Run);
        let Some(&(next, next_number, DECIDE)) = handed_out(&effects).first() else { break };
        (job, number) = (next.as_bytes()[15], next_number);
    }
    assert_eq!(order, [1, 2, 5, 7, 3, 6, 8, 4], "one of each flow in turn");
}

#[test]
fn a_job_submitted_after_the_one_it_depends_on_was_skipped_is_evaluated() {
    let mut env = TestEnv::with(|config| config.finished_kept = 0);
    env.submit(vec![evaluated_job(1, &[])]);
    env.answer(1, 1, EvaluationResult::Skip);
    let mut command = env.submit_command(vec![job(2, &[1])]);
    let (status, digest) = (FinalStatus::Skipped, job(1, &[]).digest);
    command.preconditions.finished =
        vec![KnownFinished { id: id(1), flow: FLOW, status, digest, is_stub: false }];
    let effects = env.batch([Command::Submit(command)]);
    assert_eq!(handed_out(&effects), [(id(2), 2, DECIDE)]);
    assert!(live(&effects, 2).evaluate);
}

/// 1 has a list of 2 and 3.
fn expanded(env: &mut TestEnv) -> Effects {
    env.submit(vec![evaluated_job(1, &[]), job(9, &[1])]);
    let elements = env.submit_elements(1, 1, 0, vec![job(2, &[]), job(3, &[])]);
    env.answer(1, 1, EvaluationResult::Expanded { elements: 2 });
    elements
}

#[test]
fn a_list_is_expanded_and_gathered_when_all_its_elements_have_ended() {
    let mut env = TestEnv::new();
    expanded(&mut env);
    let view = env.core.job(id(1)).unwrap();
    assert_eq!((view.status, view.waiting_for, view.elements), (Status::Pending, 2, Some(2)));
    let Some(Explanation::WaitsForElements { elements: 2, unfinished: 2, jobs }) = env.core.explain(id(1))
    else {
        panic!("{:?}", env.core.explain(id(1)));
    };
    assert_eq!(jobs.iter().map(|job| job.head.id).collect::<Vec<JobId>>(), [id(2), id(3)]);

    env.hello(1, None, vec![offer(9, 9)], vec![]);
    assert_eq!(handed_out(&done(&mut env, 3)), []);
    let effects = done(&mut env, 2);
    assert_eq!(handed_out(&effects), [(id(1), 2, EvaluationWhat::Gather { elements: 2 })]);
    assert_eq!(env.core.explain(id(1)), Some(Explanation::Evaluating { is_gathering: true }));
    let effects = env.answer(1, 2, EvaluationResult::Gathered(Attachment(6)));
    let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    assert_eq!((finished.end, finished.elements), (End::Done(Attachment(6)), Some(2)));
    assert_eq!(assigned(&effects), [(1, token(9, 1))], "what depends on it goes on");
}

#[test]
fn elements_may_end_before_the_last_is_there_and_a_second_try_links_none_twice() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    env.submit(vec![evaluated_job(1, &[])]);
    env.submit_elements(1, 1, 0, vec![job(2, &[])]);
    done(&mut env, 2);
    let effects = env.answer(1, 1, EvaluationResult::Again);
    assert_eq!(handed_out(&effects), [(id(1), 2, DECIDE)]);
    let effects = env.submit_elements(1, 2, 0, vec![job(2, &[]), job(3, &[])]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Submitted { created: 1, existing: 1 })));
    assert_eq!(handed_out(&env.answer(1, 2, EvaluationResult::Expanded { elements: 2 })), []);
    let effects = done(&mut env, 3);
    assert_eq!(handed_out(&effects), [(id(1), 3, EvaluationWhat::Gather { elements: 2 })]);
}

#[test]
fn an_empty_list_is_gathered_at_once() {
    let mut env = TestEnv::new();
    env.submit(vec![evaluated_job(1, &[])]);
    let effects = env.answer(1, 1, EvaluationResult::Expanded { elements: 0 });
    assert_eq!(handed_out(&effects), [(id(1), 2, EvaluationWhat::Gather { elements: 0 })]);
}

#[test]
fn elements_are_taken_in_for_the_evaluation_under_way_alone() {
    let mut env = TestEnv::new();
    env.submit(vec![evaluated_job(1, &[])]);
    let over = Some(Err(Refusal::EvaluationOver(id(1))));
    assert_eq!(reply(&env.submit_elements(1, 7, 0, vec![job(2, &[])])).cloned(), over);
    assert_eq!(reply(&env.submit_elements(1, 1, 1, vec![job(2, &[])])).cloned(), over, "none is left out");
    env.cancel(Scope::Jobs(vec![id(1)]));
    let effects = env.submit_elements(1, 1, 0, vec![job(2, &[])]);
    assert_eq!(reply(&effects).cloned(), over);
    assert!(effects.is_nothing_to_store());
}

#[test]
fn an_element_that_fails_ends_the_job_and_a_retry_brings_both_back() {
    let mut env = TestEnv::new();
    expanded(&mut env);
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let failed = env.outcome(1, token(2, 1), OutcomeResult::Failure(Attachment(1)));
    let upstream = End::UpstreamFailed(id(2));
    let end = End::Failed(FailedBy::Reported(Attachment(1)));
    let effects = std::slice::from_ref(&failed);
    assert_eq!(ends(effects), [(id(2), end), (id(1), upstream), (id(9), upstream)]);
    done(&mut env, 3);

    let revivable = |number: u8, evaluate: bool, depends_on: &[u8]| RevivableJob {
        evaluate,
        ..revivable(&failed, number, depends_on)
    };
    let (request, preconditions) = (env.request(), env.preconditions());
    let jobs = vec![revivable(2, false, &[])];
    let dependents = vec![revivable(1, true, &[]), revivable(9, false, &[1])];
    let effects = env.batch([Command::Retry(Retry {
        request,
        jobs,
        dependents,
        preconditions,
        flows: vec![],
        action: None,
    })]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Retried { retried: 1, revived: 2 })));
    assert_eq!(handed_out(&effects), [(id(1), 2, DECIDE)]);
    env.submit_elements(1, 2, 0, vec![job(2, &[]), job(3, &[])]);
    env.answer(1, 2, EvaluationResult::Expanded { elements: 2 });
    let effects = env.outcome(1, token(2, 2), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(handed_out(&effects), [(id(1), 3, EvaluationWhat::Gather { elements: 2 })]);
}

#[test]
fn after_a_restart_the_elements_are_linked_again() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    let submitted = env.submit(vec![evaluated_job(1, &[])]);
    let elements = env.submit_elements(1, 1, 0, vec![job(2, &[]), job(3, &[])]);
    let flow = done(&mut env, 3).records.flows.remove(0);
    // As if it had not been assigned before the broker ended.
    let waiting = LiveJob { running: None, attempt: Attempt(0), ..live(&elements, 2) };
    env.restart(vec![live(&submitted, 1), waiting], vec![flow]);
    assert!(env.core.has_work(), "it is evaluated without waiting for a command");
    let effects = env.batch([]);
    assert!(!env.core.has_work());
    assert_eq!(handed_out(&effects), [(id(1), 2, DECIDE)], "numbered on, and not from the beginning");
    assert_eq!(env.answer(1, 1, EvaluationResult::Expanded { elements: 0 }), Effects::default());

    let mut command = env.submit_command(vec![job(2, &[]), job(3, &[])]);
    let number = crate::ids::EvaluationNumber(2);
    command.elements = Some(crate::command::Elements { of: id(1), number, first: 0 });
    let (status, digest) = (FinalStatus::Done, job(3, &[]).digest);
    command.preconditions.finished =
        vec![KnownFinished { id: id(3), flow: FLOW, status, digest, is_stub: false }];
    let effects = env.batch([Command::Submit(command)]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Submitted { created: 0, existing: 2 })));
    env.answer(1, 2, EvaluationResult::Expanded { elements: 2 });
    assert_eq!(env.core.job(id(1)).unwrap().waiting_for, 1);
}

#[test]
fn an_element_that_ended_badly_before_it_was_linked_ends_the_job() {
    let mut env = TestEnv::new();
    env.submit(vec![evaluated_job(1, &[])]);
    env.submit(vec![job(2, &[])]);
    env.cancel(Scope::Jobs(vec![id(2)]));
    let effects = env.submit_elements(1, 1, 0, vec![job(2, &[]), job(3, &[])]);
    assert_eq!(ends(&[effects]), [(id(1), End::UpstreamFailed(id(2)))]);
}

#[test]
fn a_job_is_cancelled_after_the_elements_of_its_list() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    expanded(&mut env);
    let mut all = vec![env.cancel(Scope::Jobs(vec![id(1)]))];
    assert_eq!(reply(&all[0]), None, "the answer waits until all are cancelled");
    all.extend(env.run_out());
    let expected = [
        (id(3), End::Cancelled),
        (id(2), End::Cancelled),
        (id(1), End::Cancelled),
        (id(9), End::UpstreamFailed(id(1))),
    ];
    assert_eq!(ends(&all), expected);
    let reply = all.iter().find_map(reply);
    assert_eq!(reply, Some(&Ok(Reply::Cancelled { cancelled: 3, already_final: 0 })));
}

#[test]
fn a_flow_is_cancelled_with_lists_that_are_being_expanded() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    env.submit(vec![evaluated_job(1, &[]), job(9, &[1])]);
    env.submit_elements(1, 1, 0, vec![job(2, &[])]);
    let mut all = vec![env.cancel(Scope::Flow(FLOW))];
    let effects = env.submit_elements(1, 1, 1, vec![job(3, &[])]);
    assert_eq!(reply(&effects), Some(&Err(Refusal::EvaluationOver(id(1)))));
    all.push(effects);
    all.extend(env.run_out());
    assert_eq!(
        ends(&all),
        [(id(2), End::Cancelled), (id(9), End::Cancelled), (id(1), End::Cancelled)],
        "and none ends because of another"
    );
}
