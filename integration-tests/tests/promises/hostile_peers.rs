//! Peers that take what they can and give nothing back: half of many requests, answers that are never read, connections
//! that say nothing, uploads that stand still. The broker's memory stays bounded, and others do not notice.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use h2::client::{ResponseFuture, SendRequest};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, Bystander, must, until};
use mycelium_proto::v1::blob_service_client::BlobServiceClient;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::{reason, v1};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const MIB: usize = 1024 * 1024;
/// What the broker's resident memory stays below.
const MEMORY_BYTES_MAX: u64 = 256 * MIB as u64;
/// How many calls an innocent client makes for one measurement.
const INNOCENT_CALLS: usize = 60;
/// An innocent call that takes no longer is as fast as any: a busy machine takes so much.
const UNNOTICED: Duration = Duration::from_millis(50);

/// A connection that speaks HTTP/2 by hand.
struct RawPeer {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl RawPeer {
    async fn connect(broker: &BrokerProcess) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(broker.address()).await?;
        let (send, connection) = h2::client::handshake(socket).await?;
        Ok(Self { send, connection: tokio::spawn(connection) })
    }

    /// Begins a call. Its body is whatever is sent to the stream.
    async fn begin(
        &mut self,
        call: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(ResponseFuture, h2::SendStream<Bytes>)> {
        let mut request = http::Request::post(format!("http://localhost/mycelium.v1.{call}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send = must("room for a call", self.send.clone().ready()).await??;
        Ok(self.send.send_request(request.body(())?, false)?)
    }
}

/// The head of a gRPC message of that length.
fn head(length: usize) -> anyhow::Result<Bytes> {
    let mut head = vec![0];
    head.extend(u32::try_from(length)?.to_be_bytes());
    Ok(head.into())
}

fn message(message: &impl prost::Message) -> anyhow::Result<Bytes> {
    let mut bytes = head(message.encoded_len())?.to_vec();
    message.encode(&mut bytes)?;
    Ok(bytes.into())
}

/// What a call was refused with.
async fn refusal(response: ResponseFuture) -> anyhow::Result<Status> {
    let response = must("an answer", response).await??;
    Status::from_header_map(response.headers()).context("the call was not refused")
}

/// The first refusal among the answers of many, and what has come before: nobody reads it.
async fn first_refusal(
    answers: &mut FuturesUnordered<ResponseFuture>,
) -> anyhow::Result<(Status, Vec<http::Response<h2::RecvStream>>)> {
    let mut unread = Vec::new();
    loop {
        match must("a refusal", answers.next()).await?.context("nothing was refused")? {
            Ok(answer) => match Status::from_header_map(answer.headers()) {
                Some(status) => return Ok((status, unread)),
                None => unread.push(answer),
            },
            // A connection may have been cut for others.
            Err(_cut) => {}
        }
    }
}

fn expect(status: &Status, code: Code, reason: &str, text: &str) -> anyhow::Result<()> {
    let info = status.get_error_details().error_info().map(|info| info.reason.clone());
    ensure!(status.code() == code && info.as_deref() == Some(reason), "{status:?}");
    ensure!(status.message() == text, "{status:?}");
    Ok(())
}

/// How long half of the calls of a client take at most that submits one small job after the other.
async fn innocent_p50(broker: &BrokerProcess) -> anyhow::Result<Duration> {
    let mut client = wire::client(&broker.url()).await?;
    let mut times = Vec::new();
    for _ in 0..INNOCENT_CALLS {
        let request = wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
        let job = request.jobs[0].job_id.clone();
        let began = Instant::now();
        must("a submission", client.submit_jobs(request)).await??;
        // As every client does: what is refused with `RetryInfo` is tried again.
        until("the job", || async {
            match client
                .clone()
                .get_job(v1::GetJobRequest { job_id: job.clone(), ..Default::default() })
                .await
            {
                Ok(answer) => Ok(Some(answer)),
                Err(busy) if busy.get_error_details().retry_info().is_some() => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[INNOCENT_CALLS / 2])
}

fn ensure_unnoticed(own: Duration, during: Duration) -> anyhow::Result<()> {
    ensure!(during <= (own * 10).max(UNNOTICED), "an innocent call took {during:?}, and {own:?} by itself");
    Ok(())
}

fn ensure_bounded(broker: &BrokerProcess) -> anyhow::Result<()> {
    let peak = broker.peak_memory_bytes()?;
    eprintln!("the broker's memory reached {} MiB", peak / MIB as u64);
    ensure!(peak < MEMORY_BYTES_MAX, "the broker's memory reached {} MiB", peak / MIB as u64);
    Ok(())
}

#[tokio::test]
async fn two_hundred_half_sent_requests_take_what_one_peer_may() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let own = innocent_p50(&broker).await?;

    let mut peer = RawPeer::connect(&broker).await?;
    let most = Bytes::from(vec![0; 15 * MIB]);
    let mut calls = Vec::new();
    for _ in 0..200 {
        let (response, mut stream) = peer.begin("MyceliumService/SubmitJobs", &[]).await?;
        stream.send_data(head(16 * MIB)?, false)?;
        stream.send_data(most.clone(), false)?;
        calls.push((response, stream));
    }
    ensure_unnoticed(own, innocent_p50(&broker).await?)?;
    // Those that came and those that waited for room are refused when their time is over.
    for (response, _stream) in calls.drain(..) {
        let text = "the request did not come in time";
        expect(&refusal(response).await?, Code::DeadlineExceeded, reason::REQUEST_STALLED, text)?;
    }
    ensure_bounded(&broker)?;
    broker.stop().await
}

#[tokio::test]
async fn half_sent_requests_of_many_peers_are_refused_when_there_is_no_room() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let own = innocent_p50(&broker).await?;

    let most = Bytes::from(vec![0; 15 * MIB]);
    let mut refused = FuturesUnordered::new();
    let mut kept = Vec::new();
    for _ in 0..40 {
        let mut peer = RawPeer::connect(&broker).await?;
        let (response, mut stream) = peer.begin("MyceliumService/SubmitJobs", &[]).await?;
        stream.send_data(head(16 * MIB)?, false)?;
        stream.send_data(most.clone(), false)?;
        refused.push(response);
        kept.push((peer, stream));
    }
    let (status, _unread) = first_refusal(&mut refused).await?;
    let text = "all requests that are being received take as much memory as they may";
    expect(&status, Code::ResourceExhausted, reason::BROKER_BUSY, text)?;
    ensure!(status.get_error_details().retry_info().is_some(), "{status:?}");
    ensure_unnoticed(own, innocent_p50(&broker).await?)?;
    ensure_bounded(&broker)?;
    broker.stop().await
}

/// Runs jobs with outputs that come to about 3.6 MiB, more than one answer holds. Gives the request for all of them.
async fn much_to_read(broker: &BrokerProcess) -> anyhow::Result<v1::GetOutputsRequest> {
    const JOBS: usize = 60;
    let mut client = wire::client(&broker.url()).await?;
    let request = wire::submission((0..JOBS).map(|_| wire::job("talker", &[], Vec::new())).collect());
    let job_ids: Vec<Bytes> = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(request).await?;
    let declaration = wire::declaration("talker", &[], &["text"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await?;
    let text = format!("\"{}\"", "x".repeat(60 * 1024));
    let mut n_done = 0;
    while n_done < JOBS {
        if let v1::connect_response::Kind::Assign(assign) = elf.next().await? {
            for token in assign.assignments.iter().filter_map(|one| one.token.as_ref()) {
                elf.report(vec![wire::returned(token, &[("text", &text)])]).await?;
                n_done += 1;
            }
        }
    }
    for job in &job_ids {
        let client = &client;
        until("the job to be DONE", || async move {
            Ok((wire::get_job(client, job).await?.status() == v1::JobStatus::Done).then_some(()))
        })
        .await?;
    }
    Ok(v1::GetOutputsRequest { job_ids, ..Default::default() })
}

#[tokio::test]
async fn three_hundred_unread_answers_take_what_one_peer_may_and_then_it_is_cut() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let request = message(&much_to_read(&broker).await?)?;
    let own = innocent_p50(&broker).await?;

    let mut peer = RawPeer::connect(&broker).await?;
    let mut unread = Vec::new();
    for _ in 0..300 {
        let (response, mut stream) = peer.begin("MyceliumService/GetOutputs", &[]).await?;
        stream.send_data(request.clone(), true)?;
        unread.push((response, stream));
    }
    ensure_unnoticed(own, innocent_p50(&broker).await?)?;
    // Whoever takes nothing for half a minute is cut.
    let _reset = must("the end of the connection", &mut peer.connection).await?;
    ensure_bounded(&broker)?;
    // Whoever reads gets the same.
    let channel = Channel::from_shared(broker.url())?.connect().await?;
    let mut reader = MyceliumServiceClient::new(channel).max_decoding_message_size(16 * MIB);
    let request: v1::GetOutputsRequest = prost::Message::decode(request.slice(5..))?;
    let answer: v1::GetOutputsResponse = must("an answer", reader.get_outputs(request)).await??.into_inner();
    ensure!(
        prost::Message::encoded_len(&answer) > 2 * MIB,
        "the answer has {} bytes",
        prost::Message::encoded_len(&answer)
    );
    drop(unread);
    broker.stop().await
}

#[tokio::test]
async fn unread_answers_of_many_peers_take_what_all_may() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let request = message(&much_to_read(&broker).await?)?;
    let own = innocent_p50(&broker).await?;

    let mut peers = Vec::new();
    let mut answers = FuturesUnordered::new();
    for _ in 0..40 {
        let mut peer = RawPeer::connect(&broker).await?;
        for _ in 0..8 {
            let (response, mut stream) = peer.begin("MyceliumService/GetOutputs", &[]).await?;
            stream.send_data(request.clone(), true)?;
            answers.push(response);
        }
        peers.push(peer);
    }
    let (status, _unread) = first_refusal(&mut answers).await?;
    let text = "all answers that are being made and not taken yet take as much memory as they may";
    expect(&status, Code::ResourceExhausted, reason::BROKER_BUSY, text)?;
    ensure!(status.get_error_details().retry_info().is_some(), "{status:?}");
    ensure_unnoticed(own, innocent_p50(&broker).await?)?;
    ensure_bounded(&broker)?;
    broker.stop().await
}

#[tokio::test]
async fn a_read_ends_with_the_deadline_of_its_caller() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--store", "memory"]).await?;
    let mut peer = RawPeer::connect(&broker).await?;
    // Half of a request: the broker waits for the rest.
    let headers = [("grpc-timeout", "200m")];
    let (response, mut stream) = peer.begin("MyceliumService/GetStatus", &headers).await?;
    stream.send_data(head(100)?, false)?;
    let status = refusal(response).await?;
    expect(&status, Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED, "the answer took longer than it may")?;
    broker.stop().await
}

#[tokio::test]
async fn silent_connections_leave_room_for_others_and_are_closed() -> anyhow::Result<()> {
    mycelium_server::raise_descriptor_limit()?;
    let broker = BrokerProcess::start_limited(&[], Some(1_024)).await?;
    let bystander = Bystander::start(&broker.url()).await?;
    let mut silent = Vec::new();
    for n in 0..1_100 {
        let mut socket = TcpStream::connect(broker.address()).await?;
        if n % 2 == 0 {
            // What was closed already may refuse it.
            let _closed = socket.write_all(b"PRI * HTTP/2.0\r\n").await;
        }
        silent.push(socket);
    }
    // New programs and elves get in, and those that were there go on.
    Bystander::start(&broker.url()).await?.finish().await?;
    bystander.finish().await?;
    for socket in &mut silent {
        // It is greeted all the same. The end of the stream and a reset are both an end.
        let mut greeting = Vec::new();
        let _reset = must("a silent connection to be closed", socket.read_to_end(&mut greeting)).await?;
    }
    broker.stop().await
}

/// Sets how many files and connections a process may have open, below what it may raise that to itself.
fn limit_descriptors(pid: u32, descriptors: usize) -> anyhow::Result<()> {
    let limit = format!("--nofile={descriptors}:1024");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status()?;
    ensure!(status.success(), "prlimit ended with {status}");
    Ok(())
}

/// How much of a processor a process has used, in hundredths of a second.
fn processor_time(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field =
        |n: usize| fields.get(n).context("a field of stat").and_then(|field| Ok(field.parse::<u64>()?));
    Ok(field(11)? + field(12)?)
}

#[tokio::test]
async fn without_descriptors_the_broker_takes_in_nobody_and_does_not_spin() -> anyhow::Result<()> {
    let broker = BrokerProcess::start_limited(&["--store", "memory"], Some(1_024)).await?;
    let pid = broker.pid()?;
    let mut client = wire::client(&broker.url()).await?;
    client.get_status(v1::GetStatusRequest::default()).await?;
    limit_descriptors(pid, std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())?;
    let mut refused = TcpStream::connect(broker.address()).await?;
    // The preface and an empty frame of settings: the broker waits for who speaks first.
    refused.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let before = processor_time(pid)?;
    // Nobody says that it waits, so there is nothing to wait for but time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = processor_time(pid)? - before;
    // Where others use the cores as well, one that spins gets much less than a core.
    ensure!(used < 15, "it used {used} hundredths of a second in two seconds");
    client.get_status(v1::GetStatusRequest::default()).await?;
    // With room again, who waited is taken in.
    limit_descriptors(pid, 1_024)?;
    must("the greeting", refused.read_exact(&mut [0; 9])).await??;
    broker.stop().await
}

/// An upload that brings some bytes and then no more.
fn stalled_upload(
    mut client: BlobServiceClient<Channel>,
    n: u8,
) -> JoinHandle<Result<tonic::Response<v1::WriteBlobResponse>, Status>> {
    let bytes = Bytes::from(vec![n; MIB]);
    let messages = wire::blob_messages(wire::blob_of(&bytes), &bytes.slice(..100 * 1024));
    let begun = futures::stream::iter(messages).chain(futures::stream::pending());
    tokio::spawn(async move { client.write_blob(begun).await })
}

#[tokio::test]
async fn stalled_uploads_hold_up_no_other_and_are_cut() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mut stalled = Vec::new();
    for n in 0..60 {
        stalled.push(stalled_upload(wire::blob_client(&broker.url()).await?, n));
    }
    let began = Instant::now();
    let small = Bytes::from_static(b"small");
    let mut client = wire::blob_client(&broker.url()).await?;
    must("a small blob", wire::write_blob(&mut client, &small)).await??;
    ensure!(began.elapsed() < Duration::from_secs(8), "a small blob took {:?}", began.elapsed());
    for upload in stalled {
        let status = must("the end of a stalled upload", upload).await??.err().context("it ended well")?;
        ensure!(status.code() == Code::DeadlineExceeded, "{status:?}");
        let info = status.get_error_details().error_info().map(|info| info.reason.clone());
        ensure!(info.as_deref() == Some(reason::BLOB_STALLED), "{status:?}");
    }
    ensure_bounded(&broker)?;
    broker.stop().await
}

#[tokio::test]
async fn half_open_peers_do_not_hold_up_a_stop() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&["--drain-grace", "1h"]).await?;
    let request = message(&much_to_read(&broker).await?)?;
    // One says nothing; one says half a preface.
    let silent = TcpStream::connect(broker.address()).await?;
    let mut half = TcpStream::connect(broker.address()).await?;
    half.write_all(b"PRI * HTTP/2.0\r\n").await?;
    // One has sent half of a request, one does not read, and one is gone without a word: nobody answers to anything.
    let mut sender = RawPeer::connect(&broker).await?;
    let (half_sent, mut stream) = sender.begin("MyceliumService/SubmitJobs", &[]).await?;
    stream.send_data(head(16 * MIB)?, false)?;
    let mut reader = RawPeer::connect(&broker).await?;
    let (unread, mut unread_stream) = reader.begin("MyceliumService/GetOutputs", &[]).await?;
    unread_stream.send_data(request, true)?;
    let (gone, connection) = h2::client::handshake(TcpStream::connect(broker.address()).await?).await?;
    // A call on a connection that goes on, so that those before have been taken in.
    innocent_p50(&broker).await?;

    let began = Instant::now();
    broker.stop().await?;
    ensure!(began.elapsed() < Duration::from_secs(8), "the stop took {:?}", began.elapsed());
    drop((silent, half, half_sent, stream, unread, unread_stream, gone, connection));
    Ok(())
}

/// Writes a blob in chunks of so many bytes, one after each pause, and reads it as slowly.
async fn slowly(chunk_bytes: usize, n_chunks: usize, pause: Duration) -> anyhow::Result<()> {
    let chunk = move |n: usize| -> Bytes { (n as u32).to_le_bytes().repeat(chunk_bytes / 4).into() };
    let broker = BrokerProcess::start(&[]).await?;
    let mut hasher = Sha256::new();
    (0..n_chunks).for_each(|n| hasher.update(chunk(n)));
    let digest = Bytes::copy_from_slice(&hasher.finalize());
    let blob = v1::BlobRef { digest: digest.clone(), size: (chunk_bytes * n_chunks) as u64 };
    let chunks = futures::stream::iter(0..n_chunks).then(move |n| async move {
        tokio::time::sleep(pause).await;
        v1::WriteBlobRequest { kind: Some(v1::write_blob_request::Kind::Chunk(chunk(n))) }
    });
    let header = futures::stream::iter(wire::blob_messages(blob, &Bytes::new()));
    let mut client = wire::blob_client(&broker.url()).await?;
    client.write_blob(header.chain(chunks)).await?;

    // Windows that let little more through than is read.
    let channel = Channel::from_shared(broker.url())?
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024)
        .connect()
        .await?;
    let mut reader = BlobServiceClient::new(channel);
    let request = v1::ReadBlobRequest { digest: digest.clone(), ..Default::default() };
    let mut messages = reader.read_blob(request).await?.into_inner();
    let mut hasher = Sha256::new();
    while let Some(v1::ReadBlobResponse { chunk }) = must("the next chunk", messages.message()).await?? {
        hasher.update(&chunk);
        tokio::time::sleep(pause.mul_f64(chunk.len() as f64 / chunk_bytes as f64)).await;
    }
    ensure!(hasher.finalize().as_slice() == digest, "other bytes came back");
    ensure_bounded(&broker)?;
    broker.stop().await
}

#[tokio::test]
async fn a_slow_blob_is_not_cut() -> anyhow::Result<()> {
    slowly(16 * 1024, 40, Duration::from_secs(1)).await
}

/// 2 GiB, with 8 MiB a second.
#[tokio::test]
#[ignore = "takes ten minutes"]
async fn a_large_blob_over_a_slow_connection_is_not_cut() -> anyhow::Result<()> {
    slowly(MIB, 2_048, Duration::from_millis(125)).await
}
