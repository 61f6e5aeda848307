//! Jobs that are tried again, and those that begin at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::command::{Advice, Begins, Failed, FailureClass, Outcome, OutcomeResult};
use mycelium_core::effects::{Effects, FailedBy, JobRecord};
use mycelium_core::ids::{Attachment, Clocks, FailureId, JobId, SessionId, Token};

use super::client::policy;
use super::clock::BEGAN_AT;
use super::deadlines::Deadlines;
use super::evaluator::{Kind, kind};
use super::store::Store;

/// How often jobs have failed, and which were begun by hand.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// How many attempts of each have failed since it was submitted, or brought back.
    pub(crate) failed: BTreeMap<JobId, u32>,
    /// How many attempts of each were followed by another.
    pub(crate) tried_again: BTreeMap<JobId, u32>,
    /// Jobs that anybody ever wanted to begin at once.
    pub(crate) started_by_hand: BTreeSet<JobId>,
}

/// When a job may begin. Most may at once; of one with a list it holds of the jobs of the elements.
pub(crate) fn begins(id: JobId) -> Begins {
    let (at, after) = (Some(BEGAN_AT.after(Duration::from_secs(40))), Some(Duration::from_secs(3)));
    match id.as_bytes()[11] % 24 {
        _ if kind(id) == Kind::List => Begins::default(),
        0 => Begins { at, after: None },
        1 => Begins { at: None, after },
        2 => Begins { at, after },
        _ => Begins::default(),
    }
}

/// What is reported of an attempt.
pub(crate) fn report(token: Token, result: OutcomeResult, ran: Option<Duration>) -> Outcome {
    let failed = match result {
        OutcomeResult::Failure(tag) | OutcomeResult::Refused(tag) => Some(Box::new(failed(tag))),
        OutcomeResult::Outputs(_) | OutcomeResult::Released | OutcomeResult::Cancelled => None,
    };
    Outcome { token, result, failed, ran }
}

/// What a failure says.
fn failed(tag: Attachment) -> Failed {
    let class = match tag.0 % 10 {
        0 => FailureClass::Panic,
        1 => FailureClass::Arguments,
        _ => FailureClass::Task,
    };
    let advice = match tag.0 / 10 % 8 {
        0 => Some(Advice::Never),
        1 => Some(Advice::After(Duration::from_secs(7))),
        _ => None,
    };
    Failed { id: FailureId::new([1; 16]), kind: Arc::from("E"), class, advice }
}

impl Tries {
    /// A job is tried again only if its policy and its failure let it be, and counts what has failed. `reports`: for what each
    /// attachment was reported.
    pub(crate) fn what_is_tried_again_may_be(
        &mut self,
        before: &Store,
        effects: &Effects,
        reports: &BTreeMap<Attachment, (SessionId, Token, OutcomeResult)>,
        now: Clocks,
        deadlines: &Deadlines,
    ) {
        for write in &effects.jobs {
            if write.created.is_some() || write.revived.is_some() {
                self.failed.remove(&write.id);
            }
            let begins_at = match &write.created {
                Some(created) => {
                    let Begins { at, after } = begins(write.id);
                    let moment = at.max(after.map(|after| now.wall.after(after)));
                    let moment = moment.filter(|moment| *moment > now.wall);
                    same!(NothingEarly, created.begins_at, moment, "when job {} begins", write.id);
                    moment
                }
                None => before.specs.get(&write.id).and_then(|spec| spec.begins_at),
            };
            let JobRecord::Live(live) = &write.after else { continue };
            let is_by_hand = self.started_by_hand.contains(&write.id);
            if (write.created.is_some() || write.revived.is_some()) && !is_by_hand {
                let moment = begins_at.filter(|moment| *moment > now.wall);
                same!(NothingEarly, live.tries.not_before, moment, "before when job {} waits", write.id);
            } else if let Some(moment) = before.live.get(&write.id).and_then(|live| live.tries.not_before)
                && live.tries.not_before != Some(moment)
                && !is_by_hand
            {
                deadlines.need_not_wait(write.id, moment, now);
            }
        }
        for failed_attempt in &effects.failed {
            let token = Token { job: failed_attempt.job, attempt: failed_attempt.attempt };
            let says = match failed_attempt.by {
                FailedBy::Reported(body) => {
                    let (session, reported, _) = reports[&body];
                    same!(OneOutcome, token, reported, "what was reported was another attempt");
                    let running = before.live.get(&token.job).and_then(|live| live.running);
                    same!(
                        OneOutcome,
                        running.map(|running| running.session),
                        Some(session),
                        "reported by its holder"
                    );
                    failed(body)
                }
                FailedBy::TimedOut(_) | FailedBy::Silent(_) => {
                    Failed { class: FailureClass::Task, advice: None, ..failed(Attachment(0)) }
                }
                FailedBy::ElvesLost(_) => {
                    broken!(AttemptsCount, "job {} is tried again", token.job)
                }
            };
            let failures = self.failed.entry(token.job).or_default();
            *failures += 1;
            *self.tried_again.entry(token.job).or_default() += 1;
            let Failed { class, advice, .. } = says;
            same!(AttemptsCount, class, FailureClass::Task, "job {} would fail again", token.job);
            let attempts = policy(token.job).and_then(|policy| policy.retry.attempts).unwrap_or(1);
            holds!(
                AttemptsCount,
                *failures < attempts,
                "job {} is tried again after {failures} failures",
                token.job
            );
            let wait = match advice {
                None => Duration::from_secs(1 << (*failures - 1)),
                Some(Advice::After(wait)) => wait,
                Some(Advice::Never) => {
                    broken!(AttemptsCount, "job {} is tried again, and is not to be", token.job)
                }
            };
            let write = effects.jobs.iter().find(|write| write.id == token.job);
            let after = write.map(|write| &write.after);
            if let Some(JobRecord::Live(live)) = after
                && !self.started_by_hand.contains(&token.job)
            {
                let least = now.wall.after(wait);
                let is_later = live.tries.not_before.is_some_and(|moment| moment >= least);
                holds!(NothingEarly, is_later, "job {} waits until {:?}", token.job, live.tries.not_before);
            }
        }
        for write in &effects.jobs {
            if let JobRecord::Live(live) = &write.after {
                let failures = self.failed.get(&write.id).copied().unwrap_or_default();
                same!(AttemptsCount, live.tries.failed, failures, "failures of job {}", write.id);
            }
        }
    }
}
