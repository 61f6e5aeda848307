//! Defects of the broker: what panics, and what cannot be.
//!
//! A panic is caught where the work that it ended was begun, so that nobody else notices: whoever waits for that work is
//! told that the broker failed, with an id, and one line in the log tells the rest.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use futures::FutureExt as _;
use uuid::Uuid;

thread_local! {
    /// The id under which the latest panic of this thread was logged, until somebody catches it.
    static LOGGED: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// A defect that has shown itself, and was logged under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker failed; its log tells more under {id}")]
pub(crate) struct Defect {
    id: Uuid,
}

impl Defect {
    /// Logs something that cannot be.
    pub(crate) fn of(what: &str, problem: &dyn fmt::Display) -> Self {
        let id = Uuid::now_v7();
        tracing::error!(%id, what, %problem, "a defect of the broker");
        Self { id }
    }

    /// What was caught of a panic.
    pub(crate) fn of_panic(what: &str, payload: &(dyn Any + Send)) -> Self {
        match LOGGED.take() {
            Some(id) => Self { id },
            None => Self::of(what, &message(payload)),
        }
    }
}

/// Does something, whose panic is a defect and no more than that.
pub(crate) fn catch<T>(what: &str, work: impl FnOnce() -> T) -> Result<T, Defect> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Defect::of_panic(what, &*payload))
}

/// As [`catch`], for what takes its time.
pub(crate) async fn catch_async<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Defect> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| Defect::of_panic(what, &*payload))
}

/// Lets each panic of this process be one line of the log, with an id, in place of what Rust prints: for a process that
/// does nothing but serve. Whoever waited for what panicked is told that id.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let id = Uuid::now_v7();
        LOGGED.set(Some(id));
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(
            %id,
            problem = message(info.payload()),
            place,
            thread = thread.name().unwrap_or_default(),
            "a panic"
        );
    }));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_a_defect_with_an_id_of_its_own() {
        assert_eq!(catch("a sum", || 1 + 1), Ok(2));
        let first = catch("a sum", || panic!("planned: {}", 1)).map(|(): ()| ()).unwrap_err();
        let second = catch_async("a wait", async { panic!("planned") }).await.map(|(): ()| ()).unwrap_err();
        assert_ne!(first, second);
        assert!(first.to_string().starts_with("the broker failed; its log tells more under 0"), "{first}");
    }
}
