//! A broker that is told to stop takes nothing more, does what it has begun, and is gone within its grace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use elf_runtime::list;
use futures::future::try_join_all;
use integration_tests::{BrokerProcess, Tester, counts, must, until, wire};
use mycelium_proto::v1;
use mycelium_server::Broker;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How many programs submit side by side, how often each does, and how many jobs at a time.
const PROGRAMS: usize = 8;
const FLOWS: usize = 40;
const JOBS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_and_whoever_is_refused_goes_on_with_the_next_broker() -> anyhow::Result<()>
{
    let mut broker = BrokerProcess::start(&["--drain-grace", "20s"]).await?;
    let mycelium = broker.client().await?;
    let submitting: Vec<_> = (0..PROGRAMS)
        .map(|program| {
            let mycelium = mycelium.clone();
            tokio::spawn(async move {
                let mut flows = Vec::new();
                for number in 0..FLOWS {
                    let flow = mycelium.flow(format!("{program}-{number}"));
                    let tasks = Tester::tasks(&flow, "nobody");
                    for _ in 0..JOBS {
                        tasks.task_add(list![1u64], 0);
                    }
                    flows.push(flow.submit().await?.flow_id());
                }
                anyhow::Ok(flows)
            })
        })
        .collect();
    let submitted = || async {
        let unfinished = mycelium.get_status(v1::GetStatusRequest::default()).await?.unfinished;
        anyhow::Ok(unfinished.unwrap_or_default().ready as usize)
    };
    until("a third to be submitted", || async {
        Ok((submitted().await? >= PROGRAMS * FLOWS * JOBS / 3).then_some(()))
    })
    .await?;
    broker.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    let ended = broker.ended().await?;
    ensure!(ended.success(), "told to stop, it ended with {ended}");
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    ensure!(submitting.iter().any(|program| !program.is_finished()), "it was stopped in the middle");

    broker.restart().await?;
    let mut flows = 0;
    for program in must("the end of all programs", try_join_all(submitting)).await?? {
        for flow in program? {
            let counts = counts(&mycelium, flow).await?;
            ensure!(counts.ready == JOBS as u64, "of {JOBS} jobs there are {counts:?}");
            flows += 1;
        }
    }
    ensure!(flows == PROGRAMS * FLOWS, "{flows} flows");
    ensure!(submitted().await? == flows * JOBS, "none is there twice");
    broker.stop().await
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_when_the_grace_is_over() -> anyhow::Result<()> {
    const GRACE: Duration = Duration::from_secs(1);
    let mut broker = BrokerProcess::start(&["--drain-grace", "1s"]).await?;
    // A watch of health never ends by itself.
    let endpoint = tonic::transport::Endpoint::from_shared(broker.url())?;
    let mut health = HealthClient::new(endpoint.connect().await?);
    let mut watch = health.watch(HealthCheckRequest::default()).await?.into_inner();
    ensure!(watch.message().await?.is_some());
    let began = Instant::now();
    broker.signal(Signal::SIGTERM)?;
    let ended = broker.ended().await?;
    ensure!(ended.success(), "told to stop, it ended with {ended}");
    let took = began.elapsed();
    ensure!(took >= GRACE, "the call was given its time, and not {took:?}");
    ensure!(took < GRACE + Duration::from_secs(8), "it took {took:?}");
    let told = must("that it stops", watch.message()).await??;
    ensure!(told.is_some_and(|told| told.status() == ServingStatus::NotServing));
    ensure!(must("the end of the call", watch.message()).await?.is_err(), "the call was cut");
    Ok(())
}

/// Whoever has connected just before is not closed without a word.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_connected_is_heard() -> anyhow::Result<()> {
    // The preface, and settings without anything in them.
    const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // Where the machine stands still for half a second, the time to speak is over before anything is said.
    for _ in 0..3 {
        let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
        let mut new = TcpStream::connect(broker.address()).await?;
        // Taken in after it.
        let mut health = HealthClient::new(wire::channel(&broker.url()).await?);
        let mut watch = health.watch(HealthCheckRequest::default()).await?.into_inner();
        ensure!(watch.message().await?.is_some());
        let stopping = tokio::spawn(broker.stop());
        let stops = must("the stop to begin", watch.message()).await??;
        ensure!(stops.is_some_and(|told| told.status() == ServingStatus::NotServing), "the process goes");
        drop((watch, health));
        let mut told = Vec::new();
        // Where it was closed already, one of them fails.
        let _heard = new.write_all(GREETING).await;
        let _reset = must("the broker to close the connection", new.read_to_end(&mut told)).await?;
        must("the end of the broker", stopping).await???;
        if !told.is_empty() {
            let kinds = frames(&told).context("all frames are whole")?;
            ensure!(
                kinds[0] == SETTINGS && kinds.contains(&GO_AWAY),
                "it is greeted, and told to go: {kinds:?}"
            );
            return Ok(());
        }
    }
    bail!("it was closed without a word")
}

/// Kinds of frames (<https://www.rfc-editor.org/rfc/rfc9113#section-6>).
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;

/// The kinds of the frames that these bytes are; `None` if one is not whole.
fn frames(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kinds = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        kinds.push(head[3]);
        bytes = rest.get(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize..)?;
    }
    Some(kinds)
}
