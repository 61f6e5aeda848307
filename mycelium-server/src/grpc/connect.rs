//! The stream of one instance: a reader that passes on what the elf says, a dispatcher that assembles arguments,
//! and a writer that numbers what goes out. Control messages never wait behind arguments.

mod process;
mod reader;
mod shared;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use mycelium_core::effects::Reply;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, connect_request};
use tokio::sync::{SetOnce, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::declare::{Declared, complete_revisions, declared, protocol, secret_digest, signatures};
use super::{about, convert};
use crate::access::Pass;
use crate::broker::{CallError, Confirming, HelloMessage, Process, StreamAttachment};
use crate::compute::{Dispatcher, Tasks};
use crate::defect::Defect;
use crate::error::Error;
use crate::mycelia::Mycelia;
use crate::spawn::{OnStop, TaskGroup, guarded};
use crate::trace::Attempts;
use process::SeenProcess;
use reader::Reader;
use shared::Shared;
use writer::Writer;

/// How many messages from the owner of the core may wait for a stream. An elf that reads so slowly that more come
/// together is cut off; windows bound what can wait in them.
const OUTBOX_MAX: usize = 1_024;
/// How many messages may wait for the connection.
const OUTGOING_MAX: usize = 16;
/// How long a new stream may take to say `Hello`.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// From which version of the protocol on a session has a secret.
const PROTOCOL_WITH_SECRETS: u32 = 2;
/// How many random bytes the secret of a session has.
const SECRET_BYTES: usize = 32;

/// How many names of elves one line of the log shows.
const LOGGED_NAMES_MAX: usize = 4;

/// Opens the stream of an instance.
pub(crate) async fn connect(
    mycelia: Mycelia,
    drain: CancellationToken,
    brought: Arc<AtomicU64>,
    pass: Arc<Pass>,
    mut incoming: Streaming<v1::ConnectRequest>,
) -> Result<impl Stream<Item = Result<v1::ConnectResponse, Status>> + Send + 'static, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message()).await;
    let first = first.map_err(|_elapsed| Error::HelloOverdue { within: HELLO_WITHIN })??;
    let Some(v1::ConnectRequest { sequence, kind: Some(connect_request::Kind::Hello(mut hello)), .. }) =
        first
    else {
        return Err(Error::violation("the stream must begin with `Hello`").into());
    };
    let permitted = pass.to(&hello.mycelium)?;
    pass.covers(&hello.mycelium, hello.elves.iter().map(|elf| elf.name.as_str()))?;
    pass.counts(hello.elves.len() as u64);
    pass.is_about(&about::elves(&hello));
    let handle = mycelia.enter(permitted).await.map_err(|error| error.within("hello"))?;
    let permit = handle.admit_stream().map_err(Error::from)?;
    let asks = pass.can_be_lost();
    // A session of the first version is taken over by whoever knows its number.
    let oldest = if asks { PROTOCOL_WITH_SECRETS } else { 0 };
    let protocol = protocol(&hello, handle.config().protocol_min.max(oldest))?;
    complete_revisions(&mut hello);
    let mut declared = declared(&hello, handle.clock().now().wall)?;
    let secret = if protocol >= PROTOCOL_WITH_SECRETS { secret()? } else { Bytes::new() };
    declared.hello.secret_new = secret_digest(&secret);
    declared.hello.needs_secret = asks;
    let signatures = signatures(&handle, &hello.elves).await?;
    let declared_signatures = signatures.clone();
    let seen = SeenProcess::of(&hello);
    let confirming = Arc::new(Confirming::new(hello.confirms, handle.config().heartbeat_interval, brought));
    let versions = declared.versions();
    let hello_mycelium = std::mem::take(&mut hello.mycelium);
    let process = Process {
        id: hello.process_id,
        host: hello.host,
        elves: versions,
        build: hello.build,
        late_by: None,
    };
    let elves = hello.elves;

    let stream = handle.next_stream();
    let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
    let (assign, assigned) = mpsc::channel(OUTBOX_MAX);
    let Declared { hello, elves: elf_records, revisions, .. } = declared;
    let is_speaking = Arc::new(AtomicBool::new(false));
    let speaking = Arc::clone(&is_speaking);
    let end = Arc::new(SetOnce::new());
    let spans = Arc::new(Attempts::default());
    let attachment = StreamAttachment {
        stream,
        outbox,
        assigned: assign,
        end: Arc::clone(&end),
        is_speaking,
        confirming: Arc::clone(&confirming),
        spans: Arc::clone(&spans),
    };
    let answered = handle
        .hello(|reply| HelloMessage { hello, elves: elf_records, revisions, signatures, attachment, reply })
        .await
        .map_err(Error::from)?;
    let (Reply::Welcome { session, resumed, keep }, _) = answered else {
        let problem = "`Hello` was answered with another reply";
        return Err(Error::from(CallError::from(Defect::of("a reply of the scheduler", &problem))).into());
    };
    spans.keep(&keep);
    let tasks = Arc::new(Tasks::new(declared_signatures, spans));
    handle.processes().put(session, stream, process);
    let served =
        Served { mycelium: hello_mycelium, elves: elves.iter().map(|elf| elf.name.clone()).collect() };
    let elves = names(elves.iter().map(|elf| elf.name.as_str()));
    tracing::info!(%session, resumed, elves = elves.as_str(), "an elf connected");

    let shared = Arc::new(Shared::new(sequence));
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX);
    let closing = CancellationToken::new();
    let parts =
        Parts { group: handle.tasks().clone(), shared: Arc::clone(&shared), closing: closing.clone() };
    let (out, dispatched) = mpsc::channel(OUTGOING_MAX);
    let (faults, faults_receiver) = mpsc::channel(OUTGOING_MAX);
    let welcome = v1::Welcome {
        session: session.0,
        resumed,
        protocol,
        heartbeat_interval: Some(convert::duration(handle.config().heartbeat_interval)),
        lease: Some(convert::duration(handle.config().lease)),
        keep: keep.iter().map(convert::token).collect(),
        payload_bytes_max: limits::PAYLOAD_BYTES_MAX as u64,
        job_bytes_max: limits::JOB_BYTES_MAX as u64,
        message_bytes_max: limits::MESSAGE_BYTES_MAX as u64,
        // One that is resumed keeps the secret it has.
        session_secret: if resumed { Bytes::new() } else { secret },
        takes_bare_messages: true,
        takes_reports: true,
    };
    // The broker stops, or its caller may no longer serve.
    let drain = drain.child_token();
    let writer = Writer {
        outgoing,
        inbox,
        end,
        dispatched,
        faults: faults_receiver,
        shared: Arc::clone(&shared),
        confirming: Arc::clone(&confirming),
        drain: drain.clone(),
        tasks: Arc::clone(&tasks),
        sequence: 0,
    };
    let dispatcher = Dispatcher::new(handle.clone(), session, stream, out.clone(), Arc::clone(&tasks));
    // The writer takes the end of what is dispatched for a reason of its own, so it must not come before the defect.
    parts.spawn("the dispatcher of a stream", dispatcher.run(assigned), out);
    parts.spawn("the writer of a stream", writer.run(welcome, closing.clone(), permit), ());
    let (ending, gone) = (drain.clone(), closing.clone());
    let losing = Arc::clone(&pass);
    let told = Arc::clone(&parts.shared);
    let grace = handle.config().access_grace;
    let watch = async move {
        let lost = losing.lost(grace, |pass| served.is_allowed_by(pass));
        if let Some(lost) = gone.run_until_cancelled(lost).await {
            tracing::info!(%session, caller = %losing.caller().name(), ?lost, "an elf may no longer serve, and is sent away");
            told.give_up(lost.into());
            ending.cancel();
        }
        Ok(())
    };
    if asks {
        parts.spawn("the watch over who serves", watch, ());
    }
    let reader = Reader {
        pass,
        handle,
        session,
        elves,
        stream,
        process: seen,
        incoming,
        faults,
        shared,
        confirming,
        speaking,
        tasks,
    };
    parts.spawn("the reader of a stream", reader.run(drain, closing), ());
    Ok(ReceiverStream::new(outgoing_receiver))
}

/// The tasks of a stream.
struct Parts {
    group: TaskGroup,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

impl Parts {
    /// Runs one of them, and holds `keep` until it has ended. If it comes to a defect, or panics, the stream ends, and says
    /// why if its writer can.
    fn spawn(
        &self,
        what: &'static str,
        part: impl Future<Output = Result<(), Defect>> + Send + 'static,
        keep: impl Send + 'static,
    ) {
        let (shared, closing) = (Arc::clone(&self.shared), self.closing.clone());
        self.group.spawn(what, async move {
            let ended = guarded(what, OnStop::Finish, part).await.map_err(CallError::from);
            if let Err(error) = ended.and_then(|ended| Ok(ended?)) {
                shared.give_up(error.into());
                closing.cancel();
            }
            drop(keep);
        });
    }
}

/// What a stream serves, for the time when its caller may no longer do so.
struct Served {
    mycelium: String,
    elves: Vec<String>,
}

impl Served {
    fn is_allowed_by(&self, pass: &Pass) -> bool {
        pass.covers(&self.mycelium, self.elves.iter().map(String::as_str)).is_ok()
    }
}

/// The names of the elves of an instance as logs show them: the first few.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(LOGGED_NAMES_MAX);
    let mut text = names.take(LOGGED_NAMES_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A secret for a new session.
fn secret() -> Result<Bytes, Error> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(Bytes::copy_from_slice(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_name_the_first_elves_of_an_instance() {
        assert_eq!(names(["mean"].into_iter()), "mean");
        assert_eq!(names(["a", "b", "c", "d"].into_iter()), "a, b, c, d");
        assert_eq!(names(["a", "b", "c", "d", "e", "f"].into_iter()), "a, b, c, d and 2 more");
    }
}
