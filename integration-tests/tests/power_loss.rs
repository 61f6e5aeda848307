//! What a broker has acknowledged survives a loss of power at any moment: only what it had synced is there then, and of
//! the rest nothing, or some.
#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use integration_tests::disk::Disk;
use integration_tests::{must, power, programs, wire};
use mycelium_proto::v1;
use mycelium_server::store::{EmbeddedStore, Log as _, Reads as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// One of so many syncs is followed by a loss of power.
const EVERY: usize = 8;
/// Of the folders whose making was interrupted, one of so many is opened, which makes it anew: that takes many syncs.
const MADE_ANEW: u64 = 6;

/// What the broker has said to be durable.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    jobs: Vec<Bytes>,
    blobs: Vec<v1::BlobRef>,
}

/// A broker whose power fails after each sync, as far as its disk is concerned.
struct TracedBroker {
    child: Child,
    url: String,
    acknowledged: Arc<Mutex<Acknowledged>>,
    traced: JoinHandle<anyhow::Result<usize>>,
    /// Kept until it has ended.
    _folder: TempDir,
}

impl TracedBroker {
    /// Starts it on the folder `data` within `folder`.
    fn start(folder: TempDir) -> anyhow::Result<Self> {
        // It waits until it is followed, so that all it does is seen.
        let mut child = Command::new("sh")
            .args(["-c", "read begin && exec \"$0\" \"$@\""])
            .arg(programs::mycelium()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
        let (process, disk, known) = (child.id(), Disk::new(folder.path())?, Arc::clone(&acknowledged));
        let traced = std::thread::spawn(move || {
            let (mut syncs, mut losses) = (0_usize, 0_usize);

            let begin = || Ok(input.write_all(b"begin\n")?);
            let disk = power::follow(process, disk, begin, |disk, path| {
                syncs += 1;
                if !syncs.is_multiple_of(EVERY) {
                    return Ok(());
                }
                losses += 1;
                lose_power(disk, &known, syncs as u64)
                    .with_context(|| format!("after sync {syncs}, of {}", path.display()))
            })?;
            // What was acknowledged last is there too.
            lose_power(&disk, &known, 0).context("at the end")?;
            Ok(losses + 1)
        });
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.strip_prefix("mycelium ready: listening on ");
        let Some(address) = address.and_then(|rest| rest.split(',').next()) else {
            // It was killed with the one who followed it, who says why.
            let followed =
                traced.join().map_err(|_panic| anyhow::anyhow!("the thread that follows panicked"))?;
            return Err(followed.err().with_context(|| format!("the ready line is `{line}`"))?);
        };
        let url = format!("http://{address}");
        Ok(Self { child, url, acknowledged, traced, _folder: folder })
    }

    fn acknowledge(&self, note: impl FnOnce(&mut Acknowledged)) {
        note(&mut self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Kills it. Tells how often the power has failed, or what was lost then.
    fn end(mut self) -> anyhow::Result<usize> {
        self.child.kill()?;
        let traced = self.traced.join();
        traced.map_err(|_panic| anyhow::anyhow!("the thread that follows panicked"))?
    }
}

/// Looks at what a loss of power leaves: once of what was synced alone, once with some of the rest.
fn lose_power(disk: &Disk, acknowledged: &Mutex<Acknowledged>, seed: u64) -> anyhow::Result<()> {
    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 0
    };
    let image = tempfile::tempdir()?;
    disk.after_power_loss(image.path(), || false)?;
    look(&image.path().join("data/default"), &acknowledged, seed).context("of what was synced alone")?;
    let image = tempfile::tempdir()?;
    disk.after_power_loss(image.path(), &mut random)?;
    look(&image.path().join("data/default"), &acknowledged, seed).context("with some of what was not synced")
}

fn look(folder: &Path, acknowledged: &Acknowledged, seed: u64) -> anyhow::Result<()> {
    for blob in &acknowledged.blobs {
        let path = blob_in(folder, blob);
        let bytes = std::fs::read(&path).with_context(|| format!("{} was acknowledged", path.display()))?;
        ensure!(Sha256::digest(&bytes).as_slice() == blob.digest, "{} is damaged", path.display());
    }
    if !folder.join("mycelium.format").exists() {
        ensure!(acknowledged.jobs.is_empty(), "there is no `mycelium.format`");
        if !seed.is_multiple_of(MADE_ANEW) {
            return Ok(());
        }
    }
    let store = EmbeddedStore::open(folder)?;
    let mut found = Vec::new();
    store.load(&mut |job| found.push(job.head.id)).wait()?;
    let specs = store.specs(&found).wait()?;
    let whole = found.iter().zip(specs).filter(|(_, spec)| spec.is_some()).map(|(id, _)| *id.as_bytes());
    let whole: HashSet<[u8; 16]> = whole.collect();
    let missing = acknowledged.jobs.iter().filter(|id| id.first_chunk().is_none_or(|id| !whole.contains(id)));
    let (missing, all) = (missing.count(), acknowledged.jobs.len());
    ensure!(missing == 0, "{missing} of {all} acknowledged jobs are not there");
    Ok(())
}

fn blob_in(folder: &Path, blob: &v1::BlobRef) -> PathBuf {
    let name: String = blob.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join("blobs").join(&name[..2]).join(name)
}

/// Digits that do not compress well.
fn digits(seed: u64, count: usize) -> String {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'1' + (state >> 60) as u8 % 9)
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

/// Submits jobs and writes blobs: enough that journal and tables are written anew.
async fn load(broker: &TracedBroker) -> anyhow::Result<()> {
    const ROUNDS: u64 = 40;
    let mut client = wire::client(&broker.url).await?;
    let mut blobs = wire::blob_client(&broker.url).await?;
    for round in 0..ROUNDS {
        let jobs = (0..8).map(|job| {
            let argument = format!("\"{}\"", digits(8 * round + job, 50_000));
            wire::job("nobody", &["x"], vec![wire::literal(argument)])
        });
        let submission = wire::submission(jobs.collect());
        must("a submission", client.submit_jobs(submission.clone())).await??;
        broker.acknowledge(|all| all.jobs.extend(submission.jobs.into_iter().map(|job| job.job_id)));
        if round.is_multiple_of(3) {
            let bytes = Bytes::from(digits(round, 200_000));
            let blob = must("a blob", wire::write_blob(&mut blobs, &bytes)).await??;
            broker.acknowledge(|all| all.blobs.push(blob));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_loss_of_power() -> anyhow::Result<()> {
    if !tokio::task::spawn_blocking(power::may_trace).await?? {
        eprintln!("SKIPPED: what_was_acknowledged_survives_a_loss_of_power: no process may be traced here");
        return Ok(());
    }
    let broker = tokio::task::spawn_blocking(|| TracedBroker::start(tempfile::tempdir()?)).await??;
    let loaded = load(&broker).await;
    // What was found to be lost has ended the broker too, and is told first.
    let losses = tokio::task::spawn_blocking(|| broker.end()).await??;
    loaded?;
    ensure!(losses > 20, "the power failed {losses} times alone");
    Ok(())
}
