//! Jobs that are run for each element of a list.

use std::sync::Arc;
use std::thread;

use super::job::Job;
use super::recorder::Flow;
use super::recording::{OpenForEach, Recording, State};
use crate::ids::JobId;
use crate::output::Output;
use crate::problem::{Problem, ProblemKind};
use crate::value::node::Node;
use crate::value::{Computed, Scope, Value};

impl Flow {
    /// Runs a task once for each element of a list, which need not be there yet: the broker makes a job of each element
    /// when it is. What that is follows from the closure, which is called once, while the flow is recorded, with an
    /// element that stands for all. It has to record exactly one job and to return it.
    ///
    /// What this returns is a job too. It waits for the jobs of the elements, and returns the list of what they
    /// returned, in order. If one of them does not end well, it ends UPSTREAM_FAILED because of it. An element whose job
    /// was SKIPPED, because it needs a value of a job that was, gives null: where that can be, read the list as one of
    /// `Option`s, with [`Value::untyped`] and [`Value::typed`].
    ///
    /// The settings of a job may be set on the job in the closure or on the job that this returns, with the same effect:
    /// they apply to all elements. At most 100,000 elements are possible; with more the job fails. A mistake
    /// is reported when the flow is submitted: a closure that records no job or several, an element or its job that is used
    /// elsewhere, a `for_each` in the closure of another one.
    ///
    /// ```
    /// use elf_runtime::{machine_elf, Flow, Job, Value};
    ///
    /// struct Scale;
    /// #[machine_elf]
    /// impl Scale {
    ///     async fn task_list(&self) -> Vec<String> {
    ///         vec!["bee".to_owned(), "dog".to_owned()]
    ///     }
    ///     async fn task_weigh(&self, species: String) -> i64 {
    ///         species.len() as i64
    ///     }
    ///     async fn task_report(&self, sum: i64) {
    ///         # let _ = sum;
    ///     }
    /// }
    ///
    /// let flow = Flow::detached("docs");
    /// let scale = Scale::tasks(&flow, "scale");
    /// let weights: Job<Vec<i64>> = flow.for_each(scale.task_list(), |species| scale.task_weigh(species));
    /// scale.task_report(weights.value().sum());
    /// ```
    pub fn for_each<L, T, R>(&self, list: L, closure: impl FnOnce(Value<T>) -> Job<R>) -> Job<Vec<R>>
    where
        L: Computed<Type = Vec<T>>,
        T: Output,
        R: Output,
    {
        self.for_each_indexed(list, |element, _index| closure(element))
    }

    /// As [`for_each`](Self::for_each), for closures that are given the element's position too, from 0.
    pub fn for_each_indexed<L, T, R>(
        &self,
        list: L,
        closure: impl FnOnce(Value<T>, Value<i64>) -> Job<R>,
    ) -> Job<Vec<R>>
    where
        L: Computed<Type = Vec<T>>,
        T: Output,
        R: Output,
    {
        let scope = Scope::fresh();
        let open = Open::new(self.recording(), scope, list.into_computed().node().clone());
        let input = |index| Node::body_input(scope, index);
        let job = closure(Value::from_node(input(0)), Value::from_node(input(1)));
        open.close(job.recorded().is_of(self.recording().mark()), job.id());
        job.gathered()
    }
}

/// Marks a closure as being recorded, until it is dropped.
struct Open<'a> {
    recording: &'a Arc<Recording>,
    scope: Scope,
}

impl<'a> Open<'a> {
    fn new(recording: &'a Arc<Recording>, scope: Scope, list: Node) -> Self {
        let mut state = recording.lock();
        if state.open_here().is_some() {
            state.problems.push(Problem::of_flow(ProblemKind::ForEachNested));
        }
        let thread = thread::current().id();
        state.open.push(OpenForEach { thread, scope, list, jobs: 0, first: None });
        Self { recording, scope }
    }

    fn take(&self, state: &mut State) -> Option<OpenForEach> {
        let place = state.open.iter().position(|open| open.scope == self.scope)?;
        Some(state.open.remove(place))
    }

    /// The closure has returned this job.
    fn close(self, is_of_flow: bool, returned: JobId) {
        let state = &mut *self.recording.lock();
        let Some(open) = self.take(state) else { return };
        let problem = if open.jobs == 1 && (!is_of_flow || open.first != Some(returned)) {
            Some(ProblemKind::ForEachReturns { job: returned })
        } else if open.jobs != 1 {
            Some(ProblemKind::ForEachJobs { count: open.jobs })
        } else {
            None
        };
        if let Some(kind) = problem {
            state.problems.push(Problem::of_flow(kind));
        }
        // To a closure around, it is a job that was recorded in it.
        if let Some(around) = state.open_here() {
            around.on_recorded(returned);
        }
    }
}

/// A closure that panics is not left open: the jobs that come later are none of its.
impl Drop for Open<'_> {
    fn drop(&mut self) {
        let state = &mut *self.recording.lock();
        self.take(state);
    }
}
