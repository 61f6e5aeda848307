//! Panics of tasks become failures, with message and place.
//!
//! The language tells the place of a panic only to the process-wide panic hook. So the runtime chains a hook of its
//! own before the one it finds: a panic on a thread that is polling a task right then is kept for that task, and
//! every other panic goes on to the hook that was there before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

use tokio_util::task::AbortOnDropHandle;

use crate::frames::{Frame, frames_here};
use crate::reports;
use crate::task_error::{TaskError, failure_type};
use crate::threads::Busy;

thread_local! {
    /// Whether this thread is running a task's code right now.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
    /// What the hook kept of the last panic of that code. The hook writes it, `guarded` takes it, on one thread.
    static CAPTURED: RefCell<Option<Captured>> = const { RefCell::new(None) };
}

/// What the hook keeps of a panic.
struct Captured {
    message: String,
    frames: Vec<Frame>,
}

/// Runs a future to its end; a panic in it, or in its being dropped, becomes a [`TaskError`] of the type `Panic`.
///
/// Tasks that the future spawns are on their own, as ever: their panics reach whoever joins them.
pub(crate) fn catch_panic<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future: Some(Box::pin(future)) }
}

/// The future of [`catch_panic`].
pub(crate) struct CatchPanic<F> {
    /// `None` once it has ended.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else {
            panic!("a future was polled after it had ended");
        };
        let polled = guarded(|| future.as_mut().poll(context));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                // Dropping runs the task's code too.
                let dropped = guarded(|| this.future = None);
                Poll::Ready(dropped.map(|()| output))
            }
            Err(failure) => {
                // The first panic tells what went wrong; one more while cleaning up after it would only hide it.
                let _later_panic = guarded(|| this.future = None);
                Poll::Ready(Err(failure))
            }
        }
    }
}

impl<F> Drop for CatchPanic<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            // The attempt was cancelled, so nobody is left to report a panic to while it is dropped.
            let _unheard_panic = guarded(|| self.future = None);
        }
    }
}

/// Runs a blocking function off the async threads. A panic in it becomes a [`TaskError`] of the type `Panic`.
pub(crate) async fn run_blocking<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskError> {
    let (busy, attempt) = (Busy::here(), reports::current());
    let thread = tokio::task::spawn_blocking(move || {
        let _busy = busy;
        reports::run_within(attempt, || guarded(function))
    });
    // What was not begun when its attempt was given up never is.
    match AbortOnDropHandle::new(thread).await {
        Ok(result) => result,
        Err(error) => Err(TaskError::of_runtime(
            failure_type::PANIC,
            format!("the blocking task did not run to its end: {error}"),
        )),
    }
}

/// Runs a task's code; a panic in it comes back as a failure.
fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, TaskError> {
    install_hook();
    let outer = CAPTURING.replace(true);
    CAPTURED.with_borrow_mut(|captured| *captured = None);
    // Nothing of ours is touched by `code`, and what it owns is dropped after a panic: no broken state is seen.
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    let result = result.map_err(|payload| {
        let captured = CAPTURED.with_borrow_mut(Option::take);
        // Without the hook's word (a panic resumed from elsewhere) the payload still has the message.
        let captured = captured
            .unwrap_or_else(|| Captured { message: message_of(payload.as_ref()), frames: Vec::new() });
        discard(payload);
        TaskError::from_parts(failure_type::PANIC.to_owned(), captured.message, captured.frames, Vec::new())
    });
    CAPTURING.set(outer);
    result
}

/// Drops the payload of a panic, which is a value of the task's own and may panic in its turn.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // A payload whose payload panics too is left where it is: leaking it is the end of the chain.
        std::mem::forget(second);
    }
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // `try_with`: a thread may panic while its thread-locals are being destroyed.
            if CAPTURING.try_with(Cell::get).unwrap_or(false) {
                keep(info);
            } else {
                previous(info);
            }
        }));
    });
}

/// Keeps what is known of a panic for the task that runs on this thread.
fn keep(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|location| Frame {
        function: String::new(),
        file: location.file().to_owned(),
        line: location.line(),
    });
    let captured = Captured { message: message_of(info.payload()), frames: frames_here(location) };
    CAPTURED.with_borrow_mut(|slot| *slot = Some(captured));
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not a text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_the_task_is_dropped_is_a_failure_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic!("dropped");
                }
            }
        }
        let failure = catch_panic(async {
            let _bomb = Bomb;
        })
        .await
        .unwrap_err();
        assert_eq!(failure.message_text(), "dropped");
        // A future that is dropped before its end, with the bomb inside: the panic stays inside as well.
        let bomb = Bomb;
        drop(catch_panic(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        }));
    }

    #[tokio::test]
    async fn payloads_of_any_kind_are_a_failure() {
        let number = catch_panic(async { panic::panic_any(7) }).await.unwrap_err();
        assert_eq!(number.message_text(), "a panic whose payload is not a text");
        let resumed = catch_panic(async { panic::resume_unwind(Box::new("resumed")) }).await.unwrap_err();
        assert_eq!((resumed.message_text(), resumed.frames()), ("resumed", &[][..]));
    }

    #[tokio::test]
    async fn a_blocking_panic_is_a_failure() {
        let failure = run_blocking(|| panic!("blocked {}", 1)).await.unwrap_err();
        assert_eq!((failure.failure_type(), failure.message_text()), ("Panic", "blocked 1"));
        assert!(failure.frames()[0].file.ends_with("capture.rs"), "{failure:?}");
        assert_eq!(run_blocking(|| 7).await.unwrap(), 7);
    }
}
