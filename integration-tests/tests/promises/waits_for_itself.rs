//! A task that submits to its own elf and waits while it holds the only place waits for ever: who asks why is told so, and
//! both logs say it.

use anyhow::{Context as _, ensure};
use elf_runtime::Job;
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, jobs_of, must, until};
use mycelium_proto::v1::{self, wait_reason::Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_own_place_is_told_by_why_and_in_both_logs() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("nester", 1, 1)).await?;
    let flow = mycelium.flow("outer");
    let outer: Job<u64> = Tester::tasks(&flow, "nester").task_nest();
    let run = flow.submit().await?;

    let nested = until("the nested flow", || async {
        let flow = Some(v1::get_flow_request::Flow::Name("nested".to_owned()));
        let answer = mycelium.get_flow(v1::GetFlowRequest { flow, ..v1::GetFlowRequest::default() }).await;
        Ok(answer.ok().and_then(|answer| answer.flow))
    })
    .await?;
    let own = v1::AttemptName { job_id: bytes::Bytes::copy_from_slice(outer.id().as_bytes()), attempt: 1 };
    ensure!(nested.on_behalf_of.as_ref() == Some(&own), "{nested:?}");
    let flow_id = elf_runtime::FlowId::try_from(nested.flow_id.as_ref())?;
    let inner = jobs_of(&mycelium, flow_id, &[]).await?.pop().context("no nested job")?;
    let why = v1::ExplainJobRequest { job_id: inner.job_id.clone(), ..v1::ExplainJobRequest::default() };
    until("the reason", || async {
        let reason = mycelium.explain_job(why.clone()).await?.reason.and_then(|reason| reason.kind);
        let expected = Kind::HeldByAncestors(v1::HeldByAncestors { attempts: vec![own.clone()] });
        Ok((reason == Some(expected)).then_some(()))
    })
    .await?;
    until("a warning in both logs", || async {
        let said = "if it waits for that job, both wait for ever";
        let is_said = |log: String| log.lines().any(|line| line.contains("WARN") && line.contains(said));
        Ok((is_said(broker.log()?) && is_said(elf.log()?)).then_some(()))
    })
    .await?;

    // Another process has another place.
    let other = ElfProcess::start(&broker.url(), &ElfOptions::new("nester", 1, 1)).await?;
    ensure!(must("the sum", run.result(&outer)).await?? == 3);
    other.stop().await?;
    elf.stop().await?;
    broker.stop().await
}
