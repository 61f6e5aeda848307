//! A job that a flow has recorded.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use mycelium_proto::v1;

use super::recording::Recording;
use crate::ids::JobId;
use crate::output::Output;
use crate::recorded::RecordedJob;
use crate::value::node::Node;
use crate::value::{IntoValue, Value, stands_for_a_value};

/// A job that a flow has recorded: one call of a task that returns a `T`. It stands wherever a [`Value<T>`] does, as
/// the whole of what the task returns. Cheap to clone.
///
/// The fields of a derived struct are values by methods of their names: `job.weight()`. Where such a name is taken by
/// a method of this type (`id`, `after`, `priority`, `run_if`, `with_label`, `queue_timeout`, `run_timeout`,
/// `total_timeout`, `progress_timeout`, `retry`, `not_before`, `delay`, `output`, `value`, `fields`, `clone`), the field is
/// reached through [`Job::fields`].
pub struct Job<T: Output> {
    recorded: Arc<RecordedJob>,
    /// Where it can be changed until it is submitted.
    recording: Arc<Recording>,
    value: Value<T>,
}

impl<T: Output> Job<T> {
    pub(super) fn new(recording: Arc<Recording>, recorded: Arc<RecordedJob>) -> Self {
        let value = Value::from_node(Node::output(Arc::clone(&recorded), ""));
        Self { recorded, recording, value }
    }

    /// The job of a `for_each`, seen from outside of the closure that recorded it.
    pub(super) fn gathered(&self) -> Job<Vec<T>>
    where
        Vec<T>: Output,
    {
        Job::new(Arc::clone(&self.recording), Arc::new(self.recorded.gathered()))
    }

    /// Its id, chosen when it was recorded.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.recorded.id()
    }

    /// Makes it wait for another job, beyond those that its values come from. Both of the same flow, or the other one
    /// submitted already.
    ///
    /// To be called before the flow is submitted: later, the next submission fails with
    /// [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn after<U: Output>(self, other: &Job<U>) -> Self {
        let number = self.recorded.number();
        self.recording.change(number, |spec| spec.after.push(other.id().to_wire()));
        if !other.recorded.is_of(self.recording.mark()) {
            self.recording.lock().foreign.push((number, Arc::clone(&other.recorded)));
        }
        self
    }

    /// Sets its priority; 0 if not set. Of the jobs that are ready, an elf gets the one with the highest priority, and
    /// of several the one that was submitted first.
    ///
    /// To be called before the flow is submitted: later, the next submission fails with
    /// [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn priority(self, priority: i32) -> Self {
        self.recording.change(self.recorded.number(), |spec| spec.priority = priority);
        self
    }

    /// Gives it a label, by which it can be found again: a key of 1 to 64 bytes and a value of at most 255, and at most 16 of
    /// them. A key that is given twice has its last value.
    ///
    /// To be called before the flow is submitted: later, the next submission fails with
    /// [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    pub fn with_label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.recording.label(Some(self.recorded.number()), key.into(), value.into());
        self
    }

    /// Makes it run only if a condition holds. The broker computes that when all that the job waits for has ended. If it
    /// comes to false the job ends SKIPPED, and so does every job that needs a value of it; one that only comes
    /// [`after`](Self::after) it, or takes another value in its place ([`Value::select`]), runs. Called more than once,
    /// all conditions have to hold.
    ///
    /// The condition of a job that a [`for_each`](super::Flow::for_each) runs is judged once, for all elements, and
    /// cannot use the element: filter the list.
    ///
    /// To be called before the flow is submitted: later, the next submission fails with
    /// [`AlreadySubmitted`](crate::ProblemKind::AlreadySubmitted).
    ///
    /// ```
    /// # use elf_runtime::{args, Flow, Value};
    /// # let flow = Flow::detached("docs");
    /// let weight: Value<i64> = flow.call("scale", "task_weigh", args! { species: "ant" }).output("weight").typed();
    /// let heavy = weight.greater_than(7);
    /// let crane = flow.call("crane", "task_lift", args! { weight: &weight }).run_if(&heavy);
    /// let hand = flow.call("hand", "task_lift", args! { weight: &weight }).run_if(!heavy.clone());
    /// let lifted = Value::select(heavy, &crane, &hand); // of the one that ran
    /// # let _ = lifted;
    /// ```
    pub fn run_if(self, condition: impl IntoValue<bool>) -> Self {
        self.recording.add_condition(self.recorded.number(), condition.into_value().node());
        self
    }

    /// The output of this name, whatever its type. [`Value::typed`] makes it one of a type.
    #[must_use]
    pub fn output(&self, name: impl Into<Cow<'static, str>>) -> Value<serde_json::Value> {
        Value::from_node(Node::output(Arc::clone(&self.recorded), name))
    }

    /// Changes its specification, if it is not submitted yet.
    pub(super) fn change_spec(&self, change: impl FnOnce(&mut v1::JobSpec)) {
        self.recording.change(self.recorded.number(), change);
    }

    pub(crate) fn recorded(&self) -> &Arc<RecordedJob> {
        &self.recorded
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

impl Job<serde_json::Value> {
    /// The job as one that returns a `T`. Nothing is checked here: if it returns none, asking for its result fails.
    ///
    /// A [`serde_json::Value`] holds integers of 64 bits and no wider ones; a `u128` or an `i128` does, and a
    /// `Json<Box<RawValue>>` ([`Json`](crate::Json), [`RawValue`](serde_json::value::RawValue)) every value as it was
    /// written.
    ///
    /// ```
    /// # use elf_runtime::{args, Flow, Job};
    /// # let flow = Flow::detached("docs");
    /// let count: Job<u128> = flow.call("counter", "task_count", args! {}).typed();
    /// ```
    #[must_use]
    pub fn typed<T: Output>(&self) -> Job<T> {
        Job::new(Arc::clone(&self.recording), Arc::clone(&self.recorded))
    }
}

impl<T: Output> Clone for Job<T> {
    fn clone(&self) -> Self {
        Self {
            recorded: Arc::clone(&self.recorded),
            recording: Arc::clone(&self.recording),
            value: self.value.clone(),
        }
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

impl<T: Output, Place> IntoValue<Vec<T>, Place> for Vec<Job<T>>
where
    Vec<T>: Output,
{
    fn into_value(self) -> Value<Vec<T>> {
        self.into_iter().collect()
    }
}

stands_for_a_value! {
    Job<T>, this => this.value().clone(), this.value().node();
    &Job<T>, this => this.value().clone(), this.value().node();
}
