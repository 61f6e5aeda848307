use std::time::Instant;

use mycelium_proto::v1::connect_request;

use super::messages::{OUTCOME_BYTES_PER_MESSAGE_TARGET, OUTCOMES_PER_MESSAGE_MAX};
use super::*;
use crate::ids::JobId;

fn ledger(window: u32) -> Ledger {
    let identity = Identity { instance_id: [1; 16], process_id: 1, ..Identity::default() };
    let account = ElfAccount {
        name: Arc::from("scale"),
        declaration: v1::ElfDeclaration::default(),
        window,
        concurrency: 1,
        tasks: HashMap::new(),
        unfinished: 0,
        occupied: 0,
        occupied_told: 0,
    };
    let mut ledger = Ledger::new(identity, vec![account]);
    ledger.on_stream_opened();
    ledger.next_message(Instant::now()).unwrap();
    ledger.on_welcome(&v1::Welcome { session: 1, ..v1::Welcome::default() });
    ledger
}

fn assign(ledger: &mut Ledger, tokens: &[Token]) -> Vec<Work> {
    let assignment = |token: &Token| v1::Assignment {
        token: Some(token.to_wire()),
        elf: "scale".to_owned(),
        task: "task_weigh".to_owned(),
        ..v1::Assignment::default()
    };
    ledger.on_assign(v1::Assign { assignments: tokens.iter().map(assignment).collect() }).start
}

fn tokens(n: usize) -> Vec<Token> {
    (0..n).map(|_| Token { job_id: JobId::generate(), attempt: 1 }).collect()
}

fn done(work: &Work, bytes: usize) -> Finished {
    let outcome = outcome::Result::Outputs(v1::Outputs::default());
    Finished { bytes, ..work.unstarted(outcome) }
}

fn sizes(ledger: &mut Ledger) -> Vec<usize> {
    std::iter::from_fn(|| ledger.next_message(Instant::now()))
        .map(|message| match message.kind {
            Some(connect_request::Kind::Outcomes(outcomes)) => outcomes.outcomes.len(),
            other => panic!("outcomes were expected, and not {other:?}"),
        })
        .collect()
}

#[test]
fn outcomes_go_in_messages_of_bounded_number_and_size() {
    let mut ledger = ledger(5_000);
    let work = assign(&mut ledger, &tokens(OUTCOMES_PER_MESSAGE_MAX + 1));
    ledger.on_finished(work.iter().map(|work| done(work, 64)));
    assert_eq!(sizes(&mut ledger), [OUTCOMES_PER_MESSAGE_MAX, 1]);

    let work = assign(&mut ledger, &tokens(5));
    ledger.on_finished(work.iter().map(|work| done(work, OUTCOME_BYTES_PER_MESSAGE_TARGET / 2)));
    assert_eq!(sizes(&mut ledger), [2, 2, 1]);
}

#[test]
fn an_outcome_of_an_earlier_holding_is_thrown_away() {
    let mut ledger = ledger(10);
    let token = tokens(1);
    let earlier = assign(&mut ledger, &token).remove(0);
    let unknown = v1::HeartbeatAck { unknown: vec![token[0].to_wire()] };
    assert_eq!(ledger.on_heartbeat_ack(&unknown).cancel.len(), 1);
    let later = assign(&mut ledger, &token).remove(0);
    ledger.on_finished([done(&earlier, 64)]);
    assert_eq!(ledger.counts(), Counts { running: 1, unacknowledged: 0 });
    assert_eq!(ledger.next_message(Instant::now()), None);
    ledger.on_finished([done(&later, 64)]);
    assert_eq!(ledger.counts(), Counts { running: 0, unacknowledged: 1 });
}

#[test]
fn nothing_is_sent_before_the_welcome_and_after_the_goodbye() {
    let mut ledger = ledger(10);
    let work = assign(&mut ledger, &tokens(1));
    ledger.on_finished([done(&work[0], 64)]);
    let first = ledger.on_stream_opened();
    assert!(ledger.next_message(Instant::now()).is_some_and(|hello| hello.sequence == 1));
    ledger.on_beat();
    assert_eq!(ledger.next_message(Instant::now()), None);
    let welcome = v1::Welcome {
        session: 1,
        resumed: true,
        keep: vec![work[0].token.to_wire()],
        ..v1::Welcome::default()
    };
    ledger.on_welcome(&welcome);
    // The beat, though it came before, and the outcome, once.
    ledger.on_beat();
    assert!(matches!(
        ledger.next_message(Instant::now()).unwrap().kind,
        Some(connect_request::Kind::Heartbeat(_))
    ));
    assert_eq!(sizes(&mut ledger), [1]);
    ledger.leave();
    assert!(matches!(
        ledger.next_message(Instant::now()).unwrap().kind,
        Some(connect_request::Kind::Goodbye(_))
    ));
    ledger.on_beat();
    assert_eq!(ledger.next_message(Instant::now()), None);
    assert!(ledger.is_gone());
    // A writer of an earlier stream gets nothing either.
    let second = ledger.on_stream_opened();
    assert!(ledger.is_over(first) && !ledger.is_over(second));
    ledger.on_stream_closed();
    assert!(ledger.is_over(second));
}

#[test]
fn an_assignment_is_confirmed_by_the_next_message_or_by_one_of_its_own() {
    let mut ledger = ledger(10);
    let bare = v1::Welcome { session: 1, takes_bare_messages: true, ..v1::Welcome::default() };
    ledger.on_welcome(&bare);
    ledger.on_sequence(7);
    assert!(!ledger.confirm(), "nothing was assigned");
    let work = assign(&mut ledger, &tokens(1));
    assert_eq!(ledger.next_message(Instant::now()), None, "it is not due yet");
    assert!(ledger.confirm());
    let message = ledger.next_message(Instant::now()).unwrap();
    assert_eq!((message.sequence, message.received, message.kind), (2, 7, None));
    assert!(ledger.next_message(Instant::now()).is_none() && !ledger.confirm(), "once");

    assign(&mut ledger, &tokens(1));
    ledger.on_finished([done(&work[0], 64)]);
    assert!(ledger.next_message(Instant::now()).is_some_and(|outcomes| outcomes.kind.is_some()));
    assert!(!ledger.confirm(), "whatever is said confirms it");

    // What came on an earlier stream is named in `Hello`, and a broker that takes no such message gets none.
    assign(&mut ledger, &tokens(1));
    ledger.on_stream_opened();
    assert!(ledger.next_message(Instant::now()).is_some_and(|hello| hello.received == 0));
    assert!(!ledger.confirm());
    ledger.on_welcome(&v1::Welcome { takes_bare_messages: false, ..bare });
    assign(&mut ledger, &tokens(1));
    assert!(!ledger.confirm());
}

#[test]
fn a_start_is_told_with_what_is_said_next_or_alone_and_not_once_it_has_an_outcome() {
    let mut ledger = ledger(10);
    let work = assign(&mut ledger, &tokens(3));
    let begun = Instant::now();
    let started = |work: &Work| Started { token: work.token, serial: work.serial, at: begun };
    let now = begun + Duration::from_millis(60);
    let told = |message: &v1::ConnectRequest| {
        let start = |start: &v1::Start| (Token::from_wire(start.token.as_ref().unwrap()).unwrap(), start.ago);
        message.starts.iter().map(start).collect::<Vec<_>>()
    };
    let ago = Some(prost_types::Duration { seconds: 0, nanos: 60_000_000 });

    // A broker of before takes no message that says nothing else.
    ledger.on_starts(vec![started(&work[0])]);
    assert_eq!(ledger.next_message(now), None);
    ledger.on_beat();
    let beat = ledger.next_message(now).unwrap();
    assert_eq!((told(&beat), beat.kind.is_some()), (vec![(work[0].token, ago)], true));

    ledger.on_welcome(&v1::Welcome {
        session: 1,
        resumed: true,
        keep: work.iter().map(|work| work.token.to_wire()).collect(),
        takes_bare_messages: true,
        ..v1::Welcome::default()
    });
    ledger.on_starts(vec![started(&work[1])]);
    let alone = ledger.next_message(now).unwrap();
    assert_eq!((told(&alone), alone.kind), (vec![(work[1].token, ago)], None));
    assert_eq!(ledger.next_message(now), None, "once");

    let ran = Some(Duration::from_millis(70));
    ledger.on_starts(vec![started(&work[2])]);
    ledger.on_finished([Finished { ran, ..done(&work[2], 64) }]);
    let outcome = ledger.next_message(now).unwrap();
    assert_eq!(told(&outcome), []);
    let Some(connect_request::Kind::Outcomes(outcomes)) = outcome.kind else { panic!("{outcome:?}") };
    assert_eq!(outcomes.outcomes[0].ran.unwrap().nanos, 70_000_000);
}
