use std::sync::Arc;

use crate::command::{
    Cancel, Command, Delete, DeletionTo, Deletions, KnownFinished, NewFlow, OutcomeResult, Pin,
    Preconditions, Retry, Scope, Submit,
};
use crate::effects::{Effects, KeptBecause, Refusal, Reply};
use crate::ids::{Attachment, Commit, FlowId, RequestId};
use crate::image::{DeletionRecord, DeletionStage, FlowRecord, Image};
use crate::status::FinalStatus;
use crate::testing::{FLOW, SUBMISSION, TestEnv, id, job, offer, reply, revivable, token};
use crate::{Config, Core};

const OTHER: FlowId = FlowId::new([202; 16]);

/// A flow whose only job is done, as the store has it.
fn done_flow() -> (TestEnv, FlowRecord) {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 9)], vec![]);
    env.submit(vec![job(1, &[])]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    let record = effects.records.flows.last().unwrap().clone();
    (env, record)
}

fn delete(env: &mut TestEnv, record: &FlowRecord) -> Effects {
    let (request, as_of) = (env.request(), env.commit());
    env.batch([Command::Delete(Delete { request, flows: vec![record.clone()], as_of })])
}

fn go_on(env: &mut TestEnv, record: &FlowRecord, to: DeletionTo) -> Effects {
    let flows = vec![(record.clone(), to)];
    let request = env.request();
    env.batch([Command::Deletions(Deletions { request, flows, submissions: vec![] })])
}

/// A job of another flow that depends on 1.
fn using(env: &mut TestEnv) -> Submit {
    let mut command = env.submit_command(vec![job(2, &[1])]);
    (command.flow, command.new_flow) = (OTHER, NewFlow { name: Arc::from("other"), ..NewFlow::default() });
    command
}

fn refusal(effects: &Effects) -> &Refusal {
    reply(effects).unwrap().as_ref().unwrap_err()
}

#[test]
fn nothing_new_comes_to_a_flow_that_is_being_deleted_or_from_it() {
    let (mut env, record) = done_flow();
    let effects = delete(&mut env, &record);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Deleting { begun: 1, kept: vec![] })));
    let checking = DeletionRecord { flow: FLOW, stage: DeletionStage::Checking };
    assert_eq!((&effects.records.deletions, env.core.deletions()), (&vec![checking], vec![checking]));

    let effects = env.submit(vec![job(3, &[])]);
    assert_eq!(refusal(&effects), &Refusal::FlowDeleting(FLOW));
    let command = using(&mut env);
    let effects = env.batch([Command::Submit(command.clone())]);
    assert_eq!(refusal(&effects), &Refusal::FlowDeleting(FLOW), "it may be kept after all");
    let (request, as_of) = (env.request(), env.commit());
    let pin = Pin { request, flows: vec![record.clone()], pinned: true, as_of };
    assert_eq!(refusal(&env.batch([Command::Pin(pin)])), &Refusal::FlowDeleting(FLOW));

    // The flow is used after all: everything goes on as if nothing had been.
    let effects = go_on(&mut env, &record, DeletionTo::GivenUp);
    assert_eq!(effects.records.deletions_ended, [FLOW]);
    let effects = env.batch([Command::Submit(command)]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Submitted { created: 1, existing: 0 })));
}

#[test]
fn what_is_unfinished_or_pinned_is_not_deleted() {
    let (mut env, record) = done_flow();
    env.submit(vec![job(3, &[])]);
    let kept = |effects: &Effects| match reply(effects) {
        Some(Ok(Reply::Deleting { begun: 0, kept })) => kept.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&delete(&mut env, &record)), [(FLOW, KeptBecause::Unfinished)]);
    env.outcome(1, token(3, 1), OutcomeResult::Outputs(Attachment(1)));
    env.submit_part(0, false, vec![job(4, &[])]);
    assert_eq!(kept(&delete(&mut env, &record)), [(FLOW, KeptBecause::Unfinished)], "unsealed");
    env.submit_part(1, true, vec![]);
    env.outcome(1, token(4, 1), OutcomeResult::Outputs(Attachment(1)));

    let (request, as_of) = (env.request(), env.commit());
    let pin = |pinned| Command::Pin(Pin { request, flows: vec![record.clone()], pinned, as_of });
    let effects = env.batch([pin(true)]);
    assert!(effects.records.flows[0].pinned && effects.records.flows[0].finished.done == 3);
    assert_eq!(kept(&delete(&mut env, &record)), [(FLOW, KeptBecause::Pinned)]);
    env.batch([pin(false)]);
    assert_eq!(reply(&delete(&mut env, &record)), Some(&Ok(Reply::Deleting { begun: 1, kept: vec![] })));
}

#[test]
fn ids_are_free_once_nothing_is_left_and_what_was_read_before_does_not_count() {
    let (mut env, record) = done_flow();
    env.submit_part(0, true, vec![job(5, &[])]);
    env.outcome(1, token(5, 1), OutcomeResult::Outputs(Attachment(1)));
    let before = env.commit();
    delete(&mut env, &record);
    go_on(&mut env, &record, DeletionTo::Stage(DeletionStage::Removing));
    let user = using(&mut env);
    assert_eq!(refusal(&env.batch([Command::Submit(user)])), &Refusal::OriginDeleted(id(1)));
    let request = RequestId(7);
    let gone = Deletions { request, flows: vec![], submissions: vec![SUBMISSION] };
    let effects = env.batch([Command::Deletions(gone)]);
    assert_eq!(effects.records.submissions_dropped, [SUBMISSION]);
    let effects = go_on(&mut env, &record, DeletionTo::Gone);
    assert_eq!(effects.records.flows_removed, [record]);
    assert_eq!((effects.records.deletions_ended, env.core.deletions()), (vec![FLOW], vec![]));

    let mut stale = using(&mut env);
    stale.preconditions.as_of = before;
    let effects = env.batch([Command::Submit(stale)]);
    assert_eq!(refusal(&effects), &Refusal::PreconditionsStale, "1 may have been there then");
    let fresh = using(&mut env);
    assert_eq!(refusal(&env.batch([Command::Submit(fresh)])), &Refusal::JobNotFound(id(1)));
    // The same submission once more is a new one.
    let effects = env.submit_part(0, true, vec![job(1, &[]), job(5, &[])]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Submitted { created: 2, existing: 0 })));
}

#[test]
fn a_stub_answers_what_it_was_and_nothing_comes_of_it_any_more() {
    let (mut env, record) = done_flow();
    let failed = env.submit(vec![job(6, &[])]);
    assert!(reply(&failed).unwrap().is_ok());
    let failed = env.outcome(1, token(6, 1), OutcomeResult::Failure(Attachment(1)));
    delete(&mut env, &record);
    let effects = go_on(&mut env, &record, DeletionTo::Stub);
    let stub = effects.records.flows[0].clone();
    assert_eq!((stub.deleted_at, stub.finished.failed), (Some(env.now.wall), 1));

    let known = |number| KnownFinished {
        id: id(number),
        flow: FLOW,
        status: FinalStatus::Done,
        digest: job(number, &[]).digest,
        is_stub: true,
    };
    let mut command = using(&mut env);
    command.preconditions.finished = vec![known(1)];
    assert_eq!(refusal(&env.batch([Command::Submit(command)])), &Refusal::OriginDeleted(id(1)));
    let mut command = env.submit_command(vec![job(1, &[])]);
    (command.preconditions.finished, command.preconditions.flow) = (vec![known(1)], Some(stub.clone()));
    let effects = env.batch([Command::Submit(command.clone())]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Submitted { created: 0, existing: 1 })), "a late repeat");
    command.jobs = vec![job(7, &[])];
    assert_eq!(refusal(&env.batch([Command::Submit(command)])), &Refusal::FlowDeleted(FLOW));

    let (request, preconditions) = (env.request(), env.preconditions());
    let jobs = vec![revivable(&failed, 6, &[])];
    let retry = Retry { request, jobs, dependents: vec![], preconditions, flows: vec![stub], action: None };
    assert_eq!(refusal(&env.batch([Command::Retry(retry)])), &Refusal::OriginDeleted(id(6)));
}

#[test]
fn a_retry_is_refused_if_what_it_needs_is_being_deleted() {
    let (mut env, record) = done_flow();
    let command = using(&mut env);
    env.batch([Command::Submit(command)]);
    let failed = env.outcome(1, token(2, 1), OutcomeResult::Failure(Attachment(1)));
    delete(&mut env, &record);
    go_on(&mut env, &record, DeletionTo::Stage(DeletionStage::Removing));
    let (request, preconditions) = (env.request(), env.preconditions());
    let jobs = vec![revivable(&failed, 2, &[1])];
    let retry = Retry { request, jobs, dependents: vec![], preconditions, flows: vec![], action: None };
    assert_eq!(refusal(&env.batch([Command::Retry(retry)])), &Refusal::OriginDeleted(id(1)));
}

#[test]
fn a_restart_goes_on_with_deletions() {
    let (env, _) = done_flow();
    let counters = env.core.status().counters;
    let deletions = vec![DeletionRecord { flow: FLOW, stage: DeletionStage::Removing }];
    let image = Image { counters, deletions: deletions.clone(), ..Image::default() };
    let core = Core::restore(Config::default(), env.now.steady).finish(image).unwrap();
    assert_eq!(core.deletions(), deletions);
    assert_eq!(counters.commit, env.commit());
    assert!(counters.commit > Commit(0));
}

#[test]
fn a_flow_that_is_being_deleted_can_be_cancelled_which_changes_nothing() {
    let (mut env, record) = done_flow();
    let request = env.request();
    let preconditions =
        Preconditions { as_of: env.commit(), flow: Some(record.clone()), ..Preconditions::default() };
    let cancel = Command::Cancel(Cancel { request, scope: Scope::Flow(FLOW), preconditions, action: None });
    let (request, as_of) = (env.request(), env.commit());
    let delete = Command::Delete(Delete { request, flows: vec![record.clone()], as_of });
    // In one batch: the cancellation is under way until its end.
    let effects = env.batch([delete, cancel]);
    assert!(effects.replies.iter().all(|(_, answer)| answer.is_ok()), "{:?}", effects.replies);
    let effects = go_on(&mut env, &record, DeletionTo::Gone);
    assert_eq!(effects.records.deletions_ended, [FLOW]);
}

#[test]
fn what_begins_and_ends_in_one_batch_was_never_stored() {
    let (mut env, record) = done_flow();
    let delete = |env: &mut TestEnv| {
        let (request, as_of) = (env.request(), env.commit());
        Command::Delete(Delete { request, flows: vec![record.clone()], as_of })
    };
    let give_up = |env: &mut TestEnv| {
        let flows = vec![(record.clone(), DeletionTo::GivenUp)];
        Command::Deletions(Deletions { request: env.request(), flows, submissions: vec![] })
    };
    let both = [delete(&mut env), give_up(&mut env)];
    let records = env.batch(both).records;
    assert_eq!((records.deletions, records.deletions_ended), (vec![], vec![]));
    let begins = delete(&mut env);
    assert_eq!(env.batch([begins]).records.deletions.len(), 1);
    // It is stored, and begins anew.
    let again = [give_up(&mut env), delete(&mut env), give_up(&mut env)];
    let records = env.batch(again).records;
    assert_eq!((records.deletions, records.deletions_ended), (vec![], vec![FLOW]));
}
