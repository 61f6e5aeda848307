//! A panic inside the broker is told as a defect, to those whom it concerns and to nobody else.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::{must, until, wire};
use mycelium_proto::reason;
use mycelium_proto::v1;
use mycelium_server::store::{FaultyStore, MemoryStore};
use mycelium_server::{Broker, Config};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What this process logs, as `mycelium serve` does.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log, for one test at a time.
    async fn take() -> (Self, tokio::sync::MutexGuard<'static, ()>) {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        static LOG: OnceLock<Log> = OnceLock::new();
        let alone = ALONE.lock().await;
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            let logged = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG);
            logged.with_ansi(false).with_writer(log.clone()).init();
            mycelium_server::log_panics();
            log
        });
        log.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        (log.clone(), alone)
    }

    /// The lines with a text.
    fn lines(&self, text: &str) -> Vec<String> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&log).into_owned();
        lines.lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Makes sure that a defect is one line of the log, with its id.
fn expect_one_line(log: &Log, id: &str) -> anyhow::Result<()> {
    let lines = log.lines(id);
    let [line] = lines.as_slice() else { anyhow::bail!("one line with {id}, and not {lines:#?}") };
    ensure!(line.contains("ERROR") && line.contains("a panic"), "{line}");
    Ok(())
}

fn submission(flow: &Bytes) -> v1::SubmitJobsRequest {
    let jobs = vec![wire::job("passer", &[], Vec::new())];
    v1::SubmitJobsRequest { flow_id: flow.clone(), ..wire::submission(jobs) }
}

/// Makes sure that a call was answered with a defect, and gives its id.
fn expect_defect<T: std::fmt::Debug>(what: &str, answered: Result<T, Status>) -> anyhow::Result<String> {
    let status = answered.err().with_context(|| format!("{what} was answered"))?;
    ensure!(status.code() == Code::Internal, "{what}: {status:?}");
    let info = status.get_details_error_info().context("the status has a reason")?;
    ensure!(info.reason == reason::INTERNAL, "{what}: {info:?}");
    let id = status.message().strip_prefix("the broker failed; its log tells more under ");
    let id = id.with_context(|| format!("{what}: {}", status.message()))?;
    ensure!(uuid::Uuid::parse_str(id).is_ok(), "{what}: {id}");
    Ok(id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_internal_with_an_id_wherever_it_happens_and_the_broker_goes_on() -> anyhow::Result<()> {
    let (log, _alone) = Log::take().await;
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let hello = wire::hello(wire::declaration("passer", &[], &[]), 0);
    let mut elf = wire::WireElf::connect(&broker.url(), hello).await?;
    let flow = wire::id();
    must("a submission", client.submit_jobs(submission(&flow))).await??;

    store.set_reads_panic(true);
    // On a thread that may block, in the handler of a call, and in the task of a stream.
    let failures = v1::ListFailuresRequest::default();
    let first = must("a read", client.list_failures(failures)).await?;
    let first = expect_defect("a read", first)?;
    let second = must("a submission", client.submit_jobs(submission(&flow))).await?;
    let second = expect_defect("a submission", second)?;
    elf.set_window("passer", 1).await?;
    let end = elf.next().await.err().context("the stream did not end")?;
    let third = expect_defect("the stream", Err::<(), _>(end.downcast::<Status>()?))?;
    ensure!(first != second && second != third, "each has an id of its own");
    for id in [&first, &second, &third] {
        expect_one_line(&log, id)?;
    }
    store.set_reads_panic(false);

    must("a read", client.list_failures(v1::ListFailuresRequest::default())).await??;
    must("a submission", client.submit_jobs(submission(&flow))).await??;
    let hello = wire::hello(wire::declaration("passer", &[], &[]), 2);
    let mut elf = wire::WireElf::connect(&broker.url(), hello).await?;
    let assigned = elf.assigned().await?;
    ensure!(!assigned.is_empty(), "jobs are assigned again");
    drop(elf);
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_the_arguments_of_many_jobs_ends_the_stream_with_its_id() -> anyhow::Result<()> {
    // More than are read where the dispatcher runs.
    const JOBS: u32 = 40;
    let (log, _alone) = Log::take().await;
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    let mut client = wire::client(&broker.url()).await?;
    let hello = wire::hello(wire::declaration("passer", &[], &[]), 0);
    let mut elf = wire::WireElf::connect(&broker.url(), hello.clone()).await?;
    let jobs = (0..JOBS).map(|_| wire::job("passer", &[], Vec::new())).collect();
    must("a submission", client.submit_jobs(wire::submission(jobs))).await??;

    store.set_reads_panic(true);
    elf.set_window("passer", JOBS).await?;
    let end = elf.next().await.err().context("the stream did not end")?;
    let id = expect_defect("the stream", Err::<(), _>(end.downcast::<Status>()?))?;
    store.set_reads_panic(false);
    expect_one_line(&log, &id)?;

    // It has received none of them.
    let mut elf = wire::WireElf::connect(&broker.url(), elf.resume(hello)).await?;
    elf.set_window("passer", JOBS).await?;
    let mut assigned = 0;
    while assigned < JOBS as usize {
        assigned += must("assignments", elf.assigned()).await??.len();
    }
    drop(elf);
    broker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_an_unused_blob_keeps_it_until_the_next_look() -> anyhow::Result<()> {
    let (log, _alone) = Log::take().await;
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = Config { blob_grace: Duration::from_secs(1), ..Config::default() };
    let broker = Broker::with_store(config, store.clone())?.bind("127.0.0.1:0").await?;
    let mut blobs = wire::blob_client(&broker.url()).await?;
    let bytes = Bytes::from(uuid::Uuid::now_v7().to_string());
    let blob = wire::blob_of(&bytes);
    let write = blobs.write_blob(tokio_stream::iter(wire::blob_messages(blob.clone(), &bytes)));
    must("a blob", write).await??;

    store.set_reads_panic(true);
    // Again and again: not only when all blobs are looked at.
    until("looks at the blob", async || Ok((log.lines("a panic").len() >= 3).then_some(()))).await?;
    for line in log.lines("a panic") {
        let id = line.split_once(" id=").and_then(|(_, rest)| rest.split(' ').next()).context("no id")?;
        expect_one_line(&log, id)?;
    }
    ensure!(log.lines("could not look for blobs").is_empty(), "a defect is told as something else");
    let removed = || log.lines("removed a blob that nothing uses");
    ensure!(removed().is_empty(), "it was removed by whom nothing was told");

    // Not before: the next look removes it, and may come at once.
    store.set_reads_panic(false);
    until("the end of the blob", async || Ok((!removed().is_empty()).then_some(()))).await?;
    let request = v1::FindMissingBlobsRequest { digests: vec![blob.digest], ..Default::default() };
    let missing = must("the missing blobs", blobs.find_missing_blobs(request)).await??.into_inner();
    ensure!(missing.missing.len() == 1, "{missing:?}");
    broker.stop().await?;
    Ok(())
}
