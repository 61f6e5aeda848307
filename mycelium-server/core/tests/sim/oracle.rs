//! What must hold whatever happens, one function each.

use std::collections::{BTreeMap, BTreeSet};

use mycelium_core::command::{EvaluationResult, OutcomeResult};
use mycelium_core::effects::{
    Assignment, Effects, End, FailedBy, FinishedJob, JobRecord, Refusal, Reply, Verdict,
};
use mycelium_core::ids::{
    ActionId, Attachment, Attempt, ContentDigest, FlowId, JobId, RequestId, SessionId, Token,
};
use mycelium_core::image::{ATTEMPTS_KEPT, AttemptEnd, LiveJob};
use mycelium_core::status::FinalStatus;

use super::deadlines::Deadlines;
use super::evaluator::{Kind, decision, element, elements_of, kind};
use super::recalls::Recalls;
use super::sessions::Sessions;
use super::store::Store;
use super::tries::Tries;
use super::versions;

/// What the world has seen, as someone outside would.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Digest of every job that anyone tried to submit.
    pub(crate) digests: BTreeMap<JobId, ContentDigest>,
    /// Jobs whose submission was acknowledged.
    pub(crate) acknowledged: Vec<JobId>,
    /// What each attachment of an outcome was reported for.
    pub(crate) reports: BTreeMap<Attachment, (SessionId, Token, OutcomeResult)>,
    /// What each session reported last of each attempt.
    pub(crate) last_reports: BTreeMap<(SessionId, Token), OutcomeResult>,
    /// What each attachment of an evaluation was made for.
    pub(crate) evaluations: BTreeMap<Attachment, JobId>,
    /// The highest attempt dispatched, by job.
    dispatched: BTreeMap<JobId, Attempt>,
    /// Final outcomes accepted, by job.
    accepted: BTreeMap<JobId, u32>,
    /// Retries that were stored, by job.
    revived: BTreeMap<JobId, u32>,
    /// In how many sessions that are over each job was all that was held, since it was submitted or brought back.
    held_alone: BTreeMap<JobId, u32>,
    /// How often each job was handed back since it was submitted or brought back, or the broker began, and when last.
    handed_back: BTreeMap<JobId, (u32, u64)>,
    /// Jobs with the versions that have turned them down, since they were submitted or brought back, or the broker began.
    pub(crate) turned_down: BTreeSet<(JobId, u8)>,
    /// Sessions whose instances are to drain, as far as the core knows.
    pub(crate) drained: BTreeSet<SessionId>,
    /// Actions that were answered to have begun.
    pub(crate) actions_begun: BTreeSet<ActionId>,
    /// Flows that anybody ever wanted to be cancelled.
    pub(crate) flows_cancelled: BTreeSet<FlowId>,
    pub(crate) sessions: Sessions,
    pub(crate) recalls: Recalls,
    pub(crate) deadlines: Deadlines,
    pub(crate) tries: Tries,
    /// Attempts of which the broker has said that they may wait for themselves, whether that has reached them or not.
    pub(crate) noticed: BTreeSet<Token>,
    /// Who says hello in the place of another.
    pub(crate) strangers: BTreeSet<RequestId>,
}

impl Oracle {
    /// A job whose submission was acknowledged is in the store, until it is deleted.
    pub(crate) fn acknowledged_jobs_are_kept(&self, store: &Store) {
        for id in &self.acknowledged {
            let is_kept =
                store.live.contains_key(id) || store.finished.contains_key(id) || store.erased.contains(id);
            holds!(AcknowledgedIsKept, is_kept, "acknowledged job {id} is lost");
        }
    }

    /// Every outcome that ends a job is accepted once, and once more for each retry, by hand or not.
    pub(crate) fn one_outcome_per_job(&mut self, token: Token, verdict: Verdict, ended_by: OutcomeResult) {
        let is_accepted = match verdict {
            Verdict::Recorded | Verdict::Refused => true,
            Verdict::Duplicate | Verdict::Stale => false,
        };
        let is_final = match ended_by {
            OutcomeResult::Outputs(_) | OutcomeResult::Failure(_) | OutcomeResult::Refused(_) => true,
            OutcomeResult::Released | OutcomeResult::Cancelled => false,
        };
        if is_accepted && is_final {
            let accepted = self.accepted.entry(token.job).or_default();
            *accepted += 1;
            let tried_again = self.tries.tried_again.get(&token.job).copied().unwrap_or_default();
            let allowed = 1 + self.revived.get(&token.job).copied().unwrap_or_default() + tried_again;
            holds!(OneOutcome, *accepted <= allowed, "job {} has {accepted} accepted outcomes", token.job);
        }
    }

    /// Nothing is dispatched before the store has it as running there.
    pub(crate) fn dispatched_is_durable(&self, store: &Store, session: SessionId, assignment: &Assignment) {
        let Token { job, attempt } = assignment.token;
        let live = store.live.get(&job);
        let is_stored = live.is_some_and(|live| {
            live.attempt == attempt && live.running.is_some_and(|running| running.session == session)
        });
        holds!(DurableFirst, is_stored, "job {job} is dispatched, and stored as {live:?}");
    }

    /// Attempt numbers only rise, and none is dispatched twice.
    pub(crate) fn attempts_only_rise(&mut self, token: Token) {
        let before = self.dispatched.insert(token.job, token.attempt).unwrap_or_default();
        holds!(
            DurableFirst,
            token.attempt > before,
            "attempt {} of job {} after {before}",
            token.attempt,
            token.job
        );
    }

    /// A job that was handed back for no reason is offered again after a pause that grows.
    pub(crate) fn pauses_are_kept(&self, job: JobId, now: u64) {
        let Some(&(times @ 2.., at)) = self.handed_back.get(&job) else { return };
        let pause = (100_000_u64 << (times - 2).min(20)).min(30_000_000);
        holds!(
            NothingEarly,
            now >= at + pause,
            "job {job} was handed back {times} times, and pauses for {} µs",
            now - at
        );
    }

    pub(crate) fn count_handed_back(&mut self, token: Token, verdict: Verdict, was: OutcomeResult, now: u64) {
        let is_handed_back = matches!(was, OutcomeResult::Released | OutcomeResult::Cancelled);
        // What is recalled is given back at the broker's word.
        let is_handed_back =
            is_handed_back && !(was == OutcomeResult::Released && self.recalls.recalled.contains(&token));
        if is_handed_back && verdict == Verdict::Recorded {
            let (times, at) = self.handed_back.entry(token.job).or_default();
            *times += 1;
            *at = now;
        }
    }

    /// The core has begun anew, and knows of this no more.
    pub(crate) fn forget_memory(&mut self) {
        self.handed_back.clear();
        self.turned_down.clear();
        self.drained.clear();
        self.recalls.begin_anew();
        self.deadlines.begin_anew();
    }

    /// A job is not offered to those of whom it is known that they do not take it.
    pub(crate) fn nobody_is_asked_in_vain(&self, job: JobId, version: u8) {
        holds!(FitsItsElf, versions::takes_shape(version, job), "job {job} goes to version {version}");
        let is_known = self.turned_down.contains(&(job, version));
        holds!(FitsItsElf, !is_known, "job {job} goes to version {version} again, which has turned it down");
    }

    /// A session that has a secret is resumed by nobody who does not know it.
    pub(crate) fn strangers_resume_nothing(&self, request: RequestId, answer: &Result<Reply, Refusal>) {
        if let Ok(Reply::Welcome { session, resumed, .. }) = answer {
            let is_stranger = self.strangers.contains(&request);
            holds!(SessionsKept, !(is_stranger && *resumed), "a stranger has taken over session {session}");
        }
    }

    /// A job runs only after all it depends on is done or skipped, and only if that is what its evaluation comes to.
    pub(crate) fn dependencies_are_done(&self, store: &Store, job: JobId) {
        let mut is_evaluated = kind(job) == Kind::Condition;
        for on in &store.specs[&job].depends_on {
            let status = store.finished.get(on).map(|finished| finished.end.status());
            let has_ended_well = status.is_some_and(FinalStatus::lets_dependents_go_on);
            holds!(OrderKept, has_ended_well, "job {job} runs, and depends on {on}, which is {status:?}");
            is_evaluated |= status == Some(FinalStatus::Skipped);
        }
        holds!(OrderKept, kind(job) != Kind::List, "job {job} has a list, and runs");
        if is_evaluated {
            same!(OrderKept, decision(job), EvaluationResult::Run, "job {job} runs");
        }
    }

    /// Every attempt of a job that is over is in its record, up to as many as are kept.
    pub(crate) fn every_attempt_is_recorded(effects: &Effects) {
        for write in &effects.jobs {
            let (attempts, over) = match &write.after {
                JobRecord::Live(live) => {
                    (live.attempts.clone(), live.attempt.0 - u32::from(live.running.is_some()))
                }
                JobRecord::Finished(finished) => (finished.all_attempts(), finished.attempt.0),
                JobRecord::Evaluate | JobRecord::Dropped => continue,
            };
            let kept = u32::try_from(ATTEMPTS_KEPT).unwrap().min(over);
            let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number.0).collect();
            same!(AttemptsCount, numbers, (over - kept + 1..=over).collect::<Vec<u32>>(), "job {}", write.id);
        }
    }

    /// An attempt that is known to have been started counts when its elf is lost.
    pub(crate) fn what_was_started_counts(effects: &Effects) {
        for write in &effects.jobs {
            let attempts = match &write.after {
                JobRecord::Live(live) => &live.attempts,
                JobRecord::Finished(finished) => &finished.attempts,
                JobRecord::Evaluate | JobRecord::Dropped => continue,
            };
            for attempt in attempts {
                let counts = attempt.how != AttemptEnd::ElfLostBefore;
                holds!(
                    AttemptsCount,
                    counts || attempt.held.started.is_none(),
                    "job {}: {attempt:?}",
                    write.id
                );
            }
        }
    }

    /// What a job came to is what the attempt that the store had as running reported.
    pub(crate) fn outcomes_are_as_reported(&self, before: &Store, effects: &Effects) {
        for write in &effects.jobs {
            let JobRecord::Finished(finished) = &write.after else { continue };
            let attachment = match finished.end {
                End::Done(outputs) => outputs,
                End::Failed(FailedBy::Reported(failure)) => failure,
                End::Failed(FailedBy::ElvesLost(_) | FailedBy::TimedOut(_) | FailedBy::Silent(_))
                | End::UpstreamFailed(_)
                | End::Cancelled
                | End::Expired(_)
                | End::Skipped => continue,
            };
            if let Some(evaluated) = self.evaluations.get(&attachment) {
                same!(OneOutcome, *evaluated, write.id, "evaluated was another job");
                self.lists_end_after_their_elements(before, write.id, finished);
                continue;
            }
            let Some((session, token, result)) = self.reports.get(&attachment) else {
                broken!(OneOutcome, "job {} ended with something nobody reported", write.id);
            };
            let expected = Token { job: write.id, attempt: finished.attempt };
            same!(OneOutcome, *token, expected, "the report was for another attempt");
            let running = before.live.get(&write.id).and_then(|live| live.running);
            same!(
                OneOutcome,
                running.map(|running| running.session),
                Some(*session),
                "reported by its holder"
            );
            let is_as_reported = match result {
                OutcomeResult::Outputs(_) => matches!(finished.end, End::Done(_)),
                OutcomeResult::Failure(_) | OutcomeResult::Refused(_) => {
                    matches!(finished.end, End::Failed(_))
                }
                OutcomeResult::Released | OutcomeResult::Cancelled => false,
            };
            holds!(
                OneOutcome,
                is_as_reported,
                "job {} ended {:?}, reported was {result:?}",
                write.id,
                finished.end
            );
        }
    }

    /// A job with a list is done only after all the jobs of its elements have ended well.
    fn lists_end_after_their_elements(&self, before: &Store, job: JobId, finished: &FinishedJob) {
        let End::Done(_) = finished.end else { return };
        same!(OrderKept, finished.elements, Some(elements_of(job)), "elements of {job}");
        for index in 0..elements_of(job) {
            let status = before.finished.get(&element(job, index)).map(|end| end.end.status());
            let has_ended_well = status.is_some_and(FinalStatus::lets_dependents_go_on);
            holds!(OrderKept, has_ended_well, "job {job} is done, and element {index} is {status:?}");
        }
    }

    /// A job ends with its elves only if it was all that so many of them held.
    pub(crate) fn only_who_is_alone_ends_with_its_elf(&mut self, before: &Store, effects: &Effects) {
        for session in &effects.records.sessions_ended {
            let of_session = |live: &LiveJob| live.running.is_some_and(|running| running.session == *session);
            let mut held = before.live.iter().filter(|(_, live)| of_session(live)).map(|(id, _)| *id);
            if let (Some(only), None) = (held.next(), held.next()) {
                *self.held_alone.entry(only).or_default() += 1;
            }
        }
        for write in &effects.jobs {
            let JobRecord::Finished(finished) = &write.after else { continue };
            let End::Failed(FailedBy::ElvesLost(times)) = finished.end else { continue };
            let alone = self.held_alone.get(&write.id).copied().unwrap_or_default();
            holds!(
                InnocentsLive,
                alone >= times,
                "job {} ended with {times} elves, and was alone in {alone}",
                write.id
            );
        }
    }

    pub(crate) fn count_retries(&mut self, effects: &Effects) {
        for write in effects.jobs.iter().filter(|write| write.revived.is_some()) {
            *self.revived.entry(write.id).or_default() += 1;
            self.held_alone.remove(&write.id);
            self.handed_back.remove(&write.id);
            self.turned_down.retain(|(job, _)| *job != write.id);
        }
    }

    /// After a while without faults every job has ended.
    pub(crate) fn everything_has_ended(store: &Store) {
        holds!(
            EndsInTime,
            store.propagations.is_empty(),
            "propagations do not end: {:?}",
            store.propagations
        );
    }
}
