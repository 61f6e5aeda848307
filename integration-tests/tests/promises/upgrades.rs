//! A changed signature fails nothing that is under way: jobs go where they fit, and wait where nobody takes them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use elf_runtime::{Job, Mycelium, Run};
use integration_tests::{
    BrokerProcess, DEADLINE, ElfOptions, ElfProcess, Tester, counts, jobs_of, must, orders, until, wire,
};
use mycelium_proto::v1::wait_reason::Kind;
use mycelium_proto::v1::{self, JobStatus};

const ELF: &str = "shipper";

/// Submits orders as the clients of the first version do: each waits for a job of its own, whose gate may be closed.
async fn order(
    mycelium: &Mycelium,
    numbers: std::ops::Range<u64>,
    gate: &std::path::Path,
) -> anyhow::Result<(Run, Vec<Job<String>>)> {
    let flow = mycelium.flow("orders");
    let gates = Tester::tasks(&flow, "gates");
    let opened = gates.task_pass(0, gate.to_owned());
    let shipper = orders::v1::Shipper::tasks(&flow, ELF);
    let jobs = numbers.map(|number| shipper.task_ship(number).after(&opened)).collect();
    Ok((flow.submit().await?, jobs))
}

async fn reason(mycelium: &Mycelium, job: &Job<String>) -> anyhow::Result<Option<Kind>> {
    let job_id = bytes::Bytes::copy_from_slice(job.id().as_bytes());
    let request = v1::ExplainJobRequest { job_id, ..v1::ExplainJobRequest::default() };
    Ok(mycelium.explain_job(request).await?.reason.and_then(|reason| reason.kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_orders_under_way_survive_a_version_that_requires_more() -> anyhow::Result<()> {
    const ORDERS: u64 = 600;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let gate = folder.path().join("gate");
    let gates = ElfProcess::start(&broker.url(), &ElfOptions::new("gates", 1, 1)).await?;
    let old = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 1)).await?;
    let (run, jobs) = order(&mycelium, 0..ORDERS, &gate).await?;

    // The elf is replaced while they are under way, and another is there before they may run.
    old.stop().await?;
    let new = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 2)).await?;
    std::fs::write(&gate, "")?;
    let kind = until("a job to fit nobody", || async {
        Ok(reason(&mycelium, &jobs[0]).await?.filter(|kind| matches!(kind, Kind::NoFittingInstance(_))))
    })
    .await?;
    let Kind::NoFittingInstance(none) = kind else { anyhow::bail!("{kind:?}") };
    ensure!(none.instances == 1 && none.unfit.len() == 1, "{none:?}");
    ensure!(none.unfit[0].process_id == new.pid()?, "{none:?}");
    ensure!(none.unfit[0].lacks.len() == 1 && none.unfit[0].lacks[0].contains("`customs`"), "{none:?}");
    let why = mycelium.why(jobs[0].id()).await?;
    ensure!(why.starts_with("READY: ") && why.contains("`customs`"), "{why}");

    // What fits is not held up: the clients of the new version are served.
    let flow = mycelium.flow("new orders");
    let shipper = orders::v2::Shipper::tasks(&flow, ELF);
    let shipped: Vec<Job<String>> = (0..20).map(|number| shipper.task_ship(number, "toys")).collect();
    let new_run = flow.submit().await?;
    for (number, job) in shipped.iter().enumerate() {
        let result = must("a new order", new_run.result(job)).await??;
        ensure!(result == format!("{number} (toys) by 2"), "{result}");
    }
    let standing = counts(&mycelium, run.flow_id()).await?;
    ensure!(standing.ready == ORDERS && standing.failed == 0 && standing.done == 1, "{standing:?}");

    // One comes that takes them.
    let both = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 4)).await?;
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: ORDERS + 1, ..v1::JobCounts::default() }, "{ended:?}");
    ensure!(run.result(&jobs[7]).await? == "7 (nothing) by 4");
    // All of them are one program, and it tells so.
    let job = mycelium.job(jobs[7].id()).await?;
    let job_id = bytes::Bytes::copy_from_slice(jobs[7].id().as_bytes());
    let attempts = v1::ListAttemptsRequest { job_id, ..v1::ListAttemptsRequest::default() };
    let attempts = mycelium.list_attempts(attempts).await?.attempts;
    let elf = v1::GetElfRequest { mycelium: String::new(), name: ELF.to_owned() };
    let elf = mycelium.get_elf(elf).await?.elf.context("the elf is known")?;
    let builds = elf.instances.iter().map(|instance| &instance.build);
    let mut builds = builds.chain(attempts.iter().map(|attempt| &attempt.build)).chain([&job.build]);
    ensure!(job.build.len() == 32 && builds.all(|build| *build == job.build), "{job:?} {attempts:?} {elf:?}");
    let of_old = elf.instances.iter().find(|instance| !instance.differences.is_empty());
    let differences = &of_old.context("the second version is not the newest")?.differences;
    ensure!(*differences == ["`task_ship` takes other arguments"], "{differences:?}");
    for elf in [gates, new, both] {
        elf.stop().await?;
    }
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_versions_serve_side_by_side_nobody_is_refused_whom_one_of_them_takes() -> anyhow::Result<()> {
    const ROUNDS: u64 = 15;
    let broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let mut serving = vec![ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 1)).await?];
    let (mut old_jobs, mut new_jobs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // The last that connected is of one version, and then of the other.
        if round % 5 == 0 {
            let version = if round % 10 == 0 { 2 } else { 1 };
            serving.push(ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, version)).await?);
        }
        let flow = mycelium.flow("old client");
        let shipper = orders::v1::Shipper::tasks(&flow, ELF);
        let jobs: Vec<Job<String>> = (0..4).map(|number| shipper.task_ship(number)).collect();
        old_jobs.push((flow.submit().await?, jobs));
        let flow = mycelium.flow("new client");
        let shipper = orders::v2::Shipper::tasks(&flow, ELF);
        let jobs: Vec<Job<String>> = (0..4).map(|number| shipper.task_ship(number, "toys")).collect();
        new_jobs.push((flow.submit().await?, jobs));
    }
    for (of, version) in [(&old_jobs, "by 1"), (&new_jobs, "by 2")] {
        for (run, jobs) in of {
            for job in jobs {
                let result = must("an order", run.result(job)).await??;
                ensure!(result.ends_with(version), "{result} is not {version}");
                ensure!(
                    mycelium.job(job.id()).await?.attempt == 1,
                    "it was given to one that does not take it"
                );
            }
        }
    }

    // With the last of a version gone, its clients are refused, for somebody is there.
    for elf in serving {
        elf.stop().await?;
    }
    let last = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 2)).await?;
    let flow = mycelium.flow("old client");
    orders::v1::Shipper::tasks(&flow, ELF).task_ship(1);
    let refused = flow.submit().await.err().context("nobody takes it, and it is taken in")?;
    ensure!(refused.reason() == Some("SIGNATURE_MISMATCH"), "{refused}");
    let text = refused.to_string();
    ensure!(text.contains("`customs`") && text.contains("#[task(default"), "{text}");

    // With nobody there it is taken in, with a warning: as soon as the last has left.
    last.stop().await?;
    for _ in 0..10 {
        ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 2)).await?.stop().await?;
        let literal = vec![wire::literal("1")];
        let job = v1::JobSpec { task: "task_ship".to_owned(), ..wire::job(ELF, &["order"], literal) };
        let answer = mycelium.raw().submit_jobs(wire::submission(vec![job])).await?.into_inner();
        ensure!(answer.jobs_created == 1 && answer.warnings.len() == 1, "{answer:?}");
        ensure!(answer.warnings[0].contains("`customs`"), "{answer:?}");
    }
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_a_later_declaration_does_not_take_wait_for_one_that_does() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let folder = tempfile::tempdir()?;
    let gate = folder.path().join("gate");
    let gates = ElfProcess::start(&broker.url(), &ElfOptions::new("gates", 1, 1)).await?;
    let old = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 1)).await?;
    let (run, jobs) = order(&mycelium, 0..20, &gate).await?;
    old.stop().await?;

    // The names are the same, and the type is another: only the values tell.
    let other = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 3)).await?;
    std::fs::write(&gate, "")?;
    let unfit = |kind: &Kind| match kind {
        Kind::NoFittingInstance(none) => none.unfit.iter().any(|unfit| unfit.lacks[0].contains("`order`")),
        _ => false,
    };
    for job in &jobs {
        until("the job to be turned down", || async { Ok(reason(&mycelium, job).await?.filter(unfit)) })
            .await?;
        let attempts = mycelium.job(job.id()).await?;
        ensure!(attempts.attempt == 1, "it was turned down once: {attempts:?}");
    }
    // It is not asked again, however long that takes.
    let before = jobs_of(&mycelium, run.flow_id(), &[JobStatus::Ready]).await?.len();
    ensure!(before == jobs.len(), "{before} are READY");

    // A broker that was restarted asks once more.
    broker.kill().await?;
    broker.restart().await?;
    until("the jobs to be turned down again", || async {
        let all = jobs_of(&mycelium, run.flow_id(), &[JobStatus::Ready]).await?;
        Ok((all.len() == jobs.len() && all.iter().all(|job| job.attempt == 2)).then_some(()))
    })
    .await?;
    let first = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 1)).await?;
    let ended = must("the end of the flow", run.wait()).await??;
    ensure!(ended == v1::JobCounts { done: 21, ..v1::JobCounts::default() }, "{ended:?}");
    for elf in [gates, other, first] {
        elf.stop().await?;
    }
    broker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_serves_an_elf_in_another_version_is_not_refused_by_the_one_before()
-> anyhow::Result<()> {
    let broker = BrokerProcess::start(&[]).await?;
    for _ in 0..10 {
        // Somebody was there with another type, and is still waited for.
        let mut before = ElfProcess::start(&broker.url(), &ElfOptions::orders(ELF, 3)).await?;
        before.kill().await?;
        let mycelium = broker.client().await?;
        let mut outcome = Err(anyhow::anyhow!("the program did not run"));
        let worker = mycelium.serve().elf(ELF, orders::v1::Shipper);
        let program = async {
            outcome = async {
                let flow = mycelium.flow("own");
                let job = orders::v1::Shipper::tasks(&flow, ELF).task_ship(1);
                let run = flow.submit().await?;
                Ok(tokio::time::timeout(Duration::from_secs(20).min(DEADLINE), run.result(&job)).await??)
            }
            .await;
        };
        worker.run_until(program).await?;
        ensure!(outcome? == "1 by 1");
    }
    broker.stop().await
}
