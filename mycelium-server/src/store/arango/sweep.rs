//! Removing what commits have left behind. A commit removes nothing, since a statement cannot write a collection twice:
//! what is to go is marked, and removed later, many documents at once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mycelium_core::ids::JobId;
use serde::{Deserialize, Serialize};

use super::client::{Database, Ran};
use super::documents::text::Text;
use super::statements::{GONE, SWEEP};
use crate::store::{Batch, Error, JobAfter};

/// As many documents are removed at once, of either kind.
const AT_ONCE: usize = 1_000;
/// So many are left to gather before they are removed.
const GATHERED: usize = 256;

/// What is still to be removed.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<Marked>);

#[derive(Debug, Default)]
struct Marked {
    jobs: BTreeSet<JobId>,
    records: BTreeSet<String>,
}

/// What is removed at once.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Keys {
    jobs: Vec<Text<JobId>>,
    records: Vec<String>,
}

#[derive(Serialize)]
struct Sweep<'a> {
    epoch: u64,
    #[serde(flatten)]
    keys: &'a Keys,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.records.is_empty()
    }
}

impl Leftovers {
    /// Takes note of what a stored batch has marked, and of what it has written again.
    pub(super) fn note(&self, batch: &Batch, gone: impl IntoIterator<Item = String>) {
        let mut marked = self.marked();
        for change in &batch.jobs {
            if change.created.is_none() && matches!(change.after, JobAfter::Dropped) {
                marked.jobs.insert(change.id);
            }
        }
        marked.records.extend(gone);
    }

    /// Whether there is enough to be removed.
    pub(super) fn are_many(&self) -> bool {
        let marked = self.marked();
        marked.jobs.len() + marked.records.len() >= GATHERED
    }

    /// Whether a batch makes a job of an id that is still to be removed: its edges would be taken for those of the new one.
    pub(super) fn are_in_the_way_of(&self, batch: &Batch) -> bool {
        let marked = self.marked();
        !marked.jobs.is_empty()
            && batch.jobs.iter().any(|change| change.created.is_some() && marked.jobs.contains(&change.id))
    }

    /// Removes all that was noted. What was marked and written again stays.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the mycelium is no longer that of `epoch`; [`Error::Unavailable`].
    pub(super) async fn sweep(&self, database: &Database, epoch: u64) -> Result<(), Error> {
        loop {
            let keys = self.next();
            if keys.is_empty() {
                return Ok(());
            }
            remove(database, epoch, &keys).await?;
            let mut marked = self.marked();
            for Text(job) in &keys.jobs {
                marked.jobs.remove(job);
            }
            for key in &keys.records {
                marked.records.remove(key);
            }
        }
    }

    /// Removes what an earlier broker has marked and not removed.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep).
    pub(super) async fn sweep_all(&self, database: &Database, epoch: u64) -> Result<(), Error> {
        *self.marked() = Marked::default();
        loop {
            let Ran { mut rows, .. } = database.run::<Keys>(&GONE, &Limit { n: AT_ONCE }).await?;
            match rows.pop() {
                Some(keys) if !keys.is_empty() => remove(database, epoch, &keys).await?,
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn next(&self) -> Keys {
        let marked = self.marked();
        Keys {
            jobs: marked.jobs.iter().take(AT_ONCE).map(|job| Text(*job)).collect(),
            records: marked.records.iter().take(AT_ONCE).cloned().collect(),
        }
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        // Each change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct Limit {
    n: usize,
}

/// Removes some of what is marked. May be done twice.
async fn remove(database: &Database, epoch: u64, keys: &Keys) -> Result<(), Error> {
    let sweep = Sweep { epoch, keys };
    let mut tries = 0;
    loop {
        match database.run::<bool>(&SWEEP, &sweep).await {
            Ok(Ran { rows, .. }) if rows.first() == Some(&true) => return Ok(()),
            Ok(_) => {
                return Err(Error::Fenced {
                    what: format!("the database {} has a newer lease than {epoch}", database.name()),
                });
            }
            Err(failure) if failure.is_unknown() && tries < 3 => tries += 1,
            Err(failure) => return Err(failure.into()),
        }
    }
}
