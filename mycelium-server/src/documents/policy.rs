//! Policies as jobs and declarations give them: checked, and as the scheduler takes them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mycelium_core::command::Begins;
use mycelium_core::ids::Timestamp;
use mycelium_core::policy::{Policy, RetryPolicy, Timeouts};
use mycelium_proto::{limits, v1};

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct BadPolicy {
    /// The field it is about, as a path within what has the policy.
    pub(crate) field: String,
    pub(crate) problem: String,
}

fn bad(field: &str, problem: impl Into<String>) -> BadPolicy {
    BadPolicy { field: field.to_owned(), problem: problem.into() }
}

/// The policy of a job of its own; `None` if it has none.
pub(crate) fn of_job(spec: &v1::JobSpec) -> Result<Option<Arc<Policy>>, BadPolicy> {
    policy(spec.retry.as_ref(), spec.timeouts.as_ref())
}

/// The policy that is declared for a task; `None` if there is none.
pub(crate) fn of_task(task: &v1::TaskDeclaration) -> Result<Option<Arc<Policy>>, BadPolicy> {
    policy(task.retry.as_ref(), task.timeouts.as_ref())
}

fn policy(
    retry_given: Option<&v1::RetryPolicy>,
    timeouts_given: Option<&v1::Timeouts>,
) -> Result<Option<Arc<Policy>>, BadPolicy> {
    let retry = retry_given.map(retry).transpose()?.unwrap_or_default();
    let timeouts = timeouts_given.map(timeouts).transpose()?.unwrap_or_default();
    let policy = Policy { retry, timeouts };
    Ok((policy != Policy::default()).then(|| Arc::new(policy)))
}

/// When a job may begin.
pub(crate) fn begins(spec: &v1::JobSpec) -> Result<Begins, BadPolicy> {
    let problem = "must be a moment from 1970 to 9999";
    let read = |given: &prost_types::Timestamp| {
        let since_epoch = SystemTime::try_from(*given).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let micros = u64::try_from(since_epoch.as_micros()).ok()?;
        (given.seconds < MOMENTS_END).then_some(Timestamp(micros))
    };
    let at = spec.not_before.as_ref();
    let at = at.map(|given| read(given).ok_or_else(|| bad("not_before", problem))).transpose()?;
    let range = Duration::ZERO..=LONGEST;
    let after = duration("delay", spec.delay.as_ref(), range, "must be 0 to 366 days")?;
    Ok(Begins { at, after })
}

/// The first second of the year 10000, before which all moments are that can be shown.
const MOMENTS_END: i64 = 253_402_300_800;

/// How long an elf says that a job is to wait which has failed: no longer than a policy may say.
pub(crate) fn retry_after(given: Option<prost_types::Duration>) -> Option<Duration> {
    // Nothing depends on what an elf says that is no time.
    given.and_then(|given| Duration::try_from(given).ok()).map(|given| given.min(LONGEST))
}

/// Reads how long things may take.
fn timeouts(given: &v1::Timeouts) -> Result<Timeouts, BadPolicy> {
    let v1::Timeouts { queue, run, total, progress } = given;
    Ok(Timeouts {
        queue: wait("timeouts.queue", queue.as_ref())?,
        run: wait("timeouts.run", run.as_ref())?,
        total: wait("timeouts.total", total.as_ref())?,
        progress: wait("timeouts.progress", progress.as_ref())?,
    })
}

/// Reads how a job is tried again.
pub(crate) fn retry(given: &v1::RetryPolicy) -> Result<RetryPolicy, BadPolicy> {
    let v1::RetryPolicy { attempts, first, factor, cap, jitter, never, panics, argument_errors } = given;
    let max = limits::RETRY_ATTEMPTS_MAX;
    if attempts.is_some_and(|attempts| attempts == 0 || attempts > max) {
        return Err(bad("retry.attempts", format!("must be 1 to {max}")));
    }
    let (first, cap) = (wait("retry.first", first.as_ref())?, wait("retry.cap", cap.as_ref())?);
    if let (Some(first), Some(cap)) = (first, cap)
        && cap < first
    {
        return Err(bad("retry.cap", "must not be less than `first`"));
    }
    Ok(RetryPolicy {
        attempts: *attempts,
        first,
        factor: thousandths("retry.factor", *factor, 1..=limits::RETRY_FACTOR_MAX)?,
        cap,
        jitter: thousandths("retry.jitter", *jitter, 0..=1)?,
        never: never.as_ref().map(types).transpose()?,
        panics: *panics,
        argument_errors: *argument_errors,
    })
}

fn wait(field: &str, given: Option<&prost_types::Duration>) -> Result<Option<Duration>, BadPolicy> {
    let range = Duration::from_micros(limits::RETRY_MICROS_MIN)..=LONGEST;
    duration(field, given, range, "must be 1 ms to 366 days")
}

/// The longest time that a policy may name.
const LONGEST: Duration = Duration::from_micros(limits::POLICY_MICROS_MAX);

/// Reads a duration, of which nothing below a microsecond is kept.
fn duration(
    field: &str,
    given: Option<&prost_types::Duration>,
    range: RangeInclusive<Duration>,
    problem: &str,
) -> Result<Option<Duration>, BadPolicy> {
    let Some(given) = given else { return Ok(None) };
    // The conversion does not bear what is far below zero.
    let given = Some(*given).filter(|given| given.seconds >= 0 && given.nanos >= 0);
    let read = given.and_then(|given| Duration::try_from(given).ok()).filter(|given| range.contains(given));
    let read = read.ok_or_else(|| bad(field, problem))?;
    Ok(Some(Duration::new(read.as_secs(), read.subsec_micros() * 1_000)))
}

/// Reads a number as thousandths.
fn thousandths(
    field: &str,
    given: Option<f64>,
    range: RangeInclusive<u32>,
) -> Result<Option<u32>, BadPolicy> {
    let Some(given) = given else { return Ok(None) };
    let (min, max) = range.into_inner();
    // What is no number is in no range.
    if !(f64::from(min)..=f64::from(max)).contains(&given) {
        return Err(bad(field, format!("must be {min} to {max}")));
    }
    Ok(Some((given * 1_000.0).round() as u32))
}

fn types(given: &v1::FailureTypes) -> Result<Arc<[Arc<str>]>, BadPolicy> {
    let max = limits::RETRY_TYPES_MAX;
    if given.types.len() > max {
        return Err(bad("retry.never.types", format!("must be at most {max}")));
    }
    let mut types: Vec<Arc<str>> = Vec::with_capacity(given.types.len());
    for (index, name) in given.types.iter().enumerate() {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let problem = format!("must be 1 to {} bytes without control characters", limits::NAME_BYTES_MAX);
            return Err(bad(&format!("retry.never.types[{index}]"), problem));
        }
        types.push(Arc::from(name.as_str()));
    }
    // In order, so that the same ones are the same policy.
    types.sort_unstable();
    types.dedup();
    Ok(types.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut v1::RetryPolicy)) -> Result<RetryPolicy, String> {
        let mut given = v1::RetryPolicy::default();
        change(&mut given);
        retry(&given).map_err(|error| error.field)
    }

    fn seconds(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn never(types: &[&str]) -> Option<v1::FailureTypes> {
        Some(v1::FailureTypes { types: types.iter().map(|name| (*name).to_owned()).collect() })
    }

    #[test]
    fn what_is_absurd_is_refused_with_the_field_it_stands_in() {
        let refused = |change: fn(&mut v1::RetryPolicy)| of(change).unwrap_err();
        assert_eq!(refused(|retry| retry.attempts = Some(0)), "retry.attempts");
        assert_eq!(refused(|retry| retry.attempts = Some(1_000_001)), "retry.attempts");
        assert_eq!(refused(|retry| retry.first = seconds(-1, 0)), "retry.first");
        assert_eq!(refused(|retry| retry.first = seconds(1, -1_500_000_000)), "retry.first");
        assert_eq!(refused(|retry| retry.first = seconds(0, 999_999)), "retry.first");
        assert_eq!(refused(|retry| retry.cap = seconds(i64::MAX, 0)), "retry.cap");
        for factor in [0.999, -2.0, f64::NAN, f64::INFINITY, 1_001.0] {
            assert_eq!(of(|retry| retry.factor = Some(factor)).unwrap_err(), "retry.factor");
        }
        for jitter in [-0.1, 1.1, f64::NAN] {
            assert_eq!(of(|retry| retry.jitter = Some(jitter)).unwrap_err(), "retry.jitter");
        }
        let crossed = |retry: &mut v1::RetryPolicy| {
            (retry.first, retry.cap) = (seconds(2, 0), seconds(1, 0));
        };
        assert_eq!(of(crossed).unwrap_err(), "retry.cap");
        assert_eq!(refused(|retry| retry.never = never(&["A", ""])), "retry.never.types[1]");
        assert_eq!(refused(|retry| retry.never = never(&["A\n"])), "retry.never.types[0]");
        assert_eq!(refused(|retry| retry.never = never(&["A"; 65])), "retry.never.types");
    }

    #[test]
    fn a_timeout_that_is_no_time_is_refused_with_its_field() {
        let refused = |change: fn(&mut v1::Timeouts)| {
            let mut given = v1::Timeouts::default();
            change(&mut given);
            of_job(&v1::JobSpec { timeouts: Some(given), ..v1::JobSpec::default() }).unwrap_err().field
        };
        assert_eq!(refused(|timeouts| timeouts.queue = seconds(0, 0)), "timeouts.queue");
        assert_eq!(refused(|timeouts| timeouts.queue = seconds(-3, 0)), "timeouts.queue");
        assert_eq!(refused(|timeouts| timeouts.run = seconds(0, 999_999)), "timeouts.run");
        assert_eq!(refused(|timeouts| timeouts.total = seconds(366 * 86_400, 1)), "timeouts.total");
        assert_eq!(refused(|timeouts| timeouts.queue = seconds(i64::MIN, -1)), "timeouts.queue");
        assert_eq!(refused(|timeouts| timeouts.progress = seconds(0, 1)), "timeouts.progress");
        let total = seconds(366 * 86_400, 0);
        let given = v1::Timeouts { total, run: seconds(0, 1_000_000), ..v1::Timeouts::default() };
        let task = v1::TaskDeclaration { timeouts: Some(given), ..v1::TaskDeclaration::default() };
        let read = of_task(&task).unwrap().unwrap();
        let run = Some(Duration::from_millis(1));
        let expected = Timeouts { total: Some(LONGEST), run, ..Timeouts::default() };
        assert_eq!((&read.timeouts, &read.retry), (&expected, &RetryPolicy::default()));
    }

    fn begins_of(change: impl FnOnce(&mut v1::JobSpec)) -> Result<Begins, String> {
        let mut spec = v1::JobSpec::default();
        change(&mut spec);
        begins(&spec).map_err(|error| error.field)
    }

    #[test]
    fn a_moment_that_is_none_is_refused_with_its_field() {
        let moment = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let refused = Err("not_before".to_owned());
        assert_eq!(begins_of(|spec| spec.not_before = moment(-1, 0)), refused);
        assert_eq!(begins_of(|spec| spec.not_before = moment(i64::MAX, 0)), refused);
        assert_eq!(begins_of(|spec| spec.not_before = moment(MOMENTS_END, 0)), refused);
        assert_eq!(begins_of(|spec| spec.not_before = moment(i64::MIN, -1)), refused);
        assert_eq!(begins_of(|spec| spec.delay = seconds(-1, 0)), Err("delay".to_owned()));
        assert_eq!(begins_of(|spec| spec.delay = seconds(366 * 86_400, 1)), Err("delay".to_owned()));
        let read = begins_of(|spec| (spec.not_before, spec.delay) = (moment(3, 4_000), seconds(0, 0)));
        assert_eq!(read, Ok(Begins { at: Some(Timestamp(3_000_004)), after: Some(Duration::ZERO) }));
        assert_eq!(begins_of(|_| {}), Ok(Begins::default()));
        assert_eq!(retry_after(seconds(i64::MAX, 0)), Some(LONGEST));
        assert_eq!(retry_after(seconds(-1, 0)), None);
    }

    #[test]
    fn what_is_given_is_kept_and_what_is_not_is_open() {
        assert_eq!(of(|_| {}), Ok(RetryPolicy::default()));
        let read = of(|retry| {
            retry.attempts = Some(5);
            retry.first = seconds(1, 500_000_999);
            retry.factor = Some(1.5);
            retry.jitter = Some(0.0);
            retry.never = never(&["B", "A", "B"]);
        });
        let expected = RetryPolicy {
            attempts: Some(5),
            first: Some(Duration::from_micros(1_500_000)),
            factor: Some(1_500),
            jitter: Some(0),
            never: Some([Arc::from("A"), Arc::from("B")].into()),
            ..RetryPolicy::default()
        };
        assert_eq!(read, Ok(expected));
        let spec = v1::JobSpec { retry: Some(v1::RetryPolicy::default()), ..v1::JobSpec::default() };
        assert_eq!(of_job(&spec), Ok(None), "one that says nothing is none");
        let retry = Some(v1::RetryPolicy { attempts: Some(2), ..v1::RetryPolicy::default() });
        let spec = v1::JobSpec { retry, ..v1::JobSpec::default() };
        assert_eq!(of_job(&spec).unwrap().unwrap().retry.attempts, Some(2));
    }
}
