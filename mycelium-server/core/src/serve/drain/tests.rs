use std::time::Duration;

use crate::Explanation;
use crate::command::{Command, Drain, OutcomeResult, StreamEnd};
use crate::effects::{Effects, Refusal, Reply, Send};
use crate::ids::{Attachment, SessionId};
use crate::testing::{TestEnv, after, assigned, id, instance, job, offer, reply, token};

const WITHIN: Duration = Duration::from_secs(30);

fn drain(env: &mut TestEnv, number: u8) -> Effects {
    let request = env.request();
    env.batch([Command::Drain(Drain { request, instance: instance(number), within: WITHIN })])
}

fn told(effects: &Effects) -> Vec<(u64, Duration)> {
    let mut all = Vec::new();
    for send in &effects.sends {
        if let Send::Drain { session, within } = send {
            all.push((session.0, *within));
        }
    }
    all
}

#[test]
fn an_instance_that_is_told_to_drain_gets_no_more_on_this_stream_or_the_next() {
    let mut env = TestEnv::new();
    env.telling_hello(1, None, vec![offer(9, 2)], vec![]);
    env.submit(vec![job(1, &[])]);
    env.start(1, token(1, 1), Duration::ZERO);
    let effects = drain(&mut env, 1);
    assert_eq!(told(&effects), [(1, WITHIN)]);
    assert_eq!(reply(&effects), Some(&Ok(Reply::Draining { held: 1, is_told: true })));
    assert_eq!(assigned(&env.submit(vec![job(2, &[])])), []);
    let instances = env.core.elf("elf").unwrap().instances;
    assert!(instances[0].draining && instances[0].window == 0, "{instances:?}");
    let Some(Explanation::NoFreeWindow { instances: 1, window: 0, draining: 1, .. }) =
        env.core.explain(id(2))
    else {
        panic!("{:?}", env.core.explain(id(2)))
    };
    // The word may have been lost with the stream.
    env.batch([Command::StreamClosed { session: SessionId(1), end: StreamEnd::Broken }]);
    after(&mut env, Duration::from_secs(4));
    let effects = env.telling_hello(1, Some(1), vec![offer(9, 2)], vec![token(1, 1)]);
    assert_eq!(told(&effects), [(1, Duration::from_secs(26))]);
    assert_eq!(assigned(&effects), []);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
    assert_eq!(assigned(&effects), []);
    // Another process takes it.
    assert_eq!(assigned(&env.telling_hello(2, None, vec![offer(9, 2)], vec![])), [(2, token(2, 1))]);
}

#[test]
fn one_that_does_not_know_the_word_gets_no_more_all_the_same() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    env.submit(vec![job(1, &[]), job(2, &[])]);
    let effects = drain(&mut env, 1);
    assert_eq!((told(&effects), assigned(&effects)), (vec![], vec![]));
    assert_eq!(reply(&effects), Some(&Ok(Reply::Draining { held: 1, is_told: false })));
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(0)));
    assert_eq!(assigned(&effects), []);
}

#[test]
fn who_is_not_there_is_not_drained() {
    let mut env = TestEnv::new();
    assert_eq!(reply(&drain(&mut env, 1)), Some(&Err(Refusal::InstanceNotFound(instance(1)))));
}
