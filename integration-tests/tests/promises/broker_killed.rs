//! A broker may be killed at any moment: no acknowledged job or result is lost, what runs goes on, and every job has
//! exactly one accepted outcome.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use elf_runtime::{FlowId, Job, JobId, Mycelium, list};
use integration_tests::{
    BrokerProcess, Diary, ElfOptions, ElfProcess, Event, Tester, counts, jobs_of, must, read_number, until,
};
use mycelium_proto::v1::{self, JobStatus};

/// Jobs of one layer, each of which takes results of the layer before.
const WIDTH: usize = 200;
const LAYERS: usize = 50;
const JOBS: u64 = (WIDTH * LAYERS) as u64;
/// How long a job takes: long enough that many run whenever the broker dies.
const PAUSE_MS: u64 = 20;
/// At how many percent DONE the broker is killed.
const KILLS_AT: [u64; 5] = [12, 27, 42, 57, 72];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_five_times_loses_nothing_and_runs_nothing_twice() -> anyhow::Result<()> {
    let mut broker = BrokerProcess::start(&[]).await?;
    let mycelium = broker.client().await?;
    let options = ElfOptions::new("adder", 16, 96);
    let mut elves = [
        ElfProcess::start(&broker.url(), &options).await?,
        ElfProcess::start(&broker.url(), &options).await?,
    ];
    let pids = [elves[0].pid()?, elves[1].pid()?];
    let diaries = [elves[0].diary(), elves[1].diary()];

    let flow = mycelium.flow("layers");
    let tasks = Tester::tasks(&flow, "adder");
    let mut expected: BTreeMap<JobId, u64> = BTreeMap::new();
    let mut layer: Vec<(Job<u64>, u64)> = Vec::new();
    for depth in 0..LAYERS {
        layer = (0..WIDTH)
            .map(|place| {
                let (job, sum) = match (layer.get(place), layer.get((place + 1) % WIDTH)) {
                    (Some((above, sum)), Some((beside, more))) if (depth + place) % 10 == 0 => {
                        (tasks.task_add(list![above, beside, 1u64], PAUSE_MS), sum + more + 1)
                    }
                    // A value that the broker computes when it dispatches the job.
                    (Some((above, sum)), _) if place % 2 == 0 => {
                        (tasks.task_add(list![above.value() + 1], PAUSE_MS), sum + 1)
                    }
                    (Some((above, sum)), _) => (tasks.task_add(list![above, 1u64], PAUSE_MS), sum + 1),
                    (None, _) => (tasks.task_add(list![place as u64], PAUSE_MS), place as u64),
                };
                expected.insert(job.id(), sum);
                (job, sum)
            })
            .collect();
    }
    let run = flow.submit().await?;
    let flow = run.flow_id();

    // A program that waits for the flow all the while.
    let waiting = tokio::spawn(async move { run.wait().await });
    let mut interrupted: Vec<BTreeMap<JobId, u32>> = Vec::new();
    let mut brokers = BTreeSet::from([broker.pid()?]);
    for percent in KILLS_AT {
        until("enough jobs to be DONE", || async {
            Ok((counts(&mycelium, flow).await?.done >= JOBS * percent / 100).then_some(()))
        })
        .await?;
        let running = held_jobs(&mycelium, flow).await?;
        let before = counts(&mycelium, flow).await?;
        broker.kill().await?;
        ensure!(
            (JOBS / 10..=JOBS * 9 / 10).contains(&before.done),
            "killed at {} of {JOBS} DONE",
            before.done
        );
        ensure!(before.running > 0 && !running.is_empty(), "killed with no job in hand: {before:?}");
        interrupted.push(running);
        broker.restart().await?;
        brokers.insert(broker.pid()?);
        let after = counts(&mycelium, flow).await?;
        ensure!(after.done >= before.done, "{} jobs were DONE, and {} are", before.done, after.done);
    }
    ensure!(brokers.len() == KILLS_AT.len() + 1, "each broker was another process: {brokers:?}");

    let ended = must("the end of the flow", waiting).await???;
    ensure!(ended == v1::JobCounts { done: JOBS, ..v1::JobCounts::default() }, "the flow ended as {ended:?}");
    for (elf, pid) in elves.iter_mut().zip(pids) {
        elf.check_alive()?;
        ensure!(elf.pid()? == pid, "an elf is another process");
    }

    // Every output is there and right.
    let outputs = outputs_of(&mycelium, expected.keys().copied().collect()).await?;
    for (job, sum) in &expected {
        ensure!(outputs.get(job) == Some(sum), "job {job} returned {:?}, not {sum}", outputs.get(job));
    }

    // Every job was run once, and it is that run whose outcome was accepted. An attempt number is skipped only where
    // an assignment was stored and never reached an elf, because the broker was killed in between.
    let entries = Diary::read(&diaries)?;
    let started = Diary::attempts(&entries, Event::Started);
    ensure!(started == Diary::attempts(&entries, Event::Ended), "each run that began has ended");
    let accepted: BTreeMap<JobId, v1::Job> = jobs_of(&mycelium, flow, &[])
        .await?
        .into_iter()
        .map(|job| Ok((JobId::try_from(job.job_id.as_ref())?, job)))
        .collect::<anyhow::Result<_>>()?;
    ensure!(accepted.len() as u64 == JOBS, "{} jobs are listed", accepted.len());
    for (id, job) in &accepted {
        ensure!(job.status() == JobStatus::Done, "job {id} is {:?}", job.status());
        ensure!(job.elves_lost == 0, "no elf was lost, and job {id} counts {}", job.elves_lost);
        let runs = started.get(id).with_context(|| format!("job {id} is DONE and was never run"))?;
        ensure!(*runs == [job.attempt], "job {id} was run as attempts {runs:?}; accepted is {}", job.attempt);
    }
    // In particular, those that ran while a broker was killed went on.
    for (kill, running) in interrupted.iter().enumerate() {
        let went_on = running.iter().filter(|(id, attempt)| accepted[*id].attempt == **attempt).count();
        ensure!(went_on > 0, "none of {} running jobs went on across kill {kill}", running.len());
    }
    let status = mycelium.get_status(v1::GetStatusRequest::default()).await?;
    ensure!(status.outcomes_stale == 0, "{} outcomes were stale", status.outcomes_stale);
    ensure!(status.durable, "the broker's store is durable");

    let [first, second] = elves;
    first.stop().await?;
    second.stop().await?;
    broker.stop().await
}

/// The jobs that elves hold, with their attempts. What takes little is not told to be RUNNING before it is over.
async fn held_jobs(mycelium: &Mycelium, flow: FlowId) -> anyhow::Result<BTreeMap<JobId, u32>> {
    let jobs = jobs_of(mycelium, flow, &[JobStatus::Assigned, JobStatus::Running]).await?;
    jobs.iter().map(|job| Ok((JobId::try_from(job.job_id.as_ref())?, job.attempt))).collect()
}

async fn outputs_of(mycelium: &Mycelium, jobs: Vec<JobId>) -> anyhow::Result<BTreeMap<JobId, u64>> {
    let mut outputs = BTreeMap::new();
    let mut rest = jobs.as_slice();
    while !rest.is_empty() {
        let job_ids = rest.iter().map(|job| Bytes::copy_from_slice(job.as_bytes())).collect();
        let answer = mycelium.get_outputs(v1::GetOutputsRequest { mycelium: String::new(), job_ids }).await?;
        ensure!(!answer.jobs.is_empty(), "GetOutputs answers nothing");
        for (id, job) in rest.iter().zip(&answer.jobs) {
            ensure!(job.job_id == id.as_bytes().as_slice(), "outputs come in the order asked for");
            outputs.insert(*id, read_number(&job.outputs).with_context(|| format!("job {id}"))?);
        }
        rest = &rest[answer.jobs.len()..];
    }
    Ok(outputs)
}
