//! Waits for the ends of a flow's jobs, on one watch for all of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mycelium_proto::v1::{self, JobStatus};
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::client::{JobWatch, Mycelium};
use crate::error::Error;
use crate::ids::{FlowId, JobId};
use crate::tasks::Task;

/// The most bytes of ends that are kept. Beyond that the oldest are evicted.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// About what an end takes beside its outputs.
const END_BYTES: usize = 200;

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) status: JobStatus,
    /// None if they have to be fetched.
    pub(super) outputs: Option<Vec<v1::NamedOutput>>,
    /// If FAILED: the first part of the failure's message.
    pub(super) failure_message: String,
    /// Tells this news from later news of the same job. 0: it was not kept.
    pub(super) serial: u64,
}

/// See the module.
pub(super) struct Results {
    mycelium: Mycelium,
    flow_id: FlowId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ends: HashMap<JobId, End>,
    /// The jobs of `ends`, oldest first. May name some that are gone, and some twice.
    order: VecDeque<JobId>,
    bytes: usize,
    serial_last: u64,
    /// Whether ends were evicted: then a job that is not among `ends` may have ended all the same.
    has_evicted: bool,
    waiting: HashMap<JobId, Vec<oneshot::Sender<Result<End, Error>>>>,
    /// None: no watch runs.
    watch: Option<Task>,
}

impl Results {
    pub(super) fn new(mycelium: Mycelium, flow_id: FlowId) -> Arc<Self> {
        Arc::new(Self { mycelium, flow_id, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a job.
    pub(super) async fn wait(self: &Arc<Self>, job_id: JobId) -> Result<End, Error> {
        let (end, may_have_ended) = {
            let mut state = self.state();
            if let Some(end) = state.ends.get(&job_id) {
                return Ok(end.clone());
            }
            let (tell, end) = oneshot::channel();
            let waiting = state.waiting.entry(job_id).or_default();
            // Waiters that gave up are removed here, so that asking again and again does not accumulate them.
            waiting.retain(|waiting| !waiting.is_closed());
            waiting.push(tell);
            self.start_watch(&mut state);
            (end, state.has_evicted)
        };
        if may_have_ended {
            let outputs = self.mycelium.outputs_unread(job_id).await?;
            if is_final(outputs.status()) {
                return Ok(End {
                    status: outputs.status(),
                    outputs: Some(outputs.outputs),
                    failure_message: String::new(),
                    serial: 0,
                });
            }
        }
        // Every waiter is told before it is dropped, but for those of a runtime that shuts down.
        end.await.unwrap_or_else(|_| {
            Err(Error::Protocol { message: "the watch of the flow was dropped with its runtime".to_owned() })
        })
    }

    /// Whether it is known how a job ended.
    pub(super) fn has_end(&self, job_id: JobId) -> bool {
        self.state().ends.contains_key(&job_id)
    }

    /// Forgets how a job ended, because that is no longer true. Later news of it stay.
    pub(super) fn forget(&self, job_id: JobId, serial: u64) {
        let mut state = self.state();
        if state.ends.get(&job_id).is_some_and(|end| end.serial == serial) {
            state.remove(job_id);
        }
    }

    fn start_watch(self: &Arc<Self>, state: &mut State) {
        if state.watch.is_some() {
            return;
        }
        let watch = self.mycelium.watch_jobs(v1::WatchJobsRequest {
            scope: Some(v1::watch_jobs_request::Scope::FlowId(self.flow_id.to_wire())),
            include_outputs: true,
            final_only: true,
            ..v1::WatchJobsRequest::default()
        });
        let (results, waiting) = (Arc::downgrade(self), Arc::downgrade(self));
        state.watch =
            Some(Task::spawn(&Handle::current(), "watch of a flow", run_watch(results, watch), move || {
                if let Some(results) = waiting.upgrade() {
                    results
                        .on_watch_failed(&Error::Protocol { message: "the watch has panicked".to_owned() });
                }
            }));
    }

    fn on_changes(&self, changes: Vec<v1::JobChange>) {
        let mut state = self.state();
        for change in changes {
            let Ok(job_id) = JobId::try_from(change.job_id.as_ref()) else {
                tracing::warn!(flow_id = %self.flow_id, "a change without a valid job id is ignored");
                continue;
            };
            let status = change.status();
            if !is_final(status) {
                state.remove(job_id);
                continue;
            }
            let has_outputs = status == JobStatus::Done && !change.outputs_omitted;
            state.serial_last += 1;
            let serial = state.serial_last;
            state.insert(
                job_id,
                End {
                    serial,
                    status,
                    outputs: has_outputs.then_some(change.outputs),
                    failure_message: change.failure_message,
                },
            );
        }
    }

    /// The watch cannot go on. Whoever waits is told why; whoever asks after that begins a new one.
    fn on_watch_failed(&self, error: &Error) {
        let mut state = self.state();
        // The task that calls this awaits nothing more.
        state.watch = None;
        // The next watch begins with all that is final.
        for waiting in state.waiting.drain().flat_map(|(_, waiting)| waiting) {
            // A waiter may have gone.
            waiting.send(Err(error.clone())).ok();
        }
    }
}

async fn run_watch(results: Weak<Results>, mut watch: JobWatch) {
    loop {
        let message = watch.next().await;
        let Some(results) = results.upgrade() else { return };
        match message {
            Ok(Some(message)) => results.on_changes(message.changes),
            // Only a watch that asked for it ends by itself.
            Ok(None) => {
                return results.on_watch_failed(&Error::Protocol { message: "the watch ended".to_owned() });
            }
            Err(error) => return results.on_watch_failed(&error),
        }
    }
}

impl State {
    fn insert(&mut self, job_id: JobId, end: End) {
        if let Some(waiting) = self.waiting.remove(&job_id) {
            for waiting in waiting {
                // A waiter may have gone.
                waiting.send(Ok(end.clone())).ok();
            }
        }
        self.bytes += bytes_of(&end);
        match self.ends.entry(job_id) {
            Entry::Occupied(mut entry) => self.bytes -= bytes_of(&entry.insert(end)),
            Entry::Vacant(entry) => {
                entry.insert(end);
                self.order.push_back(job_id);
            }
        }
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if self.remove(oldest) {
                self.has_evicted = true;
            }
        }
    }

    fn remove(&mut self, job_id: JobId) -> bool {
        let removed = self.ends.remove(&job_id);
        self.bytes -= removed.as_ref().map_or(0, bytes_of);
        removed.is_some()
    }
}

fn bytes_of(end: &End) -> usize {
    let outputs =
        end.outputs.iter().flatten().map(|output| output.encoded_len() + size_of::<v1::NamedOutput>());
    END_BYTES + end.failure_message.len() + outputs.sum::<usize>()
}

fn is_final(status: JobStatus) -> bool {
    match status {
        JobStatus::Done
        | JobStatus::Failed
        | JobStatus::UpstreamFailed
        | JobStatus::Cancelled
        | JobStatus::Expired
        | JobStatus::Skipped => true,
        JobStatus::Unspecified
        | JobStatus::Pending
        | JobStatus::Ready
        | JobStatus::Assigned
        | JobStatus::Running => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn end(serial: u64, bytes: usize) -> End {
        let content = v1::payload::Content::Inline(Bytes::from(vec![b'1'; bytes]));
        let payload = v1::Payload { encoding: String::new(), content: Some(content) };
        let outputs = vec![v1::NamedOutput { name: "value".to_owned(), payload: Some(payload) }];
        End { status: JobStatus::Done, outputs: Some(outputs), failure_message: String::new(), serial }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        const BIG: usize = KEPT_BYTES_MAX / 4;
        let jobs: Vec<JobId> = (0..4).map(|_| JobId::generate()).collect();
        let mut state = State::default();
        for (serial, job_id) in (1..).zip(&jobs[..3]) {
            state.insert(*job_id, end(serial, BIG));
        }
        assert!(!state.has_evicted, "all three fit");
        // Later news of a job replaces the earlier, and takes no room beside it.
        state.insert(jobs[0], end(4, BIG));
        assert!(!state.has_evicted && state.ends.len() == 3);
        state.insert(jobs[3], end(5, BIG));
        assert!(state.has_evicted, "whoever waits for a job that is gone has to ask for it");
        assert!(!state.ends.contains_key(&jobs[0]), "the oldest made room");
        assert!(jobs[1..].iter().all(|job_id| state.ends.contains_key(job_id)));
        assert!(state.bytes <= KEPT_BYTES_MAX);
        for job_id in jobs {
            state.remove(job_id);
        }
        assert_eq!(state.bytes, 0);
    }
}
