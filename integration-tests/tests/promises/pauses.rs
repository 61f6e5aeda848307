//! What is paused is not begun until somebody resumes it, whatever becomes of the broker; and nothing else stands still.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{Error, Flow, FlowId, Job, JobId, Mycelium, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, flow_id_bytes, must, until,
};
use mycelium_proto::v1::pause_target::Kind;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_proto::{limits, reason};

/// What is paused of the elf `main`, whose jobs are of the task `task_add` and of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Elf,
    Task,
    Flow,
}

fn target(what: What, flow: FlowId) -> Option<v1::PauseTarget> {
    let kind = match what {
        What::All => Kind::All(true),
        What::Elf => Kind::Elf("main".to_owned()),
        What::Task => Kind::Task(v1::PausedTask { elf: "main".to_owned(), task: "task_add".to_owned() }),
        What::Flow => Kind::FlowId(flow_id_bytes(flow)),
    };
    Some(v1::PauseTarget { kind: Some(kind) })
}

async fn pause(mycelium: &Mycelium, target: Option<v1::PauseTarget>) -> Result<v1::PauseResponse, Error> {
    let (by, reason) = ("ada@host".to_owned(), "the scale is broken".to_owned());
    mycelium.pause(v1::PauseRequest { target, by, reason, ..v1::PauseRequest::default() }).await
}

async fn resume(mycelium: &Mycelium, target: Option<v1::PauseTarget>) -> anyhow::Result<v1::ResumeResponse> {
    Ok(mycelium.resume(v1::ResumeRequest { target, ..v1::ResumeRequest::default() }).await?)
}

async fn are(mycelium: &Mycelium, jobs: &[Job<u64>], status: JobStatus) -> anyhow::Result<Option<()>> {
    for job in jobs {
        if mycelium.job(job.id()).await?.status() != status {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn add(flow: &Flow, elf: &str) -> Job<u64> {
    Tester::tasks(flow, elf).task_add(list![1u64, 2], 0)
}

async fn paused(what: What) -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let main = ElfProcess::start(&broker.url(), &ElfOptions::new("main", 1, 4)).await?;
    let beside = ElfProcess::start(&broker.url(), &ElfOptions::new("beside", 1, 4)).await?;
    let gates = tempfile::tempdir()?;
    let gate = gates.path().join("gate");

    let flow = mycelium.flow("paused");
    let runs: Job<u64> = Tester::tasks(&flow, "main").task_pass(7, gate.clone());
    let run = flow.submit().await?;
    let running = [runs];
    until("the first to run", || are(&mycelium, &running, JobStatus::Running)).await?;
    let mut jobs: Vec<Job<u64>> = (0..5).map(|_| add(&flow, "main")).collect();
    flow.submit().await?;
    until("some to be held", || async {
        Ok((counts(&mycelium, run.flow_id()).await?.assigned > 0).then_some(()))
    })
    .await?;

    let target = target(what, run.flow_id());
    let answer = pause(&mycelium, target.clone()).await?;
    ensure!(answer.is_new, "{answer:?}");
    until("what was held to come back", || are(&mycelium, &jobs, JobStatus::Ready)).await?;
    // What runs goes on to its end.
    std::fs::write(&gate, "")?;
    ensure!(must("the end of what ran", run.result(&running[0])).await?? == 7);

    broker.kill().await?;
    broker.restart().await?;
    until("the elf to be back", || async {
        let request = v1::GetElfRequest { name: "main".to_owned(), ..v1::GetElfRequest::default() };
        let elf = mycelium.get_elf(request).await?.elf.context("the elf is known")?;
        Ok(elf.instances.iter().any(|instance| instance.connected).then_some(()))
    })
    .await?;
    jobs.extend((0..3).map(|_| add(&flow, "main")));
    flow.submit().await?;
    let why = mycelium.why(jobs[0].id()).await?;
    ensure!(
        why.starts_with("READY: it is paused: ") && why.contains("by ada@host (the scale is broken)"),
        "{why}"
    );
    let listed = mycelium.list_pauses(v1::ListPausesRequest::default()).await?.pauses;
    ensure!(listed == [answer.pause.clone().context("the pause is told")?], "{listed:?}");
    let again = pause(&mycelium, target.clone()).await?;
    ensure!(!again.is_new && again.pause == answer.pause, "{again:?}");

    // Nothing else stands still: what is done now would have come after what is paused.
    let others = mycelium.flow("others");
    let mut running: Vec<Job<u64>> = Vec::new();
    let open = Tester::tasks(&others, "main").task_pass(9, gate.clone());
    match what {
        What::All => {}
        What::Elf => running.extend([add(&others, "beside"), add(&others, "beside")]),
        What::Task => running.extend([add(&others, "beside"), open]),
        What::Flow => running.extend([add(&others, "beside"), add(&others, "main"), open]),
    }
    let of_others = others.submit().await?;
    for job in &running {
        must("the end of a job that is not paused", of_others.result(job)).await??;
    }
    ensure!(
        are(&mycelium, &jobs, JobStatus::Ready).await?.is_some(),
        "{:?}",
        counts(&mycelium, run.flow_id()).await?
    );
    let entries = Diary::read([main.diary(), beside.diary()])?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(jobs.iter().all(|job| !started.contains_key(&job.id())), "{what:?}: {started:?}");

    ensure!(resume(&mycelium, target.clone()).await?.pause == answer.pause);
    for job in &jobs {
        ensure!(must("the end of what was paused", run.result(job)).await?? == 3);
    }
    let entries = Diary::read([main.diary(), beside.diary()])?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(started.values().all(|attempts| attempts.len() == 1), "{what:?}: {started:?}");
    let order: Vec<JobId> =
        entries.iter().filter(|one| one.event == Event::Started).map(|one| one.job).collect();
    let order: Vec<JobId> = order.into_iter().filter(|id| jobs.iter().any(|job| job.id() == *id)).collect();
    ensure!(order == jobs.iter().map(Job::id).collect::<Vec<_>>(), "each took its old place: {order:?}");
    ensure!(resume(&mycelium, target).await?.pause.is_none());
    ensure!(mycelium.list_pauses(v1::ListPausesRequest::default()).await?.pauses.is_empty());
    main.stop().await?;
    beside.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mycelium_pauses_as_a_whole() -> anyhow::Result<()> {
    paused(What::All).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elf_pauses_and_others_go_on() -> anyhow::Result<()> {
    paused(What::Elf).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_pauses_and_others_of_its_elf_go_on() -> anyhow::Result<()> {
    paused(What::Task).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_pauses_and_others_of_its_elf_go_on() -> anyhow::Result<()> {
    paused(What::Flow).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_can_be_cancelled_and_a_pause_goes_with_its_flow() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let elf = ElfProcess::start(&broker.url(), &ElfOptions::new("main", 1, 1)).await?;
    let flow = mycelium.flow("paused");
    let done = add(&flow, "main");
    let run = flow.submit().await?;
    must("the end of a job", run.result(&done)).await??;
    pause(&mycelium, target(What::Flow, run.flow_id())).await?;
    let kept = add(&flow, "main");
    flow.submit().await?;
    let scope = Some(v1::cancel_jobs_request::Scope::FlowId(flow_id_bytes(run.flow_id())));
    let request = v1::CancelJobsRequest { scope, ..v1::CancelJobsRequest::default() };
    ensure!(mycelium.cancel_jobs(request).await?.jobs_cancelled == 1);
    ensure!(mycelium.job(kept.id()).await?.status() == JobStatus::Cancelled);
    let flow_ids = vec![flow_id_bytes(run.flow_id())];
    mycelium.delete_flows(v1::DeleteFlowsRequest { flow_ids, ..v1::DeleteFlowsRequest::default() }).await?;
    until("the pause to go with its flow", || async {
        let pauses = mycelium.list_pauses(v1::ListPausesRequest::default()).await?.pauses;
        Ok(pauses.is_empty().then_some(()))
    })
    .await?;
    elf.stop().await?;
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paused_is_refused_and_nothing_is_stored() -> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let of = |kind| Some(v1::PauseTarget { kind: Some(kind) });
    let task =
        |elf: &str, task: &str| Kind::Task(v1::PausedTask { elf: elf.to_owned(), task: task.to_owned() });
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    let bad = [
        (None, "ada", "", "target"),
        (Some(v1::PauseTarget::default()), "ada", "", "target"),
        (of(Kind::All(false)), "ada", "", "target"),
        (of(Kind::Elf(String::new())), "ada", "", "target.elf"),
        (of(Kind::Elf(long.clone())), "ada", "", "target.elf"),
        (of(task("main", "")), "ada", "", "target.task.task"),
        (of(task("", "task_add")), "ada", "", "target.task.elf"),
        (of(Kind::FlowId(Bytes::from_static(b"short"))), "ada", "", "target.flow_id"),
        (of(Kind::All(true)), "", "", "by"),
        (of(Kind::All(true)), &long, "", "by"),
        (of(Kind::All(true)), "ada\n", "", "by"),
        (of(Kind::All(true)), "ada", &long, "reason"),
    ];
    for (target, by, why, field) in bad {
        let (by, reason) = (by.to_owned(), why.to_owned());
        let request = v1::PauseRequest { target: target.clone(), by, reason, ..v1::PauseRequest::default() };
        let refused = mycelium.pause(request).await;
        let Err(Error::Refused { reason, violations, .. }) = &refused else {
            anyhow::bail!("{target:?}: {refused:?}")
        };
        ensure!(reason == reason::INVALID_FIELD, "{refused:?}");
        ensure!(violations.iter().any(|violation| violation.field == field), "{field}: {refused:?}");
    }
    let unknown = pause(&mycelium, of(Kind::FlowId(Bytes::from(vec![7; 16])))).await;
    ensure!(matches!(&unknown, Err(error) if error.reason() == Some(reason::FLOW_NOT_FOUND)), "{unknown:?}");
    ensure!(mycelium.list_pauses(v1::ListPausesRequest::default()).await?.pauses.is_empty());
    broker.stop().await
}
