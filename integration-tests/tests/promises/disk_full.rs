//! A disk without space: what is stored can be read, what cannot be stored is refused with the reason, and the broker goes
//! on by itself when there is space again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::{must, programs, until, wire};
use mycelium_proto::v1::mycelium_service_client::MyceliumServiceClient;
use mycelium_proto::{reason, v1};
use mycelium_server::store::MemoryStore;
use mycelium_server::store::faulty::FaultyStore;
use mycelium_server::{Broker, Config};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

type Calls = MyceliumServiceClient<Channel>;

/// A job whose argument has so many bytes.
fn job(bytes: usize) -> (Bytes, v1::SubmitJobsRequest) {
    let text = format!("\"{}\"", "x".repeat(bytes));
    let job = wire::job("nobody", &["text"], vec![wire::literal(text)]);
    (job.job_id.clone(), wire::submission(vec![job]))
}

async fn serving(url: &str, service: &str) -> anyhow::Result<ServingStatus> {
    let mut client = HealthClient::new(Channel::from_shared(url.to_owned())?.connect().await?);
    let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await?;
    Ok(answer.into_inner().status())
}

/// Waits until the health service says this of the services, and makes sure that it says SERVING of the process.
async fn wait_for_health(url: &str, expected: ServingStatus) -> anyhow::Result<()> {
    for service in ["MyceliumService", "ElfService", "BlobService"] {
        until(service, async || {
            let status = serving(url, &format!("mycelium.v1.{service}")).await?;
            Ok((status == expected).then_some(()))
        })
        .await?;
    }
    ensure!(serving(url, "").await? == ServingStatus::Serving);
    Ok(())
}

async fn check_while_full(url: &str, calls: &mut Calls, stored: &Bytes) -> anyhow::Result<()> {
    wait_for_health(url, ServingStatus::NotServing).await?;
    let shown = wire::get_job(calls, stored).await?;
    ensure!(shown.job_id == *stored);
    let request = v1::GetJobRequest { job_id: stored.clone(), include_spec: true, ..Default::default() };
    ensure!(calls.get_job(request).await?.into_inner().spec.is_some());
    let status = calls.get_status(v1::GetStatusRequest::default()).await?.into_inner();
    ensure!(status.store_problem == "disk full", "{status:?}");
    let refused = calls.submit_jobs(job(10).1).await;
    let refused = wire::expect_refusal(refused, Code::Unavailable, reason::STORE_FULL, &[])?;
    ensure!(refused.message().starts_with("the disk is full"), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_space_is_read_and_told_of() -> anyhow::Result<()> {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let broker = Broker::with_store(Config::default(), store.clone())?.bind("127.0.0.1:0").await?;
    let url = broker.url();
    let mut calls = wire::client(&url).await?;
    let (stored, request) = job(10);
    calls.submit_jobs(request).await?;
    wait_for_health(&url, ServingStatus::Serving).await?;

    store.set_full(true);
    let refused = calls.submit_jobs(job(10).1).await;
    wire::expect_refusal(refused, Code::Unavailable, reason::STORE_FULL, &[])?;
    check_while_full(&url, &mut calls, &stored).await?;

    store.set_full(false);
    wait_for_health(&url, ServingStatus::Serving).await?;
    calls.submit_jobs(job(10).1).await?;
    store.set_full(true);
    let refused = calls.submit_jobs(job(10).1).await;
    wire::expect_refusal(refused, Code::Unavailable, reason::STORE_FULL, &[])?;
    drop(calls);
    broker.stop().await?;
    Ok(())
}

/// A file system of its own, in memory.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where nothing can be mounted.
    async fn mount() -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .await;
        Ok(mounted.is_ok_and(|status| status.success()).then_some(Self { folder }))
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes all the space there is.
    fn fill(&self) -> anyhow::Result<()> {
        let chunk = vec![1; 64 * 1024];
        let mut file = fs::File::create(self.filler())?;
        loop {
            match std::io::Write::write_all(&mut file, &chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still be in it.
        let _left = std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

async fn serve(data: &Path) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(programs::mycelium()?)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = must("the ready line", lines.next_line()).await??.context("it ended")?;
    let address = line.strip_prefix("mycelium ready: listening on ").and_then(|rest| rest.split(',').next());
    Ok((child, format!("http://{}", address.with_context(|| line.clone())?)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount().await? else {
        eprintln!("SKIPPED: a_full_disk_is_survived: no file system can be mounted here");
        return Ok(());
    };
    let (mut broker, url) = serve(&disk.folder.path().join("data")).await?;
    let mut calls = wire::client(&url).await?;
    let (stored, request) = job(10_000);
    calls.submit_jobs(request).await?;
    disk.fill()?;
    // Until there is no room in what is allocated already.
    let refused = until("a refusal", async || {
        let mut calls = calls.clone();
        Ok(calls.submit_jobs(job(60_000).1).await.err())
    })
    .await?;
    wire::expect_refusal::<()>(Err(refused), Code::Unavailable, reason::STORE_FULL, &[])?;
    check_while_full(&url, &mut calls, &stored).await?;

    fs::remove_file(disk.filler())?;
    wait_for_health(&url, ServingStatus::Serving).await?;
    let (after, request) = job(10_000);
    calls.submit_jobs(request).await?;
    wire::get_job(&calls, &after).await?;

    disk.fill()?;
    until("a refusal", async || {
        let mut calls = calls.clone();
        Ok(calls.submit_jobs(job(60_000).1).await.err())
    })
    .await?;
    check_while_full(&url, &mut calls, &stored).await?;
    let pid = broker.id().context("it ended")?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
    let status = must("the end of the broker", broker.wait()).await??;
    ensure!(status.success(), "it ended with {status}");

    // It starts again on what was acknowledged.
    fs::remove_file(disk.filler())?;
    let (mut broker, url) = serve(&disk.folder.path().join("data")).await?;
    let calls = wire::client(&url).await?;
    wire::get_job(&calls, &stored).await?;
    wire::get_job(&calls, &after).await?;
    broker.kill().await?;
    Ok(())
}
