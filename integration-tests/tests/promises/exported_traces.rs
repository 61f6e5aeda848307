//! The spans that a broker exports: what they say, who gets them, and that it is told how many are lost.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use integration_tests::wire::{self, WireElf};
use integration_tests::{Authority, BrokerProcess, ElfOptions, ElfProcess, must, until};
use mycelium_proto::v1::{self, JobStatus};
use mycelium_testing::programs;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Code, Request};

use super::collector::{Collector, attribute};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SUBMIT_JOBS: &str = "/mycelium.v1.MyceliumService/SubmitJobs";
const GET_JOB: &str = "/mycelium.v1.MyceliumService/GetJob";
/// What spans have that failed.
const ERROR: i32 = 2;

fn parent() -> String {
    format!("00-{TRACE}-b7ad6b7169203331-01")
}

/// As one who does not say with the call in which trace it is.
fn submission(jobs: Vec<v1::JobSpec>) -> v1::SubmitJobsRequest {
    let trace = v1::TraceContext { trace_parent: parent(), trace_state: String::new() };
    v1::SubmitJobsRequest { trace: Some(trace), ..wire::submission(jobs) }
}

/// As one who does.
fn traced<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", parent().parse()?);
    Ok(request)
}

async fn start(url: &str, variables: &[(&str, &str)]) -> anyhow::Result<BrokerProcess> {
    let variables = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", url)], variables].concat();
    BrokerProcess::start_with(&["--log", "debug", "--log-format", "json"], &variables).await
}

/// What a broker has logged, when it has ended.
async fn end(mut broker: BrokerProcess) -> anyhow::Result<Vec<serde_json::Value>> {
    broker.signal(Signal::SIGTERM)?;
    ensure!(must("the end of the broker", broker.ended()).await??.success());
    Ok(broker.log()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn status(span: &Span) -> i32 {
    span.status.as_ref().map_or(0, |status| status.code)
}

fn text(span: &Span, key: &str) -> Option<String> {
    match attribute(span, key)? {
        Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_of_all_spans_that_are_lost_while_the_collector_is_slow() -> anyhow::Result<()> {
    const CALLS: u64 = 200;
    let (collector, url) = Collector::start().await?;
    let broker = start(&url, &[("OTEL_BSP_MAX_QUEUE_SIZE", "64")]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let slow = collector.answering.lock().await;
    for _ in 0..CALLS {
        client.submit_jobs(submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    }
    until("it to be told", || async { Ok(broker.log()?.contains("spans are lost").then_some(())) }).await?;
    drop(slow);
    let log = end(broker).await?;
    let told: Vec<u64> = log.iter().filter_map(|line| line["lost"].as_u64()).collect();
    // The call, and its commit.
    let exported = collector.len() as u64;
    ensure!(exported + told.iter().sum::<u64>() == 2 * CALLS, "{exported} exported, {told:?} lost");
    ensure!(told.len() <= 3 && exported >= 64, "{exported} exported, {told:?} lost");
    let hint = log.iter().any(|line| line.to_string().contains("OTEL_BSP_MAX_QUEUE_SIZE"));
    ensure!(hint, "it says what helps: {log:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_call_and_its_lines_tell_how_it_was_answered() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let broker = start(&url, &[]).await?;
    let mut client = wire::client(&broker.url()).await?;
    client.submit_jobs(submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    client.submit_jobs(traced(wire::submission(vec![wire::job("nobody", &[], Vec::new())]))?).await?;
    let unknown = v1::GetJobRequest { job_id: wire::id(), ..v1::GetJobRequest::default() };
    let refused = client.get_job(traced(unknown)?).await.err().context("there is no such job")?;
    ensure!(refused.code() == Code::NotFound, "{refused:?}");
    // One that is not traced.
    client.submit_jobs(wire::submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    let log = end(broker).await?;

    let (submits, gets) = (collector.named(SUBMIT_JOBS), collector.named(GET_JOB));
    ensure!(submits.len() == 2 && gets.len() == 1, "{submits:?} {gets:?}");
    for (span, code) in submits.iter().map(|span| (span, Code::Ok)).chain([(&gets[0], Code::NotFound)]) {
        let told = attribute(span, "rpc.grpc.status_code");
        ensure!(told == Some(Value::IntValue(i64::from(code as i32))), "{span:?}");
        ensure!(status(span) == 0, "its caller is to blame, if anybody: {span:?}");
        let peer = text(span, "peer").context("a peer")?;
        ensure!(peer.parse::<SocketAddr>().is_ok(), "{peer}");
    }
    let of_audit = |line: &&serde_json::Value| line["target"] == "audit" && line["call"] == "SubmitJobs";
    let audited: Vec<_> = log.iter().filter(of_audit).collect();
    let in_trace = audited.iter().filter(|line| line["span"]["trace_id"] == TRACE).count();
    ensure!(audited.len() == 3 && in_trace == 2, "{audited:?}");
    ensure!(!log.iter().any(|line| line.to_string().contains("Some(")), "addresses are shown as they are");
    Ok(())
}

/// The one attempt, once it is exported, and what became of it.
async fn attempt(collector: &Collector) -> anyhow::Result<(String, i32)> {
    let spans = until("the span of the attempt", || async {
        Ok(Some(collector.named("attempt")).filter(|spans| !spans.is_empty()))
    });
    let spans = spans.await?;
    ensure!(spans.len() == 1, "{spans:?}");
    Ok((text(&spans[0], "outcome").unwrap_or_default(), status(&spans[0])))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_lost_with_its_elf() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let broker = start(&url, &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let mut elf = ElfProcess::start(&broker.url(), &ElfOptions::new("tester", 1, 1)).await?;
    let nodes = vec![wire::literal("1"), wire::literal("\"/nowhere/at/all\"")];
    let job = wire::job("tester", &["number", "gate"], nodes);
    let job = v1::JobSpec { task: "task_pass".to_owned(), ..job };
    client.submit_jobs(submission(vec![job.clone()])).await?;
    until("the job to run", || async {
        let is_running = wire::get_job(&client, &job.job_id).await?.status() == JobStatus::Running;
        Ok(is_running.then_some(()))
    })
    .await?;
    elf.kill().await?;
    let (outcome, status) = attempt(&collector).await?;
    ensure!((outcome.as_str(), status) == ("lost", ERROR), "{outcome} {status}");
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_goes_on_while_its_session_does() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let broker = start(&url, &[("OTEL_BSP_SCHEDULE_DELAY", "100")]).await?;
    let mut client = wire::client(&broker.url()).await?;
    let hello = wire::hello(wire::declaration("cut", &[], &["n"]), 16);
    let mut elf = WireElf::connect(&broker.url(), hello.clone()).await?;
    client.submit_jobs(submission(vec![wire::job("cut", &[], Vec::new())])).await?;
    let token = elf.token().await?;
    let resume = v1::Hello { held: vec![token.clone()], ..elf.resume(hello) };
    drop(elf);
    let mut elf = WireElf::connect(&broker.url(), resume).await?;
    ensure!(elf.welcome.resumed && elf.welcome.keep == [token.clone()], "{:?}", elf.welcome);
    elf.report(vec![wire::returned(&token, &[("n", "1")])]).await?;
    elf.verdicts().await?;
    let (outcome, status) = attempt(&collector).await?;
    ensure!((outcome.as_str(), status) == ("returned", 0), "{outcome} {status}");
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_a_private_authority_gets_spans_from_who_shows_its_certificate() -> anyhow::Result<()>
{
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let ca = authority.write(dir.path(), "ca")?;
    let own = authority.pair(&["mycelium"])?.write(dir.path(), "own")?;
    let server = authority.pair(&["127.0.0.1"])?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&server.certificate, &server.key))
        .client_ca_root(Certificate::from_pem(std::fs::read(&ca)?));
    let (collector, url) = Collector::start_secured(tls).await?;
    let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path");
    let (ca, certificate, key) = (path(&ca)?, path(&own.certificate)?, path(&own.key)?);
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", ca.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
    ];
    let broker = start(&url, &variables).await?;
    let mut client = wire::client(&broker.url()).await?;
    client.submit_jobs(submission(vec![wire::job("nobody", &[], Vec::new())])).await?;
    let log = end(broker).await?;
    ensure!(collector.named(SUBMIT_JOBS).len() == 1, "{log:?}");
    Ok(())
}

#[tokio::test]
async fn all_variables_that_cannot_be_used_are_told_of_before_anything_is_bound() -> anyhow::Result<()> {
    let wrong = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://user:hushed@collector:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hushed"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/at/all.pem"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_TRACES_SAMPLER_ARG", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "18446744073709551615"),
    ];
    for check in [&["--check-config"][..], &[]] {
        let mut serve = mycelium_testing::command(programs::mycelium()?);
        serve.arg("serve").args(check).envs(wrong);
        let line = mycelium_testing::run(&mut serve).await?.bad(2);
        for (name, _) in wrong {
            ensure!(line.contains(name), "{name}: {line}");
        }
        ensure!(!line.contains("hushed"), "{line}");
    }
    Ok(())
}
