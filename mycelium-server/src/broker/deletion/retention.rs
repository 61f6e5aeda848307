//! Deletes what rules of retention do not keep, pass by pass, and warns of a store that grows beyond a size.

use std::time::Duration;

use futures::TryStreamExt as _;
use mycelium_core::ids::Timestamp;
use mycelium_core::image::FlowRecord;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::handle::Handle;
use super::super::message::CallError;
use super::elves::sweep_elves;
use super::uses::{is_of_one, judge};
use super::{FLOWS_AT_ONCE, Fate};
use crate::blobs::Blob;
use crate::defect;
use crate::metrics::Sizes;
use crate::report::Report;
use crate::store::{FinishedQuery, FlowQuery};

/// The time between two passes: a tenth of the shortest age, within these.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// The most time between two looks at elves and their revisions, which read much.
const ELVES_EVERY_MAX: Duration = Duration::from_secs(24 * 3_600);
/// As many flows are judged together.
const JUDGED_AT_ONCE: usize = 100;
/// How often the size of the store is looked at.
const SIZE_EVERY: Duration = Duration::from_secs(600);
/// After a look, others wait for so many times as long as it took, and for no less than this.
const SIZE_SHARE: u32 = 100;
const SIZE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Deletes flows by the rules of the broker, until told to stop.
pub(crate) async fn keep_to_rules(handle: Handle, stop: CancellationToken) {
    let rules = &handle.config().retention;
    let (Some(shortest), Some(longest)) = (rules.shortest(), rules.longest()) else { return };
    let pause = (shortest / 10).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut elves_at = handle.clock().now().steady;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = handle.clock().sleep(pause) => {}
        }
        let now = handle.clock().now();
        let is_for_elves = elves_at <= now.steady;
        let pass = async {
            let flows = pass(&handle, &stop).await?;
            if is_for_elves {
                let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
                sweep_elves(&handle, &stop, Timestamp(now.wall.0.saturating_sub(micros))).await?;
                elves_at = now.steady.after(longest.clamp(PAUSE_MIN, ELVES_EVERY_MAX));
            }
            Ok(flows)
        };
        let passed = defect::catch_async("a pass of retention", pass).await;
        match passed.unwrap_or_else(|defect| Err(defect.into())) {
            Ok(0) => {}
            Ok(flows) => tracing::info!(flows, "flows are deleted by the rules of retention"),
            Err(CallError::Stopping) => return,
            // It is in the log already.
            Err(CallError::Defect(_)) => {}
            Err(error) => {
                tracing::warn!(error = %Report(&error), "a pass of retention is broken off; the next one comes");
            }
        }
    }
}

/// Goes through all flows, newest first, and begins to delete those that are not to be kept. Returns how many.
async fn pass(handle: &Handle, stop: &CancellationToken) -> Result<u64, CallError> {
    let now = handle.clock().now().wall;
    let mut query = FlowQuery { limit: FLOWS_AT_ONCE, ..FlowQuery::default() };
    let mut begun = 0;
    loop {
        let page = handle.store().list_flows(&query).await?;
        let mut over = Vec::new();
        for flow in page.flows {
            if stop.is_cancelled() {
                return Ok(begun);
            }
            if is_over(handle, &flow, now).await? {
                over.push(flow);
            }
        }
        for flows in over.chunks(JUDGED_AT_ONCE) {
            begun += begin(handle, flows).await?;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(begun),
        }
    }
}

/// Whether the time is over for which a flow is kept. One with unfinished jobs is looked at by whoever judges it.
async fn is_over(handle: &Handle, flow: &FlowRecord, now: Timestamp) -> Result<bool, CallError> {
    let Some(age) = handle.config().retention.age(&flow.name, &flow.finished) else { return Ok(false) };
    let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
    let is_past = |at: Timestamp| at.0.saturating_add(micros) <= now.0;
    // It has not ended before it was made.
    if flow.pinned || !is_past(flow.created_at) {
        return Ok(false);
    }
    let query = FinishedQuery { flow: Some(flow.id), limit: 1, ..FinishedQuery::default() };
    let last = handle.store().list_finished(&query).await?;
    Ok(last.jobs.first().is_none_or(|last| is_past(last.finished_at)))
}

async fn begin(handle: &Handle, flows: &[FlowRecord]) -> Result<u64, CallError> {
    let fates = match judge(handle, flows).await {
        // It is in the log.
        Err(error) if is_of_one(&error) => return Ok(0),
        judged => judged?,
    };
    // A stub that has to stay is what it was to become.
    let goes = |flow: &&FlowRecord| match fates.get(&flow.id) {
        Some(Fate::Whole) => true,
        Some(Fate::Stub) => flow.deleted_at.is_none(),
        _ => false,
    };
    let going: Vec<FlowRecord> = flows.iter().filter(goes).cloned().collect();
    let asked = going.len();
    let kept = handle.begin_deletions(going).await?;
    Ok((asked - kept.len()) as u64)
}

/// Warns while the store takes more room than it should, and finds out how much it takes when somebody wants to know, until
/// told to stop.
pub(crate) async fn watch_size(handle: Handle, stop: CancellationToken) {
    let alarm = handle.config().store_size_alarm;
    let mut due = Instant::now();
    loop {
        let is_due = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due), if alarm > 0 => true,
            () = handle.shown().sizes_wanted() => false,
        };
        let began = Instant::now();
        let sizes = sizes(&handle).await;
        if is_due {
            due = began + SIZE_EVERY;
            if let Some(bytes) = sizes.store_bytes.filter(|bytes| *bytes > alarm) {
                tracing::warn!(
                    bytes,
                    alarm,
                    "the store is larger than it should be; rules of retention say what is deleted: --retention"
                );
            }
        }
        handle.shown().set_sizes(sizes);
        let pause = (began.elapsed() * SIZE_SHARE).clamp(SIZE_PAUSE_MIN, SIZE_EVERY);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How much room is taken. Large values are counted one by one, where anything is counted.
async fn sizes(handle: &Handle) -> Sizes {
    let store_bytes = handle.store().bytes_stored().await.unwrap_or_else(|error| {
        tracing::debug!(error = %Report(&error), "the size of the store is not known");
        None
    });
    let mut sizes = Sizes { store_bytes, blobs: None };
    if handle.limits().counted().on().is_some() {
        let add = |(blobs, bytes): (u64, u64), blob: Blob| async move { Ok((blobs + 1, bytes + blob.size)) };
        match handle.blobs().list().try_fold((0, 0), add).await {
            Ok(blobs) => sizes.blobs = Some(blobs),
            Err(error) => tracing::debug!(error = %Report(&error), "the large values cannot be counted"),
        }
    }
    sizes
}
