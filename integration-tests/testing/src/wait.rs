//! Waiting for what must happen.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// How long a test waits for something that must happen, unless it says otherwise. Generous: it is reached only when
/// the test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits for something that must happen.
///
/// # Errors
/// If it has not happened within [`DEADLINE`].
pub async fn must<T>(what: &str, happen: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(DEADLINE, happen)
        .await
        .with_context(|| format!("{what} did not happen within {} s", DEADLINE.as_secs()))
}

/// As [`must`], for tests that panic where something is wrong.
///
/// # Panics
/// If it has not happened within [`DEADLINE`]; at the place of the call.
#[track_caller]
pub fn within<T>(what: &str, happen: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, happen).await {
            Ok(value) => value,
            Err(_elapsed) => panic!("{what} did not happen in time, at {place}"),
        }
    }
}

/// Waits until `look` finds something.
///
/// # Errors
/// If it finds nothing within [`DEADLINE`], or fails.
pub async fn until<T, Look, Found>(what: &str, mut look: Look) -> anyhow::Result<T>
where
    Look: FnMut() -> Found,
    Found: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await.with_context(|| format!("while waiting for {what}"))? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{what} did not happen within {} s", DEADLINE.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
