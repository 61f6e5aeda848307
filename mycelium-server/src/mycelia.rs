//! The mycelia that a broker hosts: which there are, and those of them that run.
//!
//! Each has its own core, log, blobs and limits, and knows of no other. One that is not used is closed, and opened again
//! when it is: then it costs what its name costs.

mod deletion;
mod open;
mod upkeep;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OnceCell, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::open::{Open, OpenError};
use crate::access::Permitted;
use crate::blobs::Blobs;
use crate::broker::{self, CallError, Handle, Limits, Running};
use crate::clock::Ahead;
use crate::config::Config;
use crate::error::Error;
use crate::home::Home;
use crate::name::{DEFAULT, NAME_BYTES_MAX, is_name};
use crate::report::Report;
use crate::spawn::TaskGroup;
use crate::store::{MemoryStore, Storage};

/// How long what is done to single mycelia may take to end when the broker stops.
const TASKS_END_WITHIN: Duration = Duration::from_secs(10);

/// The mycelia of a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Mycelia {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    home: Home,
    config: Config,
    drain: CancellationToken,
    began: Instant,
    slots: Mutex<BTreeMap<Arc<str>, Arc<Slot>>>,
    /// How many have been made, for those who wait for one.
    made: watch::Sender<u64>,
    /// What reads of one that is not there are answered from.
    nothing: OnceCell<Handle>,
    may_open: Arc<Semaphore>,
    limits: Limits,
    /// By how much their clocks have been moved.
    ahead: Ahead,
    /// Makes, opens, closes and deletes them. Not broken off with the call: nobody meets one that is half made.
    tasks: TaskGroup,
}

/// A slot, and what is in it for as long as nobody else may have it.
type Locked = (Arc<Slot>, OwnedMutexGuard<State>);

/// A mycelium that is there, or is being made.
#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    state: Arc<AsyncMutex<State>>,
    /// When it was last asked for, in milliseconds since the broker began.
    used_at: AtomicU64,
}

#[derive(Debug)]
enum State {
    /// It is not there: not yet, or not any more.
    Absent,
    /// It is stored, and does not run.
    Closed,
    Open(Open),
}

/// A mycelium as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Arc<str>,
    pub(crate) is_open: bool,
}

impl Mycelia {
    /// Those that `home` has under these names, of which `default` runs already. Also tells how that ends.
    pub(crate) fn start(
        home: Home,
        names: &[String],
        config: Config,
        default: Running,
        drain: CancellationToken,
    ) -> (Self, broker::EndedReceiver) {
        let slot = |name: &str, state| {
            let name: Arc<str> = Arc::from(name);
            (
                name.clone(),
                Arc::new(Slot { name, state: Arc::new(AsyncMutex::new(state)), used_at: 0.into() }),
            )
        };
        let mut slots: BTreeMap<_, _> = names.iter().map(|name| slot(name, State::Closed)).collect();
        let limits = default.handle.limits().clone();
        let ahead = default.handle.clock().ahead().clone();
        let (open, ended) = Open::new(default, &drain, None);
        slots.extend([slot(DEFAULT, State::Open(open))]);
        let may_open = Arc::new(Semaphore::new(config.mycelia_open_max));
        let shared = Shared {
            home,
            config,
            drain,
            began: Instant::now(),
            slots: Mutex::new(slots),
            made: watch::Sender::new(0),
            nothing: OnceCell::new(),
            may_open,
            limits,
            ahead,
            tasks: TaskGroup::default(),
        };
        (Self { shared: Arc::new(shared) }, ended)
    }

    /// The mycelium of that name for a reader: one that is not there shows as empty. An empty name means `default`.
    ///
    /// # Errors
    /// If it is no name of a mycelium, or it cannot be opened.
    pub(crate) async fn read(&self, name: Permitted<'_>) -> Result<Handle, Error> {
        match self.find(name).await? {
            Some(handle) => Ok(handle),
            None => self.nothing().await,
        }
    }

    /// The mycelium of that name, if it is there.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn find(&self, name: Permitted<'_>) -> Result<Option<Handle>, Error> {
        let Some((slot, state)) = self.locked(checked(name.name())?).await else { return Ok(None) };
        match &*state {
            State::Absent => Ok(None),
            State::Open(open) if !open.handle.has_ended() => Ok(Some(self.lend(&slot, open))),
            State::Closed | State::Open(_) => self.open(slot, state).await.map(Some),
        }
    }

    /// The mycelium of that name for somebody who brings something: it is made if it is not there, and the broker makes
    /// them by itself.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::MyceliumNotFound`] if it is not there and not to be made, and what
    /// [`create`](Self::create) may come to.
    pub(crate) async fn enter(&self, name: Permitted<'_>) -> Result<Handle, Error> {
        match self.find(name).await? {
            Some(handle) => Ok(handle),
            None if !self.shared.config.auto_create || !self.shared.home.can_make() => {
                Err(Error::MyceliumNotFound(name.name().to_owned()))
            }
            None => {
                let (slot, state) = self.locked_or_new(checked(name.name())?).await?;
                match &*state {
                    State::Open(open) if !open.handle.has_ended() => Ok(self.lend(&slot, open)),
                    State::Absent | State::Closed | State::Open(_) => self.open(slot, state).await,
                }
            }
        }
    }

    /// Waits until there is a mycelium of that name.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`CallError::Stopping`].
    pub(crate) async fn come(&self, name: Permitted<'_>) -> Result<Handle, Error> {
        let mut made = self.shared.made.subscribe();
        loop {
            made.borrow_and_update();
            if let Some(handle) = self.find(name).await? {
                return Ok(handle);
            }
            tokio::select! {
                () = self.shared.drain.cancelled() => return Err(CallError::Stopping.into()),
                changed = made.changed() => changed.map_err(|_over| CallError::Stopping)?,
            }
        }
    }

    /// Makes a mycelium, which is not opened before it is used, and says whether it was not there before.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::MyceliaFull`], and [`Error::MyceliumFixed`] if the broker was given one store.
    pub(crate) async fn create(&self, name: Permitted<'_>) -> Result<bool, Error> {
        let (slot, mut state) = self.locked_or_new(checked(name.name())?).await?;
        let State::Absent = &*state else { return Ok(false) };
        let mycelia = self.clone();
        let making = self.shared.tasks.run("the making of a mycelium", async move {
            let (home, name) = (mycelia.shared.home.clone(), Arc::clone(&slot.name));
            let made = tokio::task::spawn_blocking(move || home.make(&name)).await;
            if let Err(error) = made.map_err(OpenError::from).and_then(|made| Ok(made?)) {
                mycelia.slots().remove(&slot.name);
                return Err(cannot("made", &slot, &error));
            }
            *state = State::Closed;
            mycelia.on_made(&slot);
            Ok(true)
        });
        making.await.map_err(CallError::from)?
    }

    /// The slot of that name, locked. While it is, it is the one of that name: slots are removed by who has them locked.
    async fn locked(&self, name: &str) -> Option<Locked> {
        loop {
            let slot = self.slots().get(name).map(Arc::clone)?;
            let state = Arc::clone(&slot.state).lock_owned().await;
            // It may have been deleted meanwhile, and another be there.
            if self.slots().get(name).is_some_and(|now| Arc::ptr_eq(now, &slot)) {
                return Some((slot, state));
            }
        }
    }

    /// As [`locked`](Self::locked); if there is none, a new one.
    async fn locked_or_new(&self, name: &str) -> Result<Locked, Error> {
        loop {
            if let Some(known) = self.locked(name).await {
                return Ok(known);
            }
            if let Some(new) = self.new_slot(name)? {
                return Ok(new);
            }
        }
    }

    /// A new slot, locked before anybody else sees it; `None` if there is one of that name.
    fn new_slot(&self, name: &str) -> Result<Option<Locked>, Error> {
        let mut slots = self.slots();
        if slots.contains_key(name) {
            return Ok(None);
        }
        if !self.shared.home.can_make() {
            return Err(Error::MyceliumFixed);
        }
        if slots.len() >= self.shared.config.mycelia_max {
            return Err(Error::MyceliaFull { max: self.shared.config.mycelia_max });
        }
        let name: Arc<str> = Arc::from(name);
        let state = Arc::new(AsyncMutex::new(State::Absent));
        let Ok(locked) = Arc::clone(&state).try_lock_owned() else { return Ok(None) };
        let slot = Arc::new(Slot { name: Arc::clone(&name), state, used_at: 0.into() });
        slots.insert(name, Arc::clone(&slot));
        Ok(Some((slot, locked)))
    }

    fn on_made(&self, slot: &Slot) {
        tracing::info!(mycelium = %slot.name, "made a mycelium");
        self.shared.made.send_modify(|made| *made += 1);
    }

    /// Those after `after` that may be seen, in the order of their names.
    pub(crate) fn list(
        &self,
        after: Option<&str>,
        limit: usize,
        may_see: impl Fn(&str) -> bool,
    ) -> Vec<Listed> {
        let slots = self.slots();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = slots
            .range::<str, _>((begin, Bound::Unbounded))
            .filter(|(name, _)| may_see(name))
            .filter_map(|(name, slot)| {
                let is_open = match slot.state.try_lock().as_deref() {
                    Ok(State::Absent) => return None,
                    Ok(State::Closed) => false,
                    // It is being opened, or asked for.
                    Ok(State::Open(_)) | Err(_) => true,
                };
                Some(Listed { name: Arc::clone(name), is_open })
            });
        listed.take(limit).collect()
    }

    /// By how much their clocks have been moved ahead of the machine's.
    pub(crate) fn ahead(&self) -> &Ahead {
        &self.shared.ahead
    }

    /// Waits until all that is due by now is done, in those that are open.
    pub(crate) async fn settle(&self) -> Result<(), CallError> {
        let slots: Vec<_> = self.slots().values().map(Arc::clone).collect();
        for slot in slots {
            if let State::Open(open) = &*slot.state.lock().await {
                open.handle.settle().await?;
            }
        }
        Ok(())
    }

    /// Writes all out, and waits until they have ended.
    pub(crate) async fn stop(&self) {
        let slots: Vec<_> = self.slots().values().map(Arc::clone).collect();
        let closing = slots.into_iter().map(|slot| async move {
            let mut state = slot.state.lock().await;
            if let State::Open(open) = std::mem::replace(&mut *state, State::Closed) {
                open.close().await;
            }
        });
        futures::future::join_all(closing).await;
        if let Some(nothing) = self.shared.nothing.get() {
            nothing.stop().await;
        }
        self.shared.tasks.end(TASKS_END_WITHIN).await;
    }

    /// Opens it, with its slot locked.
    async fn open(&self, slot: Arc<Slot>, mut state: OwnedMutexGuard<State>) -> Result<Handle, Error> {
        if self.shared.drain.is_cancelled() {
            return Err(CallError::Stopping.into());
        }
        let mycelia = self.clone();
        let opening = self.shared.tasks.run("the opening of a mycelium", async move {
            let is_new = matches!(*state, State::Absent);
            let opened = mycelia.open_slot(&slot, &mut state).await;
            if is_new && opened.is_ok() {
                mycelia.on_made(&slot);
            } else if is_new {
                mycelia.slots().remove(&slot.name);
            }
            opened
        });
        opening.await.map_err(CallError::from)?
    }

    async fn open_slot(&self, slot: &Slot, state: &mut State) -> Result<Handle, Error> {
        if let State::Open(open) = std::mem::replace(state, State::Closed) {
            // It has ended by itself: its store failed for good.
            open.close().await;
        }
        let permit = self.permit(slot).await?;
        let (home, config, name) = (self.shared.home.clone(), self.shared.config.clone(), slot.name.clone());
        let (limits, ahead) = (self.shared.limits.clone(), self.shared.ahead.clone());
        let start = move || -> Result<Running, OpenError> {
            let (store, blobs) = home.open(&name, &config)?;
            Ok(broker::start_within(&name, limits, ahead, store, blobs, config)?)
        };
        let started = tokio::task::spawn_blocking(start).await.map_err(OpenError::from);
        match started.and_then(|started| started) {
            Ok(running) => {
                let (mut open, ended) = Open::new(running, &self.shared.drain, Some(permit));
                open.ended = Some(ended);
                let handle = self.lend(slot, &open);
                *state = State::Open(open);
                Ok(handle)
            }
            Err(error) => Err(cannot("opened", slot, &error)),
        }
    }

    /// Leave to have one more open. If as many are as may be, that which was not asked for the longest is closed.
    async fn permit(&self, for_slot: &Slot) -> Result<OwnedSemaphorePermit, Error> {
        let may_open = &self.shared.may_open;
        if let Ok(permit) = Arc::clone(may_open).try_acquire_owned() {
            return Ok(permit);
        }
        let mut others: Vec<_> = self.slots().values().map(Arc::clone).collect();
        others.sort_by_key(|slot| slot.used_at.load(Ordering::Relaxed));
        for slot in others.iter().filter(|slot| slot.name != for_slot.name) {
            if self.close_idle(slot).await
                && let Ok(permit) = Arc::clone(may_open).try_acquire_owned()
            {
                return Ok(permit);
            }
        }
        Err(CallError::Busy.into())
    }

    /// Closes it if nobody uses it and nothing happens in it. Says whether it did.
    async fn close_idle(&self, slot: &Slot) -> bool {
        // Whoever has it locked uses it.
        let Ok(mut state) = Arc::clone(&slot.state).try_lock_owned() else { return false };
        match &*state {
            State::Open(open) if open.ended.is_some() && !open.is_used() && open.is_at_rest().await => {}
            State::Open(_) | State::Closed | State::Absent => return false,
        }
        let closing = async move {
            if let State::Open(open) = std::mem::replace(&mut *state, State::Closed) {
                open.close().await;
            }
        };
        self.shared.tasks.run("the closing of a mycelium", closing).await.is_ok()
    }

    fn lend(&self, slot: &Slot, open: &Open) -> Handle {
        slot.used_at.store(self.now(), Ordering::Relaxed);
        open.lend()
    }

    /// A mycelium without anything in it, which takes nothing either.
    async fn nothing(&self) -> Result<Handle, Error> {
        let start = || async {
            let (config, ahead) = (self.shared.config.clone(), self.shared.ahead.clone());
            let start = move || {
                let blobs = Blobs::in_memory(config.blob_grace);
                let store = Arc::new(MemoryStore::new()) as Arc<dyn Storage>;
                broker::start_within("", Limits::new(&config), ahead, store, blobs, config)
            };
            let started = tokio::task::spawn_blocking(start).await.map_err(OpenError::from);
            let running =
                started.and_then(|started| Ok(started?)).map_err(|error| error.told("of nothing"))?;
            Ok(running.handle)
        };
        self.shared.nothing.get_or_try_init(start).await.cloned()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Slot>>> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        millis(self.shared.began.elapsed())
    }
}

/// Logs why a mycelium cannot be used, and gives what its callers are told.
fn cannot(be: &str, slot: &Slot, error: &OpenError) -> Error {
    tracing::error!(mycelium = %slot.name, error = %Report(error), "a mycelium cannot be {be}");
    error.told(&slot.name).into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name that a request means.
fn checked(name: &str) -> Result<&str, Error> {
    match name {
        "" => Ok(DEFAULT),
        name if is_name(name) => Ok(name),
        _ => {
            let problem = format!("must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, `_` and `-`");
            Err(Error::field("mycelium", problem))
        }
    }
}
