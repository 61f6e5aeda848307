//! What a batch has to know of what is stored, found out before the commit, so that the commit itself is one write.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mycelium_core::ids::{FailureId, JobId};

use super::record::Seen;
use super::{Batch, Edges, Error, JobAfter, Known, Store, isolate};

/// How many failures are remembered at least, and half of those at most. One takes about a hundred bytes.
const FAILURES_REMEMBERED: usize = 8_192;

/// What the one who commits knows of a store. Failures that are seen again and again are remembered, so that most
/// batches need no read.
#[derive(Debug, Default)]
pub struct Knowledge {
    failures: Recent,
}

impl Knowledge {
    /// Fills in [`Batch::known`]. Batches are to be prepared in the order in which they are committed, and nobody else may
    /// write to the store. After a commit that failed, all that is known is to be forgotten.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Damaged`] if a job that is to be evaluated is not among the unfinished ones. Other
    /// records that are damaged are taken for missing: what a batch only looks up must not keep it, and all that comes
    /// after it, from being stored.
    pub fn prepare(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), Error> {
        let mut known = Known::default();
        let (mut evaluated, mut dropped) = (Vec::new(), Vec::new());
        for change in &batch.jobs {
            match &change.after {
                JobAfter::Evaluate => evaluated.push(change.id),
                JobAfter::Dropped if change.created.is_none() => dropped.push(change.id),
                JobAfter::Live(_) | JobAfter::Finished(_) | JobAfter::Dropped => {}
            }
        }
        read_waiting(store, &evaluated, &mut known)?;
        read_edges(store, &dropped, &mut known)?;
        read_elves(store, batch, &mut known)?;
        self.count_failures(store, batch, &mut known)?;
        batch.known = known;
        Ok(())
    }

    fn count_failures(&mut self, store: &dyn Store, batch: &Batch, known: &mut Known) -> Result<(), Error> {
        let ids: BTreeSet<FailureId> = batch.failures.iter().map(|failure| failure.id).collect();
        let mut asked = Vec::new();
        for id in ids {
            match self.failures.get(id) {
                Some(seen) => drop(known.failures.insert(id, seen)),
                None => asked.push(id),
            }
        }
        let read = |ids: &[FailureId]| ids.iter().map(|id| store.failure(*id)).collect();
        // A damaged one is counted anew.
        for record in readable(&asked, read)?.into_iter().flatten() {
            known.failures.insert(record.id, record.seen());
        }
        let mut counted = known.failures.clone();
        for failure in &batch.failures {
            let seen = failure.counted_on(counted.get(&failure.id).copied());
            counted.insert(failure.id, seen);
        }
        counted.into_iter().for_each(|(id, seen)| self.failures.put(id, seen));
        Ok(())
    }
}

fn read_waiting(store: &dyn Store, jobs: &[JobId], known: &mut Known) -> Result<(), Error> {
    for (id, record) in jobs.iter().zip(isolate(jobs, |jobs| store.unfinished(jobs))?) {
        match record {
            Ok(Some(record)) => drop(known.waiting.insert(*id, record)),
            Ok(None) => {
                let what = format!("job {id} is to be evaluated, and is not among the unfinished ones");
                return Err(Error::Damaged { what });
            }
            // It stays as it is: the job ends in this process, or the next start names it.
            Err(what) => passed_over(&what),
        }
    }
    Ok(())
}

fn read_edges(store: &dyn Store, jobs: &[JobId], known: &mut Known) -> Result<(), Error> {
    // The entries that lead to a damaged one stay, and lead to a job that is not known.
    for (id, spec) in jobs.iter().zip(readable(jobs, |jobs| store.specs(jobs))?) {
        if let Some(spec) = spec {
            let edges = Edges { depends_on: spec.depends_on, gathered_by: spec.gathered_by };
            known.edges.insert(*id, edges);
        }
    }
    Ok(())
}

fn read_elves(store: &dyn Store, batch: &Batch, known: &mut Known) -> Result<(), Error> {
    let names: Vec<_> = batch.elves.iter().map(|elf| Arc::clone(&elf.name)).collect();
    for elf in
        readable(&names, |names| names.iter().map(|name| store.elf(name)).collect())?.into_iter().flatten()
    {
        known.elves.insert(elf.name, elf.first_seen);
    }
    let revisions: Vec<_> =
        batch.revisions.iter().map(|kept| (kept.elf.clone(), kept.task.clone(), kept.revision)).collect();
    let read = |revisions: &[(Arc<str>, Arc<str>, _)]| {
        revisions.iter().map(|(elf, task, revision)| store.revision(elf, task, *revision)).collect()
    };
    for kept in readable(&revisions, read)?.into_iter().flatten() {
        known.revisions.insert((kept.elf, kept.task, kept.revision));
    }
    Ok(())
}

/// Reads what can be read; what is damaged is taken for missing.
fn readable<K, T>(
    ids: &[K],
    read: impl Fn(&[K]) -> Result<Vec<Option<T>>, Error>,
) -> Result<Vec<Option<T>>, Error> {
    let records = isolate(ids, read)?;
    Ok(records
        .into_iter()
        .map(|record| record.inspect_err(|what| passed_over(what)).unwrap_or_default())
        .collect())
}

fn passed_over(what: &str) {
    tracing::error!(what, "a damaged record is passed over by a commit");
}

/// The failures seen latest: in two halves, of which the older goes as a whole.
#[derive(Debug, Default)]
struct Recent {
    newer: HashMap<FailureId, Seen>,
    older: HashMap<FailureId, Seen>,
}

impl Recent {
    fn get(&self, id: FailureId) -> Option<Seen> {
        self.newer.get(&id).or_else(|| self.older.get(&id)).copied()
    }

    fn put(&mut self, id: FailureId, seen: Seen) {
        if self.newer.len() == FAILURES_REMEMBERED && !self.newer.contains_key(&id) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, seen);
    }
}
