//! Policies in words: as a database has them, and the lines of an export.

use std::sync::Arc;
use std::time::Duration;

use mycelium_core::policy::{Policy, RetryPolicy, Timeouts};
use serde::{Deserialize, Serialize};

/// What a policy says; what it leaves open is not there. Times are microseconds, factor and jitter thousandths.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PolicyText {
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor_thousandths: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_thousandths: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    never: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    panics: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argument_errors: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_us: Option<u64>,
}

/// A duration as it is stored, in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<&Policy> for PolicyText {
    fn from(policy: &Policy) -> Self {
        let Policy { retry, timeouts } = policy;
        let RetryPolicy { attempts, first, factor, cap, jitter, never, panics, argument_errors } = retry;
        let Timeouts { queue, run, total, progress } = *timeouts;
        let names = |names: &Arc<[Arc<str>]>| names.iter().map(|name| name.to_string()).collect();
        Self {
            attempts: *attempts,
            first_us: first.map(micros),
            factor_thousandths: *factor,
            cap_us: cap.map(micros),
            jitter_thousandths: *jitter,
            never: never.as_ref().map(names),
            panics: *panics,
            argument_errors: *argument_errors,
            queue_us: queue.map(micros),
            run_us: run.map(micros),
            total_us: total.map(micros),
            progress_us: progress.map(micros),
        }
    }
}

impl From<PolicyText> for Policy {
    fn from(text: PolicyText) -> Self {
        let retry = RetryPolicy {
            attempts: text.attempts,
            first: text.first_us.map(Duration::from_micros),
            factor: text.factor_thousandths,
            cap: text.cap_us.map(Duration::from_micros),
            jitter: text.jitter_thousandths,
            never: text.never.map(|names| names.into_iter().map(Arc::from).collect()),
            panics: text.panics,
            argument_errors: text.argument_errors,
        };
        let timeouts = Timeouts {
            queue: text.queue_us.map(Duration::from_micros),
            run: text.run_us.map(Duration::from_micros),
            total: text.total_us.map(Duration::from_micros),
            progress: text.progress_us.map(Duration::from_micros),
        };
        Self { retry, timeouts }
    }
}
