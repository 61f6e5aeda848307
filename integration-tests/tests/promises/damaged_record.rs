//! A record that cannot be read fails the job that needs it, by name, and everything else goes on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, JobId, Mycelium, Run, list};
use integration_tests::{BrokerProcess, ElfOptions, ElfProcess, Tester, Worker, must, until, wire};
use mycelium_proto::reason;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::store::MemoryStore;
use mycelium_server::store::faulty::{FaultyStore, JobRecord};
use mycelium_server::{Broker, Config, RunningBroker};
use tonic::Code;

const TYPE: &str = "RecordDamagedError";

/// How many jobs wait while a byte of the store is flipped.
const WAITING: u64 = 8_000;
/// Numbers in the argument of each: enough of them that the specifications fill tables on the disk.
const NUMBERS: u64 = 300;

/// The files of tables, largest first.
fn table_files(data: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    let keyspaces = data.join("default").join("store").join("keyspaces");
    for keyspace in fs::read_dir(keyspaces)? {
        let tables = keyspace?.path().join("tables");
        if !tables.is_dir() {
            continue;
        }
        for file in fs::read_dir(tables)? {
            let file = file?;
            files.push((file.metadata()?.len(), file.path()));
        }
    }
    files.sort();
    files.reverse();
    Ok(files)
}

/// Flips a byte in the middle of the largest table, which is one of specifications.
async fn flip_a_byte(data: &Path) -> anyhow::Result<PathBuf> {
    let (size, path) = until("a table of specifications", async || {
        Ok(table_files(data)?.into_iter().next().filter(|(size, _)| *size > 1024 * 1024))
    })
    .await?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 3)?;
    file.write_all_at(&[!byte[0]], size / 3)?;
    file.sync_all()?;
    Ok(path)
}

/// A number that does not compress.
fn scattered(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (state ^ (state >> 27)) >> 34
}

async fn submit_waiting(mycelium: &Mycelium) -> anyhow::Result<Run> {
    let flow = mycelium.flow("waiting");
    let tasks = Tester::tasks(&flow, "adder");
    for job in 0..WAITING {
        let numbers: Vec<u64> = (0..NUMBERS).map(|number| scattered(job * NUMBERS + number)).collect();
        let _job = tasks.task_add(numbers, 0u64);
    }
    Ok(flow.submit().await?)
}

async fn check_that_all_but_few_are_done(
    mycelium: &Mycelium,
    run: &Run,
    elf: &mut ElfProcess,
    damaged: &Path,
) -> anyhow::Result<()> {
    let counts = must("the end of the flow", run.wait()).await??;
    ensure!(counts.done >= WAITING - 10, "{counts:?}");
    ensure!(counts.failed >= 1 && counts.done + counts.failed == WAITING, "{counts:?}");
    let failures = mycelium.list_failures(v1::ListFailuresRequest::default()).await?.failures;
    let [group] = failures.as_slice() else { anyhow::bail!("one group of failures, and not {failures:?}") };
    let failure = group.failure.as_ref().context("a group without a failure")?;
    ensure!(failure.r#type == TYPE, "{failure:?}");
    let failed = integration_tests::jobs_of(mycelium, run.flow_id(), &[JobStatus::Failed]).await?;
    ensure!(failed.len() as u64 == counts.failed);
    for job in failed {
        let id = JobId::try_from(&job.job_id[..])?;
        let answer = mycelium
            .get_failure(v1::GetFailureRequest { failure_id: group.failure_id.clone(), ..Default::default() })
            .await?;
        let named = answer.occurrences.iter().find(|occurrence| occurrence.job_id == job.job_id);
        let message = &named.with_context(|| format!("no occurrence names job {id}"))?.message;
        ensure!(message.contains(&id.to_string()), "{message}");
        ensure!(message.contains(&damaged.display().to_string()), "{message}");
    }
    elf.check_alive()?;
    let log = elf.log()?;
    ensure!(!log.contains("no stream to the broker"), "the elf connected again: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_table_fails_the_jobs_in_its_block_alone() -> anyhow::Result<()> {
    for while_running in [true, false] {
        let mut broker = BrokerProcess::start(&[]).await?;
        let mycelium = broker.client().await?;
        let run = submit_waiting(&mycelium).await?;
        let damaged = if while_running {
            flip_a_byte(&broker.data_folder()).await?
        } else {
            until("a table", async || Ok(table_files(&broker.data_folder())?.into_iter().next())).await?;
            broker.kill().await?;
            let damaged = flip_a_byte(&broker.data_folder()).await?;
            broker.restart().await?;
            damaged
        };
        let mut elf = ElfProcess::start(&broker.url(), &ElfOptions::new("adder", 4, 256)).await?;
        check_that_all_but_few_are_done(&mycelium, &run, &mut elf, &damaged).await?;
        elf.stop().await?;
        broker.stop().await?;
    }
    Ok(())
}

async fn start_faulty() -> anyhow::Result<(RunningBroker, Arc<FaultyStore>)> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    Ok((broker, store))
}

fn check_failed<T: std::fmt::Debug>(result: Result<T, Error>, names: JobId) -> anyhow::Result<()> {
    match result {
        Err(Error::JobFailed(failed)) => {
            let failure = failed.failure.context("a failed job without its failure")?;
            ensure!(failure.r#type == TYPE, "{failure:?}");
            ensure!(failure.message.contains(&names.to_string()), "{failure:?}");
            ensure!(failure.message.contains("file planned.table"), "{failure:?}");
            Ok(())
        }
        other => anyhow::bail!("a failure was expected, and not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_fails_what_needs_it_at_dispatch_and_in_evaluation() -> anyhow::Result<()> {
    let (broker, store) = start_faulty().await?;
    let mycelium = Mycelium::connect(broker.url()).await?;

    // Before there is an elf: everything waits.
    let flow = mycelium.flow("damaged");
    let tasks = Tester::tasks(&flow, "adder");
    let plain = tasks.task_add(list![1u64], 0u64);
    let sound = tasks.task_add(list![2u64], 0u64);
    let source = tasks.task_add(list![3u64], 0u64);
    let gate = tempfile::tempdir()?;
    let later = tasks.task_pass(4u64, gate.path().join("open"));
    let user = tasks.task_add(list![source.clone(), later.clone()], 0u64);
    let conditional = tasks
        .task_add(list![5u64], 0u64)
        .run_if(source.value().greater_than(0u64).and(later.value().greater_than(0u64)));
    let run = flow.submit().await?;
    store.damage(*plain.id().as_bytes(), JobRecord::Spec);
    let worker = mycelium.serve().elf("adder", Tester::default()).concurrency(4).window(16);
    let worker = Worker::start(worker).await?;

    check_failed(must("the failure", run.result(&plain)).await?, plain.id())?;
    ensure!(must("the sound job", run.result(&sound)).await?? == 2);
    ensure!(must("the source", run.result(&source)).await?? == 3);
    // What the source returned is damaged before those that need it run.
    store.damage(*source.id().as_bytes(), JobRecord::Outputs);
    fs::write(gate.path().join("open"), "")?;
    check_failed(must("the failure of the user", run.result(&user)).await?, source.id())?;
    check_failed(must("the failure of the condition", run.result(&conditional)).await?, source.id())?;
    worker.stop().await?;
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_damaged_record_is_told_so() -> anyhow::Result<()> {
    let (broker, store) = start_faulty().await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let worker = mycelium.serve().elf("adder", Tester::default()).concurrency(4).window(16);
    let worker = Worker::start(worker).await?;
    let flow = mycelium.flow("ended");
    let tasks = Tester::tasks(&flow, "adder");
    let jobs: Vec<Job<u64>> = (0..3u64).map(|number| tasks.task_add(list![number], 0u64)).collect();
    let run = flow.submit().await?;
    must("the end", run.wait()).await??;
    store.damage(*jobs[1].id().as_bytes(), JobRecord::End);
    store.damage(*jobs[0].id().as_bytes(), JobRecord::Outputs);

    let mut calls = wire::client(&broker.url()).await?;
    let id = |job: &Job<u64>| bytes::Bytes::copy_from_slice(job.id().as_bytes());
    let answer = calls.get_job(v1::GetJobRequest { job_id: id(&jobs[1]), ..Default::default() }).await;
    let refused = wire::expect_refusal(answer, Code::DataLoss, reason::RECORD_DAMAGED, &[])?;
    ensure!(refused.message().contains(&jobs[1].id().to_string()), "{refused:?}");
    ensure!(refused.message().contains("file planned.table"), "{refused:?}");
    // Its neighbours are shown.
    let sound = calls.get_job(v1::GetJobRequest { job_id: id(&jobs[2]), ..Default::default() }).await?;
    ensure!(sound.into_inner().job.is_some());
    let job_ids = jobs.iter().map(id).collect();
    let outputs = calls.get_outputs(v1::GetOutputsRequest { job_ids, ..Default::default() }).await;
    wire::expect_refusal(outputs, Code::DataLoss, reason::RECORD_DAMAGED, &[])?;

    // Of several that are to be cancelled, the others are.
    worker.stop().await?;
    let flow = mycelium.flow("waiting");
    let waiting = Tester::tasks(&flow, "adder").task_add(list![1u64], 0u64);
    let _run = flow.submit().await?;
    let job_ids = jobs.iter().chain([&waiting]).map(id).collect();
    let scope = Some(v1::cancel_jobs_request::Scope::Jobs(v1::JobIds { job_ids }));
    let cancel = v1::CancelJobsRequest { scope, ..Default::default() };
    let cancelled = calls.cancel_jobs(cancel).await?.into_inner();
    let counts = (cancelled.jobs_cancelled, cancelled.jobs_final, cancelled.jobs_unreadable);
    ensure!(counts == (1, 2, 1), "{cancelled:?}");
    broker.stop().await?;
    Ok(())
}
