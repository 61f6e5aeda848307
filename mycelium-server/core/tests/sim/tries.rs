//! Jobs that are tried again, and those that begin at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::command::{Advice, Begins, Failed, FailureClass, Outcome, OutcomeResult};
use mycelium_core::effects::{Effects, FailedBy, JobRecord};
use mycelium_core::ids::{Attachment, FailureId, JobId, SessionId, Timestamp, Token};

use super::client::policy;
use super::evaluator::{Kind, kind};
use super::store::Store;

/// When jobs may begin, and how often they have failed.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    submitted_at: BTreeMap<JobId, Timestamp>,
    /// Before which moment nothing of each job is to run.
    not_before: BTreeMap<JobId, u64>,
    /// How many attempts of each have failed since it was submitted, or brought back.
    failed: BTreeMap<JobId, u32>,
    /// How many attempts of each were followed by another.
    pub(crate) tried_again: BTreeMap<JobId, u32>,
    /// Jobs that anybody ever wanted to begin at once.
    pub(crate) started_by_hand: BTreeSet<JobId>,
}

/// When a job may begin. Most may at once; of one with a list it holds of the jobs of the elements.
pub(crate) fn begins(id: JobId) -> Begins {
    let (at, after) = (Some(Timestamp(90_000_000)), Some(Duration::from_secs(3)));
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
        now: u64,
    ) {
        for write in &effects.jobs {
            if write.created.is_some() {
                self.submitted_at.insert(write.id, Timestamp(now));
            }
            if write.created.is_some() || write.revived.is_some() {
                self.failed.remove(&write.id);
                let Begins { at, after } = begins(write.id);
                let after = after.map(|after| self.submitted_at[&write.id].after(after));
                self.not_before.insert(write.id, at.max(after).unwrap_or_default().0);
            }
        }
        for failed_attempt in &effects.failed {
            let token = Token { job: failed_attempt.job, attempt: failed_attempt.attempt };
            let says = match failed_attempt.by {
                FailedBy::Reported(body) => {
                    let (session, reported, _) = reports[&body];
                    assert_eq!(token, reported);
                    let running = before.live.get(&token.job).and_then(|live| live.running);
                    assert_eq!(
                        running.map(|running| running.session),
                        Some(session),
                        "reported by its holder"
                    );
                    failed(body)
                }
                FailedBy::TimedOut(_) => {
                    Failed { class: FailureClass::Task, advice: None, ..failed(Attachment(0)) }
                }
                FailedBy::ElvesLost(_) | FailedBy::Silent(_) => panic!("job {} is tried again", token.job),
            };
            let failures = self.failed.entry(token.job).or_default();
            *failures += 1;
            *self.tried_again.entry(token.job).or_default() += 1;
            let Failed { class, advice, .. } = says;
            assert_eq!(class, FailureClass::Task, "job {} would fail again", token.job);
            let attempts = policy(token.job).and_then(|policy| policy.retry.attempts).unwrap_or(1);
            assert!(*failures < attempts, "job {} is tried again after {failures} failures", token.job);
            let wait = match advice {
                None => Duration::from_secs(1 << (*failures - 1)),
                Some(Advice::After(wait)) => wait,
                Some(Advice::Never) => panic!("job {} is tried again, and is not to be", token.job),
            };
            self.not_before.insert(token.job, Timestamp(now).after(wait).0);
        }
        for write in &effects.jobs {
            if let JobRecord::Live(live) = &write.after {
                let failures = self.failed.get(&write.id).copied().unwrap_or_default();
                assert_eq!(live.tries.failed, failures, "failures of job {}", write.id);
            }
        }
    }

    /// Nothing begins before its moment, unless somebody wanted it to.
    pub(crate) fn nothing_begins_early(&self, job: JobId, now: u64) {
        let not_before = self.not_before.get(&job).copied().unwrap_or_default();
        let is_early = now < not_before && !self.started_by_hand.contains(&job);
        assert!(!is_early, "job {job} begins {} us early", not_before - now);
    }
}
