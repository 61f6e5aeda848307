//! Assembles the arguments of assigned jobs, off the task that owns the core.
//!
//! Most take little: they are assembled and sent in the order of assignment. What takes more steps aside, so that
//! neither the jobs behind it nor those of other flows wait for it, is computed when it is its flow's turn, and is sent as
//! the newest assignment then, with a number of its own from the core.

mod checkpoints;
mod fit;
mod inputs;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mycelium_core::command::Command;
use mycelium_core::effects::Assignment;
use mycelium_core::ids::{AssignNumber, Attachment, FlowId, SessionId, Token};
use mycelium_proto::v1::{self, payload};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::operands::OUTPUTS_BYTES_MAX;
use super::payloads::Payloads;
use super::quick::QUICK_OUTPUTS_BYTES;
use super::tasks::Tasks;
use crate::broker::{Assigned, Body, CallError, FailureBody, Handle, Party, StreamId};
use crate::defect::{self, Defect};
use crate::fair::{Turn, Turns};
use crate::report::Report;
use crate::store::{BlobRole, BlobUse};
use crate::values::Derived;
use checkpoints::Checkpoints;
use inputs::{DerivedAssignments, Failures, Inputs, Read, TooMuch};

/// A message grows to about so many bytes of arguments before the next begins.
const ASSIGN_BYTES_TARGET: usize = 1024 * 1024;
/// A message grows to at most so many assignments.
const ASSIGNMENTS_PER_MESSAGE: usize = 1_024;
/// How many assignments are read from the store at once.
const CHUNK: usize = 256;
/// Up to so many assignments are assembled without switching threads.
const COMPUTED_HERE_MAX: usize = 16;
/// So many that have stepped aside are computed at once for one stream, or wait to be sent there: an elf that reads
/// slowly must not make the broker hold more for it.
const ASIDE_AT_ONCE: usize = 16;

/// One message, in the order of what was assigned.
pub(crate) enum Dispatched {
    Assign {
        assignments: Vec<v1::Assignment>,
        /// The number of the last assignment in it.
        last: AssignNumber,
        /// About how many bytes it takes.
        bytes: usize,
    },
    /// Of attempts that were assigned before.
    Recall(Vec<Token>),
}

/// Assembles arguments, in the order of assignment but for what steps aside.
pub(crate) struct Dispatcher {
    handle: Handle,
    session: SessionId,
    stream: StreamId,
    out: mpsc::Sender<Dispatched>,
    /// What has stepped aside and is not computed yet.
    aside: JoinSet<Result<Computed, CallError>>,
    aside_turns: Turns<FlowId>,
    /// What is computed, as it was told to the core: each is answered with what is still wanted of it.
    announced: VecDeque<Vec<Computed>>,
    /// What outcomes will be held against.
    tasks: Arc<Tasks>,
}

/// An attempt that had stepped aside, with its arguments.
struct Computed {
    token: Token,
    result: Result<v1::Assignment, FailureBody>,
    /// Its place among those of the stream, until it is sent.
    _place: Turn<FlowId>,
}

/// What becomes of assignments that were looked at together.
#[derive(Default)]
struct Assembled {
    assignments: Vec<v1::Assignment>,
    failures: Vec<(Token, FailureBody)>,
    /// These do not fit what the instance declares.
    unfit: Vec<Token>,
    /// These take longer.
    delayed: Vec<Assignment>,
}

/// The stream is gone, or has to go because of a defect.
struct Gone(Option<Defect>);

impl Dispatcher {
    pub(crate) fn new(
        handle: Handle,
        session: SessionId,
        stream: StreamId,
        out: mpsc::Sender<Dispatched>,
        tasks: Arc<Tasks>,
    ) -> Self {
        let aside_turns = Turns::new(ASIDE_AT_ONCE);
        let announced = VecDeque::new();
        Self { handle, session, stream, out, aside: JoinSet::new(), aside_turns, announced, tasks }
    }

    /// Runs until the owner of the core lets go of the stream, or the stream is gone.
    ///
    /// # Errors
    /// A defect, for which the stream has to end.
    pub(crate) async fn run(mut self, mut assigned: mpsc::Receiver<Assigned>) -> Result<(), Defect> {
        loop {
            let went_on = tokio::select! {
                assigned = assigned.recv() => match assigned {
                    Some(Assigned::New { assignments, first }) => self.dispatch(assignments, first).await,
                    Some(Assigned::Ready { tokens, first }) => self.send_ready(&tokens, first).await,
                    Some(Assigned::Recall { tokens }) => self.send_message(Dispatched::Recall(tokens)).await,
                    None => return Ok(()),
                },
                Some(computed) = self.aside.join_next() => {
                    self.announce(or_defect(computed)).await
                }
            };
            if let Err(Gone(why)) = went_on {
                return why.map_or(Ok(()), Err);
            }
        }
    }

    async fn dispatch(&mut self, mut assignments: Vec<Assignment>, first: AssignNumber) -> Result<(), Gone> {
        let mut number = first;
        while !assignments.is_empty() {
            let rest = assignments.split_off(assignments.len().min(CHUNK));
            let chunk = std::mem::replace(&mut assignments, rest);
            let n = chunk.len() as u64;
            self.tasks.assigned(&chunk);
            let assembled = self.assemble(chunk).await.map_err(|error| self.unread(&error))?;
            let last = AssignNumber(number.0 + n - 1);
            number = AssignNumber(number.0 + n);
            for (token, failure) in assembled.failures {
                self.fail(token, failure).await?;
            }
            for token in assembled.unfit {
                self.tasks.forget(token);
                self.tasks.spans().end([token]);
                let command = Command::Unfit { session: self.session, token };
                self.tell(command, Vec::new()).await?;
            }
            self.put_aside(assembled.delayed).await?;
            self.send(assembled.assignments, last).await?;
        }
        Ok(())
    }

    /// The attempts are not delivered. Closing the stream gives them back to the queue when the elf resumes without them.
    fn unread(&self, error: &CallError) -> Gone {
        match error {
            // It is in the log already.
            CallError::Defect(defect) => Gone(Some(*defect)),
            error => {
                tracing::error!(session = %self.session, error = %Report(error), "cannot read what to dispatch");
                Gone(None)
            }
        }
    }

    async fn fail(&self, token: Token, failure: FailureBody) -> Result<(), Gone> {
        self.tasks.forget(token);
        self.tasks.spans().came_to(token, "arguments", true);
        self.tasks.spans().end([token]);
        let command = Command::ArgumentsFailed { session: self.session, token, failure: Attachment(0) };
        self.tell(command, vec![Body::Failure(failure)]).await
    }

    async fn tell(&self, command: Command, bodies: Vec<Body>) -> Result<(), Gone> {
        self.handle.pass_on(self.session, self.stream, command, bodies).await.map_err(|_stopping| Gone(None))
    }

    async fn send(&self, assignments: Vec<v1::Assignment>, last: AssignNumber) -> Result<(), Gone> {
        for message in messages(assignments, last) {
            self.send_message(message).await?;
        }
        Ok(())
    }

    async fn send_message(&self, message: Dispatched) -> Result<(), Gone> {
        self.out.send(message).await.map_err(|_gone| Gone(None))
    }

    /// Lets assignments step aside. The core is told before anything that was assigned after them is sent.
    async fn put_aside(&mut self, delayed: Vec<Assignment>) -> Result<(), Gone> {
        if delayed.is_empty() {
            return Ok(());
        }
        let tokens = delayed.iter().map(|assignment| assignment.token).collect();
        self.tell(Command::ArgumentsDelayed { session: self.session, tokens }, Vec::new()).await?;
        for assignment in delayed {
            let (handle, turns) = (self.handle.clone(), self.aside_turns.clone());
            let tasks = Arc::clone(&self.tasks);
            let computed = async move {
                let place = turns.turn(assignment.flow, 1).await;
                let token = assignment.token;
                let result = compute(&handle, &tasks, assignment).await?;
                Ok(Computed { token, result, _place: place })
            };
            self.aside.spawn(async move { defect::catch_async("arguments put aside", computed).await? });
        }
        Ok(())
    }

    /// Tells the core what was computed, and all else that is there by now.
    async fn announce(&mut self, first: Result<Computed, CallError>) -> Result<(), Gone> {
        let mut ready = Vec::new();
        let mut next = Some(first);
        while let Some(computed) = next {
            let computed = computed.map_err(|error| self.unread(&error))?;
            match computed.result {
                Err(failure) => self.fail(computed.token, failure).await?,
                Ok(_) => ready.push(computed),
            }
            next = self.aside.try_join_next().map(or_defect);
        }
        if ready.is_empty() {
            return Ok(());
        }
        let tokens = ready.iter().map(|computed| computed.token).collect();
        self.announced.push_back(ready);
        self.tell(Command::ArgumentsReady { session: self.session, tokens }, Vec::new()).await
    }

    /// Sends what is still wanted of what was told first; `first` is its number.
    async fn send_ready(&mut self, tokens: &[Token], first: AssignNumber) -> Result<(), Gone> {
        let announced = self.announced.pop_front().unwrap_or_default();
        let mut by_token: HashMap<Token, Computed> =
            announced.into_iter().map(|computed| (computed.token, computed)).collect();
        let wanted: Vec<Computed> = tokens.iter().filter_map(|token| by_token.remove(token)).collect();
        let (assignments, places): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .filter_map(|Computed { result, _place: place, .. }| Some((result.ok()?, place)))
            .unzip();
        let last = AssignNumber(first.0 + (assignments.len() as u64).saturating_sub(1));
        let sent = self.send(assignments, last).await;
        drop(places);
        sent
    }

    /// Assembles what takes little.
    async fn assemble(&self, assignments: Vec<Assignment>) -> Result<Assembled, CallError> {
        let mut done = Assembled::default();
        // The first is the last.
        let mut parts = vec![assignments];
        while let Some(part) = parts.pop() {
            let is_short = part.len() <= COMPUTED_HERE_MAX;
            let Read { inputs, failures, unfit } =
                Inputs::read(&self.handle, part, &self.tasks, QUICK_OUTPUTS_BYTES).await?;
            done.failures.extend(failures);
            done.unfit.extend(unfit);
            match inputs {
                Ok(inputs) => {
                    let derived = if is_short {
                        inputs.derive_quickly()
                    } else {
                        self.handle.aside(move || Ok(inputs.derive_quickly())).await?
                    };
                    let DerivedAssignments { assignments, failures, delayed } = derived;
                    done.failures.extend(failures);
                    done.delayed.extend(delayed);
                    let (made, damaged) = make_payloads(&self.handle, assignments).await?;
                    done.assignments.extend(made);
                    done.failures.extend(damaged);
                }
                Err(TooMuch { mut assignments, .. }) => {
                    if assignments.len() == 1 {
                        done.delayed.append(&mut assignments);
                    } else {
                        let rest = assignments.split_off(assignments.len() / 2);
                        parts.extend([rest, assignments]);
                    }
                }
            }
        }
        Ok(done)
    }
}

/// As with what cannot be read, the stream goes, and comes again.
fn or_defect(joined: Result<Result<Computed, CallError>, JoinError>) -> Result<Computed, CallError> {
    joined.unwrap_or_else(|error| Err(Defect::of("arguments put aside", &error).into()))
}

/// Assembles what takes longer, when it is the flow's turn.
async fn compute(
    handle: &Handle,
    tasks: &Arc<Tasks>,
    assignment: Assignment,
) -> Result<Result<v1::Assignment, FailureBody>, CallError> {
    let turn = handle.turn(Party::Flow(assignment.flow)).await;
    let (elf, task) = (Arc::clone(&assignment.elf), Arc::clone(&assignment.task));
    // What has stepped aside has been judged.
    let Read { inputs, mut failures, unfit: _ } =
        Inputs::read(handle, vec![assignment], tasks, OUTPUTS_BYTES_MAX).await?;
    if let Some((_, failure)) = failures.pop() {
        return Ok(Err(failure));
    }
    let inputs = match inputs {
        Ok(inputs) => inputs,
        Err(TooMuch { failure, .. }) => return Ok(Err(failure.in_task(&elf, &task, Some("too large")))),
    };
    let (blobs, runtime) = (handle.blobs().clone(), tokio::runtime::Handle::current());
    let mut derived = handle.evaluate(turn, move || inputs.derive(&blobs, &runtime)).await??;
    if let Some((_, failure)) = derived.failures.pop() {
        return Ok(Err(failure));
    }
    let (mut made, mut damaged) = make_payloads(handle, derived.assignments).await?;
    let failure = damaged.pop().map(|(_, failure)| Err(failure));
    let made = made.pop().map(Ok).or(failure);
    made.ok_or_else(|| Defect::of("arguments put aside", &"what was computed has gone").into())
}

/// Turns values into payloads, and stores the uses of the blobs that are made for them. Attempts whose values are made of
/// damaged blobs fail.
async fn make_payloads(
    handle: &Handle,
    derived: Vec<(v1::Assignment, Token, Vec<Derived>)>,
) -> Result<(Vec<v1::Assignment>, Failures), CallError> {
    let mut made_of = Vec::with_capacity(derived.len());
    let mut failures = Failures::new();
    let mut uses = Vec::new();
    let mut checkpoints = Checkpoints::read(handle, derived.iter().map(|(_, token, _)| token.job)).await?;
    for (mut assignment, token, arguments) in derived {
        let (parameters, values): (Vec<_>, Vec<_>) =
            arguments.into_iter().map(|Derived { parameter, value }| (parameter, value)).unzip();
        let Payloads { payloads, made } = match Payloads::of(handle.blobs(), values).await {
            Err(error) if error.is_damage() => {
                failures.push((token, FailureBody::record_damaged(error.to_string())));
                continue;
            }
            made => made?,
        };
        let arguments = parameters.into_iter().zip(payloads);
        assignment.last_checkpoint = match checkpoints.take(token.job) {
            Ok(checkpoint) => checkpoint,
            Err(failure) => {
                failures.push((token, failure));
                continue;
            }
        };
        assignment.arguments = arguments
            .map(|(parameter, payload)| v1::ArgumentValue { parameter, payload: Some(payload) })
            .collect();
        let job = token.job;
        let role = BlobRole::Argument;
        uses.extend(made.iter().map(|blob| BlobUse { blob: blob.digest, job, role }));
        made_of.push(assignment);
    }
    // Before they are sent: an elf may take its time to read them.
    handle.change_blob_uses(uses, Vec::new()).await?;
    Ok((made_of, failures))
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
            let assignments = std::mem::take(&mut current);
            messages.push(Dispatched::Assign { assignments, last: AssignNumber(0), bytes });
            bytes = 0;
        }
        bytes += size;
        current.push(assignment);
    }
    if !current.is_empty() {
        messages.push(Dispatched::Assign { assignments: current, last, bytes });
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
        + assignment.last_checkpoint.as_ref().map_or(0, prost::Message::encoded_len)
        + assignment.trace.as_ref().map_or(0, prost::Message::encoded_len)
        + 128
}
