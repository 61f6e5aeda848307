//! Places among those that write blobs: few write at once, and one that waits for its bytes lets others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::BlobError;

/// How many blobs are begun and not ended. Each has a file and a thread, and up to 3 MiB of memory while it waits for its
/// place, mostly much less.
const OPEN_MAX: usize = 48;
/// How many blobs are written at once. Each takes up to 4 MiB of memory, with a message of the largest size, beside what
/// is remembered of it, see `recent`. So all take up to 32 MiB.
const WRITING_MAX: usize = 8;
/// How often one that waits to be begun looks whether another has paused.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often one that waits to be begun gives up another.
const DISPLACE_EVERY: Duration = Duration::from_millis(500);

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    open: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    paused: Mutex<Paused>,
}

/// Those that gave up their place, in the order in which they did.
#[derive(Debug, Default)]
struct Paused {
    last: u64,
    displaced: BTreeMap<u64, CancellationToken>,
}

/// One that was begun. It is over when all who hold it have let go.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    _open: Option<OwnedSemaphorePermit>,
    state: Mutex<State>,
    displaced: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    writing: Option<OwnedSemaphorePermit>,
    /// Its number among those that are paused.
    paused: Option<u64>,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: Arc::new(Semaphore::new(OPEN_MAX)),
            writing: Arc::new(Semaphore::new(WRITING_MAX)),
            paused: Mutex::default(),
        })
    }

    /// Begins one. Where too many are begun, the one that has been paused for longest is given up.
    pub(super) async fn begin(self: &Arc<Self>) -> Arc<Place> {
        let mut opened = std::pin::pin!(Arc::clone(&self.open).acquire_owned());
        let mut patience = LOOK_EVERY;
        let open = loop {
            match tokio::time::timeout(patience, &mut opened).await {
                // It is never closed.
                Ok(open) => break open.ok(),
                // What one gives up may go to another who came earlier.
                Err(_full) if self.displace() => patience = DISPLACE_EVERY,
                // Where nobody has paused yet, somebody may soon.
                Err(_full) => patience = LOOK_EVERY,
            }
        };
        let (places, displaced) = (Arc::clone(self), CancellationToken::new());
        Arc::new(Place { places, _open: open, state: Mutex::default(), displaced })
    }

    /// Gives up the one that has been paused for longest, if there is one.
    fn displace(&self) -> bool {
        let longest = self.paused().displaced.pop_first();
        longest.inspect(|(_, longest)| longest.cancel()).is_some()
    }

    fn paused(&self) -> MutexGuard<'_, Paused> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for its place among those that write, unless it has one.
    pub(super) async fn enter(&self) -> Result<(), BlobError> {
        if self.state().writing.is_some() {
            return Ok(());
        }
        self.unpause();
        if self.displaced.is_cancelled() {
            return Err(BlobError::Stalled);
        }
        // It is never closed.
        let writing = Arc::clone(&self.places.writing).acquire_owned().await.ok();
        self.state().writing = writing;
        Ok(())
    }

    /// Gives up its place until it enters again.
    pub(super) fn pause(&self) {
        let mut paused = self.places.paused();
        let mut state = self.state();
        if state.paused.is_none() {
            paused.last += 1;
            let number = paused.last;
            paused.displaced.insert(number, self.displaced.clone());
            state.paused = Some(number);
        }
        state.writing = None;
    }

    /// Ends when it has been given up for another.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    fn unpause(&self) {
        let mut paused = self.places.paused();
        if let Some(number) = self.state().paused.take() {
            paused.displaced.remove(&number);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unpause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn soon<T>(happens: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), happens).await.expect("it happens within ten seconds")
    }

    #[tokio::test]
    async fn one_that_pauses_lets_another_write_and_comes_back() {
        let places = Places::new();
        let mut writing = Vec::new();
        for _ in 0..WRITING_MAX {
            let place = places.begin().await;
            soon(place.enter()).await.unwrap();
            writing.push(place);
        }
        let next = places.begin().await;
        assert!(futures::poll!(std::pin::pin!(next.enter())).is_pending());
        writing[0].pause();
        soon(next.enter()).await.unwrap();
        assert!(futures::poll!(std::pin::pin!(writing[0].enter())).is_pending());
        drop(next);
        soon(writing[0].enter()).await.unwrap();
    }

    #[tokio::test]
    async fn the_one_that_has_paused_for_longest_gives_way_to_a_new_one() {
        let places = Places::new();
        let mut open = Vec::new();
        for _ in 0..OPEN_MAX {
            open.push(places.begin().await);
        }
        open[3].pause();
        open[1].pause();
        {
            let mut new = std::pin::pin!(places.begin());
            tokio::select! {
                _ = &mut new => panic!("there was room"),
                () = soon(open[3].displaced()) => {}
            }
            assert!(matches!(open[3].enter().await, Err(BlobError::Stalled)));
            assert!(futures::poll!(&mut new).is_pending(), "until who gave way has gone");
            drop(open.remove(3));
            open.push(soon(new).await);
        }
        // One that has come back gives way to nobody.
        soon(open[1].enter()).await.unwrap();
        assert!(!places.displace());
    }
}
