//! Works deletions off, one group after the other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use mycelium_core::command::DeletionTo;
use mycelium_core::ids::{FlowId, SubmissionId};
use mycelium_core::image::{DeletionRecord, DeletionStage, FlowRecord};
use tokio_util::sync::CancellationToken;

use super::super::handle::Handle;
use super::super::message::{Beside, CallError};
use super::failures::remove_failures;
use super::removal::{Removed, remove_jobs};
use super::uses::{is_of_one, judge};
use super::{FLOWS_AT_ONCE, Fate};
use crate::defect;
use crate::report::Report;

/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(5);
/// As many submissions are looked at together.
const SUBMISSIONS_AT_ONCE: usize = 1_000;

/// Deletes flows as they come, until told to stop.
pub(crate) async fn delete_flows(handle: Handle, stop: CancellationToken) {
    loop {
        let worked = defect::catch_async("the deletion of flows", work_off(&handle, &stop)).await;
        let wait = match worked.unwrap_or_else(|defect| Err(defect.into())) {
            Ok(()) => None,
            Err(CallError::Stopping) => return,
            Err(error) => {
                // A defect is in the log already. What is left is durable, and gone on with.
                if !matches!(error, CallError::Defect(_)) {
                    tracing::warn!(error = %Report(&error), "the deletion of flows is broken off, and goes on later");
                }
                Some(PAUSE)
            }
        };
        let again = async {
            match wait {
                Some(pause) => tokio::time::sleep(pause).await,
                None => handle.deletions_begun().notified().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = again => {}
        }
    }
}

/// Works off all deletions that are under way.
async fn work_off(handle: &Handle, stop: &CancellationToken) -> Result<(), CallError> {
    let mut removed = Removed::default();
    loop {
        let deletions = handle.query(|core, _| core.deletions()).await?;
        if deletions.is_empty() || stop.is_cancelled() {
            break;
        }
        let group = group(handle, deletions).await?;
        let of_group = work_off_group(handle, stop, group).await?;
        removed.jobs += of_group.jobs;
        removed.blob_uses += of_group.blob_uses;
        remove_failures(handle, of_group.failures).await?;
    }
    if removed.blob_uses > 0 {
        handle.look_for_unused_blobs();
    }
    if removed.jobs > 0 && !stop.is_cancelled() {
        handle.store().reclaim().await?;
        // What was merged goes once something was stored after that.
        handle.put_aside(Beside::default()).await?;
        handle.store().reclaim().await?;
    }
    Ok(())
}

/// A flow of a group. Its record is missing if it was removed by a batch that was not stored as a whole.
type Member = (FlowId, DeletionStage, Option<FlowRecord>);

/// The youngest flows, which others are least likely to come from.
async fn group(handle: &Handle, deletions: Vec<DeletionRecord>) -> Result<Vec<Member>, CallError> {
    let mut all: Vec<Member> = Vec::with_capacity(deletions.len());
    for deletions in deletions.chunks(FLOWS_AT_ONCE) {
        let ids: Vec<FlowId> = deletions.iter().map(|deletion| deletion.flow).collect();
        let records = handle.store().flows(&ids).await?;
        all.extend(
            deletions.iter().zip(records).map(|(deletion, record)| (deletion.flow, deletion.stage, record)),
        );
    }
    all.sort_by_key(|(_, _, record)| std::cmp::Reverse(record.as_ref().map(|record| record.number)));
    all.truncate(FLOWS_AT_ONCE);
    Ok(all)
}

async fn work_off_group(
    handle: &Handle,
    stop: &CancellationToken,
    group: Vec<Member>,
) -> Result<Removed, CallError> {
    let mut stages: BTreeMap<FlowId, DeletionStage> =
        group.iter().map(|(flow, stage, _)| (*flow, *stage)).collect();
    let records: Vec<FlowRecord> = group.iter().filter_map(|(_, _, record)| record.clone()).collect();
    let checking = |flow: &&FlowRecord| stages[&flow.id] == DeletionStage::Checking;
    let checked: Vec<FlowRecord> = records.iter().filter(checking).cloned().collect();
    if !checked.is_empty() {
        let mut moved = Vec::with_capacity(checked.len());
        let fates = judge_each(handle, &checked).await?;
        for flow in checked {
            let fate = fates.get(&flow.id).copied().unwrap_or(Fate::NotFound);
            let to = match fate {
                Fate::Whole => DeletionTo::Stage(DeletionStage::Removing),
                Fate::Stub => DeletionTo::Stage(DeletionStage::Stubbing),
                Fate::Unfinished
                | Fate::Pinned
                | Fate::Used(_)
                | Fate::PartlyNamed
                | Fate::TooMany
                | Fate::NotFound => {
                    tracing::info!(flow = %flow.id, ?fate, "a flow is not deleted after all");
                    DeletionTo::GivenUp
                }
            };
            match to {
                DeletionTo::Stage(stage) => drop(stages.insert(flow.id, stage)),
                DeletionTo::GivenUp | DeletionTo::Gone | DeletionTo::Stub => drop(stages.remove(&flow.id)),
            }
            moved.push((flow, to));
        }
        handle.move_deletions(moved, Vec::new()).await?;
    }

    let mut removed = Removed::default();
    for flow in &records {
        let Some(stage) = stages.get(&flow.id) else { continue };
        if stop.is_cancelled() {
            return Ok(removed);
        }
        // First: what is left of them would be nobody's.
        handle.logs().remove(flow.id).await?;
        let of_flow = remove_jobs(handle, flow.id, *stage == DeletionStage::Stubbing).await?;
        removed.jobs += of_flow.jobs;
        removed.blob_uses += of_flow.blob_uses;
        removed.failures.extend(of_flow.failures);
    }
    let going = stages.iter().filter(|(_, stage)| **stage == DeletionStage::Removing);
    remove_submissions(handle, &going.map(|(flow, _)| *flow).collect()).await?;

    let mut ended = Vec::with_capacity(stages.len());
    for (id, _, record) in group {
        let Some(stage) = stages.get(&id) else { continue };
        let to = match stage {
            DeletionStage::Stubbing => DeletionTo::Stub,
            DeletionStage::Checking | DeletionStage::Removing => DeletionTo::Gone,
        };
        ended.push((record.unwrap_or_else(|| gone(id)), to));
    }
    handle.move_deletions(ended, Vec::new()).await?;
    Ok(removed)
}

/// As [`judge`]; a flow whose records cannot be read is kept, and does not keep the others.
async fn judge_each(handle: &Handle, flows: &[FlowRecord]) -> Result<BTreeMap<FlowId, Fate>, CallError> {
    match judge(handle, flows).await {
        Err(error) if is_of_one(&error) && flows.len() > 1 => {}
        Err(error) if is_of_one(&error) => return Ok(BTreeMap::new()),
        judged => return judged,
    }
    let mut fates = BTreeMap::new();
    for flow in flows {
        match judge(handle, std::slice::from_ref(flow)).await {
            Err(error) if is_of_one(&error) => {}
            judged => fates.extend(judged?),
        }
    }
    Ok(fates)
}

/// Removes the submissions to flows that go, so that their ids are free with those of the flows.
async fn remove_submissions(handle: &Handle, flows: &BTreeSet<FlowId>) -> Result<(), CallError> {
    let flows: HashSet<FlowId> = flows.iter().copied().collect();
    let mut after = None;
    while !flows.is_empty() {
        let page = handle.store().list_submissions(after, SUBMISSIONS_AT_ONCE).await?;
        let of_them = page.iter().filter(|submission| flows.contains(&submission.flow));
        let submissions: Vec<SubmissionId> = of_them.map(|submission| submission.id).collect();
        if !submissions.is_empty() {
            handle.move_deletions(Vec::new(), submissions).await?;
        }
        match page.last() {
            Some(last) if page.len() == SUBMISSIONS_AT_ONCE => after = Some(last.id),
            Some(_) | None => break,
        }
    }
    Ok(())
}

/// In place of the record of a flow that is gone already.
fn gone(id: FlowId) -> FlowRecord {
    FlowRecord {
        id,
        name: "".into(),
        labels: Default::default(),
        number: Default::default(),
        created_at: Default::default(),
        finished: Default::default(),
        on_behalf_of: None,
        pinned: false,
        deleted_at: None,
    }
}
