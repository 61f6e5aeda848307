//! Streams of elves end with their reason, and what cannot be read is refused with one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::until;
use integration_tests::wire::{self, WireElf};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, connect_request};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

async fn start(config: Config) -> anyhow::Result<RunningBroker> {
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?;
    Ok(broker.bind("127.0.0.1:0").await?)
}

fn hello() -> v1::Hello {
    wire::hello(wire::declaration("scale", &[], &["n"]), 1)
}

/// Makes sure of how a stream ended.
fn expect(ended: Option<Status>, code: Code, reason: &str) -> anyhow::Result<Status> {
    let status = ended.context("the stream ended with OK")?;
    wire::expect_refusal::<()>(Err(status), code, reason, &[])
}

#[tokio::test]
async fn a_stream_whose_session_a_newer_one_takes_over_says_so() -> anyhow::Result<()> {
    let broker = start(Config::default()).await?;
    let mut first = WireElf::connect(&broker.url(), hello()).await?;
    let second_hello = v1::Hello { instance_id: wire::id(), ..hello() };
    let mut other = WireElf::connect(&broker.url(), second_hello).await?;
    // Of the same process: by the same instance and the same secret.
    let hello = hello();
    let mut own = WireElf::connect(&broker.url(), hello.clone()).await?;
    let mut newer = WireElf::connect(&broker.url(), own.resume(hello)).await?;
    ensure!(newer.welcome.resumed, "{:?}", newer.welcome);
    let status = expect(own.ended().await?, Code::Aborted, reason::SESSION_TAKEN_OVER)?;
    ensure!(status.message() == "a newer stream goes on with this session", "{status:?}");
    // The others hear nothing of it.
    for elf in [&mut first, &mut other, &mut newer] {
        elf.beat(Vec::new()).await?;
    }
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_stream_whose_lease_runs_out_says_that_its_session_is_over_and_a_goodbye_is_ok()
-> anyhow::Result<()> {
    let lease = Duration::from_secs(1);
    let config = Config { lease, heartbeat_interval: lease / 4, ..Config::default() };
    let broker = start(config).await?;
    let mut silent = WireElf::connect(&broker.url(), hello()).await?;
    expect(silent.ended().await?, Code::Aborted, reason::SESSION_OVER)?;

    let mut polite = WireElf::connect(&broker.url(), hello()).await?;
    polite.say(connect_request::Kind::Goodbye(v1::Goodbye {})).await?;
    let ended = polite.ended().await?;
    ensure!(ended.is_none(), "a goodbye is answered with {ended:?}");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_broker_that_stops_says_so_at_the_end_of_every_stream() -> anyhow::Result<()> {
    let broker = start(Config::default()).await?;
    let mut elf = WireElf::connect(&broker.url(), hello()).await?;
    let stopped = tokio::spawn(broker.stop());
    let said = elf.next().await?;
    ensure!(matches!(said, v1::connect_response::Kind::GoAway(_)), "{said:?}");
    expect(elf.ended().await?, Code::Unavailable, reason::BROKER_STOPPING)?;
    stopped.await??;
    Ok(())
}

#[tokio::test]
async fn a_stream_without_hello_ends_in_time_and_is_worth_another_try() -> anyhow::Result<()> {
    let broker = start(Config::default()).await?;
    let answer = wire::open(&broker.url(), futures::stream::pending()).await?;
    let refusal = wire::expect_refusal(answer, Code::DeadlineExceeded, reason::HELLO_OVERDUE, &[])?;
    ensure!(refusal.message().contains("within 10 s"), "{refusal:?}");
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_stream_that_is_not_read_says_so_and_its_session_is_resumed() -> anyhow::Result<()> {
    let config = Config { lease: Duration::from_secs(3600), ..Config::default() };
    let broker = start(config).await?;
    let client = wire::client(&broker.url()).await?;
    let own = hello();
    let mut deaf = WireElf::connect(&broker.url(), own.clone()).await?;
    let is_connected = async || {
        let request = v1::GetElfRequest { name: "scale".to_owned(), ..v1::GetElfRequest::default() };
        let elf = client.clone().get_elf(request).await?.into_inner().elf.context("no elf")?;
        let instance = elf.instances.first().context("no instance")?;
        anyhow::Ok(instance.connected)
    };
    ensure!(is_connected().await?);
    // Each beat is answered with all that it names, so what waits for the elf soon fills what the network takes.
    let held: Vec<v1::Token> = (0..500).map(|_| v1::Token { job_id: wire::id(), attempt: 1 }).collect();
    let beats = async {
        loop {
            let beat = v1::Heartbeat { held: held.clone(), late_by: None };
            if let Err(error) = deaf.say(connect_request::Kind::Heartbeat(beat)).await {
                break error;
            }
        }
    };
    let cut_off = until("the stream to be cut off", || async { Ok((!is_connected().await?).then_some(())) });
    tokio::select! {
        cut_off = cut_off => cut_off?,
        error = beats => return Err(error),
    }
    let status = expect(deaf.ended().await?, Code::Aborted, reason::STREAM_NOT_READ)?;
    ensure!(status.message().contains("read"), "{status:?}");
    let again = WireElf::connect(&broker.url(), deaf.resume(own)).await?;
    ensure!(again.welcome.resumed && is_connected().await?, "{:?}", again.welcome);
    drop(again);
    Ok(broker.stop().await?)
}

/// What a peer sends that is of another contract.
type Garbage = prost_types::Duration;

fn garbage() -> Garbage {
    Garbage { seconds: 7, nanos: 7 }
}

async fn raw(broker: &RunningBroker) -> anyhow::Result<tonic::client::Grpc<Channel>> {
    let channel = Channel::from_shared(broker.url())?.connect().await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    Ok(client)
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused_with_a_reason_in_every_service() -> anyhow::Result<()> {
    let broker = start(Config::default()).await?;
    let undecodable = |answer: Result<_, Status>| {
        wire::expect_refusal(answer, Code::InvalidArgument, reason::MESSAGE_UNDECODABLE, &[])
    };
    for method in ["MyceliumService/GetJob", "MyceliumService/SubmitJobs", "BlobService/FindMissingBlobs"] {
        let path = PathAndQuery::try_from(format!("/mycelium.v1.{method}"))?;
        let codec = ProstCodec::<Garbage, v1::GetJobResponse>::default();
        let answer = raw(&broker).await?.unary(Request::new(garbage()), path, codec).await;
        let status = undecodable(answer.map(|_| ())).with_context(|| method.to_owned())?;
        ensure!(status.message().starts_with("a message cannot be decoded: "), "{status:?}");
    }
    // A call that streams its request, and the stream of an elf: at once, and after `Hello`.
    let path = PathAndQuery::from_static("/mycelium.v1.BlobService/WriteBlob");
    let codec = ProstCodec::<Garbage, v1::WriteBlobResponse>::default();
    let requests = Request::new(futures::stream::iter([garbage()]));
    undecodable(raw(&broker).await?.client_streaming(requests, path, codec).await.map(|_| ()))?;

    let connect = PathAndQuery::from_static("/mycelium.v1.ElfService/Connect");
    let codec = ProstCodec::<Garbage, v1::ConnectResponse>::default();
    // Its first field is a number in both.
    let requests = Request::new(futures::stream::iter([v1::BlobRef {
        digest: Bytes::from_static(b"no number"),
        size: 0,
    }]));
    let blobs = ProstCodec::<v1::BlobRef, v1::ConnectResponse>::default();
    undecodable(raw(&broker).await?.streaming(requests, connect.clone(), blobs).await.map(|_| ()))?;
    // As a message of another kind it is no `Hello`.
    let requests = Request::new(futures::stream::iter([garbage()]));
    let answer = raw(&broker).await?.streaming(requests, connect, codec).await;
    wire::expect_refusal(answer.map(|_| ()), Code::FailedPrecondition, reason::PROTOCOL_VIOLATION, &[])?;
    // A body that is no message at all, of a method that takes an empty one.
    let path = PathAndQuery::from_static("/mycelium.v1.MyceliumService/GetStatus");
    let codec = ProstCodec::<Garbage, v1::GetStatusResponse>::default();
    undecodable(raw(&broker).await?.unary(Request::new(garbage()), path, codec).await.map(|_| ()))?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_method_that_is_not_there_is_still_unimplemented() -> anyhow::Result<()> {
    let broker = start(Config::default()).await?;
    let path = PathAndQuery::from_static("/mycelium.v1.MyceliumService/GetNothing");
    let codec = ProstCodec::<Garbage, Garbage>::default();
    let answer = raw(&broker).await?.unary(Request::new(garbage()), path, codec).await;
    let code = answer.err().context("a method that is not there answers")?.code();
    ensure!(code == Code::Unimplemented, "{code:?}");
    Ok(broker.stop().await?)
}
