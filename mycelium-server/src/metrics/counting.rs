//! Counts what the owner of a core has stored, a batch at a time. While nobody wants it, that costs a look at a switch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mycelium_core::Core;
use mycelium_core::effects::{Effects, End, JobRecord, Send};
use mycelium_core::ids::{Clocks, Steady};
use mycelium_core::status::FinalStatus;
use prometheus_client::metrics::counter::Counter;

use super::queue::Queue;
use super::{Metrics, OfElf, OfMycelium, Shown, Switch};
use crate::store::Batch;

/// What is counted of one mycelium, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Counting {
    switch: Switch,
    mycelium: Arc<str>,
    shown: Arc<Shown>,
    on: Option<Box<On>>,
}

#[derive(Debug)]
struct On {
    metrics: Metrics,
    own: OfMycelium,
    /// Of which elf the attempts are that failed in the batch under way and are tried again, and how long they ran.
    failed: Vec<(Arc<str>, Option<Duration>)>,
    /// How many outcomes of this core were stale when it was looked last.
    stale: u64,
    /// Those with names of their own that have been met.
    elves: HashMap<Arc<str>, OfElf>,
    queue: Queue,
}

impl Counting {
    pub(crate) fn new(switch: Switch, mycelium: &str, shown: Arc<Shown>, core: &Core) -> Self {
        let counting = Self { switch, mycelium: Arc::from(mycelium), shown, on: None };
        counting.shown.set(&core.status());
        counting
    }

    /// The owner of the core has begun anew with this one.
    pub(crate) fn begin(&mut self, core: &Core) {
        let status = core.status();
        self.shown.set(&status);
        if let Some(on) = &mut self.on {
            on.queue.begin(status.ready);
            on.failed.clear();
            on.stale = status.outcomes_stale;
        }
    }

    /// A batch is about to be made of these and stored. When that begins, if somebody wants to know how long it takes.
    pub(crate) fn begin_commit(&mut self, effects: &Effects) -> Option<Instant> {
        let on = self.on.as_mut()?;
        let failed = effects.failed.iter().map(|failed| {
            let ran = failed.held.started.map(|began| failed.ended_at.since(began));
            (Arc::clone(&failed.elf), ran)
        });
        on.failed.extend(failed);
        Some(Instant::now())
    }

    /// The commit that began then is done, and has changed so many jobs.
    pub(crate) fn committed(&self, began: Option<Instant>, jobs: usize) {
        if let (Some(began), Some(on)) = (began, &self.on) {
            let counted = on.metrics.counted();
            counted.commit_seconds.observe(began.elapsed().as_secs_f64());
            counted.commit_jobs.observe(u32::try_from(jobs).map_or(f64::INFINITY, f64::from));
        }
    }

    /// The store did not take a commit, for lack of that.
    pub(crate) fn store_failed(&self, kind: &'static str) {
        if let Some(metrics) = self.switch.on() {
            let mycelium = metrics.inner.mycelia.label(&self.mycelium);
            let labels = [("kind", Arc::from(kind)), ("mycelium", mycelium)];
            metrics.counted().store_errors.get_or_create(&labels).inc();
        }
    }

    /// The owner of the core came to a defect.
    pub(crate) fn defect(&self) {
        if let Some(metrics) = self.switch.on() {
            metrics.of_mycelium(&self.mycelium).defects.inc();
        }
    }

    /// Counts from now on, if somebody wants it.
    pub(crate) fn look(&mut self, core: &Core) {
        if self.on.is_some() {
            return;
        }
        let Some(metrics) = self.switch.on() else { return };
        let status = core.status();
        let mut queue = Queue::default();
        queue.begin(status.ready);
        self.on = Some(Box::new(On {
            metrics: metrics.clone(),
            own: metrics.of_mycelium(&self.mycelium),
            failed: Vec::new(),
            stale: status.outcomes_stale,
            elves: HashMap::new(),
            queue,
        }));
    }

    /// Counts a batch that is stored, with what comes of it.
    pub(crate) fn count(&mut self, now: Clocks, effects: &Effects, batch: &Batch, core: &Core) {
        let Some(on) = &mut self.on else { return };
        let status = core.status();
        self.shown.set(&status);
        on.count_jobs(batch);
        on.count_sessions(effects, batch);
        on.count_effects(now.steady, effects);
        // One that is not to begin yet waits for no process.
        let from = |job| now.steady.after(core.delayed_for(now, job).unwrap_or_default());
        on.queue.changed(&effects.changes, status.ready, from);
        add(&on.own.outcomes_stale, status.outcomes_stale.saturating_sub(on.stale));
        on.stale = status.outcomes_stale;
    }
}

impl On {
    fn count_jobs(&mut self, batch: &Batch) {
        let (mut submitted, mut ended) = (0, [0; 6]);
        for change in &batch.jobs {
            submitted += u64::from(change.created.is_some());
            let JobRecord::Finished(finished) = &change.after else { continue };
            let status = finished.end.status();
            if let Some(place) = FinalStatus::ALL.iter().position(|one| *one == status) {
                ended[place] += 1;
            }
            let has_run = matches!(finished.end, End::Done(_) | End::Failed(_));
            if let Some(began) = finished.ran.filter(|_| has_run).and_then(|ran| ran.started) {
                self.ran(&finished.head.elf, finished.finished_at.since(began));
            }
        }
        add(&self.own.submitted, submitted);
        add(&self.own.backoffs, self.failed.len() as u64);
        for (elf, ran) in std::mem::take(&mut self.failed) {
            ran.into_iter().for_each(|time| self.ran(&elf, time));
        }
        for (counter, n) in self.own.ended.iter().zip(ended) {
            add(counter, n);
        }
    }

    fn count_sessions(&self, effects: &Effects, batch: &Batch) {
        let (ended, lost) = (batch.records.sessions_ended.len() as u64, u64::from(effects.sessions_lost));
        add(&self.own.sessions_opened, batch.records.sessions_opened.len() as u64);
        for (counter, n) in self.own.sessions_ended.iter().zip([ended.saturating_sub(lost), lost]) {
            add(counter, n);
        }
    }

    fn count_effects(&mut self, now: Steady, effects: &Effects) {
        let mut attempts = 0;
        for sent in &effects.sends {
            let Send::Assign { assignments, .. } = sent else { continue };
            attempts += assignments.len() as u64;
            for assignment in assignments {
                if let Some(waited) = self.queue.assigned(assignment.token.job, now) {
                    self.of_elf(&assignment.elf, |of| of.queue.observe(waited.as_secs_f64()));
                }
            }
        }
        add(&self.own.attempts, attempts);
        add(&self.own.evaluations, effects.evaluations.len() as u64);
    }

    fn ran(&mut self, elf: &Arc<str>, time: Duration) {
        self.of_elf(elf, |of| of.run.observe(time.as_secs_f64()));
    }

    fn of_elf(&mut self, elf: &Arc<str>, count: impl FnOnce(&OfElf)) {
        if let Some(known) = self.elves.get(elf) {
            return count(known);
        }
        let of = self.metrics.of_elf(elf);
        count(&of);
        if *self.metrics.inner.elves.label(elf) == **elf {
            self.elves.insert(Arc::clone(elf), of);
        }
    }
}

fn add(counter: &Counter, n: u64) {
    if n > 0 {
        counter.inc_by(n);
    }
}
