//! `WatchJobs`: the state of jobs, then each change.

mod changes;
mod outgoing;
mod progress;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::Stream;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{Commit, FlowId, JobId};
use mycelium_core::status::Status;
use mycelium_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Status as RpcStatus;

use self::changes::{CHANGE_BYTES, Draft, assemble};
use self::outgoing::{MESSAGE_BYTES, Outgoing, Place, Room};
use self::progress::ProgressNews;
use super::convert;
use crate::broker::{
    CallError, Charge, Handle, Peer, Permit, WatchEvent, WatchEvents, WatchScope, WatchWants, WatchedChange,
};
use crate::error::Error;
use crate::queries::Job;
use crate::queries::jobs::find_all;
use crate::queries::list::{JobCursor, JobFilter, JobsPage, jobs_page};
use crate::spawn::{OnStop, guarded};
use crate::store::FinishedQuery;

/// The most changes in one message.
const CHANGES_PER_MESSAGE: usize = 1_000;

/// Begins a watch.
pub(crate) async fn watch(
    handle: Handle,
    drain: CancellationToken,
    peer: Peer,
    request: v1::WatchJobsRequest,
) -> Result<impl Stream<Item = Result<v1::WatchJobsResponse, RpcStatus>> + Send + 'static, Error> {
    use v1::watch_jobs_request::Scope;
    let permit = handle.admit_watch()?;
    let mut known = Some(0);
    let (scope, charge) = match &request.scope {
        Some(Scope::FlowId(id)) => {
            let flow = convert::flow_id("flow_id", id)?;
            known = unfinished_of(&handle, flow).await?;
            if known.is_none() && !request.may_come {
                return Err(Refusal::FlowNotFound(flow).into());
            }
            (WatchScope::Flow(flow), None)
        }
        Some(Scope::Jobs(jobs)) => {
            let ids = convert::job_ids("jobs.job_ids", &jobs.job_ids)?;
            let charge = handle.limits().watches().admit_jobs(peer, ids.len())?;
            for some in ids.chunks(CHANGES_PER_MESSAGE) {
                let found = find_all(&handle, some.to_vec()).await?;
                if let Some((id, _)) = some.iter().zip(found).find(|(_, found)| found.is_none()) {
                    return Err(Refusal::JobNotFound(*id).into());
                }
            }
            (WatchScope::Jobs(Arc::new(ids.into_iter().collect())), Some(charge))
        }
        None => return Err(Error::field("scope", "says nothing: give a flow or jobs")),
    };
    let (outgoing, messages) = outgoing::channel(handle.limits().watches().messages(peer));
    let unfinished = match &scope {
        WatchScope::Jobs(jobs) => Some(jobs.as_ref().clone()),
        WatchScope::Flow(_) => None,
    };
    let progress = ProgressNews::of(request.include_progress.then(|| Arc::clone(handle.board())));
    let mut watch = Watch {
        handle,
        peer,
        scope,
        wants: WatchWants { outputs: request.include_outputs, final_only: request.final_only },
        until_final: request.until_final,
        from: (request.from_commit != 0).then_some(Commit(request.from_commit)),
        known: Known { is_flow_there: known.is_some(), unfinished },
        outgoing,
        progress,
        _permit: permit,
        _charge: charge,
    };
    let tasks = watch.handle.tasks().clone();
    tasks.spawn("a watch", async move {
        let ended = guarded("a watch", OnStop::Cut(&drain), watch.run()).await;
        let ended = ended.unwrap_or_else(|unfinished| Err(unfinished.into()));
        if let Err(error) = ended
            // A watcher who has gone does not want to know.
            && let Some(place) = watch.outgoing.place().await
        {
            place.fail(Error::from(error).into());
        }
    });
    Ok(messages)
}

struct Watch {
    handle: Handle,
    peer: Peer,
    scope: WatchScope,
    wants: WatchWants,
    until_final: bool,
    from: Option<Commit>,
    known: Known,
    outgoing: Outgoing,
    progress: ProgressNews,
    _permit: Permit,
    _charge: Option<Charge>,
}

/// What is known of how far the watched jobs are.
struct Known {
    /// For a watch of a flow: whether it is there.
    is_flow_there: bool,
    /// For a watch of jobs: those not known to be final.
    unfinished: Option<HashSet<JobId>>,
}

impl Known {
    /// Takes note of changes.
    fn note(&mut self, changes: &[WatchedChange]) {
        self.is_flow_there |= !changes.is_empty();
        let Some(unfinished) = &mut self.unfinished else { return };
        for change in changes {
            match change.status {
                Status::Final(_) => unfinished.remove(&change.job),
                Status::Pending | Status::Ready | Status::Assigned | Status::Running => {
                    unfinished.insert(change.job)
                }
            };
        }
    }

    /// Whether all watched jobs are final once an event has been told.
    fn all_final(&self, event: &WatchEvent) -> bool {
        match (&self.unfinished, event.flow_unfinished) {
            (Some(unfinished), _) => unfinished.is_empty(),
            (None, Some(unfinished)) => unfinished == 0,
            // A flow that is there, and that the core knows nothing of, has ended.
            (None, None) => self.is_flow_there,
        }
    }
}

/// Whether a watch goes on as it is.
type Flow = ControlFlow<Break>;

/// Why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    /// It was cut off, and has to begin with a snapshot again.
    CutOff,
    /// All watched jobs are final, and that is what the caller waits for; or the caller has gone.
    Over,
}

const OVER: Flow = ControlFlow::Break(Break::Over);

impl Watch {
    /// Watches until all is done or the caller goes; begins again with a snapshot whenever it falls behind.
    ///
    /// Nothing is taken from the queue or the store before the transport asks for the message that it goes into.
    async fn run(&mut self) -> Result<(), CallError> {
        loop {
            let started = self.handle.watch(self.peer, self.scope.clone(), self.from, self.wants).await?;
            let mut flow = ControlFlow::Continue(());
            if !started.is_resumed {
                flow = self.snapshot(&started.events).await?;
            }
            while flow.is_continue() {
                flow = self.tell_next(&started.events, false).await?.0;
            }
            if flow == OVER {
                return Ok(());
            }
            // Cut off for falling behind, or because the core was rebuilt: a snapshot makes up for it.
            self.from = None;
        }
    }

    /// How many jobs of the watched flow are unfinished; `None` if a flow that has had none.
    async fn flow_unfinished(&self) -> Result<Option<u64>, CallError> {
        match self.scope {
            WatchScope::Flow(flow) => unfinished_of(&self.handle, flow).await,
            WatchScope::Jobs(_) => Ok(Some(0)),
        }
    }

    /// Sends the state of all watched jobs. Changes that happen meanwhile are waiting in `events`; they are merged in
    /// at the end, so that no job seems to go back.
    async fn snapshot(&mut self, events: &WatchEvents) -> Result<Flow, CallError> {
        let flow = match self.scope.clone() {
            WatchScope::Jobs(jobs) => self.snapshot_jobs(jobs.iter().copied().collect()).await?,
            WatchScope::Flow(flow) => self.snapshot_flow(flow).await?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
        let unfinished = self.flow_unfinished().await?;
        // Whatever was committed before the question just answered is in the queue by now.
        events.merge(self.handle.commit(), unfinished);
        loop {
            let (flow, has_ended) = self.tell_next(events, true).await?;
            if flow.is_break() || has_ended {
                return Ok(flow);
            }
        }
    }

    async fn snapshot_flow(&self, flow: FlowId) -> Result<Flow, CallError> {
        let filter = JobFilter {
            unfinished: (!self.wants.final_only)
                .then(|| mycelium_core::ListFilter { flow: Some(flow), ..Default::default() }),
            finished: Some(FinishedQuery { flow: Some(flow), ..FinishedQuery::default() }),
        };
        let mut cursor = JobCursor::START;
        loop {
            let Some(place) = self.outgoing.place().await else { return Ok(OVER) };
            let reading = self.handle.limits().watches().reading(self.peer).await;
            let room = place.room(MESSAGE_BYTES);
            let JobsPage { jobs, next, .. } =
                jobs_page(&self.handle, &filter, cursor, changes_max(&room)).await?;
            drop(reading);
            if self.send_jobs(jobs, place, room).await? == OVER {
                return Ok(OVER);
            }
            match next {
                Some(next) => cursor = next,
                None => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    async fn snapshot_jobs(&mut self, ids: Vec<JobId>) -> Result<Flow, CallError> {
        let mut ids = ids.as_slice();
        while !ids.is_empty() {
            let Some(place) = self.outgoing.place().await else { return Ok(OVER) };
            let reading = self.handle.limits().watches().reading(self.peer).await;
            let room = place.room(MESSAGE_BYTES);
            let (some, rest) = ids.split_at(changes_max(&room).min(ids.len()));
            let found = find_all(&self.handle, some.to_vec()).await?;
            drop(reading);
            let mut jobs = Vec::with_capacity(found.len());
            for (id, found) in some.iter().zip(found) {
                let Some(job) = found else { continue };
                if matches!(job.status(), Status::Final(_)) {
                    if let Some(unfinished) = &mut self.known.unfinished {
                        unfinished.remove(id);
                    }
                } else if self.wants.final_only {
                    continue;
                }
                jobs.push(job);
            }
            if self.send_jobs(jobs, place, room).await? == OVER {
                return Ok(OVER);
            }
            ids = rest;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Sends jobs as part of a snapshot, in as many messages as their outputs take.
    async fn send_jobs(
        &self,
        mut jobs: Vec<Job>,
        mut place: Place<'_>,
        mut room: Room,
    ) -> Result<Flow, CallError> {
        while !jobs.is_empty() {
            let outputs = self.wants.outputs;
            let drafts = jobs.iter().map(|job| Draft::of_job(job, outputs)).collect();
            let (changes, filled) = self.assemble(drafts, room).await?;
            jobs.drain(..changes.len().clamp(1, jobs.len()));
            place.send(response(Commit(0), true, changes), filled);
            if jobs.is_empty() {
                break;
            }
            let Some(next) = self.outgoing.place().await else { return Ok(OVER) };
            room = next.room(MESSAGE_BYTES);
            place = next;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for changes, and sends of the oldest event what fits one message; says too whether that was the rest of it.
    async fn tell_next(
        &mut self,
        events: &WatchEvents,
        is_snapshot: bool,
    ) -> Result<(Flow, bool), CallError> {
        let Some(place) = self.outgoing.place().await else { return Ok((OVER, false)) };
        let next = tokio::select! {
            biased;
            next = events.next() => next,
            told = self.progress.next(&self.scope), if !is_snapshot => {
                let room = place.room(told.bytes);
                place.send(told.message, room);
                return Ok((ControlFlow::Continue(()), false));
            }
            () = self.outgoing.closed() => return Ok((OVER, false)),
        };
        let Some(piece) = next else { return Ok((ControlFlow::Break(Break::CutOff), false)) };
        let Drafts { drafts, ends, n_seen, bytes } = self.draft(piece.changes());
        let room = place.room(bytes);
        let n_drafts = drafts.len();
        let (changes, room) = self.assemble(drafts, room).await?;
        let n_told = if changes.len() == n_drafts { n_seen } else { ends[changes.len() - 1] };
        self.known.note(&piece.changes()[..n_told]);
        let has_ended = n_told == piece.changes().len();
        let is_done = has_ended && self.until_final && self.known.all_final(piece.event());
        events.told(&piece, n_told);
        if !changes.is_empty() || (has_ended && (is_snapshot || is_done)) {
            let commit = if has_ended { piece.event().commit } else { Commit(0) };
            let snapshot_end = is_snapshot && has_ended;
            let response = v1::WatchJobsResponse { snapshot_end, ..response(commit, is_snapshot, changes) };
            place.send(response, room);
        } else {
            place.leave(room);
        }
        Ok((if is_done { OVER } else { ControlFlow::Continue(()) }, has_ended))
    }

    /// The first of some changes, of which the watcher wants to know, as many as a message may have.
    fn draft(&self, changes: &[WatchedChange]) -> Drafts {
        let mut drafts = Drafts::default();
        for change in changes {
            if drafts.drafts.len() == CHANGES_PER_MESSAGE || drafts.bytes >= MESSAGE_BYTES {
                break;
            }
            drafts.n_seen += 1;
            if self.wants.final_only && !matches!(change.status, Status::Final(_)) {
                continue;
            }
            let draft = Draft::of_change(change, self.wants.outputs);
            drafts.bytes += draft.bytes();
            drafts.drafts.push(draft);
            drafts.ends.push(drafts.n_seen);
        }
        drafts
    }

    /// Makes a message of the first of `drafts`, as far as there is room.
    async fn assemble(
        &self,
        drafts: Vec<Draft>,
        mut room: Room,
    ) -> Result<(Vec<v1::JobChange>, Room), CallError> {
        let _reading = match drafts.iter().any(Draft::is_to_be_read) {
            true => Some(self.handle.limits().watches().reading(self.peer).await),
            false => None,
        };
        let changes = assemble(&**self.handle.store(), drafts, &mut room).await?;
        Ok((changes, room))
    }
}

/// Changes on their way into a message.
#[derive(Default)]
struct Drafts {
    drafts: Vec<Draft>,
    /// For each, the number of changes up to it and with it.
    ends: Vec<usize>,
    /// How many changes were looked at.
    n_seen: usize,
    /// About how many bytes the message will take.
    bytes: usize,
}

/// How many changes there is room for.
fn changes_max(room: &Room) -> usize {
    (room.bytes() / CHANGE_BYTES).clamp(1, CHANGES_PER_MESSAGE)
}

/// How many jobs of a flow are unfinished; `None` if there is no such flow.
async fn unfinished_of(handle: &Handle, flow: FlowId) -> Result<Option<u64>, CallError> {
    let unfinished = handle.query(move |core, _| core.flow(flow).map(|view| view.n_unfinished()));
    match unfinished.await? {
        Some(unfinished) => Ok(Some(unfinished)),
        None => Ok(handle.store().flows(&[flow]).await?.pop().flatten().map(|_| 0)),
    }
}

fn response(commit: Commit, snapshot: bool, changes: Vec<v1::JobChange>) -> v1::WatchJobsResponse {
    v1::WatchJobsResponse { commit: commit.0, snapshot, changes, ..v1::WatchJobsResponse::default() }
}
