//! What a store answers: at once where memory does, and otherwise when it is there.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::Error;
use crate::{defect, reservation};

/// The answer of a store. To be awaited; a thread that may block can [`wait`](Self::wait) for it.
#[must_use = "a store does nothing of what nobody waits for"]
pub struct Answer<'a, T>(State<'a, T>);

enum State<'a, T> {
    /// It is here. Taken when it is given.
    Ready(Option<Result<T, Error>>),
    /// It takes a thread that may block. Taken when one begins.
    Blocking(Option<Job<T>>),
    /// A thread is at it.
    Begun(JoinHandle<Result<T, Error>>),
    /// It comes from somewhere else.
    Coming(BoxFuture<'a, Result<T, Error>>),
}

type Job<T> = Box<dyn FnOnce() -> Result<T, Error> + Send>;

impl<'a, T: Send + 'static> Answer<'a, T> {
    /// An answer that is there.
    pub fn ready(answer: Result<T, Error>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// An answer that a thread has to block for: one of the runtime's for such work, or the one that
    /// [waits](Self::wait).
    pub fn blocking(job: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Self {
        Self(State::Blocking(Some(Box::new(job))))
    }

    /// An answer that comes without a thread.
    pub fn coming(answer: impl Future<Output = Result<T, Error>> + Send + 'a) -> Self {
        Self(State::Coming(Box::pin(answer)))
    }

    /// Blocks the thread until the answer is there. Not for tasks of a runtime, unless it is
    /// [known to be there](Self::ready).
    ///
    /// # Errors
    /// Whatever the store answers.
    pub fn wait(self) -> Result<T, Error> {
        match self.0 {
            State::Ready(Some(answer)) => answer,
            State::Blocking(Some(job)) => job(),
            state => wait_for(Self(state)),
        }
    }
}

impl<T: Send + 'static> Future for Answer<'_, T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                State::Ready(answer) => {
                    return Poll::Ready(answer.take().expect("an answer is asked for once"));
                }
                State::Blocking(job) => {
                    let job = job.take().expect("a job is begun once");
                    self.0 = match tokio::runtime::Handle::try_current() {
                        Ok(runtime) if !MAY_BLOCK.get() => State::Begun(begin(&runtime, job)),
                        // Whoever polls it may block, or is no task of a runtime.
                        Ok(_) | Err(_) => State::Ready(Some(job())),
                    };
                }
                State::Begun(thread) => {
                    return thread.poll_unpin(context).map(|ended| ended.unwrap_or_else(|_| Err(stopping())));
                }
                State::Coming(answer) => return answer.poll_unpin(context),
            }
        }
    }
}

// Nothing in it is pinned in place.
impl<T> Unpin for Answer<'_, T> {}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

thread_local! {
    /// Whether this thread waits for what it polls, and may block.
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Blocks the thread until a future is done that waits for answers of a store: what takes a thread that may block is done
/// by this one. Not for tasks of a runtime.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            MAY_BLOCK.set(self.0);
        }
    }
    let _before = Before(MAY_BLOCK.replace(true));
    // Within a task of a runtime, what is waited for would soon have to give others a turn, which it cannot.
    futures::executor::block_on(tokio::task::unconstrained(work))
}

fn begin<T: Send + 'static>(runtime: &tokio::runtime::Handle, job: Job<T>) -> JoinHandle<Result<T, Error>> {
    let reserved = reservation::current();
    runtime.spawn_blocking(move || {
        // Held until it is done, even if nobody waits for it any more.
        let _reserved = reserved;
        defect::catch("a read of the store", job).unwrap_or_else(|defect| {
            Err(Error::Unavailable {
                what: defect.to_string(),
                certainly_not_applied: false,
                source: Some(Box::new(defect)),
            })
        })
    })
}

/// It was not run at all.
fn stopping() -> Error {
    Error::Unavailable { what: "the runtime stops".to_owned(), certainly_not_applied: true, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_awaited_or_waited_for() {
        let here = std::thread::current().id();
        let thread = move || Ok::<_, Error>(std::thread::current().id() == here);
        assert!(!Answer::blocking(thread).await.unwrap(), "a task does not block");
        assert!(Answer::blocking(thread).wait().unwrap(), "a thread that waits does it itself");
        for answer in [Answer::ready(Ok(1)), Answer::coming(async { Ok(1) })] {
            assert_eq!(answer.await.unwrap(), 1);
        }
        for answer in [Answer::ready(Ok(1)), Answer::coming(async { Ok(1) })] {
            assert_eq!(answer.wait().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_thread_that_may_block_takes_no_second_one() {
        let waits = || {
            let here = std::thread::current().id();
            let thread = Answer::blocking(move || Ok::<_, Error>(std::thread::current().id() == here));
            wait_for(async { thread.await.unwrap() })
        };
        assert!(tokio::task::spawn_blocking(waits).await.unwrap());
    }

    #[test]
    fn outside_of_a_runtime_whoever_asks_blocks() {
        let here = std::thread::current().id();
        let thread = Answer::blocking(move || Ok::<_, Error>(std::thread::current().id() == here));
        assert!(futures::executor::block_on(thread).unwrap());
    }

    #[tokio::test]
    async fn however_much_is_waited_for_nobody_else_need_have_a_turn() {
        // A runtime lets a task do so much of this before others have a turn.
        wait_for(async {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            for number in 0..1_000 {
                sender.send(number).await.unwrap();
                assert_eq!(receiver.recv().await, Some(number));
            }
        });
    }

    #[tokio::test]
    async fn a_panic_on_the_way_is_a_defect() {
        let error = Answer::<()>::blocking(|| panic!("planned")).await.unwrap_err();
        assert!(
            std::error::Error::source(&error).is_some_and(|source| source.is::<defect::Defect>()),
            "{error}"
        );
    }
}
