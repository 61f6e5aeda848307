//! What the store knows of finished jobs that a command is about, which the core need not remember.

use std::collections::BTreeSet;
use std::time::Duration;

use mycelium_core::command::KnownFinished;
use mycelium_core::ids::{FlowId, JobId};

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

/// What the store knows of `ids` as finished, for the core. Of which flows stubs are left is looked for but for `own`, of
/// which nobody asks for values.
pub(super) async fn known_finished(
    store: &dyn Reads,
    ids: &[JobId],
    own: Option<FlowId>,
) -> Result<Vec<KnownFinished>, store::Error> {
    let records: Vec<FinishedRecord> = store.finished(ids).await?.into_iter().flatten().collect();
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let finished: Vec<JobId> = records.iter().map(|record| record.head.id).collect();
    let flows: BTreeSet<FlowId> =
        records.iter().map(|record| record.head.flow).filter(|flow| Some(*flow) != own).collect();
    let flows: Vec<FlowId> = flows.into_iter().collect();
    let stubs = async {
        if flows.is_empty() {
            return Ok(Vec::new());
        }
        let flows = store.flows(&flows).await?.into_iter().flatten();
        Ok(flows.filter(|flow| flow.deleted_at.is_some()).map(|flow| flow.id).collect())
    };
    let (outlines, stubs) = futures::try_join!(store.outlines(&finished), stubs)?;
    let preconditions = records.iter().zip(outlines).filter_map(|(record, spec)| {
        let is_stub = stubs.contains(&record.head.flow);
        Some(KnownFinished { is_stub, ..known(record, &spec?) })
    });
    Ok(preconditions.collect())
}

pub(super) fn known(record: &FinishedRecord, outline: &Outline) -> KnownFinished {
    KnownFinished {
        id: record.head.id,
        flow: record.head.flow,
        status: record.end.status(),
        digest: outline.digest,
        is_stub: false,
    }
}
