//! `WatchJobs`: the state of jobs, then each change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::Stream;
use mycelium_core::ids::{Commit, FlowId, JobId};
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::v1;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status as RpcStatus;

use super::convert;
use super::jobs::{decode_outputs, find_all, job_ids};
use super::list::{JobCursor, JobFilter, jobs_page};
use super::status::Error;
use crate::broker::{CallError, Handle, Permit, WatchEvent, WatchScope, WatchedChange, cut_message};
use crate::store::{FinishedQuery, isolate};

/// How many messages may wait for a watcher.
const OUTGOING_MAX: usize = 16;
/// The most changes in one message.
const CHANGES_PER_MESSAGE: usize = 1_000;
/// About how many bytes of outputs go into one message.
const OUTPUTS_PER_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How much of a failure's message a change carries, in bytes.
const FAILURE_MESSAGE_SHOWN: usize = 1_024;

type Outgoing = mpsc::Sender<Result<v1::WatchJobsResponse, RpcStatus>>;

/// Begins a watch.
pub(crate) async fn watch(
    handle: Handle,
    drain: CancellationToken,
    request: v1::WatchJobsRequest,
) -> Result<impl Stream<Item = Result<v1::WatchJobsResponse, RpcStatus>> + Send + 'static, Error> {
    use v1::watch_jobs_request::Scope;
    let permit = handle.admit_watch()?;
    let scope = match &request.scope {
        Some(Scope::FlowId(id)) => {
            let flow = convert::flow_id("flow_id", id)?;
            if !request.may_come && unfinished_of(&handle, flow).await?.is_none() {
                return Err(mycelium_core::effects::Refusal::FlowNotFound(flow).into());
            }
            WatchScope::Flow(flow)
        }
        Some(Scope::Jobs(jobs)) => {
            let ids = job_ids("jobs.job_ids", &jobs.job_ids)?;
            let found = find_all(&handle, ids.clone()).await?;
            if let Some((id, _)) = ids.iter().zip(found).find(|(_, found)| found.is_none()) {
                return Err(mycelium_core::effects::Refusal::JobNotFound(*id).into());
            }
            WatchScope::Jobs(Arc::new(ids.into_iter().collect()))
        }
        None => return Err(Error::field("scope", "says nothing: give a flow or jobs")),
    };
    let (outgoing, receiver) = mpsc::channel(OUTGOING_MAX);
    let unfinished = match &scope {
        WatchScope::Jobs(jobs) => jobs.as_ref().clone(),
        WatchScope::Flow(_) => HashSet::new(),
    };
    let watch = Watch {
        handle,
        scope,
        outputs: request.include_outputs,
        final_only: request.final_only,
        until_final: request.until_final,
        from: (request.from_commit != 0).then_some(Commit(request.from_commit)),
        unfinished,
        outgoing: outgoing.clone(),
        _permit: permit,
    };
    tokio::spawn(async move {
        let ended = tokio::select! {
            () = drain.cancelled() => Err(CallError::Stopping),
            () = outgoing.closed() => Ok(()),
            ended = watch.run() => ended,
        };
        if let Err(error) = ended {
            // A watcher who has gone does not want to know.
            let _gone = outgoing.send(Err(Error::from(error).into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

struct Watch {
    handle: Handle,
    scope: WatchScope,
    outputs: bool,
    final_only: bool,
    until_final: bool,
    from: Option<Commit>,
    /// For a watch of jobs: those not known to be final.
    unfinished: HashSet<JobId>,
    outgoing: Outgoing,
    _permit: Permit,
}

/// Whether a watch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    /// All watched jobs are final, and that is what the caller waits for; or the caller has gone.
    Home,
}

impl Watch {
    /// Watches until all is done or the caller goes; begins again with a snapshot whenever it falls behind.
    async fn run(mut self) -> Result<(), CallError> {
        loop {
            let mut started = self.handle.watch(self.scope.clone(), self.from, self.outputs).await?;
            let mut go = match started.missed.take() {
                Some(missed) => {
                    let unfinished = self.flow_unfinished().await?;
                    let missed = coalesce(missed);
                    self.send_changes(missed, started.as_of, false, unfinished).await?
                }
                None => self.snapshot(&mut started.events).await?,
            };
            while go == Go::On {
                let Some(event) = started.events.recv().await else { break };
                let WatchEvent { commit, changes, flow_unfinished } = event;
                go = self.send_changes(changes, commit, false, Some(flow_unfinished)).await?;
            }
            if go == Go::Home {
                return Ok(());
            }
            // Cut off for falling behind, or because the core was rebuilt: a snapshot makes up for it.
            self.from = None;
        }
    }

    /// How many jobs of the watched flow are unfinished; `None` if a watch of jobs, or of a flow that has had none.
    async fn flow_unfinished(&self) -> Result<Option<u64>, CallError> {
        match self.scope {
            WatchScope::Flow(flow) => unfinished_of(&self.handle, flow).await,
            WatchScope::Jobs(_) => Ok(Some(0)),
        }
    }

    /// Sends the state of all watched jobs. Changes that happen meanwhile are waiting in `events`; they are merged in
    /// at the end, so that no job seems to go back.
    async fn snapshot(&mut self, events: &mut mpsc::Receiver<WatchEvent>) -> Result<Go, CallError> {
        match self.scope.clone() {
            WatchScope::Jobs(jobs) => {
                let changes = self.changes_of_jobs(jobs.iter().copied().collect()).await?;
                if self.send_snapshot(changes).await? == Go::Home {
                    return Ok(Go::Home);
                }
            }
            WatchScope::Flow(flow) => {
                if self.snapshot_flow(flow).await? == Go::Home {
                    return Ok(Go::Home);
                }
            }
        }
        let unfinished = self.flow_unfinished().await?;
        // Whatever was committed before the question just answered is in the queue by now.
        let meanwhile = Meanwhile::of(events, self.handle.commit(), unfinished);
        self.send_changes(meanwhile.changes, meanwhile.commit, true, meanwhile.unfinished).await
    }

    async fn snapshot_flow(&mut self, flow: FlowId) -> Result<Go, CallError> {
        let filter = JobFilter {
            unfinished: (!self.final_only)
                .then(|| mycelium_core::ListFilter { flow: Some(flow), ..Default::default() }),
            finished: Some(FinishedQuery { flow: Some(flow), ..FinishedQuery::default() }),
        };
        let mut cursor = JobCursor::START;
        loop {
            let (jobs, next) = jobs_page(&self.handle, &filter, cursor, CHANGES_PER_MESSAGE).await?;
            let changes = self.with_outputs(jobs.into_iter().map(change_of_job).collect()).await?;
            if self.send_snapshot(changes).await? == Go::Home {
                return Ok(Go::Home);
            }
            match next {
                Some(next) => cursor = next,
                None => return Ok(Go::On),
            }
        }
    }

    async fn changes_of_jobs(&mut self, ids: Vec<JobId>) -> Result<Vec<v1::JobChange>, CallError> {
        let found = find_all(&self.handle, ids).await?;
        let jobs = found.into_iter().flatten().map(|found| change_of_job(found.to_message()));
        let changes: Vec<v1::JobChange> =
            jobs.filter(|change| !self.final_only || is_final(change.status)).collect();
        for change in changes.iter().filter(|change| is_final(change.status)) {
            self.unfinished.retain(|id| id.as_bytes().as_slice() != change.job_id.as_ref());
        }
        self.with_outputs(changes).await
    }

    /// Adds outputs and the words of failures, from the store.
    async fn with_outputs(&self, mut changes: Vec<v1::JobChange>) -> Result<Vec<v1::JobChange>, CallError> {
        let wants_outputs = self.outputs;
        self.handle
            .read(move |store| {
                let done: Vec<usize> = (0..changes.len())
                    .filter(|index| wants_outputs && changes[*index].status == i32::from(v1::JobStatus::Done))
                    .collect();
                let ids: Vec<JobId> =
                    done.iter().filter_map(|index| JobId::from_slice(&changes[*index].job_id)).collect();
                let mut bytes = 0;
                let outputs = isolate(&ids, |ids| store.outputs(ids))?;
                for ((index, id), encoded) in done.into_iter().zip(&ids).zip(outputs) {
                    // What is damaged is told to those who ask for it, and does not end the watch.
                    let Ok(encoded) = encoded else {
                        changes[index].outputs_omitted = true;
                        continue;
                    };
                    let encoded = encoded.unwrap_or_default();
                    if bytes + encoded.len() > OUTPUTS_PER_MESSAGE_BYTES {
                        changes[index].outputs_omitted = true;
                        continue;
                    }
                    bytes += encoded.len();
                    changes[index].outputs = decode_outputs(*id, encoded)?;
                }
                Ok(changes)
            })
            .await
    }

    async fn send_snapshot(&self, changes: Vec<v1::JobChange>) -> Result<Go, CallError> {
        if changes.is_empty() {
            return Ok(Go::On);
        }
        Ok(self.send(response(Commit(0), true, changes)).await)
    }

    /// Sends what one or several commits have changed, cut into messages of moderate size.
    async fn send_changes(
        &mut self,
        changes: Vec<WatchedChange>,
        commit: Commit,
        ends_snapshot: bool,
        flow_unfinished: Option<u64>,
    ) -> Result<Go, CallError> {
        let mut without_outputs = Vec::new();
        let mut current = Vec::new();
        let mut bytes = 0;
        for change in changes {
            if let Status::Final(_) = change.status {
                self.unfinished.remove(&change.job);
            } else {
                if let WatchScope::Jobs(_) = self.scope {
                    self.unfinished.insert(change.job);
                }
                if self.final_only {
                    continue;
                }
            }
            let mut message = convert::change(&change);
            cut_message(&mut message.failure_message, FAILURE_MESSAGE_SHOWN);
            if self.outputs && change.status == Status::Final(FinalStatus::Done) {
                match &change.outputs {
                    None => without_outputs.push(current.len()),
                    Some(outputs) => {
                        let size = outputs.encoded_len();
                        if bytes + size > OUTPUTS_PER_MESSAGE_BYTES && !current.is_empty() {
                            let changes =
                                self.fill_in(&mut without_outputs, std::mem::take(&mut current)).await?;
                            let response = response(Commit(0), ends_snapshot, changes);
                            if self.send(response).await == Go::Home {
                                return Ok(Go::Home);
                            }
                            bytes = 0;
                        }
                        bytes += size;
                        message.outputs.clone_from(&outputs.outputs);
                    }
                }
            }
            current.push(message);
        }
        let is_done = self.until_final
            && match &self.scope {
                WatchScope::Flow(_) => flow_unfinished == Some(0),
                WatchScope::Jobs(_) => self.unfinished.is_empty(),
            };
        let mut go = Go::On;
        if !current.is_empty() || ends_snapshot || is_done {
            let changes = self.fill_in(&mut without_outputs, current).await?;
            go = self
                .send(v1::WatchJobsResponse {
                    snapshot_end: ends_snapshot,
                    ..response(commit, ends_snapshot, changes)
                })
                .await;
        }
        if is_done { Ok(Go::Home) } else { Ok(go) }
    }

    /// Reads outputs that were not at hand when the change was made.
    async fn fill_in(
        &self,
        missing: &mut Vec<usize>,
        changes: Vec<v1::JobChange>,
    ) -> Result<Vec<v1::JobChange>, CallError> {
        if missing.is_empty() {
            return Ok(changes);
        }
        missing.clear();
        let (bare, full): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| change.status == i32::from(v1::JobStatus::Done) && change.outputs.is_empty());
        let mut filled = self.with_outputs(bare).await?;
        filled.extend(full);
        Ok(filled)
    }

    async fn send(&self, message: v1::WatchJobsResponse) -> Go {
        if self.outgoing.send(Ok(message)).await.is_ok() { Go::On } else { Go::Home }
    }
}

/// How many jobs of a flow are unfinished; `None` if there is no such flow.
async fn unfinished_of(handle: &Handle, flow: FlowId) -> Result<Option<u64>, CallError> {
    let unfinished =
        handle.query(move |core, _| core.flow(flow).map(|view| view.pending + view.ready + view.running));
    match unfinished.await? {
        Some(unfinished) => Ok(Some(unfinished)),
        None => handle.read(move |store| Ok(store.flow(flow)?.map(|_| 0))).await,
    }
}

/// What happened while a snapshot was taken.
struct Meanwhile {
    /// The last change of each job.
    changes: Vec<WatchedChange>,
    /// The newest commit they come from.
    commit: Commit,
    /// How many jobs of the watched flow are unfinished after it.
    unfinished: Option<u64>,
}

impl Meanwhile {
    /// Takes what is in the queue. `commit` and `unfinished` are what was true when the snapshot had been taken.
    ///
    /// The queue may hold what was committed since, too: its word on the flow is the later one, and if that was the
    /// flow's last change, no other will come.
    fn of(events: &mut mpsc::Receiver<WatchEvent>, commit: Commit, unfinished: Option<u64>) -> Self {
        let mut meanwhile = Self { changes: Vec::new(), commit, unfinished };
        let mut changes = Vec::new();
        while let Ok(event) = events.try_recv() {
            meanwhile.commit = meanwhile.commit.max(event.commit);
            meanwhile.unfinished = Some(event.flow_unfinished);
            changes.extend(event.changes);
        }
        meanwhile.changes = coalesce(changes);
        meanwhile
    }
}

fn response(commit: Commit, snapshot: bool, changes: Vec<v1::JobChange>) -> v1::WatchJobsResponse {
    v1::WatchJobsResponse { commit: commit.0, snapshot, changes, snapshot_end: false }
}

/// Keeps the last change of each job, in the order of first changes.
fn coalesce(changes: Vec<WatchedChange>) -> Vec<WatchedChange> {
    let mut places: HashMap<JobId, usize> = HashMap::with_capacity(changes.len());
    let mut kept: Vec<WatchedChange> = Vec::with_capacity(changes.len());
    for change in changes {
        match places.get(&change.job) {
            Some(place) => kept[*place] = change,
            None => {
                places.insert(change.job, kept.len());
                kept.push(change);
            }
        }
    }
    kept
}

fn is_final(status: i32) -> bool {
    match v1::JobStatus::try_from(status) {
        Ok(
            v1::JobStatus::Done
            | v1::JobStatus::Failed
            | v1::JobStatus::UpstreamFailed
            | v1::JobStatus::Cancelled
            | v1::JobStatus::Skipped,
        ) => true,
        Ok(
            v1::JobStatus::Unspecified
            | v1::JobStatus::Pending
            | v1::JobStatus::Ready
            | v1::JobStatus::Running,
        )
        | Err(_) => false,
    }
}

fn change_of_job(job: v1::Job) -> v1::JobChange {
    v1::JobChange {
        job_id: job.job_id,
        status: job.status,
        attempt: job.attempt,
        outputs: Vec::new(),
        outputs_omitted: false,
        failure_id: job.failure_id,
        cause_job_id: job.cause_job_id,
        failure_message: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::Attempt;

    use super::*;

    fn change(job: u8, status: Status) -> WatchedChange {
        WatchedChange {
            job: JobId::new([job; 16]),
            status,
            attempt: Attempt(1),
            cause: None,
            failure: None,
            failure_message: None,
            outputs: None,
        }
    }

    fn event(commit: u64, changes: Vec<WatchedChange>, flow_unfinished: u64) -> WatchEvent {
        WatchEvent { commit: Commit(commit), changes, flow_unfinished }
    }

    #[test]
    fn a_flow_that_ends_right_behind_its_snapshot_is_seen_to_end() {
        let done = Status::Final(FinalStatus::Done);
        let (queue, mut events) = mpsc::channel(4);
        queue.try_send(event(6, vec![change(1, Status::Running)], 2)).unwrap();
        // Committed after the flow was asked how many jobs are unfinished, and the answer was 2.
        queue.try_send(event(8, vec![change(1, done), change(2, done)], 0)).unwrap();
        let meanwhile = Meanwhile::of(&mut events, Commit(7), Some(2));
        assert_eq!((meanwhile.commit, meanwhile.unfinished), (Commit(8), Some(0)));
        let seen: Vec<_> = meanwhile.changes.iter().map(|change| (change.job, change.status)).collect();
        assert_eq!(seen, [(JobId::new([1; 16]), done), (JobId::new([2; 16]), done)]);
    }

    #[test]
    fn nothing_meanwhile_leaves_what_the_snapshot_said() {
        let (_queue, mut events) = mpsc::channel(4);
        let meanwhile = Meanwhile::of(&mut events, Commit(7), Some(2));
        assert_eq!((meanwhile.commit, meanwhile.unfinished), (Commit(7), Some(2)));
        assert!(meanwhile.changes.is_empty());
    }
}
