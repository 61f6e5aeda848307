//! What a batch has to know of what is stored, found out before the commit, so that the commit itself is one write.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mycelium_core::ids::{FailureId, JobId};

use super::record::Seen;
use super::{Answer, Batch, Damage, Edges, Error, JobAfter, Known, Outline, Reads, isolate};

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
    pub async fn prepare(&mut self, store: &dyn Reads, batch: &mut Batch) -> Result<(), Error> {
        let mut known = Known::default();
        let (mut evaluated, mut dropped) = (Vec::new(), Vec::new());
        for change in &batch.jobs {
            match &change.after {
                JobAfter::Evaluate => evaluated.push(change.id),
                JobAfter::Dropped if change.created.is_none() => dropped.push(change.id),
                JobAfter::Live(_) | JobAfter::Finished(_) | JobAfter::Dropped => {}
            }
        }
        if !evaluated.is_empty() {
            read_waiting(store, &evaluated, &mut known).await?;
        }
        if !dropped.is_empty() {
            read_edges(store, &dropped, &mut known).await?;
        }
        if !batch.elves.is_empty() || !batch.revisions.is_empty() {
            read_elves(store, batch, &mut known).await?;
        }
        if !batch.elves_swept.is_empty() {
            keep_who_is_back(store, batch).await?;
        }
        if !batch.failures.is_empty() || !batch.failures_removed.is_empty() {
            self.count_failures(store, batch, &mut known).await?;
        }
        batch.known = known;
        Ok(())
    }

    async fn count_failures(
        &mut self,
        store: &dyn Reads,
        batch: &mut Batch,
        known: &mut Known,
    ) -> Result<(), Error> {
        let removed = batch.failures_removed.iter().map(|(id, _)| *id);
        let ids: BTreeSet<FailureId> =
            batch.failures.iter().map(|failure| failure.id).chain(removed).collect();
        let mut asked = Vec::new();
        for id in ids {
            match self.failures.get(id) {
                Some(seen) => drop(known.failures.insert(id, seen)),
                None => asked.push(id),
            }
        }
        // A damaged one is counted anew.
        for record in readable(&asked, |ids| store.failures(ids)).await? {
            known.failures.insert(record.id, record.seen());
        }
        let mut counted = known.failures.clone();
        for failure in &batch.failures {
            let seen = failure.counted_on(counted.get(&failure.id).copied());
            counted.insert(failure.id, seen);
        }
        // Those that are seen again stay.
        let is_as_it_was = |id: &FailureId, occurrences: u64| {
            counted.get(id).is_some_and(|seen| seen.occurrences == occurrences)
        };
        batch.failures_removed.retain(|(id, occurrences)| is_as_it_was(id, *occurrences));
        for (id, _) in &batch.failures_removed {
            counted.remove(id);
            self.failures.forget(*id);
        }
        counted.into_iter().for_each(|(id, seen)| self.failures.put(id, seen));
        Ok(())
    }
}

async fn read_waiting(store: &dyn Reads, jobs: &[JobId], known: &mut Known) -> Result<(), Error> {
    for (id, record) in jobs.iter().zip(isolate(jobs, |jobs| store.unfinished(jobs)).await?) {
        match record {
            Ok(Some(record)) => drop(known.waiting.insert(*id, record)),
            Ok(None) => {
                let what = format!("job {id} is to be evaluated, and is not among the unfinished ones");
                return Err(Error::Damaged { what });
            }
            // It stays as it is: the job ends in this process, or the next start names it.
            Err(damage) => passed_over(&damage),
        }
    }
    Ok(())
}

async fn read_edges(store: &dyn Reads, jobs: &[JobId], known: &mut Known) -> Result<(), Error> {
    // The entries that lead to a damaged one stay, and lead to a job that is not known.
    for Outline { head, depends_on, gathered_by, .. } in readable(jobs, |jobs| store.outlines(jobs)).await? {
        known.edges.insert(head.id, Edges { depends_on, gathered_by });
    }
    Ok(())
}

async fn read_elves(store: &dyn Reads, batch: &Batch, known: &mut Known) -> Result<(), Error> {
    let names: Vec<_> = batch.elves.iter().map(|elf| Arc::clone(&elf.name)).collect();
    for elf in readable(&names, |names| store.elves(names)).await? {
        known.elves.insert(elf.name, elf.first_seen);
    }
    let revisions: Vec<_> =
        batch.revisions.iter().map(|kept| (kept.elf.clone(), kept.task.clone(), kept.revision)).collect();
    for kept in readable(&revisions, |revisions| store.revisions(revisions)).await? {
        known.revisions.insert((kept.elf, kept.task, kept.revision));
    }
    Ok(())
}

/// Of elves that have connected since it was found that nothing refers to them, and of those that cannot be read, all stays.
async fn keep_who_is_back(store: &dyn Reads, batch: &mut Batch) -> Result<(), Error> {
    let names: Vec<_> = batch.elves_swept.iter().map(|swept| Arc::clone(&swept.name)).collect();
    let seen = readable(&names, |names| store.elves(names)).await?;
    let seen: HashMap<_, _> = seen.into_iter().map(|elf| (elf.name, elf.last_seen)).collect();
    let declared: HashSet<_> = batch.elves.iter().map(|elf| &elf.name).collect();
    batch
        .elves_swept
        .retain(|swept| seen.get(&swept.name) == Some(&swept.last_seen) && !declared.contains(&swept.name));
    Ok(())
}

/// Reads what is there and can be read; what is damaged is taken for missing.
async fn readable<'k, K, T: Send + 'static>(
    keys: &'k [K],
    read: impl Fn(&'k [K]) -> Answer<'k, Vec<Option<T>>>,
) -> Result<Vec<T>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let records = isolate(keys, read).await?;
    Ok(records.into_iter().filter_map(|record| record.inspect_err(passed_over).ok()?).collect())
}

fn passed_over(damage: &Damage) {
    tracing::error!(what = %damage, "a damaged record is passed over by a commit");
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

    fn forget(&mut self, id: FailureId) {
        self.newer.remove(&id);
        self.older.remove(&id);
    }

    fn put(&mut self, id: FailureId, seen: Seen) {
        if self.newer.len() == FAILURES_REMEMBERED && !self.newer.contains_key(&id) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, seen);
    }
}
