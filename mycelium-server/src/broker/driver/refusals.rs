//! What the store refuses for good: batches become smaller until the one thing is found that it does not take, and that
//! fails by itself, and keeps nothing else.
//!
//! Nothing of a refused batch is stored. Those who wait for a call are told to try again, and elves report again what was
//! not acknowledged: so all of it comes once more, in smaller batches.

use std::collections::HashSet;

use mycelium_core::command::{Command, EvaluationResult, Outcome, OutcomeResult};
use mycelium_core::ids::{Attachment, JobId, Token};

use crate::broker::message::{Body, FailureBody, Message, ReportsMessage};

/// So many things that the store refuses are remembered. Of more, some are found anew.
const REMEMBERED_MAX: usize = 1_024;
/// A batch of so many parts is not kept small any more.
const PARTS_MAX: usize = 4_096;

/// How large batches may be, and what is not stored.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// As many parts go into one batch; `None`: as many as there are.
    parts_max: Option<usize>,
    refused: HashSet<Part>,
    /// The parts of the batch that is put together.
    parts: usize,
    /// One of them.
    part: Option<Part>,
    /// What is in it besides: an elf that says hello comes before what it reports again.
    others: usize,
}

/// What a batch consists of, as far as it can fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Outcome(Token),
    Evaluation(JobId),
    Checkpoint(Token),
}

impl Refusals {
    /// A new batch is put together.
    pub(super) fn begin(&mut self) {
        (self.parts, self.part, self.others) = (0, None, 0);
    }

    /// Takes a message into the batch, as far as it has room: what is left of it is given back, and the batch is full.
    pub(super) fn take(&mut self, message: Message) -> (Option<Message>, Option<Message>) {
        let room = self.parts_max.map_or(usize::MAX, |max| max.saturating_sub(self.parts + self.others));
        if room == 0 {
            return (None, Some(message));
        }
        let (mut message, rest) = split(message, room);
        let (parts, others) = parts(&message);
        self.parts += parts;
        self.others += others;
        self.part = part(&message).or(self.part);
        if !self.refused.is_empty() {
            self.fail_refused(&mut message);
        }
        (Some(message), rest)
    }

    /// The batch was stored.
    pub(super) fn on_stored(&mut self) {
        // Whatever else was stored says nothing of what was refused.
        if self.parts_max.is_some_and(|max| self.parts >= max) {
            self.parts_max = self.parts_max.map(|max| max * 2).filter(|max| *max < PARTS_MAX);
        }
    }

    /// The store refuses the batch for good. Whether it is known now what to do about it: a batch of nothing but the
    /// core's own can become no smaller.
    pub(super) fn on_refused(&mut self) -> Found {
        match (self.parts + self.others, self.part) {
            (0, _) => Found::Nothing,
            (1, Some(part)) => {
                if self.refused.len() == REMEMBERED_MAX {
                    self.refused.clear();
                }
                self.refused.insert(part);
                Found::Part
            }
            (1, None) => Found::Call,
            (parts, _) => {
                self.parts_max = Some(parts / 2);
                Found::Half
            }
        }
    }

    /// Puts a failure in the place of what the store does not take.
    fn fail_refused(&mut self, message: &mut Message) {
        let failure = || FailureBody::store_refused();
        match message {
            Message::FromStream { command: Command::Outcomes { outcomes, .. }, bodies, .. } => {
                for Outcome { token, result, failed, .. } in outcomes {
                    if self.refused.remove(&Part::Outcome(*token)) {
                        *result = OutcomeResult::Refused(attach(bodies, failure()));
                        *failed = None;
                    }
                }
            }
            Message::Evaluated { command: Command::Evaluated { evaluated }, bodies } => {
                for evaluated in evaluated {
                    if self.refused.remove(&Part::Evaluation(evaluated.job)) {
                        evaluated.result = EvaluationResult::Failed(attach(bodies, failure()));
                    }
                }
            }
            Message::Reports(reports) => {
                for said in &mut reports.checkpoints {
                    if self.refused.remove(&Part::Checkpoint(said.token)) {
                        said.body =
                            Err("the store refuses it for good; why stands in the log of the broker"
                                .to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// What was found by a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that could be told apart.
    Nothing,
    /// Which half of it is refused will be seen.
    Half,
    /// The outcome of an attempt, or of an evaluation: its job fails when it comes again.
    Part,
    /// What a caller has sent, who is to be told.
    Call,
}

fn attach(bodies: &mut Vec<Body>, failure: FailureBody) -> Attachment {
    bodies.push(Body::Failure(failure));
    // There is one for each outcome of a message, at most.
    Attachment(u32::try_from(bodies.len() - 1).unwrap_or(u32::MAX))
}

/// The first `room` parts of a message, and the rest.
fn split(message: Message, room: usize) -> (Message, Option<Message>) {
    match message {
        Message::FromStream {
            session,
            stream,
            command: Command::Outcomes { session: of, mut outcomes },
            bodies,
        } if outcomes.len() > room => {
            let rest = outcomes.split_off(room);
            let message = |outcomes, bodies| Message::FromStream {
                session,
                stream,
                command: Command::Outcomes { session: of, outcomes },
                bodies,
            };
            (message(outcomes, bodies.clone()), Some(message(rest, bodies)))
        }
        Message::Evaluated { command: Command::Evaluated { mut evaluated }, bodies }
            if evaluated.len() > room =>
        {
            let rest = evaluated.split_off(room);
            let message =
                |evaluated, bodies| Message::Evaluated { command: Command::Evaluated { evaluated }, bodies };
            (message(evaluated, bodies.clone()), Some(message(rest, bodies)))
        }
        Message::Reports(mut reports) if reports.checkpoints.len() > room => {
            let rest = reports.checkpoints.split_off(room);
            let rest = ReportsMessage { checkpoints: rest, progress: Vec::new(), ..reports };
            (Message::Reports(reports), Some(Message::Reports(rest)))
        }
        message => (message, None),
    }
}

/// How many parts a message has that bring what was worked for, and how many others.
fn parts(message: &Message) -> (usize, usize) {
    match message {
        Message::FromStream { command: Command::Outcomes { outcomes, .. }, .. } => (outcomes.len(), 0),
        Message::Evaluated { command: Command::Evaluated { evaluated }, .. } => (evaluated.len(), 0),
        Message::Reports(reports) => (reports.checkpoints.len(), 0),
        Message::Request { .. } => (1, 0),
        Message::Hello(_) | Message::Aside(_) | Message::Evaluated { .. } | Message::FromStream { .. } => {
            (0, 1)
        }
        Message::Query(_) | Message::Watch(_) | Message::Stop => (0, 0),
    }
}

fn part(message: &Message) -> Option<Part> {
    match message {
        Message::FromStream { command: Command::Outcomes { outcomes, .. }, .. } => {
            outcomes.first().map(|outcome| Part::Outcome(outcome.token))
        }
        Message::Evaluated { command: Command::Evaluated { evaluated }, .. } => {
            evaluated.first().map(|evaluated| Part::Evaluation(evaluated.job))
        }
        Message::Reports(reports) => reports.checkpoints.first().map(|said| Part::Checkpoint(said.token)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use mycelium_core::ids::{Attempt, SessionId};

    use super::*;
    use crate::broker::message::StreamId;

    fn token(number: u8) -> Token {
        Token { job: JobId::new([number; 16]), attempt: Attempt(1) }
    }

    /// Outcomes as an elf reports them, all at once.
    fn reported(numbers: &[u8]) -> Message {
        let bodies = numbers
            .iter()
            .map(|number| Body::Outputs { encoded: Bytes::copy_from_slice(&[*number]), blobs: Vec::new() });
        let outcomes = (0..).zip(numbers).map(|(place, number)| Outcome {
            failed: None,
            token: token(*number),
            result: OutcomeResult::Outputs(Attachment(place)),
            ran: None,
        });
        Message::FromStream {
            session: SessionId(1),
            stream: StreamId(1),
            command: Command::Outcomes { session: SessionId(1), outcomes: outcomes.collect() },
            bodies: bodies.collect(),
        }
    }

    /// An elf is back, which is stored by itself.
    fn back() -> Message {
        Message::FromStream {
            session: SessionId(1),
            stream: StreamId(1),
            command: Command::Heard { session: SessionId(1) },
            bodies: Vec::new(),
        }
    }

    /// What is in a message: the jobs, and whether each returned.
    fn outcomes(message: &Message) -> Vec<(Token, bool)> {
        let Message::FromStream { command: Command::Outcomes { outcomes, .. }, bodies, .. } = message else {
            panic!("outcomes were expected")
        };
        let returned = |outcome: &Outcome| match outcome.result {
            OutcomeResult::Outputs(Attachment(place)) => {
                let Body::Outputs { encoded, .. } = &bodies[place as usize] else { panic!("outputs") };
                assert_eq!(encoded[0], outcome.token.job.as_bytes()[0], "its own outputs");
                (outcome.token, true)
            }
            OutcomeResult::Refused(Attachment(place)) => {
                assert!(matches!(&bodies[place as usize], Body::Failure(_)));
                (outcome.token, false)
            }
            other => panic!("{other:?}"),
        };
        outcomes.iter().map(returned).collect()
    }

    #[test]
    fn what_the_store_refuses_is_found_and_fails_and_all_else_is_stored() {
        let bad = [token(3), token(17)];
        let all: Vec<u8> = (1..=20).collect();
        let mut refusals = Refusals::default();
        let (mut stored, mut waiting) = (Vec::new(), VecDeque::from([reported(&all)]));
        let mut tries = 0;
        while let Some(message) = waiting.pop_front() {
            tries += 1;
            assert!(tries < 100, "it goes on and on");
            refusals.begin();
            let (taken, rest) = refusals.take(message);
            waiting.extend(rest);
            let Some(Message::FromStream { command: Command::Outcomes { .. }, .. }) = &taken else {
                refusals.on_stored();
                continue;
            };
            let taken = outcomes(&taken.unwrap());
            if taken.iter().any(|(token, returned)| *returned && bad.contains(token)) {
                assert_ne!(refusals.on_refused(), Found::Nothing);
                // The elf reports again what was not acknowledged.
                let left = all.iter().copied().filter(|number| {
                    !stored.iter().any(|(stored, _): &(Token, bool)| *stored == token(*number))
                });
                waiting = VecDeque::from([back(), reported(&left.collect::<Vec<_>>())]);
            } else {
                refusals.on_stored();
                stored.extend(taken);
            }
        }
        stored.sort();
        let expected: Vec<_> =
            all.iter().map(|number| (token(*number), !bad.contains(&token(*number)))).collect();
        assert_eq!(stored, expected);
        assert_eq!(refusals.refused, HashSet::new(), "nothing is remembered that is over");
    }

    #[test]
    fn a_batch_of_the_cores_own_can_become_no_smaller() {
        let mut refusals = Refusals::default();
        refusals.begin();
        assert_eq!(refusals.on_refused(), Found::Nothing);
        assert!(refusals.take(reported(&[1, 2])).1.is_none(), "nor are those that come");
    }
}
