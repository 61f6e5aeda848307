//! Elves that number nothing and hash nothing: the broker does what the contract says of that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use elf_runtime::revision_of;
use integration_tests::must;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus, OutcomeVerdict, connect_request, connect_response};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

type Client = MyceliumServiceClient<Channel>;

const SOURCE: &str = "def task_weigh(): return 7";

async fn start(lease: Duration) -> anyhow::Result<RunningBroker> {
    let config = Config { lease, heartbeat_interval: lease / 4, ..Config::default() };
    Ok(Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?)
}

/// A declaration without revisions: of the elf with a source, of its task without one.
fn declaration() -> v1::ElfDeclaration {
    let mut declaration = wire::declaration("scale", &[], &["n"]);
    declaration.revision = Bytes::new();
    declaration.source = SOURCE.to_owned();
    declaration.tasks[0].revision = Bytes::new();
    declaration.tasks[0].source.clear();
    declaration
}

/// An elf whose every message says 0 of its own number, and of what it has received.
struct Unnumbered {
    requests: mpsc::Sender<v1::ConnectRequest>,
    responses: Streaming<v1::ConnectResponse>,
}

impl Unnumbered {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let (requests, receiver) = mpsc::channel(64);
        let hello = connect_request::Kind::Hello(wire::hello(declaration(), 4));
        requests.send(v1::ConnectRequest { kind: Some(hello), ..v1::ConnectRequest::default() }).await?;
        let responses = wire::open(url, ReceiverStream::new(receiver)).await??;
        let mut this = Self { requests, responses };
        let welcome = this.next().await?;
        ensure!(matches!(welcome, connect_response::Kind::Welcome(_)), "{welcome:?}");
        Ok(this)
    }

    async fn say(&self, kind: connect_request::Kind) -> anyhow::Result<()> {
        let message = v1::ConnectRequest { kind: Some(kind), ..v1::ConnectRequest::default() };
        self.requests.send(message).await.ok().context("the stream has ended")
    }

    async fn next(&mut self) -> anyhow::Result<connect_response::Kind> {
        let message = must("a message of the broker", self.responses.message()).await??;
        message.and_then(|message| message.kind).context("the broker ended the stream")
    }

    async fn token(&mut self) -> anyhow::Result<v1::Token> {
        match self.next().await? {
            connect_response::Kind::Assign(assign) => {
                assign.assignments[0].token.clone().context("the assignment has no token")
            }
            other => bail!("expected an assignment, and got {other:?}"),
        }
    }
}

async fn submit(client: &mut Client) -> anyhow::Result<Bytes> {
    let request = wire::submission(vec![wire::job("scale", &[], Vec::new())]);
    let job = request.jobs[0].job_id.clone();
    client.submit_jobs(request).await?;
    Ok(job)
}

#[tokio::test]
async fn of_an_elf_that_numbers_nothing_nothing_is_offered_again_before_its_lease() -> anyhow::Result<()> {
    const BEATS: usize = 20;
    let broker = start(Duration::from_secs(4)).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = Unnumbered::connect(&broker.url()).await?;
    let job = submit(&mut client).await?;
    let token = elf.token().await?;
    // It says of nothing that it holds it, nor that it has received it: the job may still be on its way.
    for _ in 0..BEATS {
        elf.say(connect_request::Kind::Heartbeat(v1::Heartbeat::default())).await?;
        let answer = elf.next().await?;
        let connect_response::Kind::HeartbeatAck(ack) = answer else { bail!("{answer:?} comes unasked") };
        ensure!(ack.unknown.is_empty(), "{ack:?}");
    }
    let found = wire::get_job(&client, &job).await?;
    ensure!(found.status() == JobStatus::Running && found.attempt == 1, "{found:?}");
    // What it reports counts all the same, and is acknowledged.
    let outcomes = vec![wire::returned(&token, &[("n", "7")])];
    elf.say(connect_request::Kind::Outcomes(v1::Outcomes { outcomes })).await?;
    let answer = elf.next().await?;
    let connect_response::Kind::OutcomeAcks(acks) = answer else { bail!("{answer:?}") };
    ensure!(acks.acks.len() == 1 && acks.acks[0].verdict() == OutcomeVerdict::Recorded, "{acks:?}");
    ensure!(wire::get_job(&client, &job).await?.status() == JobStatus::Done);

    // When its lease has run out, what it held is offered again: to another.
    let job = submit(&mut client).await?;
    ensure!(elf.token().await?.job_id == job);
    let mut other = WireElf::connect(&broker.url(), wire::hello(declaration(), 4)).await?;
    let offered = async {
        loop {
            match tokio::time::timeout(Duration::from_secs(1), other.next()).await {
                Ok(Ok(connect_response::Kind::Assign(assign))) => return anyhow::Ok(assign),
                Ok(said) => drop(said?),
                Err(_silent) => {
                    other.say(connect_request::Kind::Heartbeat(v1::Heartbeat::default())).await?;
                }
            }
        }
    };
    let again = must("the job to be offered again", offered).await??;
    let again = again.assignments[0].token.clone().context("no token")?;
    ensure!((&again.job_id, again.attempt) == (&job, 2), "{again:?}");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn an_elf_that_numbers_is_offered_again_what_it_has_received_and_does_not_hold() -> anyhow::Result<()> {
    let broker = start(Duration::from_secs(3600)).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration(), 4)).await?;
    let job = submit(&mut client).await?;
    ensure!(elf.token().await?.job_id == job);
    elf.say(connect_request::Kind::Heartbeat(v1::Heartbeat::default())).await?;
    loop {
        match elf.next().await? {
            connect_response::Kind::HeartbeatAck(_) => {}
            connect_response::Kind::Assign(assign) => {
                let again = assign.assignments[0].token.clone().context("no token")?;
                ensure!((&again.job_id, again.attempt) == (&job, 2), "{again:?}");
                return Ok(broker.stop().await?);
            }
            other => bail!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_broker_hashes_the_source_or_else_the_declaration() -> anyhow::Result<()> {
    let broker = start(Duration::from_secs(3600)).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut shown = async |declaration: v1::ElfDeclaration| {
        let _elf = WireElf::connect(&broker.url(), wire::hello(declaration, 1)).await?;
        let request = v1::GetElfRequest { name: "scale".to_owned(), ..v1::GetElfRequest::default() };
        let elf = client.get_elf(request).await?.into_inner().elf.context("no elf")?;
        let declaration = elf.declaration.context("no declaration")?;
        anyhow::Ok((declaration.revision, declaration.tasks[0].revision.clone()))
    };
    let (elf, task) = shown(declaration()).await?;
    ensure!(elf == revision_of(SOURCE).as_slice(), "the elf's source is hashed: {elf:?}");
    ensure!(task.len() == 32 && task != elf, "{task:?}");
    ensure!(shown(declaration()).await? == (elf.clone(), task.clone()), "the same is the same");
    // The declaration of the task is all there is to tell its revisions apart.
    let mut other = declaration();
    other.tasks[0].docs = "Weighs.".to_owned();
    let (same_elf, other_task) = shown(other.clone()).await?;
    ensure!(same_elf == elf && other_task != task && other_task.len() == 32);
    // Where there is a source, that alone counts.
    other.tasks[0].source = "return 7".to_owned();
    other.source.clear();
    let (elf_declared, sourced) = shown(other).await?;
    ensure!(sourced == revision_of("return 7").as_slice());
    ensure!(elf_declared.len() == 32 && elf_declared != elf);
    Ok(broker.stop().await?)
}
