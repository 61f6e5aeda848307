use crate::command::{Command, OutcomeResult, Scope};
use crate::effects::{End, Refusal, Reply, Send, Verdict};
use crate::ids::{AssignNumber, Attachment, SessionId};
use crate::status::Status;
use crate::testing::{FLOW, TestEnv, assigned, ends, id, job, offer, reply, token};

fn cancelled(cancelled: u64, already_final: u64) -> Option<Result<Reply, Refusal>> {
    Some(Ok(Reply::Cancelled { cancelled, already_final }))
}

/// 1 -> 2 -> 3, of which 1 and 2 are named.
#[test]
fn jobs_that_are_named_are_cancelled_and_their_dependents_fail() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[2])]);
    let effects = env.cancel(Scope::Jobs(vec![id(1), id(2)]));
    assert_eq!(reply(&effects).cloned(), cancelled(2, 0));
    let expected = [(id(2), End::Cancelled), (id(1), End::Cancelled), (id(3), End::UpstreamFailed(id(2)))];
    assert_eq!(ends(&[effects]), expected);
    assert_eq!(reply(&env.cancel(Scope::Jobs(vec![id(1)]))).cloned(), cancelled(0, 1));
    let effects = env.cancel(Scope::Jobs(vec![id(9)]));
    assert_eq!(reply(&effects), Some(&Err(Refusal::JobNotFound(id(9)))));
}

#[test]
fn a_cancelled_attempt_keeps_its_place_until_the_elf_lets_go() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.cancel(Scope::Jobs(vec![id(1)]));
    let session = SessionId(1);
    assert_eq!(effects.sends, [Send::Cancel { session, tokens: vec![token(1, 1)] }]);

    let held = vec![token(1, 1)];
    let effects = env.batch([Command::Heartbeat { session, held: held.clone(), received: AssignNumber(1) }]);
    assert_eq!(effects.sends, [Send::HeartbeatAck { session, unknown: held }], "told again");

    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(ends(std::slice::from_ref(&effects)), [], "what it came to changes nothing");
    let acks = vec![(token(1, 1), Verdict::Duplicate)];
    assert_eq!(effects.sends[0], Send::OutcomeAcks { session, acks });
    assert_eq!(assigned(&effects), [(1, token(2, 1))]);
}

/// 1 -> 2 -> 3 and 4 in the flow, in pieces of one job.
#[test]
fn a_flow_is_cancelled_in_pieces_and_answered_at_the_end() {
    let mut env = TestEnv::with(|config| config.step_max = 1);
    env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[2]), job(4, &[])]);
    let first = env.cancel(Scope::Flow(FLOW));
    assert_eq!(reply(&first), None);
    assert_eq!(assigned(&env.hello(1, None, vec![offer(9, 9)], vec![])), [], "none is assigned meanwhile");
    // Added later: not touched.
    let added = env.submit(vec![job(5, &[])]);
    let mut all = vec![first, added];
    all.extend(env.run_out());
    assert_eq!(all.last().and_then(reply).cloned(), cancelled(4, 0));
    assert!(ends(&all).iter().all(|(_, end)| *end == End::Cancelled));
    assert_eq!(env.core.status().running, 1);
    assert_eq!(env.status(5), Some(Status::Running));
}

#[test]
fn an_unknown_flow_is_refused() {
    let mut env = TestEnv::new();
    let effects = env.cancel(Scope::Flow(FLOW));
    assert_eq!(reply(&effects), Some(&Err(Refusal::FlowNotFound(FLOW))));
}
