//! What the broker logs: nothing that is secret, and no more than a disk takes, whatever clients and elves do.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use arangodb_double::{Double, ROOT};
use elf_runtime::{TaskContext, TaskError, args, machine_elf};
use integration_tests::wire::{self, WireElf};
use integration_tests::{BrokerProcess, Worker, must};
use mycelium_proto::v1;
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "a hushed password";
/// What stands in values.
const VALUE: &str = "hushed-value-of-somebody";

struct Teller;

#[machine_elf]
impl Teller {
    /// Returns what it is given, several times, and leaves it as a checkpoint.
    async fn task_tell(&self, context: &TaskContext, text: String, times: u64) -> Result<String, TaskError> {
        context.checkpoint(&text).await?;
        Ok(text.repeat(times as usize))
    }

    /// Returns what it is not declared to return.
    async fn task_fail(&self, text: String) -> Result<u64, TaskError> {
        Err(TaskError::new("Hushed", "it failed").with_details(text))
    }
}

/// Ways in which bytes are written into a log.
fn written(secret: &[u8]) -> Vec<String> {
    let part = &secret[..secret.len().min(12)];
    let hex = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{part:?}");
    let escaped = part.escape_ascii().to_string();
    vec![hex, list.trim_matches(['[', ']']).to_owned(), escaped]
}

/// What was logged by a broker that has ended.
async fn end(broker: &mut BrokerProcess) -> anyhow::Result<String> {
    broker.signal(Signal::SIGTERM)?;
    let status = must("the end of the broker", broker.ended()).await??;
    ensure!(status.success(), "{status}");
    broker.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_no_values_no_secrets_and_no_passwords_at_any_level() -> anyhow::Result<()> {
    let double = Double::start(PASSWORD).await?;
    let login = [("MYCELIUM_STORE_USER", ROOT), ("MYCELIUM_STORE_PASSWORD", PASSWORD)];
    let url = double.url();
    for store in [&[][..], &["--store", &url]] {
        let flags = [&["--log", "info,mycelium_server=trace"], store].concat();
        let variables = if store.is_empty() { &[][..] } else { &login };
        let mut broker = BrokerProcess::start_with(&flags, variables).await?;
        let mycelium = broker.client().await?;
        let worker = Worker::start(mycelium.serve().elf("teller", Teller)).await?;
        let flow = mycelium.flow("telling");
        let teller = Teller::tasks(&flow, "teller");
        let short = teller.task_tell(VALUE, 1u64);
        // One that is a blob.
        let long = teller.task_tell(short.value(), 10_000u64);
        let failed = teller.task_fail(long.value());
        let run = flow.submit().await?;
        ensure!(run.result(&long).await?.len() == 10_000 * VALUE.len());
        ensure!(run.result(&failed).await.is_err());
        // What is refused is not told of either.
        let untyped = flow.call("teller", "task_tell", args! { text: 7, times: VALUE });
        ensure!(flow.submit().await.is_err(), "{}", untyped.id());
        worker.stop().await?;

        let hello = wire::hello(wire::declaration("other", &[], &["n"]), 1);
        let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
        let secret = elf.resume(hello.clone()).session_secret;
        ensure!(secret.len() == 32);
        wire::client(&broker.url())
            .await?
            .submit_jobs(wire::submission(vec![wire::job("other", &[], vec![])]))
            .await?;
        let token = elf.token().await?;
        elf.report(vec![wire::returned(&token, &[("n", &format!("\"{VALUE}\""))])]).await?;
        elf.verdicts().await?;
        let resumed = WireElf::connect(&broker.url(), elf.resume(hello.clone())).await?;
        let forged = v1::Hello { session_secret: vec![7; 32].into(), ..elf.resume(hello) };
        drop(resumed);
        let _refused_or_new = WireElf::connect(&broker.url(), forged).await;

        let log = end(&mut broker).await?;
        ensure!(log.contains("call{path="), "it logs what is asked for, with the spans of calls: {log}");
        // As the header of a login has it.
        let login = "cm9vdDphIGh1c2hlZCBwYXNzd29yZA";
        let mut hushed = vec![VALUE.to_owned(), PASSWORD.to_owned(), login.to_owned()];
        hushed.extend(written(VALUE.as_bytes()).into_iter().chain(written(&secret)));
        for text in hushed {
            let line = log.lines().find(|line| line.contains(&text));
            ensure!(line.is_none(), "`{text}` is in the log: {line:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_bad_calls_and_many_bad_elves_write_a_bounded_number_of_lines() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&["--log", "info"]).await?;
    let url = broker.url();
    let client = wire::client(&url).await?;
    let calls = (0..10).map(|_| {
        let mut client = client.clone();
        async move {
            for _ in 0..1_000 {
                let bad =
                    v1::SubmitJobsRequest { flow_id: vec![1].into(), ..v1::SubmitJobsRequest::default() };
                ensure!(client.submit_jobs(bad).await.is_err());
            }
            Ok(())
        }
    });
    must("the bad calls", futures::future::try_join_all(calls)).await??;
    // Some that speak nothing, and elves that come and are gone.
    for _ in 0..300 {
        let mut stranger = TcpStream::connect(broker.address()).await?;
        stranger.write_all(b"GET /\r\n\r\n").await?;
        drop(stranger);
        drop(WireElf::connect(&url, wire::hello(wire::declaration("fleeting", &[], &["n"]), 1)).await?);
        let bad = wire::hello(wire::declaration("", &[], &["n"]), 1);
        ensure!(WireElf::connect(&url, bad).await.is_err());
    }
    let log = end(&mut broker).await?;
    let lines = log.lines().count();
    ensure!(lines < 1_000, "{lines} lines, of which the last is {:?}", log.lines().last());
    let told = log.lines().filter(|line| line.contains("lines were left out of the log"));
    ensure!(told.count() > 0, "it says that something is missing: {log}");
    ensure!(log.matches("an elf connected").count() <= 200, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_or_does_not_answer_is_in_the_way_of_nothing() -> anyhow::Result<()> {
    // One where nobody listens, and one that takes connections and says nothing.
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    for collector in [gone, mute.local_addr()?] {
        let endpoint = format!("http://{collector}");
        let variables =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
        let mut broker = BrokerProcess::start_with(&[], &variables).await?;
        let mycelium = broker.client().await?;
        let worker = Worker::start(mycelium.serve().elf("teller", Teller).concurrency(64)).await?;
        let job = |_| {
            let nodes = vec![wire::literal("\"text\""), wire::literal("1")];
            v1::JobSpec { task: "task_tell".to_owned(), ..wire::job("teller", &["text", "times"], nodes) }
        };
        let trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        let trace = Some(v1::TraceContext { trace_parent, trace_state: String::new() });
        // Each has several spans: more than may wait.
        let request = v1::SubmitJobsRequest { trace, ..wire::submission((0..4_000).map(job).collect()) };
        let flow = elf_runtime::FlowId::try_from(request.flow_id.as_ref()).context("a flow")?;
        wire::client(&broker.url()).await?.submit_jobs(request).await?;
        must("the end of the flow", mycelium.run(flow).wait()).await??;
        worker.stop().await?;
        let begun = std::time::Instant::now();
        let log = end(&mut broker).await?;
        ensure!(begun.elapsed() < Duration::from_secs(20), "it ends in time: {:?}", begun.elapsed());
        let told = log.lines().filter(|line| line.contains("spans cannot be exported")).count();
        ensure!(told <= 1 && (told == 1 || collector != gone), "told {told} times: {log}");
        ensure!(log.lines().count() < 50, "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused_before_anything_is_bound() -> anyhow::Result<()> {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let refused = BrokerProcess::start_with(&[], &variables).await;
    ensure!(refused.is_err(), "it has started");
    Ok(())
}
