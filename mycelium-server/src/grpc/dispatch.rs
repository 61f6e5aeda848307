//! Puts the arguments of assigned jobs together, off the task that owns the core.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mycelium_core::command::Command;
use mycelium_core::effects::Assignment;
use mycelium_core::ids::{AssignNumber, Attachment, JobId, SessionId, Token};
use mycelium_proto::v1::{self, payload};
use tokio::runtime;
use tokio::sync::mpsc;

use super::convert;
use crate::blobs::Blobs;
use crate::broker::{
    Assigned, Body, CallError, FailureBody, Handle, Operands, Payloads, ReadOutputs, Report, StreamId,
    read_outputs, spec_of,
};
use crate::store::{BlobRole, BlobUse, Store, isolate};
use crate::values::{Derived, derive_arguments, has_operations, jobs_named};

/// A message grows to about so many bytes of arguments before the next begins.
const ASSIGN_BYTES_TARGET: usize = 1024 * 1024;
/// A message grows to at most so many assignments.
const ASSIGNMENTS_PER_MESSAGE: usize = 1_024;
/// How many assignments are read from the store at once.
const CHUNK: usize = 256;
/// Up to so many assignments are put together without switching threads.
const READ_HERE_MAX: usize = 16;

/// Assignments of one message.
pub(crate) struct Dispatched {
    pub(crate) assignments: Vec<v1::Assignment>,
    /// The number of the last assignment in it.
    pub(crate) last: AssignNumber,
}

/// Puts arguments together, in the order of assignment.
pub(crate) struct Dispatcher {
    pub(crate) handle: Handle,
    pub(crate) session: SessionId,
    pub(crate) stream: StreamId,
    pub(crate) assigned: mpsc::Receiver<Assigned>,
    pub(crate) out: mpsc::Sender<Dispatched>,
}

impl Dispatcher {
    /// Runs until the owner of the core lets go of the stream, or the stream is gone.
    pub(crate) async fn run(mut self) {
        while let Some(Assigned { assignments, first }) = self.assigned.recv().await {
            if !self.dispatch(assignments, first).await {
                break;
            }
        }
    }

    /// `false`: the stream is gone.
    async fn dispatch(&self, mut assignments: Vec<Assignment>, first: AssignNumber) -> bool {
        let mut number = first;
        while !assignments.is_empty() {
            let rest = assignments.split_off(assignments.len().min(CHUNK));
            let chunk = std::mem::replace(&mut assignments, rest);
            let n = chunk.len() as u64;
            let put_together = match self.put_together(chunk).await {
                Ok(put_together) => put_together,
                Err(error) => {
                    // The attempts are not delivered. Closing the stream gives them back to the queue when the elf
                    // resumes without them.
                    tracing::error!(session = %self.session, error = %Report(&error), "cannot read what to dispatch");
                    return false;
                }
            };
            let last = AssignNumber(number.0 + n - 1);
            number = AssignNumber(number.0 + n);
            for (token, failure) in put_together.failures {
                let command =
                    Command::ArgumentsFailed { session: self.session, token, failure: Attachment(0) };
                let bodies = vec![Body::Failure(failure)];
                if self.handle.pass_on(self.session, self.stream, command, bodies).await.is_err() {
                    return false;
                }
            }
            for message in messages(put_together.assignments, last) {
                if self.out.send(message).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    async fn put_together(&self, assignments: Vec<Assignment>) -> Result<PutTogether, CallError> {
        let mut done = PutTogether::default();
        // The first is the last.
        let mut parts = vec![assignments];
        while let Some(part) = parts.pop() {
            let is_short = part.len() <= READ_HERE_MAX;
            let read = move |store: &dyn Store| Inputs::read(store, part);
            let inputs = if is_short { self.handle.read_here(read)? } else { self.handle.read(read).await? };
            let (inputs, damaged) = inputs;
            done.failures.extend(damaged);
            match inputs {
                Ok(inputs) => {
                    let more = self.derive(inputs, is_short).await?;
                    done.assignments.extend(more.assignments);
                    done.failures.extend(more.failures);
                }
                Err(TooMuch { mut assignments, problem }) => match assignments.as_slice() {
                    [] => {}
                    [one] => done.failures.push((one.token, FailureBody::value_derivation(problem))),
                    _ => {
                        let rest = assignments.split_off(assignments.len() / 2);
                        parts.extend([rest, assignments]);
                    }
                },
            }
        }
        Ok(done)
    }

    async fn derive(&self, inputs: Inputs, is_short: bool) -> Result<PutTogether, CallError> {
        let blobs = self.handle.blobs().clone();
        let derived = if inputs.specs.iter().any(has_operations) {
            let runtime = tokio::runtime::Handle::current();
            self.handle.evaluate(move || inputs.derive(&blobs, &runtime)).await??
        } else if is_short {
            inputs.derive(&blobs, &tokio::runtime::Handle::current())?
        } else {
            let runtime = tokio::runtime::Handle::current();
            self.handle.read(move |_| inputs.derive(&blobs, &runtime)).await?
        };
        self.make_payloads(derived).await
    }

    /// Turns values into payloads, and stores the uses of the blobs that are made for them.
    async fn make_payloads(&self, derived: DerivedAssignments) -> Result<PutTogether, CallError> {
        let DerivedAssignments { assignments, failures } = derived;
        let mut done = PutTogether { assignments: Vec::with_capacity(assignments.len()), failures };
        let mut uses = Vec::new();
        for (mut assignment, token, arguments) in assignments {
            let (parameters, values): (Vec<_>, Vec<_>) =
                arguments.into_iter().map(|Derived { parameter, value }| (parameter, value)).unzip();
            let Payloads { payloads, made } = match Payloads::of(self.handle.blobs(), values).await {
                Err(error) if error.is_damage() => {
                    done.failures.push((token, FailureBody::record_damaged(error.to_string())));
                    continue;
                }
                made => made?,
            };
            let arguments = parameters.into_iter().zip(payloads);
            assignment.arguments = arguments
                .map(|(parameter, payload)| v1::ArgumentValue { parameter, payload: Some(payload) })
                .collect();
            let job = token.job;
            let role = BlobRole::Argument;
            uses.extend(made.iter().map(|blob| BlobUse { blob: blob.digest, job, role }));
            done.assignments.push(assignment);
        }
        // Before they are sent: an elf may take its time to read them.
        self.handle.change_blob_uses(uses, Vec::new()).await?;
        Ok(done)
    }
}

/// What the arguments of assignments are computed from.
struct Inputs {
    assignments: Vec<Assignment>,
    specs: Vec<v1::JobSpec>,
    outputs: ReadOutputs,
}

/// The values of all these are more than may be held at once, and why, in words.
struct TooMuch {
    assignments: Vec<Assignment>,
    problem: String,
}

/// Assignments without their arguments, and what those come to.
struct DerivedAssignments {
    assignments: Vec<(v1::Assignment, Token, Vec<Derived>)>,
    failures: Vec<(Token, FailureBody)>,
}

#[derive(Default)]
struct PutTogether {
    assignments: Vec<v1::Assignment>,
    failures: Vec<(Token, FailureBody)>,
}

/// Attempts that fail before they begin.
type Failures = Vec<(Token, FailureBody)>;

impl Inputs {
    /// Reads what assignments need. Those whose records are damaged fail, and the others go on.
    fn read(
        store: &dyn Store,
        assignments: Vec<Assignment>,
    ) -> Result<(Result<Self, TooMuch>, Failures), CallError> {
        let ids: Vec<JobId> = assignments.iter().map(|assignment| assignment.token.job).collect();
        let records = isolate(&ids, |ids| store.specs(ids))?;
        let mut readable = Vec::with_capacity(records.len());
        let mut specs = Vec::with_capacity(records.len());
        let mut sources: HashSet<JobId> = HashSet::new();
        let mut failures = Failures::new();
        for (assignment, record) in assignments.into_iter().zip(records) {
            match spec_of(assignment.token.job, record) {
                Ok((record, spec)) => {
                    if !spec.nodes.is_empty() {
                        sources.extend(&record.depends_on);
                    }
                    specs.push(spec);
                    readable.push(assignment);
                }
                Err(problem) => failures.push((assignment.token, FailureBody::record_damaged(problem))),
            }
        }
        let inputs = match read_outputs(store, sources)? {
            Ok(outputs) => Ok(Self { assignments: readable, specs, outputs }),
            Err(problem) => Err(TooMuch { assignments: readable, problem }),
        };
        Ok((inputs, failures))
    }

    fn derive(self, blobs: &Blobs, runtime: &runtime::Handle) -> Result<DerivedAssignments, CallError> {
        let Self { assignments, specs, outputs } = self;
        let mut done =
            DerivedAssignments { assignments: Vec::with_capacity(assignments.len()), failures: Vec::new() };
        for (assignment, spec) in assignments.into_iter().zip(specs) {
            let operands = Operands::new(blobs, runtime.clone());
            // A defect must not keep the jobs beside it, and this one for ever, from running.
            let derived =
                catch_unwind(AssertUnwindSafe(|| derive_arguments(&spec, &outputs.outputs, &operands)));
            if let Some(away) = operands.away() {
                return Err(away.into());
            }
            let derived = match derived {
                Ok(derived) => derived.map_err(|error| error.to_string()),
                Err(_panic) => {
                    Err("the broker could not compute the values: a defect of the broker".to_owned())
                }
            };
            match derived {
                Ok(arguments) => {
                    let message = v1::Assignment {
                        token: Some(convert::token(&assignment.token)),
                        elf: spec.elf,
                        task: spec.task,
                        arguments: Vec::new(),
                        flow_id: convert::id(assignment.flow.as_bytes()),
                    };
                    done.assignments.push((message, assignment.token, arguments));
                }
                Err(error) => {
                    let failure = match outputs.damage_of(&jobs_named(&spec)) {
                        Some(damage) => FailureBody::record_damaged(damage),
                        None => FailureBody::value_derivation(error).in_task(&spec.elf, &spec.task),
                    };
                    done.failures.push((assignment.token, failure));
                }
            }
        }
        Ok(done)
    }
}

/// Cuts assignments into messages of moderate size.
fn messages(assignments: Vec<v1::Assignment>, last: AssignNumber) -> Vec<Dispatched> {
    let mut messages = Vec::new();
    let mut current = Vec::new();
    let mut bytes = 0;
    for assignment in assignments {
        let size = size_of_arguments(&assignment);
        if !current.is_empty()
            && (bytes + size > ASSIGN_BYTES_TARGET || current.len() == ASSIGNMENTS_PER_MESSAGE)
        {
            // Only the last message tells that all has been sent: what it says of its predecessors is true as well.
            messages.push(Dispatched { assignments: std::mem::take(&mut current), last: AssignNumber(0) });
            bytes = 0;
        }
        bytes += size;
        current.push(assignment);
    }
    if !current.is_empty() {
        messages.push(Dispatched { assignments: current, last });
    }
    messages
}

fn size_of_arguments(assignment: &v1::Assignment) -> usize {
    let payloads = assignment.arguments.iter().filter_map(|argument| argument.payload.as_ref());
    payloads
        .map(|payload| match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes.len() + 32,
            Some(payload::Content::Blob(_)) | None => 32,
        })
        .sum::<usize>()
        + 128
}
