//! What the arguments of assignments are computed from, and computing them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mycelium_core::effects::Assignment;
use mycelium_core::ids::{JobId, Timestamp, Token};
use mycelium_proto::v1;
use tokio::runtime;
use tracing::Span;

use super::super::failed::Failed;
use super::super::operands::{Operands, ReadOutputs, read_outputs, spec_of};
use super::super::quick::{QUICK_SPLICED_BYTES, QUICK_TIME, QuickOperands};
use super::super::tasks::Tasks;
use super::fit;
use crate::blobs::Blobs;
use crate::broker::{CallError, FailureBody, Handle};
use crate::defect;
use crate::store::{Damage, SpecRecord, isolate};
use crate::trace::{self, Origin};
use crate::values::{Derived, DerivedValue, ReadBlob, derive_arguments, has_operations, jobs_named};

/// What the arguments of assignments are computed from.
pub(super) struct Inputs {
    assignments: Vec<Assignment>,
    specs: Vec<v1::JobSpec>,
    outputs: ReadOutputs,
    traced: HashMap<JobId, Traced>,
}

/// The values of all these are more than may be held at once; the failure of one that is so by itself.
pub(super) struct TooMuch {
    pub(super) assignments: Vec<Assignment>,
    pub(super) failure: FailureBody,
}

/// Assignments without their arguments, and what those come to.
#[derive(Default)]
pub(super) struct DerivedAssignments {
    pub(super) assignments: Vec<(v1::Assignment, Token, Vec<Derived>)>,
    pub(super) failures: Failures,
    /// These take longer than they may here.
    pub(super) delayed: Vec<Assignment>,
}

/// What was read for assignments, and what became of the others.
pub(super) struct Read {
    pub(super) inputs: Result<Inputs, TooMuch>,
    /// Their records are damaged.
    pub(super) failures: Failures,
    /// Their arguments do not fit what the instance declares.
    pub(super) unfit: Vec<Token>,
}

/// The specifications of assignments.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) readable: Vec<Assignment>,
    pub(super) specs: Vec<v1::JobSpec>,
    /// The jobs whose outputs their values may be made of.
    sources: HashSet<JobId>,
    /// In which traces those were submitted that were in one.
    traced: HashMap<JobId, Traced>,
    failures: Failures,
}

impl Decoded {
    fn of(
        assignments: Vec<Assignment>,
        records: Vec<Result<Option<SpecRecord>, Damage>>,
        now: Timestamp,
    ) -> Self {
        let mut decoded = Self {
            readable: Vec::with_capacity(records.len()),
            specs: Vec::with_capacity(records.len()),
            ..Self::default()
        };
        for (assignment, record) in assignments.into_iter().zip(records) {
            match spec_of(assignment.token.job, record) {
                Ok((record, spec)) => {
                    if let Some(origin) = Origin::of(&spec, record.head.submitted_at, now) {
                        decoded.traced.insert(record.head.id, Traced::of(origin, &assignment));
                    }
                    if !spec.nodes.is_empty() {
                        decoded.sources.extend(&record.depends_on);
                    }
                    decoded.specs.push(spec);
                    decoded.readable.push(assignment);
                }
                Err(failure) => decoded.failures.push((assignment.token, failure)),
            }
        }
        decoded
    }
}

/// An attempt of a job that was submitted in a trace.
struct Traced {
    origin: Origin,
    attempt: Span,
    /// Ends when its arguments are computed.
    dispatch: Span,
}

impl Traced {
    fn of(origin: Origin, Assignment { token, elf, task, .. }: &Assignment) -> Self {
        let attempt = origin.attempt(*token, elf, task);
        let dispatch = trace::dispatch(&attempt);
        Self { origin, attempt, dispatch }
    }

    fn told(self) -> (v1::TraceContext, bool) {
        drop(self.dispatch);
        self.origin.told(&self.attempt)
    }
}

/// Attempts that fail before they begin.
pub(super) type Failures = Vec<(Token, FailureBody)>;

impl Inputs {
    /// Reads what assignments need, at most `bytes_max` of what other jobs have returned. Those whose records are damaged
    /// fail, and the others go on.
    pub(super) async fn read(
        handle: &Handle,
        assignments: Vec<Assignment>,
        tasks: &Arc<Tasks>,
        bytes_max: usize,
    ) -> Result<Read, CallError> {
        let store = &**handle.store();
        let ids: Vec<JobId> = assignments.iter().map(|assignment| assignment.token.job).collect();
        let records = isolate(&ids, |ids| store.specs(ids)).await?;
        let bytes = records.iter().flatten().flatten().map(|record| record.body.len()).sum();
        let now = handle.clock().now().wall;
        let decoded = handle.work_on(bytes, move || Ok(Decoded::of(assignments, records, now))).await?;
        let (Decoded { readable, specs, sources, traced, failures }, unfit) =
            fit::judge(handle, tasks, decoded).await?;
        for assignment in readable.iter().filter(|_| !traced.is_empty()) {
            if let Some(traced) = traced.get(&assignment.token.job) {
                tasks.spans().begin(assignment.token, &traced.attempt);
            }
        }
        let inputs = match read_outputs(store, sources, bytes_max).await {
            Ok(outputs) => Ok(Self { assignments: readable, specs, outputs, traced }),
            Err(Failed::Permanent(failure)) => Err(TooMuch { assignments: readable, failure }),
            Err(Failed::Transient(error)) => return Err(error),
        };
        Ok(Read { inputs, failures, unfit })
    }

    /// Computes what takes little.
    pub(super) fn derive_quickly(self) -> DerivedAssignments {
        let Self { assignments, specs, outputs, mut traced } = self;
        let mut done = DerivedAssignments::default();
        let begun = Instant::now();
        for (assignment, spec) in assignments.into_iter().zip(specs) {
            let is_late = || begun.elapsed() > QUICK_TIME;
            if has_operations(&spec) && is_late() {
                done.delayed.push(assignment);
                continue;
            }
            let operands = QuickOperands::default();
            let derived = derive(&spec, &outputs, &operands);
            let takes_more = operands.takes_more() || derived.as_ref().is_ok_and(|values| is_large(values));
            if takes_more {
                done.delayed.push(assignment);
            } else {
                done.add(&assignment, spec, traced.remove(&assignment.token.job), derived);
            }
        }
        done
    }

    /// Computes all. Blocks.
    pub(super) fn derive(
        self,
        blobs: &Blobs,
        runtime: &runtime::Handle,
    ) -> Result<DerivedAssignments, CallError> {
        let Self { assignments, specs, outputs, mut traced } = self;
        let mut done = DerivedAssignments::default();
        for (assignment, spec) in assignments.into_iter().zip(specs) {
            let operands = Operands::new(blobs, runtime.clone());
            let derived = derive(&spec, &outputs, &operands);
            if let Some(unavailable) = operands.unavailable() {
                return Err(unavailable.into());
            }
            done.add(&assignment, spec, traced.remove(&assignment.token.job), derived);
        }
        Ok(done)
    }
}

impl DerivedAssignments {
    fn add(
        &mut self,
        assignment: &Assignment,
        spec: v1::JobSpec,
        traced: Option<Traced>,
        derived: Result<Vec<Derived>, FailureBody>,
    ) {
        match derived {
            Ok(arguments) => {
                let bytes = |id: &[u8; 16]| Bytes::copy_from_slice(id);
                let Token { job, attempt } = assignment.token;
                let token = v1::Token { job_id: bytes(job.as_bytes()), attempt: attempt.0 };
                let (trace, is_trace_linked) = traced.map(Traced::told).unzip();
                let message = v1::Assignment {
                    token: Some(token),
                    trace,
                    is_trace_linked: is_trace_linked.unwrap_or_default(),
                    elf: spec.elf,
                    task: spec.task,
                    arguments: Vec::new(),
                    flow_id: bytes(assignment.flow.as_bytes()),
                    priority: assignment.priority,
                    run_timeout: assignment.run_timeout.and_then(|run| run.try_into().ok()),
                    progress_timeout: assignment.progress_timeout.and_then(|within| within.try_into().ok()),
                    ..v1::Assignment::default()
                };
                self.assignments.push((message, assignment.token, arguments));
            }
            Err(failure) => self.failures.push((assignment.token, failure)),
        }
    }
}

fn derive(
    spec: &v1::JobSpec,
    outputs: &ReadOutputs,
    operands: &dyn ReadBlob,
) -> Result<Vec<Derived>, FailureBody> {
    // A defect must not keep the jobs beside it, and this one for ever, from running.
    let derived =
        defect::catch("the arguments of a job", || derive_arguments(spec, &outputs.outputs, operands));
    let (problem, what) = match derived {
        Ok(Ok(derived)) => return Ok(derived),
        Ok(Err(error)) => (error.to_string(), Some(error.what())),
        Err(defect) => (defect.to_string(), None),
    };
    Err(match outputs.damage_of(&jobs_named(spec)) {
        Some(failure) => failure,
        None => FailureBody::value_derivation(problem).in_task(&spec.elf, &spec.task, what.as_deref()),
    })
}

/// Whether it takes its time to write the blobs that these become.
fn is_large(values: &[Derived]) -> bool {
    let spliced = values.iter().map(|derived| match derived.value {
        DerivedValue::Payload(_) => 0,
        DerivedValue::Spliced { bytes, .. } => bytes,
    });
    spliced.sum::<u64>() > QUICK_SPLICED_BYTES
}
