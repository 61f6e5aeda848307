//! Flows that have ended, for the log.

use std::collections::BTreeSet;
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::effects::Change;
use mycelium_core::ids::{FlowId, Timestamp};

/// Tells of the flows whose last unfinished jobs a commit has ended. A flow that is added to, or of which jobs are
/// retried, may end again.
pub(super) fn tell(core: &Core, changes: &[Change], now: Timestamp) {
    let changed: BTreeSet<FlowId> =
        changes.iter().filter(|change| change.end.is_some()).map(|change| change.flow).collect();
    for flow in changed {
        let Some(view) = core.flow(flow) else { continue };
        if view.n_unfinished() > 0 {
            continue;
        }
        let ended = view.record.finished;
        let duration = Duration::from_micros(now.0.saturating_sub(view.record.created_at.0));
        tracing::info!(
            flow = &*view.record.name,
            flow_id = %flow,
            done = ended.done,
            failed = ended.failed,
            upstream_failed = ended.upstream_failed,
            cancelled = ended.cancelled,
            expired = ended.expired,
            skipped = ended.skipped,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "a flow has ended"
        );
    }
}
