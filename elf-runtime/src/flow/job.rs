//! A job that a flow has recorded.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Recording;
use crate::ids::JobId;
use crate::output::Output;
use crate::value::{Node, Value};

/// A job that a flow has recorded: one call of a task that returns a `T`. It stands wherever a [`Value<T>`] does, as
/// the whole of what the task returns. Cheap to clone.
///
/// The fields of a derived struct are values by methods of their names: `job.weight()`. Where such a name is taken by
/// a method of this type (`id`, `after`, `priority`, `output`, `value`, `fields`, `clone`), the field is reached
/// through [`Job::fields`].
pub struct Job<T: Output> {
    recorded: Arc<RecordedJob>,
    value: Value<T>,
}

/// What clones of a job, and the values that come from it, share.
pub(crate) struct RecordedJob {
    id: JobId,
    /// Its place in its flow, from 0.
    number: u64,
    recording: Arc<Recording>,
}

impl RecordedJob {
    pub(super) fn new(id: JobId, number: u64, recording: Arc<Recording>) -> Self {
        Self { id, number, recording }
    }

    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    pub(super) fn is_of(&self, recording: &Arc<Recording>) -> bool {
        Arc::ptr_eq(&self.recording, recording)
    }

    /// Whether the broker has acknowledged it.
    pub(super) fn is_submitted(&self) -> bool {
        self.number < self.recording.lock().submitted
    }
}

impl<T: Output> Job<T> {
    pub(super) fn new(recorded: Arc<RecordedJob>) -> Self {
        let value = Value::from_node(Node::output(Arc::clone(&recorded), ""));
        Self { recorded, value }
    }

    /// Its id, chosen when it was recorded.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.recorded.id
    }

    /// Makes it wait for another job, beyond those that its values come from. Both of the same flow, or the other one
    /// submitted already.
    ///
    /// To be said before the flow is submitted: later, the next submission says that it came too late.
    pub fn after<U: Output>(self, other: &Job<U>) -> Self {
        let RecordedJob { number, recording, .. } = &*self.recorded;
        recording.change(*number, |spec| spec.after.push(other.id().to_wire()));
        if !other.recorded.is_of(recording) {
            recording.lock().foreign.push((*number, Arc::clone(&other.recorded)));
        }
        self
    }

    /// Sets its priority; 0 if not set. Of the jobs that are ready, an elf gets the one with the highest priority, and
    /// of several the one that was submitted first.
    ///
    /// To be said before the flow is submitted: later, the next submission says that it came too late.
    pub fn priority(self, priority: i32) -> Self {
        self.recorded.recording.change(self.recorded.number, |spec| spec.priority = priority);
        self
    }

    /// The output of this name, whatever its type. [`Value::typed`] makes it one of a type.
    #[must_use]
    pub fn output(&self, name: impl Into<Cow<'static, str>>) -> Value<serde_json::Value> {
        Value::from_node(Node::output(Arc::clone(&self.recorded), name))
    }

    /// The whole of what it returns.
    #[must_use]
    pub fn value(&self) -> &Value<T> {
        &self.value
    }

    /// The fields of what it returns.
    #[must_use]
    pub fn fields(&self) -> &T::Fields {
        self.value.fields()
    }
}

impl<T: Output> Clone for Job<T> {
    fn clone(&self) -> Self {
        Self { recorded: Arc::clone(&self.recorded), value: self.value.clone() }
    }
}

impl<T: Output> Deref for Job<T> {
    type Target = T::Fields;

    fn deref(&self) -> &T::Fields {
        self.value.fields()
    }
}

impl<T: Output> fmt::Display for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Output> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job<{}>({})", crate::type_name::short(std::any::type_name::<T>()), self.id())
    }
}
