//! The contract spoken by hand: requests as a client of any language would make them, and an elf that says exactly
//! what a test tells it.

mod blobs;

use std::collections::VecDeque;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use elf_runtime::{Line, revision_of};
use futures::StreamExt as _;
use mycelium_proto::limits::{MESSAGE_BYTES_MAX, PROTOCOL_VERSION};
use mycelium_proto::v1::elf_service_client::ElfServiceClient;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, connect_request, connect_response, outcome, payload, value_node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::wait::must;

pub use blobs::*;

/// The generated client, on a connection of its own.
///
/// # Errors
/// If nobody answers.
pub async fn client(url: &str) -> anyhow::Result<MyceliumServiceClient<Channel>> {
    let client = MyceliumServiceClient::new(channel(url).await?);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(2 * MESSAGE_BYTES_MAX))
}

/// A connection of its own.
///
/// # Errors
/// If nobody answers.
pub async fn channel(url: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(url.to_owned())?.connect().await?)
}

/// A new id.
pub fn id() -> Bytes {
    Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes())
}

/// A payload of JSON text.
pub fn json(text: impl Into<String>) -> v1::Payload {
    let bytes = Bytes::from(text.into().into_bytes());
    v1::Payload { encoding: String::new(), content: Some(payload::Content::Inline(bytes)) }
}

/// A node with a literal.
pub fn literal(text: impl Into<String>) -> v1::ValueNode {
    v1::ValueNode { kind: Some(value_node::Kind::Literal(json(text))) }
}

/// A node with an output of a job.
pub fn output_of(job: &Bytes, name: &str) -> v1::ValueNode {
    let output = v1::OutputRef { job_id: job.clone(), name: name.to_owned() };
    v1::ValueNode { kind: Some(value_node::Kind::Output(output)) }
}

/// A job of `task_run`, which gives each of `nodes` for the parameter of the same place in `parameters`.
pub fn job(elf: &str, parameters: &[&str], nodes: Vec<v1::ValueNode>) -> v1::JobSpec {
    let arguments = parameters
        .iter()
        .zip(0..)
        .map(|(parameter, node)| v1::Argument { parameter: (*parameter).to_owned(), node })
        .collect();
    v1::JobSpec {
        job_id: id(),
        elf: elf.to_owned(),
        task: "task_run".to_owned(),
        arguments,
        nodes,
        ..v1::JobSpec::default()
    }
}

/// A submission of one part to a new flow.
pub fn submission(jobs: Vec<v1::JobSpec>) -> v1::SubmitJobsRequest {
    v1::SubmitJobsRequest {
        flow_id: id(),
        flow_name: "by hand".to_owned(),
        seal: true,
        jobs,
        ..v1::SubmitJobsRequest::default()
    }
}

/// A watch of a whole flow.
pub fn watch_flow(flow: &Bytes) -> v1::WatchJobsRequest {
    v1::WatchJobsRequest {
        scope: Some(v1::watch_jobs_request::Scope::FlowId(flow.clone())),
        ..v1::WatchJobsRequest::default()
    }
}

/// A watch of some jobs.
pub fn watch_jobs<'a>(jobs: impl IntoIterator<Item = &'a Bytes>) -> v1::WatchJobsRequest {
    let job_ids = jobs.into_iter().cloned().collect();
    v1::WatchJobsRequest {
        scope: Some(v1::watch_jobs_request::Scope::Jobs(v1::JobIds { job_ids })),
        ..v1::WatchJobsRequest::default()
    }
}

/// One job, as `GetJob` shows it.
///
/// # Errors
/// If the broker does not show it.
pub async fn get_job(client: &MyceliumServiceClient<Channel>, job: &Bytes) -> anyhow::Result<v1::Job> {
    let request = v1::GetJobRequest { job_id: job.clone(), ..v1::GetJobRequest::default() };
    client.clone().get_job(request).await?.into_inner().job.context("GetJob answers without a job")
}

/// Makes sure that an answer is this refusal: code, reason, domain, and the fields it names.
///
/// # Errors
/// If it is not.
pub fn expect_refusal<T>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
    fields: &[&str],
) -> anyhow::Result<Status> {
    let Err(status) = answer else { bail!("expected a refusal with {reason}, and the call was taken") };
    ensure!(status.code() == code, "expected {code:?} ({reason}), and got {status:?}");
    let details = status.get_error_details();
    let info = details.error_info().with_context(|| format!("{status:?} carries no ErrorInfo"))?;
    ensure!(info.reason == reason, "expected the reason {reason}, and got {status:?}");
    ensure!(info.domain == mycelium_proto::reason::DOMAIN, "the domain is {}", info.domain);
    let violations = details.bad_request().map(|request| request.field_violations.as_slice());
    let named: Vec<&str> =
        violations.unwrap_or_default().iter().map(|violation| violation.field.as_str()).collect();
    ensure!(named == fields, "expected violations of {fields:?}, and got {named:?}: {status:?}");
    if code == Code::ResourceExhausted {
        ensure!(details.retry_info().is_some(), "{status:?} does not say when to try again");
    }
    Ok(status)
}

/// What an elf that is spoken by hand declares: the task `task_run` with these parameters, of any type, and outputs.
pub fn declaration(elf: &str, parameters: &[&str], outputs: &[&str]) -> v1::ElfDeclaration {
    let source = format!("{elf}: {parameters:?} -> {outputs:?}");
    let revision = Bytes::copy_from_slice(&revision_of(&source));
    let parameter = |name: &&str| v1::ParameterDeclaration {
        name: (*name).to_owned(),
        ..v1::ParameterDeclaration::default()
    };
    let output =
        |name: &&str| v1::OutputDeclaration { name: (*name).to_owned(), ..v1::OutputDeclaration::default() };
    let task = v1::TaskDeclaration {
        name: "task_run".to_owned(),
        source: source.clone(),
        revision: revision.clone(),
        parameters: parameters.iter().map(parameter).collect(),
        outputs: outputs.iter().map(output).collect(),
        ..v1::TaskDeclaration::default()
    };
    v1::ElfDeclaration {
        name: elf.to_owned(),
        source,
        revision,
        tasks: vec![task],
        ..v1::ElfDeclaration::default()
    }
}

/// The `Hello` of a new process that serves one elf, and speaks the newest version of the protocol.
pub fn hello(declaration: v1::ElfDeclaration, window: u32) -> v1::Hello {
    let windows = vec![v1::SetWindow { elf: declaration.name.clone(), window, concurrency: 0, occupied: 0 }];
    v1::Hello {
        protocol_min: PROTOCOL_VERSION,
        protocol_max: PROTOCOL_VERSION,
        instance_id: id(),
        elves: vec![declaration],
        windows,
        ..v1::Hello::default()
    }
}

/// Outputs as an outcome.
pub fn returned(token: &v1::Token, outputs: &[(&str, &str)]) -> v1::Outcome {
    let outputs = outputs
        .iter()
        .map(|(name, text)| v1::NamedOutput { name: (*name).to_owned(), payload: Some(json(*text)) })
        .collect();
    v1::Outcome {
        token: Some(token.clone()),
        result: Some(outcome::Result::Outputs(v1::Outputs { outputs })),
        ran: None,
    }
}

/// One end of an elf's stream.
#[derive(Debug)]
pub struct WireElf {
    requests: mpsc::Sender<v1::ConnectRequest>,
    responses: Streaming<v1::ConnectResponse>,
    sequence: u64,
    received: u64,
    /// What was passed over by those that waited for something else. Acknowledgements and assignments come in either
    /// order.
    passed_over: VecDeque<connect_response::Kind>,
    /// What the broker said at the beginning.
    pub welcome: v1::Welcome,
}

impl WireElf {
    /// Opens a stream and says `Hello`.
    ///
    /// # Errors
    /// If there is no broker; [`Status`] inside, if the broker refuses the elf.
    pub async fn connect(url: &str, hello: v1::Hello) -> anyhow::Result<Self> {
        let (requests, requested) = Self::saying(hello).await?;
        Self::welcomed(requests, open(url, requested).await??).await
    }

    /// The same by a connection of a client, which shows what the client shows.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_by(line: Line, hello: v1::Hello) -> anyhow::Result<Self> {
        let (requests, requested) = Self::saying(hello).await?;
        let mut client = ElfServiceClient::new(line);
        let answer = must("an answer to the stream", client.connect(requested)).await??;
        Self::welcomed(requests, answer.into_inner()).await
    }

    async fn saying(
        hello: v1::Hello,
    ) -> anyhow::Result<(mpsc::Sender<v1::ConnectRequest>, ReceiverStream<v1::ConnectRequest>)> {
        let (requests, receiver) = mpsc::channel(64);
        let kind = Some(connect_request::Kind::Hello(hello));
        let first = v1::ConnectRequest { sequence: 1, kind, ..v1::ConnectRequest::default() };
        requests.send(first).await?;
        Ok((requests, ReceiverStream::new(receiver)))
    }

    async fn welcomed(
        requests: mpsc::Sender<v1::ConnectRequest>,
        mut responses: Streaming<v1::ConnectResponse>,
    ) -> anyhow::Result<Self> {
        let welcome = must("the welcome", responses.message()).await??.context("the stream ended")?;
        ensure!(welcome.sequence == 1, "the first message has the number {}", welcome.sequence);
        let Some(connect_response::Kind::Welcome(said)) = welcome.kind else {
            bail!("the broker's first message is {welcome:?}");
        };
        Ok(Self {
            requests,
            responses,
            sequence: 1,
            received: 1,
            passed_over: VecDeque::new(),
            welcome: said,
        })
    }

    /// The `Hello` that resumes its session, held as `hello` says.
    pub fn resume(&self, hello: v1::Hello) -> v1::Hello {
        let session_secret = self.welcome.session_secret.clone();
        v1::Hello { resume_session: self.welcome.session, session_secret, ..hello }
    }

    /// How the broker ends the stream: OK is no status. What it says before is passed over.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn ended(&mut self) -> anyhow::Result<Option<Status>> {
        loop {
            match must("the end of the stream", self.responses.message()).await? {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            }
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn say(&mut self, kind: connect_request::Kind) -> anyhow::Result<u64> {
        self.say_having_received(self.received, kind).await
    }

    /// Sends a message as one who has received less than it has, or more.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn say_having_received(
        &mut self,
        received: u64,
        kind: connect_request::Kind,
    ) -> anyhow::Result<u64> {
        self.send(v1::ConnectRequest { received, kind: Some(kind), ..v1::ConnectRequest::default() }).await
    }

    /// Sends a message that says nothing, as one of a kind to come does to those who do not know it.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn say_nothing(&mut self) -> anyhow::Result<u64> {
        self.tell_starts(Vec::new()).await
    }

    /// Tells of attempts that were started, and nothing else.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn tell_starts(&mut self, starts: Vec<v1::Start>) -> anyhow::Result<u64> {
        self.send(v1::ConnectRequest { received: self.received, starts, ..v1::ConnectRequest::default() })
            .await
    }

    /// Sends a message of which the number follows from those before.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn send(&mut self, message: v1::ConnectRequest) -> anyhow::Result<u64> {
        self.sequence += 1;
        let message = v1::ConnectRequest { sequence: self.sequence, ..message };
        self.requests.send(message).await.ok().context("the stream has ended")?;
        Ok(self.sequence)
    }

    /// Reports outcomes.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn report(&mut self, outcomes: Vec<v1::Outcome>) -> anyhow::Result<u64> {
        self.say(connect_request::Kind::Outcomes(v1::Outcomes { outcomes })).await
    }

    /// Says how many jobs of an elf it will hold.
    ///
    /// # Errors
    /// If the stream has ended.
    pub async fn set_window(&mut self, elf: &str, window: u32) -> anyhow::Result<u64> {
        let window = v1::SetWindow { elf: elf.to_owned(), window, concurrency: 0, occupied: 0 };
        self.say(connect_request::Kind::SetWindow(window)).await
    }

    /// The highest sequence number received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next message, whatever it is.
    ///
    /// # Errors
    /// If none comes in time, or the stream ends.
    pub async fn next(&mut self) -> anyhow::Result<connect_response::Kind> {
        match self.passed_over.pop_front() {
            Some(kind) => Ok(kind),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> anyhow::Result<connect_response::Kind> {
        let message = must("a message of the broker", self.responses.message()).await??;
        let message = message.context("the broker ended the stream")?;
        ensure!(
            message.sequence == self.received + 1,
            "message {} follows {}",
            message.sequence,
            self.received
        );
        self.received = message.sequence;
        message.kind.context("the broker's message says nothing")
    }

    /// The next message that is `wanted`; those that may come before it are left for later.
    async fn next_of(
        &mut self,
        wanted: impl Fn(&connect_response::Kind) -> bool,
        may_precede: impl Fn(&connect_response::Kind) -> bool,
    ) -> anyhow::Result<connect_response::Kind> {
        let mut earlier = std::mem::take(&mut self.passed_over);
        loop {
            let kind = match earlier.pop_front() {
                Some(kind) => kind,
                None => self.receive().await?,
            };
            if wanted(&kind) {
                self.passed_over.append(&mut earlier);
                return Ok(kind);
            }
            ensure!(may_precede(&kind), "unexpected: {kind:?}");
            self.passed_over.push_back(kind);
        }
    }

    /// The next assignments.
    ///
    /// # Errors
    /// If anything but acknowledgements comes before.
    pub async fn assigned(&mut self) -> anyhow::Result<Vec<v1::Assignment>> {
        match self.next_of(is_assign, is_acks).await? {
            connect_response::Kind::Assign(assign) => Ok(assign.assignments),
            other => bail!("expected assignments, and got {other:?}"),
        }
    }

    /// The token of the next assignment, which comes alone.
    ///
    /// # Errors
    /// If something else comes.
    pub async fn token(&mut self) -> anyhow::Result<v1::Token> {
        let assigned = self.assigned().await?;
        let [assignment] = assigned.as_slice() else { bail!("expected one assignment: {assigned:?}") };
        assignment.token.clone().context("the assignment has no token")
    }

    /// The verdicts of the next acknowledgement.
    ///
    /// # Errors
    /// If anything but assignments comes before.
    pub async fn verdicts(&mut self) -> anyhow::Result<Vec<v1::OutcomeVerdict>> {
        match self.next_of(is_acks, is_assign).await? {
            connect_response::Kind::OutcomeAcks(acks) => {
                Ok(acks.acks.iter().map(v1::OutcomeAck::verdict).collect())
            }
            other => bail!("expected acknowledgements, and got {other:?}"),
        }
    }

    /// The next fault that the broker finds.
    ///
    /// # Errors
    /// If something else comes.
    pub async fn fault(&mut self) -> anyhow::Result<v1::Fault> {
        match self.next().await? {
            connect_response::Kind::Fault(fault) => Ok(fault),
            other => bail!("expected a fault, and got {other:?}"),
        }
    }

    /// Sends a heartbeat, and returns what came before its answer, and the tokens that the answer calls unknown.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn beat(
        &mut self,
        held: Vec<v1::Token>,
    ) -> anyhow::Result<(Vec<connect_response::Kind>, Vec<v1::Token>)> {
        self.say(connect_request::Kind::Heartbeat(v1::Heartbeat { held, late_by: None })).await?;
        let mut before = Vec::new();
        loop {
            match self.next().await? {
                connect_response::Kind::HeartbeatAck(ack) => return Ok((before, ack.unknown)),
                other => before.push(other),
            }
        }
    }
}

fn is_assign(kind: &connect_response::Kind) -> bool {
    matches!(kind, connect_response::Kind::Assign(_))
}

fn is_acks(kind: &connect_response::Kind) -> bool {
    matches!(kind, connect_response::Kind::OutcomeAcks(_))
}

/// Opens a stream that says whatever `requests` brings.
///
/// # Errors
/// If there is no broker. What the broker makes of the stream is inside.
pub async fn open(
    url: &str,
    requests: impl futures::Stream<Item = v1::ConnectRequest> + Send + 'static,
) -> anyhow::Result<Result<Streaming<v1::ConnectResponse>, Status>> {
    let client = ElfServiceClient::new(channel(url).await?);
    let mut client =
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(2 * MESSAGE_BYTES_MAX);
    let answer = must("an answer to the stream", client.connect(requests)).await?;
    Ok(answer.map(tonic::Response::into_inner))
}

/// Opens a stream with one message, and keeps it open.
///
/// # Errors
/// If there is no broker. What the broker makes of the stream is inside: if it takes the message, the first it says.
pub async fn open_with(
    url: &str,
    first: v1::ConnectRequest,
) -> anyhow::Result<Result<Option<v1::ConnectResponse>, Status>> {
    let requests = futures::stream::iter([first]).chain(futures::stream::pending());
    match open(url, requests).await? {
        Ok(mut responses) => must("the broker's first message", responses.message()).await,
        Err(status) => Ok(Err(status)),
    }
}
