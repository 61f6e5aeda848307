//! Whether, and when, a job is tried again after an attempt of it has failed.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::command::{Advice, Failed, FailureClass};
use crate::ids::JobId;
use crate::policy::RetryPolicy;

/// How many attempts that fail there may be in all, where nothing says so.
const ATTEMPTS: u32 = 1;
/// The least time from the first failure to the next attempt, where nothing says so.
const FIRST: Duration = Duration::from_secs(1);
/// By how much that grows with each further failure, in thousandths, where nothing says so.
const FACTOR: u32 = 2_000;
/// What it grows to at most, where nothing says so; `first`, if that is longer.
const CAP: Duration = Duration::from_secs(60);
/// By up to which part of itself it is lengthened, in thousandths, where nothing says so.
const JITTER: u32 = 200;
/// Seeds what the part of the jitter follows from. It is to be spread, and need not be secret.
const JITTER_SEED: u64 = 0x006d_7963_656c_6975;

/// What holds of a job: what it says itself, and what the declaration of the process that ran it says of the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) own: Option<&'a RetryPolicy>,
    pub(crate) declared: Option<&'a RetryPolicy>,
}

impl<'a> Rules<'a> {
    fn rule<T>(&self, of: impl Fn(&'a RetryPolicy) -> Option<T>) -> Option<T> {
        self.own.and_then(&of).or_else(|| self.declared.and_then(&of))
    }

    /// How many attempts that fail there may be in all.
    pub(crate) fn attempts(&self) -> u32 {
        self.rule(|policy| policy.attempts).unwrap_or(ATTEMPTS)
    }

    /// How long a job waits before it is tried again of which so many attempts have failed, the last one so. `None`: it is
    /// not.
    pub(crate) fn wait(&self, job: JobId, failed_attempts: u32, failed: &Failed) -> Option<Duration> {
        if failed_attempts >= self.attempts() || !self.allow(failed) {
            return None;
        }
        match failed.advice {
            Some(Advice::Never) => None,
            Some(Advice::After(wait)) => Some(wait),
            None => Some(self.backoff(job, failed_attempts)),
        }
    }

    fn allow(&self, failed: &Failed) -> bool {
        let is_allowed = match failed.class {
            FailureClass::Task => true,
            FailureClass::Panic => self.rule(|policy| policy.panics).unwrap_or(false),
            FailureClass::Arguments => self.rule(|policy| policy.argument_errors).unwrap_or(false),
        };
        let never = self.rule(|policy| policy.never.as_deref()).unwrap_or_default();
        is_allowed && !never.iter().any(|name| stands_for(name, &failed.kind))
    }

    fn backoff(&self, job: JobId, failed_attempts: u32) -> Duration {
        let first = self.rule(|policy| policy.first).unwrap_or(FIRST);
        let cap = self.rule(|policy| policy.cap).unwrap_or_else(|| CAP.max(first));
        let factor = f64::from(self.rule(|policy| policy.factor).unwrap_or(FACTOR)) / 1_000.0;
        let grown = first.as_secs_f64() * factor.powf(f64::from(failed_attempts.saturating_sub(1)));
        // What is too much for a duration is more than the cap.
        let wait = Duration::try_from_secs_f64(grown).unwrap_or(cap).min(cap);
        let jitter = f64::from(self.rule(|policy| policy.jitter).unwrap_or(JITTER)) / 1_000.0;
        wait + wait.mul_f64(jitter * part(&(job, failed_attempts)))
    }
}

/// A part of 1 that follows from `of`, and is spread evenly.
fn part(of: &impl Hash) -> f64 {
    let hash = FixedState::with_seed(JITTER_SEED).hash_one(of);
    // 53 bits are what a number of this kind holds.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// Whether a name stands for a type: its segments are consecutive segments of the type's path.
fn stands_for(name: &str, kind: &str) -> bool {
    let (name, kind): (Vec<&str>, Vec<&str>) = (name.split("::").collect(), kind.split("::").collect());
    kind.windows(name.len()).any(|segments| segments == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::FailureId;

    const JOB: JobId = JobId::new([7; 16]);

    fn failed(kind: &str) -> Failed {
        let (class, advice) = (FailureClass::Task, None);
        Failed { id: FailureId::new([1; 16]), kind: Arc::from(kind), class, advice }
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn what_neither_job_nor_declaration_say_is_as_documented() {
        let none = Rules { own: None, declared: None };
        assert_eq!((none.attempts(), none.wait(JOB, 1, &failed("E"))), (1, None));
        let five = RetryPolicy { attempts: Some(20), jitter: Some(0), ..RetryPolicy::default() };
        let rules = Rules { own: None, declared: Some(&five) };
        let waits: Vec<u64> = (1..9).map(|n| rules.wait(JOB, n, &failed("E")).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rules.wait(JOB, 20, &failed("E")), None);
        let five = RetryPolicy { first: seconds(100), ..five };
        let rules = Rules { own: Some(&five), declared: None };
        assert_eq!(rules.wait(JOB, 3, &failed("E")), seconds(100), "the first is longer than the usual cap");
    }

    #[test]
    fn the_job_goes_before_the_declaration_rule_by_rule() {
        let own = RetryPolicy { attempts: Some(3), jitter: Some(0), ..RetryPolicy::default() };
        let declared = RetryPolicy { attempts: Some(9), first: seconds(5), ..RetryPolicy::default() };
        let rules = Rules { own: Some(&own), declared: Some(&declared) };
        assert_eq!(rules.attempts(), 3);
        assert_eq!(rules.wait(JOB, 2, &failed("E")), seconds(10));
    }

    #[test]
    fn jitter_lengthens_by_up_to_its_part_and_follows_from_job_and_attempt() {
        let half = RetryPolicy { attempts: Some(2), jitter: Some(500), ..RetryPolicy::default() };
        let rules = Rules { own: Some(&half), declared: None };
        let waits: Vec<Duration> =
            (0..200).map(|job| rules.wait(JobId::new([job; 16]), 1, &failed("E")).unwrap()).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(1) && *least < Duration::from_millis(1_050), "{least:?}");
        assert!(*most <= Duration::from_millis(1_500) && *most > Duration::from_millis(1_450), "{most:?}");
        assert_eq!(rules.wait(JobId::new([3; 16]), 1, &failed("E")), Some(waits[3]));
    }

    #[test]
    fn what_can_never_work_is_not_tried_again_unless_the_policy_says_so() {
        let ten = RetryPolicy { attempts: Some(10), ..RetryPolicy::default() };
        let with = |policy: &RetryPolicy, failed: &Failed| {
            Rules { own: Some(policy), declared: None }.wait(JOB, 1, failed).is_some()
        };
        let of = |class| Failed { class, ..failed("E") };
        assert!(with(&ten, &of(FailureClass::Task)));
        for class in [FailureClass::Panic, FailureClass::Arguments] {
            assert!(!with(&ten, &of(class)), "{class:?}");
        }
        let panics = RetryPolicy { panics: Some(true), ..ten.clone() };
        assert!(with(&panics, &of(FailureClass::Panic)) && !with(&panics, &of(FailureClass::Arguments)));
        let arguments = RetryPolicy { argument_errors: Some(true), ..ten.clone() };
        assert!(with(&arguments, &of(FailureClass::Arguments)));
        let never = RetryPolicy { never: Some([Arc::from("NotFound")].into()), ..ten.clone() };
        assert!(
            !with(&never, &failed("store::ReadError::NotFound")) && with(&never, &failed("NotFoundHere"))
        );
        let advised = |advice| Failed { advice: Some(advice), ..failed("E") };
        assert!(!with(&ten, &advised(Advice::Never)));
        let after = advised(Advice::After(Duration::from_secs(90)));
        let rules = Rules { own: Some(&ten), declared: None };
        assert_eq!(rules.wait(JOB, 1, &after), seconds(90), "neither lengthened nor cut");
        assert!(!with(&never, &Failed { advice: after.advice, ..failed("NotFound") }));
        assert_eq!(rules.wait(JOB, 10, &after), None);
    }

    #[test]
    fn names_stand_for_consecutive_segments() {
        for name in ["NotFound", "ReadError", "ReadError::NotFound", "store::ReadError", "store"] {
            assert!(stands_for(name, "store::ReadError::NotFound"), "{name}");
        }
        for name in ["Found", "store::NotFound", "ReadError::", "store::ReadError::NotFound::x"] {
            assert!(!stands_for(name, "store::ReadError::NotFound"), "{name}");
        }
    }

    #[test]
    fn the_longest_policy_does_not_overflow() {
        let year = Duration::from_secs(366 * 86_400);
        let most = RetryPolicy {
            attempts: Some(1_000_000),
            first: Some(year),
            cap: Some(year),
            factor: Some(1_000_000),
            jitter: Some(1_000),
            ..RetryPolicy::default()
        };
        let rules = Rules { own: Some(&most), declared: None };
        let wait = rules.wait(JOB, 999_999, &failed("E")).unwrap();
        assert!(wait >= year && wait <= year * 2, "{wait:?}");
    }
}
