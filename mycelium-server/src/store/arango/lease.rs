//! Who owns a mycelium: the broker whose epoch stands in the lease. Only it can write, since every write takes the fence
//! under its epoch; the lease itself only says when another may take over, and when its owner has to stop answering.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mycelium_core::ids::Commit;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::client::{Database, Failure, Kind, Ran};
use super::statements::{ACQUIRE, LEASE, RELEASE, RENEW};
use crate::report::Report;
use crate::store::Error;

/// How long a lease is looked at that another broker holds, beyond its term: clocks differ, and requests take time.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The lease of one mycelium, for one broker.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    /// Renewal ends with this.
    renewal: Mutex<Option<DropGuard>>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    /// Unique to this opening of the store.
    me: String,
    holder: String,
    term: Duration,
    /// 0 before the lease was acquired.
    epoch: AtomicU64,
    /// Until when the lease is ours by our own clock.
    until: Mutex<Option<Instant>>,
    is_lost: AtomicBool,
}

/// The documents of BrokerLeases.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) owner: String,
    holder: Option<String>,
    pub(super) epoch: u64,
    /// When the lease ends, by the clock of the server.
    pub(super) expires_ms: f64,
    pub(super) fence_epoch: u64,
    /// The number of the newest commit.
    pub(super) seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Acquire<'a> {
    me: &'a str,
    holder: &'a str,
    ttl_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Renew {
    epoch: u64,
    ttl_ms: u64,
}

#[derive(Serialize)]
struct Nothing {}

impl State {
    /// The owner for people.
    pub(super) fn holder(&self) -> &str {
        self.holder.as_deref().unwrap_or("another broker")
    }
}

impl Lease {
    /// The lease of the mycelium in `database`, not acquired yet. Without renewal it ends after `term`.
    pub(super) fn new(database: Database, term: Duration) -> Self {
        let shared = Shared {
            database,
            me: Uuid::now_v7().to_string(),
            holder: holder(),
            term,
            epoch: AtomicU64::new(0),
            until: Mutex::new(None),
            is_lost: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), renewal: Mutex::new(None) }
    }

    /// Our epoch; 0 before the lease was acquired.
    pub(super) fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// Whether the mycelium is still ours, by our own clock and what renewal has seen.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another broker has taken it; [`Error::Unavailable`] if the lease could not be renewed in time:
    /// another may have.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.shared.check()
    }

    /// Takes the lease, with an epoch above all before. Waits for the end of one that another broker holds and does not
    /// renew. Whoever had it once takes it again, so that nothing is written any more of what was sent under the epoch
    /// before.
    ///
    /// # Errors
    /// [`Error::InUse`] if another broker holds and renews it, [`Error::Fenced`] if one has taken it from us;
    /// [`Error::Unavailable`].
    pub(super) async fn acquire(&self) -> Result<(), Error> {
        let shared = &*self.shared;
        let before = shared.epoch.load(Ordering::Acquire);
        let wait_until = Instant::now() + shared.term + PATIENCE;
        let (mut held_until, mut renewals) = (None, 0);
        loop {
            let state = shared.state().await?;
            // Under a newer epoch it is ours as well, if that was asked for before and the answer was lost.
            if before > 0 && state.owner != shared.me {
                return Err(shared.lose(&state));
            }
            let sent = Instant::now();
            let acquire = Acquire { me: &shared.me, holder: &shared.holder, ttl_ms: millis(shared.term) };
            match shared.database.run::<u64>(&ACQUIRE, &acquire).await {
                Ok(Ran { rows, .. }) => {
                    if let Some(epoch) = rows.first() {
                        shared.hold(*epoch, sent);
                        self.renew();
                        return Ok(());
                    }
                }
                // Taking it once more does no harm.
                Err(failure)
                    if failure.is_unknown()
                        && failure.kind() != Kind::ReadOnly
                        && Instant::now() < wait_until =>
                {
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            }
            // Somebody holds it. Who dies with a lease does not renew it.
            if held_until.replace(state.expires_ms).is_some_and(|until| until != state.expires_ms) {
                renewals += 1;
            }
            // One may have been under way when it died.
            if renewals > 1 || Instant::now() > wait_until {
                let what = format!("{} ({})", shared.name(), state.holder());
                return Err(Error::InUse { what });
            }
            shared.database.server().sleep(LOOK_EVERY).await.map_err(Error::from)?;
        }
    }

    /// Gives the lease up, so that the next broker need not wait for its end.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(super) async fn release(&self) -> Result<(), Error> {
        drop(self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take());
        let epoch = self.epoch();
        if epoch == 0 {
            return Ok(());
        }
        #[derive(Serialize)]
        struct Release {
            epoch: u64,
        }
        self.shared.database.run::<u64>(&RELEASE, &Release { epoch }).await?;
        Ok(())
    }

    /// What a commit that was not taken came to: nothing if it had been stored by an earlier try.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::OutOfOrder`]; [`Error::Unavailable`] if that cannot be told.
    pub(super) async fn judge(&self, commit: Commit, may_be_stored: bool) -> Result<(), Error> {
        let state = self.shared.state().await?;
        let epoch = self.epoch();
        if state.fence_epoch != epoch {
            return Err(self.shared.lose(&state));
        }
        match Commit(state.seq) {
            stored if stored == commit && may_be_stored => Ok(()),
            last => Err(Error::OutOfOrder { last, given: commit }),
        }
    }

    /// The number of the newest commit.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the mycelium is not ours; [`Error::Unavailable`].
    pub(super) async fn newest_commit(&self) -> Result<Commit, Error> {
        let state = self.shared.state().await?;
        if state.fence_epoch == self.epoch() { Ok(Commit(state.seq)) } else { Err(self.shared.lose(&state)) }
    }

    /// Begins to renew it, unless that is under way.
    fn renew(&self) {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        if renewal.is_some() {
            return;
        }
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&self.shared), stop.clone());
        *renewal = Some(stop.drop_guard());
        let server = shared.database.server().clone();
        // Ends with the guard, or with the lease.
        drop(server.spawn("the renewal of a lease", async move {
            stopped.run_until_cancelled(shared.keep()).await;
        }));
    }
}

impl Shared {
    /// Renews the lease until it is lost.
    async fn keep(&self) {
        let server = self.database.server();
        let mut pause = self.term / 3;
        loop {
            if server.sleep(pause).await.is_err() {
                return;
            }
            pause = self.term / 3;
            let epoch = self.epoch.load(Ordering::Acquire);
            let sent = Instant::now();
            let renew = Renew { epoch, ttl_ms: millis(self.term) };
            match self.database.run::<f64>(&RENEW, &renew).await {
                Ok(Ran { rows, .. }) if !rows.is_empty() => self.hold(epoch, sent),
                // It was acquired anew meanwhile.
                Ok(_) if self.epoch.load(Ordering::Acquire) != epoch => {}
                Ok(_) => {
                    self.is_lost.store(true, Ordering::Release);
                    tracing::error!(
                        database = self.database.name(),
                        "another broker has taken the mycelium over"
                    );
                    return;
                }
                Err(failure) => {
                    pause = self.term / 12;
                    tracing::warn!(failure = %Report(&failure), "the lease of the mycelium could not be renewed");
                }
            }
        }
    }

    /// It is ours, for its term from when that was asked for.
    fn hold(&self, epoch: u64, sent: Instant) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        // A tenth less than the server gives, since clocks do not run alike.
        *until = sent.checked_add(self.term - self.term / 10);
        self.epoch.store(epoch, Ordering::Release);
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_lost.load(Ordering::Acquire) {
            return Err(Error::Fenced { what: format!("{} has a newer lease", self.name()) });
        }
        match *self.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(until) if Instant::now() < until => Ok(()),
            Some(_) | None => Err(Error::Unavailable {
                what: format!("the lease of {} has run out and could not be renewed", self.name()),
                certainly_not_applied: true,
                source: None,
            }),
        }
    }

    fn lose(&self, state: &State) -> Error {
        self.is_lost.store(true, Ordering::Release);
        let holder = state.holder();
        Error::Fenced {
            what: format!(
                "{holder} holds {} under epoch {}",
                self.name(),
                state.epoch.max(state.fence_epoch)
            ),
        }
    }

    async fn state(&self) -> Result<State, Error> {
        state(&self.database).await?.ok_or_else(|| Error::Foreign {
            folder: self.name(),
            why: "it has no lease; make what is missing with: mycelium store init".to_owned(),
        })
    }

    fn name(&self) -> String {
        format!("the database {}", self.database.name())
    }
}

/// What stands in BrokerLeases; `None` if not all of it is there.
///
/// # Errors
/// If it cannot be read.
pub(super) async fn state(database: &Database) -> Result<Option<State>, Failure> {
    Ok(database.run::<Option<State>>(&LEASE, &Nothing {}).await?.rows.pop().flatten())
}

/// This process, for people who ask who holds a lease.
fn holder() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("process {} on {}", std::process::id(), host.as_deref().unwrap_or("an unnamed machine"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
