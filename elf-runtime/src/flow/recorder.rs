//! The flow that programs record into.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::job::Job;
use super::recording::Recording;
use super::submission::Submission;
use crate::client::Mycelium;
use crate::ids::FlowId;
use crate::output::Output;
use crate::problem::FlowError;
use crate::value::Arguments;

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
        Self { recorder: Arc::new(Recorder { recording: Recording::new(name), client }) }
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
        self.recording().id()
    }

    /// Its name, which need not be unique.
    #[must_use]
    pub fn name(&self) -> &str {
        self.recording().name()
    }

    /// Gives it a label, by which it can be found again: a key of 1 to 64 bytes and a value of at most 255, and at most 16 of
    /// them. A key that is given twice has its last value.
    ///
    /// To be called before it is submitted for the first time: later, the next submission fails.
    #[must_use]
    pub fn with_label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.recording().label(None, key.into(), value.into());
        self
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.recording().lock().labels.clone()
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
        let recording = Arc::clone(self.recording());
        let recorded = recording.record(elf, task, arguments.as_slice());
        Job::new(recording, recorded)
    }

    /// Takes the jobs that are recorded to submit them. Waits for a submission that is under way.
    ///
    /// # Errors
    /// The mistakes that were made while recording.
    pub(crate) async fn begin_submission(&self) -> Result<Submission, FlowError> {
        let turn = self.recording().turn().await;
        Submission::begin(Arc::clone(self.recording()), turn)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let pending = self.recording.lock().pending.len();
        if pending > 0 && self.client.is_some() {
            tracing::warn!(
                flow = self.recording.name(),
                flow_id = %self.recording.id(),
                jobs = pending,
                "a flow was dropped with jobs that were recorded and not submitted: they never run"
            );
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
