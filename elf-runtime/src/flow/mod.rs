//! Recording a flow: calls of tasks become jobs, and nothing runs before `submit`.

mod condition;
mod for_each;
mod job;
mod problem;
mod submission;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use prost::Message as _;

use crate::client::Mycelium;
use crate::ids::{FlowId, JobId};
use crate::output::Output;
use crate::value::{Arguments, Node, flatten};

use for_each::OpenForEach;
pub use job::Job;
pub(crate) use job::RecordedJob;
pub use problem::{FlowError, Problem, ProblemKind};
pub(crate) use submission::Submission;

/// A flow while it is being recorded. Calls of tasks become jobs, operations on their values become value graphs, and
/// nothing runs before the flow is submitted; after that it can be added to and submitted again.
///
/// A flow can be shared between threads; clones record into the same flow. When the last of them is dropped while jobs
/// are recorded that were never submitted, the log warns.
///
/// ```
/// use elf_runtime::{machine_elf, Flow, Job, Output, TaskError};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Output, Serialize, Deserialize)]
/// struct Measurement { species: String, weight: i64 }
///
/// struct Scale;
/// #[machine_elf]
/// impl Scale {
///     async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
///         Ok(Measurement { weight: species.parse()?, species })
///     }
///     async fn task_print(&self, species: String, weight: i64) {
///         # let _ = (species, weight);
///     }
/// }
///
/// let flow = Flow::detached("daily report");  // with a broker: `mycelium.flow("daily report")`
/// let scale = Scale::tasks(&flow, "scale");
/// let m: Job<Measurement> = scale.task_weigh("bee");
/// scale.task_print(m.species(), m.weight());  // runs after task_weigh because its values say so
/// ```
#[derive(Clone)]
pub struct Flow {
    recorder: Arc<Recorder>,
}

/// What clones of a flow share, and the jobs recorded in it do not.
struct Recorder {
    recording: Arc<Recording>,
    /// Where it is submitted to; none in tests of code that records.
    client: Option<Mycelium>,
}

/// What clones of a flow, and the jobs recorded in it, share.
pub(crate) struct Recording {
    id: FlowId,
    name: String,
    state: Mutex<State>,
    /// Held for as long as a submission is under way, so that jobs reach the broker in the order they were recorded.
    submitting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    /// Jobs that are recorded and not submitted, in order.
    pending: Vec<v1::JobSpec>,
    /// The number of the first pending job, from 0; those before it have been taken to be submitted.
    pending_from: u64,
    /// How many jobs the broker has acknowledged.
    submitted: u64,
    /// Jobs of other flows that pending jobs need, with the number of the one that needs them.
    foreign: Vec<(u64, Arc<RecordedJob>)>,
    /// Literals of pending jobs that travel as blobs.
    large: Vec<LargeLiteral>,
    /// The closures of `for_each` that are being recorded, the innermost of a thread last.
    open: Vec<OpenForEach>,
    /// Mistakes that were made while recording.
    problems: FlowError,
}

/// A literal that travels as a blob. Its bytes are shared with the value that it was recorded from.
pub(crate) struct LargeLiteral {
    /// The number of the job in its flow.
    number: u64,
    /// The index of its node in the job's table.
    node: u32,
    bytes: Bytes,
}

impl Flow {
    /// A flow with no broker behind it, for tests of code that records.
    #[must_use]
    pub fn detached(name: impl Into<String>) -> Self {
        Self::recorded_for(None, name.into())
    }

    /// A flow that is submitted through this client.
    pub(crate) fn new(client: Mycelium, name: impl Into<String>) -> Self {
        Self::recorded_for(Some(client), name.into())
    }

    fn recorded_for(client: Option<Mycelium>, name: String) -> Self {
        let mut state = State::default();
        if name.len() > limits::NAME_BYTES_MAX {
            state
                .problems
                .push(Problem::of_flow(ProblemKind::InvalidName { what: "flow", name: name.clone() }));
        }
        let recording =
            Recording { id: FlowId::generate(), name, state: Mutex::new(state), submitting: Arc::default() };
        Self { recorder: Arc::new(Recorder { recording: Arc::new(recording), client }) }
    }

    pub(crate) fn recording(&self) -> &Arc<Recording> {
        &self.recorder.recording
    }

    /// Where it is submitted to; none if it is detached.
    pub(crate) fn client(&self) -> Option<&Mycelium> {
        self.recorder.client.as_ref()
    }

    /// Its id, chosen when it was made.
    #[must_use]
    pub fn id(&self) -> FlowId {
        self.recording().id
    }

    /// Its name, which need not be unique.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.recording().name
    }

    /// How many jobs are recorded and not yet submitted.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.recording().lock().pending.len()
    }

    /// Records a call of a task that this program was not compiled with. What it returns is not known here:
    /// [`Job::output`] gives its outputs by name.
    ///
    /// ```
    /// # use elf_runtime::{args, Flow};
    /// # let flow = Flow::detached("docs");
    /// let ant = flow.call("scale", "task_weigh", args! { species: "ant" });
    /// flow.call("animals data store", "task_save", args! { weight: ant.output("weight") });
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "`args!` is written in place")]
    pub fn call(&self, elf: &str, task: &str, arguments: Arguments) -> Job<serde_json::Value> {
        self.record(elf, task, &arguments)
    }

    pub(crate) fn record<T: Output>(&self, elf: &str, task: &str, arguments: &Arguments) -> Job<T> {
        Job::new(self.recording().record(elf, task, arguments.as_slice()))
    }

    /// Takes the jobs that are recorded to submit them. Waits for a submission that is under way.
    ///
    /// # Errors
    /// The mistakes that were made while recording.
    pub(crate) async fn begin_submission(&self) -> Result<Submission, FlowError> {
        let turn = Arc::clone(&self.recording().submitting).lock_owned().await;
        Submission::begin(Arc::clone(self.recording()), turn)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let Recording { id, name, state, .. } = &*self.recording;
        let pending = state.lock().unwrap_or_else(PoisonError::into_inner).pending.len();
        if pending > 0 && self.client.is_some() {
            tracing::warn!(
                flow = name.as_str(),
                flow_id = %id,
                jobs = pending,
                "a flow was dropped with jobs that were recorded and not submitted: they never run"
            );
        }
    }
}

impl Recording {
    /// The state; a thread that panicked while it held the lock left it whole, because every change is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker has acknowledged any job.
    pub(crate) fn has_submitted(&self) -> bool {
        self.lock().submitted > 0
    }

    fn record(
        self: &Arc<Self>,
        elf: &str,
        task: &str,
        arguments: &[(Cow<'static, str>, Node)],
    ) -> Arc<RecordedJob> {
        let mut foreign = Vec::new();
        let mut origin = |origin: &Arc<RecordedJob>| {
            if !origin.is_of(self) {
                foreign.push(Arc::clone(origin));
            }
        };
        // The closure of a `for_each` that this thread is in.
        let open = self.lock().open_here().map(|open| (open.scope(), open.list().clone()));
        let flattened = flatten(arguments, open.as_ref().map(|(scope, _)| *scope), &mut origin);
        let mut problem = None;
        let mut flattened = flattened.unwrap_or_else(|(parameter, kind)| {
            problem = Some((parameter, kind));
            crate::value::Flattened::default()
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
            after: Vec::new(),
            priority: 0,
            operations_version: flattened.operations_version,
            ..v1::JobSpec::default()
        };
        if let Some((_, list)) = &open {
            match crate::value::append(&mut spec, list, &mut origin) {
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
        Arc::new(RecordedJob::new(id, number, Arc::clone(self), open.is_some()))
    }

    /// Changes the specification of a job that is still pending.
    fn change(&self, number: u64, change: impl FnOnce(&mut v1::JobSpec)) {
        let state = &mut *self.lock();
        match state.pending_spec(number) {
            Some(spec) => change(spec),
            None => state.problems.push(Problem::of_flow(ProblemKind::AlreadySubmitted)),
        }
    }
}

impl State {
    /// Takes note of literals of a pending job that travel as blobs.
    fn add_large(&mut self, number: u64, large: Vec<(u32, Bytes)>) {
        self.large.extend(large.into_iter().map(|(node, bytes)| LargeLiteral { number, node, bytes }));
    }

    /// The specification of a job that is still pending.
    fn pending_spec(&mut self, number: u64) -> Option<&mut v1::JobSpec> {
        let index = number.checked_sub(self.pending_from)?;
        self.pending.get_mut(usize::try_from(index).ok()?)
    }
}

/// The most that the specification of one job takes on the wire: what a message takes, with room for the rest of it.
const SPEC_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - 64 * 1024;

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
