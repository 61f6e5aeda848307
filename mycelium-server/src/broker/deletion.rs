//! Deletes flows.
//!
//! A deletion begins with a durable intent, from which on nothing new comes to the flow or from it. Then it is looked for
//! what uses the flow: it is given up, goes on with all of the flow, or leaves a stub. What goes is removed in bounded
//! steps, each a batch of its own; the intent ends with the flow. `docs/design/deletion.md` says why so.

mod elves;
mod failures;
mod removal;
mod retention;
mod uses;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use mycelium_core::command::{Command, Delete, DeletionTo, Deletions, Pin};
use mycelium_core::effects::{KeptBecause, Refusal, Reply};
use mycelium_core::ids::{Commit, FlowId, JobId, RequestId, SubmissionId};
use mycelium_core::image::FlowRecord;

use super::handle::{Handle, unexpected};
use super::message::CallError;
use super::preconditions::TRIES_MAX;

pub(crate) use retention::{keep_to_rules, watch_size};
pub(crate) use worker::delete_flows;

/// As many flows are read, judged or changed at once.
const FLOWS_AT_ONCE: usize = 1_000;

/// What becomes of a flow that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of it goes.
    Whole,
    /// What others came from stays, without values.
    Stub,
    /// It is kept: it has unfinished jobs.
    Unfinished,
    /// It is kept: it is pinned.
    Pinned,
    /// It is kept: this flow has unfinished jobs, and uses it.
    Used(FlowId),
    /// It is kept: others of its jobs were not named.
    PartlyNamed,
    /// It is kept: there are as many deletions under way as there may be.
    TooMany,
    /// There is none.
    NotFound,
}

/// A flow that is to be deleted, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) flow: FlowId,
    pub(crate) fate: Fate,
    /// How many jobs it has that have ended.
    pub(crate) jobs: u64,
}

impl Handle {
    /// Deletes flows, or only says what would become of them. What is deleted goes on after the answer.
    pub(crate) async fn delete_flows(&self, ids: &[FlowId], dry_run: bool) -> Result<Vec<Judged>, CallError> {
        let records = self.store().flows(ids).await?;
        let found: Vec<FlowRecord> = records.iter().flatten().cloned().collect();
        let fates = uses::judge(self, &found).await?;
        let mut judged: Vec<Judged> = ids
            .iter()
            .zip(&records)
            .map(|(flow, record)| {
                let fate = fates.get(flow).copied().unwrap_or(Fate::NotFound);
                Judged { flow: *flow, fate, jobs: record.as_ref().map_or(0, |flow| flow.finished.total()) }
            })
            .collect();
        if dry_run {
            return Ok(judged);
        }
        let goes = |flow: &FlowRecord| matches!(fates.get(&flow.id), Some(Fate::Whole | Fate::Stub));
        let kept = self.begin_deletions(found.into_iter().filter(goes).collect()).await?;
        for judged in &mut judged {
            if let Some(because) = kept.get(&judged.flow) {
                judged.fate = match because {
                    KeptBecause::Unfinished => Fate::Unfinished,
                    KeptBecause::Pinned => Fate::Pinned,
                    KeptBecause::TooMany => Fate::TooMany,
                };
            }
        }
        Ok(judged)
    }

    /// Deletes the flows that are made of these jobs. One of which others are not named is kept: the unit is the flow.
    pub(crate) async fn delete_jobs(&self, jobs: &[JobId], dry_run: bool) -> Result<Vec<Judged>, CallError> {
        // The core is asked first: one that ends between the two questions is then found in the store.
        let asked = jobs.to_vec();
        let flows = self.query(move |core, _| {
            asked.into_iter().map(|job| core.job(job).map(|job| job.head.flow)).collect::<Vec<_>>()
        });
        let flows = flows.await?;
        let unfinished: BTreeSet<FlowId> = flows.iter().flatten().copied().collect();
        let ended: Vec<JobId> =
            jobs.iter().zip(&flows).filter(|(_, flow)| flow.is_none()).map(|(job, _)| *job).collect();
        let mut named: BTreeMap<FlowId, u64> = BTreeMap::new();
        for (job, record) in ended.iter().zip(self.store().finished(&ended).await?) {
            let flow = record.ok_or(Refusal::JobNotFound(*job))?.head.flow;
            *named.entry(flow).or_default() += 1;
        }
        let flows: BTreeSet<FlowId> = named.keys().chain(&unfinished).copied().collect();
        let mut judged = Vec::with_capacity(flows.len());
        for ids in flows.into_iter().collect::<Vec<_>>().chunks(FLOWS_AT_ONCE) {
            let mut whole = Vec::with_capacity(ids.len());
            for record in self.store().flows(ids).await?.into_iter().flatten() {
                let (flow, jobs) = (record.id, record.finished.total());
                if unfinished.contains(&flow) {
                    // Even if it ends meanwhile: others of its jobs may end with it, and were not named.
                    judged.push(Judged { flow, fate: Fate::Unfinished, jobs });
                } else if named.get(&flow) < Some(&jobs) {
                    judged.push(Judged { flow, fate: Fate::PartlyNamed, jobs });
                } else {
                    whole.push(flow);
                }
            }
            judged.extend(self.delete_flows(&whole, dry_run).await?);
        }
        Ok(judged)
    }

    /// Keeps flows from being deleted, or no longer. Returns of how many that is new.
    pub(crate) async fn pin_flows(&self, ids: &[FlowId], pinned: bool) -> Result<u64, CallError> {
        for _ in 0..TRIES_MAX {
            let as_of = self.commit();
            let mut flows = Vec::with_capacity(ids.len());
            for (id, record) in ids.iter().zip(self.store().flows(ids).await?) {
                flows.push(record.ok_or(Refusal::FlowNotFound(*id))?);
            }
            let pin = Pin { request: RequestId::default(), flows, pinned, as_of };
            match self.request(Command::Pin(pin), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => self.next_commit().await,
                Err(error) => return Err(error),
                Ok((Reply::Noted { changed }, _)) => return Ok(changed),
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }

    /// Begins to delete flows. Returns those that are kept, and why.
    async fn begin_deletions(
        &self,
        mut flows: Vec<FlowRecord>,
    ) -> Result<BTreeMap<FlowId, KeptBecause>, CallError> {
        for _ in 0..TRIES_MAX {
            if flows.is_empty() {
                return Ok(BTreeMap::new());
            }
            let delete = Delete { request: RequestId::default(), flows: flows.clone(), as_of: self.commit() };
            match self.request(Command::Delete(delete), Vec::new()).await {
                Err(CallError::Refused(Refusal::PreconditionsStale)) => {
                    self.next_commit().await;
                    flows = self.flows_again(&flows).await?;
                }
                Err(error) => return Err(error),
                Ok((Reply::Deleting { begun: _, kept }, _)) => {
                    self.deletions_begun().notify_one();
                    return Ok(kept.into_iter().collect());
                }
                Ok((other, _)) => return Err(unexpected(&other)),
            }
        }
        Err(CallError::Busy)
    }

    /// Flows as they are now. The newest commit is asked for before.
    async fn flows_again(&self, flows: &[FlowRecord]) -> Result<Vec<FlowRecord>, CallError> {
        let ids: Vec<FlowId> = flows.iter().map(|flow| flow.id).collect();
        Ok(self.store().flows(&ids).await?.into_iter().flatten().collect())
    }

    /// Stores how far deletions are.
    async fn move_deletions(
        &self,
        flows: Vec<(FlowRecord, DeletionTo)>,
        submissions: Vec<SubmissionId>,
    ) -> Result<Commit, CallError> {
        let moved = Deletions { request: RequestId::default(), flows, submissions };
        match self.request(Command::Deletions(moved), Vec::new()).await? {
            (Reply::Noted { .. }, commit) => Ok(commit),
            (other, _) => Err(unexpected(&other)),
        }
    }
}
