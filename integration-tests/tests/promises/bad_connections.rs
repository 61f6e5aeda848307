//! Peers that are no clients, half clients, or clients that do not read: that connection alone suffers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::FutureExt as _;
use integration_tests::wire::{self, WireElf};
use integration_tests::{Bystander, must, until};
use mycelium_proto::reason;
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::store::MemoryStore;
use mycelium_server::{Broker, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

/// Sends bytes, and reads until the broker has closed the connection.
async fn send_and_be_closed(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    // The broker may close while this side still writes.
    let _closed = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    // The end of the stream and a reset are both an end.
    let _reset = must("the broker to close the connection", socket.read_to_end(&mut answer)).await?;
    Ok(())
}

#[tokio::test]
async fn garbage_and_half_open_connections_disturb_nobody() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let bystander = Bystander::start(&broker.url()).await?;

    // Connections that say nothing, or half a preface, for as long as the test lasts.
    let mut silent = Vec::new();
    for n in 0..64 {
        let mut socket = TcpStream::connect(broker.address()).await?;
        if n % 2 == 0 {
            socket.write_all(b"PRI * HTTP/2.0\r\n").await?;
        }
        silent.push(socket);
    }
    let garbage: Vec<u8> =
        (0..64 * 1024u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    send_and_be_closed(broker.address(), &garbage).await?;
    send_and_be_closed(broker.address(), b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n").await?;
    send_and_be_closed(broker.address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await?;
    // A preface, then frames that are none.
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frames.extend(&garbage);
    send_and_be_closed(broker.address(), &frames).await?;

    bystander.finish().await?;
    drop(silent);
    Ok(broker.stop().await?)
}

/// A watch that has begun. It goes on until its connection ends.
async fn watch(url: &str) -> anyhow::Result<tonic::Streaming<v1::WatchJobsResponse>> {
    let mut client = wire::client(url).await?;
    let request = wire::submission(vec![wire::job("nobody", &[], Vec::new())]);
    let flow = request.flow_id.clone();
    must("a submission", client.submit_jobs(request)).await??;
    let mut watch = must("a watch", client.watch_jobs(wire::watch_flow(&flow))).await??.into_inner();
    must("the snapshot", watch.message()).await??.context("the watch ended")?;
    Ok(watch)
}

#[tokio::test]
async fn calls_beyond_the_most_are_refused_until_others_have_ended() -> anyhow::Result<()> {
    let config = Config { calls_max: 2, ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let first = watch(&broker.url()).await?;
    let _second = watch(&broker.url()).await?;
    let client = wire::client(&broker.url()).await?;
    let refused =
        client.clone().get_status(v1::GetStatusRequest::default()).await.err().context("it was answered")?;
    ensure!(refused.code() == Code::ResourceExhausted, "{refused:?}");
    ensure!(refused.message() == "as many calls are under way as there may be", "{refused:?}");
    let details = refused.get_error_details();
    ensure!(details.error_info().is_some_and(|info| info.reason == reason::BROKER_BUSY), "{refused:?}");
    ensure!(details.retry_info().is_some(), "{refused:?}");
    drop(first);
    until("a call to be taken", || async {
        Ok(client.clone().get_status(v1::GetStatusRequest::default()).await.ok())
    })
    .await?;
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_connection_too_many_replaces_a_silent_one_and_is_closed_if_there_is_none() -> anyhow::Result<()> {
    let config = Config { connections_max: 2, ..Config::default() };
    let broker = Broker::with_store(config, Arc::new(MemoryStore::new()))?.bind("127.0.0.1:0").await?;
    let mut first = watch(&broker.url()).await?;
    let mut silent = TcpStream::connect(broker.address()).await?;
    let mut second = watch(&broker.url()).await?;
    let _reset = must("the silent one to be closed", silent.read_to_end(&mut Vec::new())).await?;
    // Both have something under way.
    let mut third = TcpStream::connect(broker.address()).await?;
    let _reset = must("the third to be closed", third.read_to_end(&mut Vec::new())).await?;
    for watch in [&mut first, &mut second] {
        loop {
            match watch.message().now_or_never() {
                None => break,
                Some(Ok(Some(_change))) => {}
                Some(ended) => anyhow::bail!("a watch was disturbed: {ended:?}"),
            }
        }
    }
    Ok(broker.stop().await?)
}

#[tokio::test]
async fn a_watcher_that_stops_reading_holds_up_nobody_and_finds_the_end_later() -> anyhow::Result<()> {
    const JOBS: usize = 1_400;
    /// Of the outputs of each job: together far more than all buffers between broker and watcher hold.
    const OUTPUT_BYTES: usize = 60 * 1024;
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let bystander = Bystander::start(&broker.url()).await?;
    let mut client = wire::client(&broker.url()).await?;
    let request = wire::submission((0..JOBS).map(|_| wire::job("talker", &[], Vec::new())).collect());
    let flow = request.flow_id.clone();
    let ids: Vec<Bytes> = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    client.submit_jobs(request).await?;

    // A connection that gives little room to begin with, and then nobody reads.
    let channel = Channel::from_shared(broker.url())?
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024)
        .connect()
        .await?;
    let mut slow = MyceliumServiceClient::new(channel)
        .max_decoding_message_size(mycelium_proto::limits::MESSAGE_BYTES_MAX);
    let watch = v1::WatchJobsRequest { include_outputs: true, until_final: true, ..wire::watch_flow(&flow) };
    let mut watch = slow.watch_jobs(watch).await?.into_inner();
    let first = must("the snapshot", watch.message()).await??.context("the watch ended")?;
    ensure!(first.snapshot, "the first message is of the snapshot");

    // All jobs finish meanwhile, and so do those of others.
    let declaration = wire::declaration("talker", &[], &["text"]);
    let mut elf = WireElf::connect(&broker.url(), wire::hello(declaration, 4)).await?;
    let text = format!("\"{}\"", "x".repeat(OUTPUT_BYTES));
    let mut n_done = 0;
    while n_done < JOBS {
        if let v1::connect_response::Kind::Assign(assign) = elf.next().await? {
            for token in assign.assignments.iter().filter_map(|one| one.token.as_ref()) {
                elf.report(vec![wire::returned(token, &[("text", &text)])]).await?;
                n_done += 1;
            }
        }
    }
    until("all jobs to be DONE", || async {
        let flow = Some(v1::get_flow_request::Flow::FlowId(flow.clone()));
        let answer = client.clone().get_flow(v1::GetFlowRequest { mycelium: String::new(), flow }).await?;
        let counts = answer.into_inner().flow.and_then(|flow| flow.counts).context("counts")?;
        Ok((counts.done == JOBS as u64).then_some(()))
    })
    .await?;
    bystander.finish().await?;

    // The watcher wakes up, and learns the last status of every job.
    let mut last: BTreeMap<Bytes, JobStatus> = BTreeMap::new();
    let mut tell = |message: v1::WatchJobsResponse| {
        for change in message.changes {
            last.insert(change.job_id.clone(), change.status());
        }
    };
    tell(first);
    while let Some(message) = must("the rest of the watch", watch.message()).await?? {
        tell(message);
    }
    ensure!(last.len() == JOBS, "told of {} jobs", last.len());
    ensure!(ids.iter().all(|id| last.get(id) == Some(&JobStatus::Done)), "not all are told as DONE");
    drop((elf, watch));
    Ok(broker.stop().await?)
}
