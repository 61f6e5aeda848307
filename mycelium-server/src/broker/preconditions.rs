//! What the store knows of finished jobs that a command is about, which the core need not remember.

use std::time::Duration;

use mycelium_core::command::KnownFinished;
use mycelium_core::ids::JobId;

use super::handle::Handle;
use crate::store::{self, FinishedRecord, Outline, Reads};

/// How often a request reads its preconditions again when the core has forgotten more than they say.
pub(super) const TRIES_MAX: usize = 20;
/// How long to wait for the next commit before preconditions are read again.
const PAUSE: Duration = Duration::from_millis(50);

impl Handle {
    /// Waits for the next commit, or a moment if there is none: until then the same question has the same answer.
    pub(super) async fn next_commit(&self) {
        let mut progress = self.store_state();
        progress.mark_unchanged();
        // If the owner of the core has stopped, the next request finds out.
        let _elapsed_or_stopped = tokio::time::timeout(PAUSE, progress.changed()).await;
    }
}

/// What the store knows of `ids` as finished, for the core.
pub(super) async fn known_finished(
    store: &dyn Reads,
    ids: &[JobId],
) -> Result<Vec<KnownFinished>, store::Error> {
    let records: Vec<FinishedRecord> = store.finished(ids).await?.into_iter().flatten().collect();
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let finished: Vec<JobId> = records.iter().map(|record| record.head.id).collect();
    let outlines = store.outlines(&finished).await?;
    let preconditions = records.iter().zip(outlines).filter_map(|(record, spec)| Some(known(record, &spec?)));
    Ok(preconditions.collect())
}

pub(super) fn known(record: &FinishedRecord, outline: &Outline) -> KnownFinished {
    KnownFinished {
        id: record.head.id,
        flow: record.head.flow,
        status: record.end.status(),
        digest: outline.digest,
    }
}
