use std::sync::Arc;

use crate::command::{Action, ActionStep, ActionTo, Cancel, Command, OutcomeResult, Scope};
use crate::effects::{Effects, Refusal, Reply};
use crate::ids::{ActionId, Attachment};
use crate::image::{ActionKind, ActionRecord, Image};
use crate::testing::{TestEnv, id, job, offer, reply, token};

fn action_id(number: u8) -> ActionId {
    ActionId::new([number; 16])
}

fn change(env: &mut TestEnv, number: u8, to: ActionTo) -> Effects {
    let request = env.request();
    env.batch([Command::Action(Action { request, id: action_id(number), to })])
}

fn begun(kind: ActionKind, filter: &str) -> ActionTo {
    let (filter, by) = (Arc::from(filter), Arc::from("ada@host"));
    ActionTo::Begun { kind, filter, flow: None, failure: None, by }
}

fn answered(effects: &Effects) -> ActionRecord {
    let Some(Ok(Reply::Action { action, .. })) = reply(effects) else { panic!("{:?}", reply(effects)) };
    action.clone()
}

#[test]
fn an_action_begins_once_and_ends_where_the_jobs_ended_that_were_there_then() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, 9)], vec![]);
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.outcome(1, token(1, 1), OutcomeResult::Failure(Attachment(0)));
    let effects = change(&mut env, 1, begun(ActionKind::Retry, "status:failed"));
    let first = answered(&effects);
    assert_eq!((first.upto, first.place, first.total, first.done), (1, 0, None, 0));
    assert_eq!(effects.records.actions, std::slice::from_ref(&first));
    env.outcome(1, token(2, 1), OutcomeResult::Failure(Attachment(0)));
    let effects = change(&mut env, 1, begun(ActionKind::Retry, "status:failed"));
    assert_eq!(reply(&effects), Some(&Ok(Reply::Action { action: first, is_new: false })));
    assert!(effects.is_nothing_to_store());
    let effects = change(&mut env, 1, begun(ActionKind::Cancel, "status:failed"));
    assert_eq!(reply(&effects), Some(&Err(Refusal::ActionDiffers(action_id(1)))));
    assert_eq!(
        answered(&change(&mut env, 2, begun(ActionKind::Cancel, "elf:elf"))).upto,
        2,
        "jobs, by their numbers"
    );
}

#[test]
fn a_step_is_stored_with_what_it_does() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[])]);
    change(&mut env, 1, begun(ActionKind::Cancel, "elf:elf"));
    change(&mut env, 1, ActionTo::Counted(3));
    let (request, preconditions) = (env.request(), env.preconditions());
    let scope = Scope::Jobs(vec![id(1), id(2)]);
    let action = Some(ActionStep { id: action_id(1), place: 7, done: 0, refused: 1 });
    let effects = env.batch([Command::Cancel(Cancel { request, scope, preconditions, action })]);
    let [record] = effects.records.actions.as_slice() else { panic!("{:?}", effects.records) };
    assert_eq!((record.place, record.total, record.done, record.refused), (7, Some(3), 2, 1));
    assert_eq!(effects.jobs.len(), 2);
    let record = answered(&change(&mut env, 1, ActionTo::Ended));
    assert_eq!(record.ended_at, Some(env.now.wall));
    let effects =
        change(&mut env, 1, ActionTo::Moved(ActionStep { id: action_id(1), place: 9, done: 1, refused: 0 }));
    assert_eq!(answered(&effects), record, "what is over stays so");
    let image = Image { actions: vec![record.clone()], ..Image::default() };
    env.restart_from(Vec::new(), image, Vec::new());
    assert_eq!(env.core.actions(), [record]);
}

#[test]
fn there_are_only_so_many_and_the_oldest_that_are_over_are_forgotten() {
    let mut env = TestEnv::new();
    for number in 0..64 {
        change(&mut env, number, begun(ActionKind::Retry, "status:failed"));
    }
    let effects = change(&mut env, 64, begun(ActionKind::Retry, "status:failed"));
    assert_eq!(reply(&effects), Some(&Err(Refusal::TooManyActions { limit: 64 })));
    let effects = change(&mut env, 99, ActionTo::Ended);
    assert_eq!(reply(&effects), Some(&Err(Refusal::ActionNotFound(action_id(99)))));
    let mut forgotten = Vec::new();
    for number in 0..=255 {
        env.now.wall = env.now.wall.after(std::time::Duration::from_secs(1));
        let first = change(&mut env, number, begun(ActionKind::Retry, "status:failed"));
        change(&mut env, number, ActionTo::Ended);
        forgotten.extend(first.records.actions_forgotten);
    }
    assert_eq!(forgotten.first(), Some(&action_id(0)));
    assert_eq!(env.core.actions().len(), 256 - forgotten.len());
}
