//! Who changed what: an entry for each call that changes something, made by somebody who was let in.
//!
//! Entries are kept beside the mycelia, the latest of each kind, and written by a task of their own: no call waits for the
//! disk to have its own. What a crash takes with it are those of the last moment.

mod kept;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::kept::Kept;
use crate::report::Report;
use crate::seldom::Seldom;

/// How many entries may wait to be written; those beyond it are left out, which the log tells.
const WAITING_MAX: usize = 4_096;
/// How many are written at once.
const AT_ONCE_MAX: usize = 256;

/// Which entries are kept together, and give way to each other alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of what those do who look after jobs and mycelia.
    Steering,
    /// Of what clients and elves do all day.
    Routine,
    /// Of what was not allowed.
    Refused,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Rises by one with each.
    #[serde(default)]
    pub(crate) number: u64,
    /// When the call was answered, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) caller: String,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) call: String,
    pub(crate) mycelium: Option<String>,
    /// What it was about, for people.
    #[serde(default)]
    pub(crate) about: String,
    /// How many jobs, flows or whatever it was about.
    pub(crate) count: u64,
    /// `OK`, the reason of its refusal, or that its caller has not waited for either.
    pub(crate) result: String,
}

impl Entry {
    pub(crate) fn now() -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The audit of a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    entries: mpsc::Sender<(Kind, Entry)>,
    kept: Arc<Mutex<Kept>>,
    left_out: Arc<Seldom>,
}

/// Entries that are to be written.
#[derive(Debug)]
pub(crate) struct Waiting {
    entries: mpsc::Receiver<(Kind, Entry)>,
    kept: Arc<Mutex<Kept>>,
}

impl Audit {
    /// One that is kept in a folder within this one, or else in memory. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read or made.
    pub(crate) fn open(folder: Option<&Path>) -> std::io::Result<(Self, Waiting)> {
        let kept = match folder {
            Some(folder) => Kept::in_folder(folder)?,
            None => Kept::in_memory(),
        };
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        let kept = Arc::new(Mutex::new(kept));
        let waiting = Waiting { entries, kept: Arc::clone(&kept) };
        Ok((Self { entries: sender, kept, left_out: Arc::default() }, waiting))
    }

    /// Keeps an entry, soon. `is_asked_who`: callers say who they are, so that the log is told too.
    pub(crate) fn record(&self, kind: Kind, entry: Entry, is_asked_who: bool) {
        let Entry { caller, peer, call, mycelium, about, count, result, .. } = &entry;
        let (mycelium, peer) = (mycelium.as_deref(), peer.map(tracing::field::display));
        match kind {
            _ if !is_asked_who => {
                tracing::debug!(target: "audit", caller, peer, call, mycelium, about, count, result);
            }
            // Whoever may do nothing can try that as often as it likes: these lines are limited as all others are.
            Kind::Refused => {
                tracing::info!(target: "audit::refused", caller, peer, call, mycelium, about, count, result);
            }
            Kind::Steering | Kind::Routine => {
                tracing::info!(target: "audit", caller, peer, call, mycelium, about, count, result);
            }
        }
        if self.entries.try_send((kind, entry)).is_err() {
            self.left_out.say(|before| {
                let entries = before + 1;
                tracing::error!(
                    entries,
                    "the audit cannot be written as fast as calls come: entries are left out"
                );
            });
        }
    }

    /// The latest entries before the one of this number, last first; those about this mycelium alone, if one is named.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) async fn list(
        &self,
        before: Option<u64>,
        limit: usize,
        mycelium: Option<String>,
    ) -> std::io::Result<Vec<Entry>> {
        let kept = Arc::clone(&self.kept);
        let is_meant = move |entry: &Entry| {
            before.is_none_or(|before| entry.number < before)
                && (mycelium.is_none() || entry.mycelium == mycelium)
        };
        let read = move || lock(&kept).list(limit, is_meant);
        tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
    }
}

impl Waiting {
    /// Writes them as they come, until nobody makes any.
    pub(crate) async fn write(mut self) {
        let failures = Seldom::default();
        loop {
            let mut entries = Vec::with_capacity(AT_ONCE_MAX);
            if self.entries.recv_many(&mut entries, AT_ONCE_MAX).await == 0 {
                return;
            }
            let kept = Arc::clone(&self.kept);
            let written = tokio::task::spawn_blocking(move || lock(&kept).add(entries)).await;
            if let Err(error) = written.map_err(std::io::Error::other).flatten() {
                failures.say(|_| tracing::error!(error = %Report(&error), "the audit cannot be written"));
            }
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
