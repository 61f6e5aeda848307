//! How the owner of the core waits for the disk, so that nobody else waits with it.
//!
//! In a runtime of several threads it shares them with everybody. [`block_in_place`] gives the thread's other work to
//! another thread at once, which costs each commit a wake-up before it and one after it: much beside a disk that syncs in
//! a fraction of a millisecond. So a commit blocks the thread that it is on while commits are quick, and is watched: one
//! that is not quick after all has the runtime told to go on without that thread.
//!
//! [`block_in_place`]: tokio::task::block_in_place

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::store::{self, Batch, Knowledge, Log, Storage};

/// A commit that takes longer is not quick, and the one after it is not expected to be.
const QUICK: Duration = Duration::from_millis(1);
/// How often a commit is looked at that blocks a thread: others wait for twice as long at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The store of the owner of a core, who waits for it.
pub(super) struct Disk {
    store: Arc<dyn Storage>,
    knowledge: Knowledge,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    /// The thread is its own.
    OwnThread,
    /// It is a task among others, in a runtime of one thread.
    InPlace,
    /// It is a task among others, in a runtime of several threads.
    Watched { watchdog: Watchdog, is_quick: bool },
}

impl Disk {
    /// For an owner with a thread of its own.
    pub(super) fn of_thread(store: Arc<dyn Storage>) -> Self {
        Self { store, knowledge: Knowledge::default(), wait: Wait::OwnThread }
    }

    /// For a task of `runtime`, which is not of the kind `current_thread`.
    pub(super) fn of_task(store: Arc<dyn Storage>, runtime: &Handle) -> std::io::Result<Self> {
        let wait = if runtime.metrics().num_workers() > 1 {
            Wait::Watched { watchdog: Watchdog::start(runtime.clone())?, is_quick: true }
        } else {
            Wait::InPlace
        };
        Ok(Self { store, knowledge: Knowledge::default(), wait })
    }

    /// Stores a batch.
    pub(super) async fn commit(&mut self, batch: &mut Batch) -> Result<(), store::Error> {
        let Self { store, knowledge, wait } = self;
        let prepared = if store.needs_known() { knowledge.prepare(&**store, batch).await } else { Ok(()) };
        let committed = match prepared {
            // On a disk of this machine the call itself is the commit; elsewhere it is awaited.
            Ok(()) => wait.for_call(|| store.commit(batch)).await,
            Err(error) => Err(error),
        };
        if committed.is_err() {
            *knowledge = Knowledge::default();
        }
        committed
    }

    /// The store itself.
    pub(super) fn store(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.store)
    }

    /// The log, for what does not block.
    pub(super) fn log(&self) -> &dyn Log {
        &*self.store
    }

    /// Does anything else that may wait for the disk.
    pub(super) fn block<T>(&self, block: impl FnOnce() -> T) -> T {
        match self.wait {
            Wait::OwnThread => block(),
            Wait::InPlace | Wait::Watched { .. } => tokio::task::block_in_place(block),
        }
    }
}

impl Wait {
    /// Calls what may block.
    fn for_call<T>(&mut self, call: impl FnOnce() -> T) -> T {
        match self {
            Self::OwnThread => call(),
            Self::InPlace => tokio::task::block_in_place(call),
            Self::Watched { watchdog, is_quick } => {
                let begun = Instant::now();
                let called = if *is_quick { watchdog.watch(call) } else { tokio::task::block_in_place(call) };
                *is_quick = begun.elapsed() <= QUICK;
                called
            }
        }
    }
}

/// A thread that watches over commits: one that takes long has the runtime go on without the thread it blocks.
#[derive(Debug)]
struct Watchdog {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many commits have begun and ended: odd while one is under way.
    turns: AtomicU64,
    /// The thread sleeps until it is woken: no commit is under way.
    sleeps: AtomicBool,
    is_over: AtomicBool,
}

impl Watchdog {
    fn start(runtime: Handle) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let looks = std::thread::Builder::new().name("mycelium-watchdog".to_owned());
        let thread = looks.spawn(move || seen.look(&runtime))?.thread().clone();
        Ok(Self { shared, thread })
    }

    fn watch<T>(&self, commit: impl FnOnce() -> T) -> T {
        // A commit that panics has ended too.
        struct Ends<'a>(&'a AtomicU64);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.shared.turns.fetch_add(1, Ordering::SeqCst);
        let _ends = Ends(&self.shared.turns);
        if self.shared.sleeps.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        commit()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn look(&self, runtime: &Handle) {
        let mut before = self.turns.load(Ordering::SeqCst);
        while !self.is_over.load(Ordering::SeqCst) {
            std::thread::park_timeout(LOOK_EVERY);
            let now = self.turns.load(Ordering::SeqCst);
            if now != before {
                before = now;
            } else if now % 2 == 1 {
                // The thread that is blocked may have been the one that waits for what happens, and the others sleep.
                // Something to do wakes one of them, which then takes all that over.
                drop(runtime.spawn(async {}));
            } else {
                self.sleeps.store(true, Ordering::SeqCst);
                // A commit that began before that did not wake anybody.
                while self.sleeps.load(Ordering::SeqCst)
                    && self.turns.load(Ordering::SeqCst) == now
                    && !self.is_over.load(Ordering::SeqCst)
                {
                    std::thread::park();
                }
                self.sleeps.store(false, Ordering::SeqCst);
            }
        }
    }
}
