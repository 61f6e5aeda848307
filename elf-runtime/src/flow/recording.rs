//! What a flow has recorded: specifications, mistakes, and what is open while a closure is recorded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use prost::Message as _;
use tokio::sync::OwnedMutexGuard;

use crate::ids::{FlowId, JobId};
use crate::problem::{FlowError, Problem, ProblemKind};
use crate::recorded::{FlowMark, RecordedJob};
use crate::value::node::Node;
use crate::value::{Flattened, Scope, append, flatten};

/// What clones of a flow, and the jobs recorded in it, share.
pub(crate) struct Recording {
    mark: Arc<FlowMark>,
    name: String,
    state: Mutex<State>,
    /// Held for as long as a submission is under way, so that jobs reach the broker in the order they were recorded.
    submitting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
pub(super) struct State {
    /// Jobs that are recorded and not submitted, in order.
    pub(super) pending: Vec<v1::JobSpec>,
    /// The number of the first pending job, from 0; those before it have been taken to be submitted.
    pub(super) pending_from: u64,
    /// The flow's labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Jobs of other flows that pending jobs need, with the number of the one that needs them.
    pub(super) foreign: Vec<(u64, Arc<RecordedJob>)>,
    /// Literals of pending jobs that travel as blobs.
    pub(super) large: Vec<LargeLiteral>,
    /// The closures of `for_each` that are being recorded, the innermost of a thread last.
    pub(super) open: Vec<OpenForEach>,
    /// Mistakes that were made while recording.
    pub(super) problems: FlowError,
}

/// A literal that travels as a blob. Its bytes are shared with the value that it was recorded from.
pub(super) struct LargeLiteral {
    /// The number of the job in its flow.
    pub(super) number: u64,
    /// The index of its node in the job's table.
    pub(super) node: u32,
    pub(super) bytes: Bytes,
}

/// The closure of a `for_each` while it is being recorded.
pub(super) struct OpenForEach {
    /// The thread that it runs on: others may record into the same flow meanwhile.
    pub(super) thread: ThreadId,
    pub(super) scope: Scope,
    pub(super) list: Node,
    /// How many jobs it has recorded.
    pub(super) jobs: usize,
    /// The first of them.
    pub(super) first: Option<JobId>,
}

impl OpenForEach {
    pub(super) fn on_recorded(&mut self, job: JobId) {
        self.jobs += 1;
        self.first.get_or_insert(job);
    }
}

impl State {
    /// The innermost closure of a `for_each` that this thread is in.
    pub(super) fn open_here(&mut self) -> Option<&mut OpenForEach> {
        if self.open.is_empty() {
            return None;
        }
        let here = thread::current().id();
        self.open.iter_mut().rfind(|open| open.thread == here)
    }
}

impl Recording {
    pub(super) fn new(name: String) -> Arc<Self> {
        let mut state = State::default();
        if name.len() > limits::NAME_BYTES_MAX {
            let kind = ProblemKind::InvalidName { what: "flow", name: name.clone() };
            state.problems.push(Problem::of_flow(kind));
        }
        Arc::new(Self { mark: FlowMark::new(), name, state: Mutex::new(state), submitting: Arc::default() })
    }

    pub(super) fn mark(&self) -> &Arc<FlowMark> {
        &self.mark
    }

    pub(super) fn id(&self) -> FlowId {
        self.mark.id()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The turn of a submission: one is under way at a time.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.submitting).lock_owned().await
    }

    /// The state; a thread that panicked while it held the lock left it whole, because every change is one step.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker has acknowledged any job.
    pub(crate) fn has_submitted(&self) -> bool {
        self.mark.submitted() > 0
    }

    pub(super) fn record(
        &self,
        elf: &str,
        task: &str,
        arguments: &[(Cow<'static, str>, Node)],
    ) -> Arc<RecordedJob> {
        let mut foreign = Vec::new();
        let mut origin = |origin: &Arc<RecordedJob>| {
            if !origin.is_of(&self.mark) {
                foreign.push(Arc::clone(origin));
            }
        };
        // The closure of a `for_each` that this thread is in.
        let open = self.lock().open_here().map(|open| (open.scope, open.list.clone()));
        let flattened = flatten(arguments, open.as_ref().map(|(scope, _)| *scope), &mut origin);
        let mut problem = None;
        let mut flattened = flattened.unwrap_or_else(|(parameter, kind)| {
            problem = Some((parameter, kind));
            Flattened::default()
        });
        for (what, name) in [("elf", elf), ("task", task)] {
            if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
                problem = Some((None, ProblemKind::InvalidName { what, name: name.to_owned() }));
            }
        }

        let mut spec = v1::JobSpec {
            elf: elf.to_owned(),
            task: task.to_owned(),
            arguments: flattened.arguments,
            nodes: flattened.nodes,
            operations_version: flattened.operations_version,
            ..v1::JobSpec::default()
        };
        if let Some((_, list)) = &open {
            match append(&mut spec, list, &mut origin) {
                Ok(list) => {
                    spec.for_each = Some(v1::ForEach { list: list.node });
                    flattened.large.extend(list.large);
                }
                Err(kind) => problem = Some((None, ProblemKind::ForEachList(Box::new(kind)))),
            }
        }

        // The id is made under the lock, so that ids and places have the same order.
        let mut state = self.lock();
        let id = JobId::generate();
        spec.job_id = id.to_wire();
        let bytes = spec.encoded_len();
        if bytes > SPEC_BYTES_MAX {
            problem = Some((None, ProblemKind::ArgumentsTooLarge { bytes }));
        }
        if let Some((parameter, kind)) = problem {
            state.problems.push(Problem::new(elf, task, parameter, kind));
        }
        let number = state.pending_from + state.pending.len() as u64;
        state.pending.push(spec);
        state.add_large(number, flattened.large);
        state.foreign.extend(foreign.into_iter().map(|job| (number, job)));
        if let Some(open) = state.open_here() {
            open.on_recorded(id);
        }
        Arc::new(RecordedJob::new(id, number, Arc::clone(&self.mark), open.is_some()))
    }

    /// Gives a label to a job that is still pending, or to the flow.
    pub(super) fn label(&self, job: Option<u64>, key: String, value: String) {
        let state = &mut *self.lock();
        let labels = match job {
            Some(number) => state.pending_spec(number).map(|spec| &mut spec.labels),
            None => (state.pending_from == 0).then_some(&mut state.labels),
        };
        let Some(labels) = labels else {
            return state.problems.push(Problem::of_flow(ProblemKind::AlreadySubmitted));
        };
        let problem = if key.is_empty() || key.len() > limits::LABEL_KEY_BYTES_MAX {
            format!("a key has {} bytes, and 1 to {} are allowed", key.len(), limits::LABEL_KEY_BYTES_MAX)
        } else if value.len() > limits::LABEL_VALUE_BYTES_MAX {
            let most = limits::LABEL_VALUE_BYTES_MAX;
            format!("the value of `{key}` has {} bytes, and at most {most} are allowed", value.len())
        } else if labels.len() == limits::LABELS_MAX && !labels.contains_key(&key) {
            format!("there are more than {}", limits::LABELS_MAX)
        } else {
            labels.insert(key, value);
            return;
        };
        state.problems.push(Problem::of_flow(ProblemKind::Labels(problem)));
    }

    /// Changes the specification of a job that is still pending.
    pub(super) fn change(&self, number: u64, change: impl FnOnce(&mut v1::JobSpec)) {
        let state = &mut *self.lock();
        match state.pending_spec(number) {
            Some(spec) => change(spec),
            None => state.problems.push(Problem::of_flow(ProblemKind::AlreadySubmitted)),
        }
    }
}

impl State {
    /// Takes note of literals of a pending job that travel as blobs.
    pub(super) fn add_large(&mut self, number: u64, large: Vec<(u32, Bytes)>) {
        self.large.extend(large.into_iter().map(|(node, bytes)| LargeLiteral { number, node, bytes }));
    }

    /// The specification of a job that is still pending.
    pub(super) fn pending_spec(&mut self, number: u64) -> Option<&mut v1::JobSpec> {
        let index = number.checked_sub(self.pending_from)?;
        self.pending.get_mut(usize::try_from(index).ok()?)
    }
}

/// The most that the specification of one job takes on the wire: what a message takes, with room for the rest of it.
pub(super) const SPEC_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - 64 * 1024;
