//! The example `tracing`: one trace from the submission of a flow to the span of its task, through a broker that exports its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use integration_tests::{BrokerProcess, example, must, until};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::collector::Collector;

const SUBMIT_JOBS: &str = "mycelium: /mycelium.v1.MyceliumService/SubmitJobs";

/// The spans of a run of the example, and the id of its trace.
async fn run(broker: &BrokerProcess, url: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("MYCELIUM_URL", &broker.url())];
    let ended = example::run_with("tracing", folder.path(), &variables).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let text = ended.stdout.trim_end();
    let trace = text.strip_prefix("12 loaves take 10800 g of flour, in trace ").context("its line")?;
    Ok(trace.to_owned())
}

/// Makes sure that each span hangs on the one before it, and all are of the trace.
fn is_chain(spans: &BTreeMap<String, Span>, trace: &str, names: &[&str]) -> anyhow::Result<()> {
    let mut parent = Vec::new();
    for name in names {
        let span = spans.get(*name).with_context(|| format!("{name} is missing among {:?}", spans.keys()))?;
        let of: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(of == trace, "{name} is in another trace");
        ensure!(span.parent_span_id == parent, "{name} hangs on another: {spans:#?}");
        ensure!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        parent.clone_from(&span.span_id);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_submission_through_the_broker_to_what_the_task_does() -> anyhow::Result<()>
{
    let (collector, url) = Collector::start().await?;
    let broker = BrokerProcess::start_with(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await?;
    let trace = run(&broker, &url).await?;
    // What it has not exported it exports now.
    broker.stop().await?;
    let spans = must(
        "the spans",
        until("all spans", async || {
            let spans = collector.by_name()?;
            Ok((spans.len() >= 9).then_some(spans))
        }),
    )
    .await??;
    let submit = ["bakery: order", "bakery: submit"];
    let commit = format!("mycelium: commit of {SUBMIT_JOBS}");
    is_chain(&spans, &trace, &[&submit[..], &[SUBMIT_JOBS, &commit]].concat())?;
    is_chain(
        &spans,
        &trace,
        &[&submit[..], &["mycelium: attempt", "bakery: attempt", "bakery: knead"]].concat(),
    )?;
    for of_attempt in ["mycelium: dispatch", "mycelium: commit of mycelium: attempt"] {
        is_chain(&spans, &trace, &[&submit[..], &["mycelium: attempt", of_attempt]].concat())?;
    }
    ensure!(spans.len() == 9, "{:?}", spans.keys());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_variable_a_broker_exports_nothing_and_passes_the_trace_on() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let broker = BrokerProcess::start(&[]).await?;
    let trace = run(&broker, &url).await?;
    broker.stop().await?;
    let spans = collector.by_name()?;
    is_chain(&spans, &trace, &["bakery: order", "bakery: submit", "bakery: attempt", "bakery: knead"])?;
    ensure!(spans.len() == 4, "{:?}", spans.keys());
    Ok(())
}
