//! `mycelium store`: looks after data folders.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use elf_runtime::Mycelium;
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_proto::v1::backup_response::Kind;
use mycelium_proto::v1::store_service_client::StoreServiceClient;
use mycelium_server::store::embedded::{self, FORMAT_VERSION, NewBlob, NewStore, OLDEST_FORMAT_VERSION};
use mycelium_server::store::{BlobDigest, Error as StoreError};
use serde::Serialize;
use tonic::transport::Endpoint;

use super::client;
use crate::args::ClientArgs;
use crate::errors::Misuse;
use crate::output::Output;
use crate::output::format::count;

/// How many messages of a backup wait for the disk.
const WAITING_MAX: usize = 4;

/// Looks after data folders: checks them, saves what can be read of damaged ones, and backs up those in use.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(CheckArgs),
    Salvage(SalvageArgs),
    Backup(BackupArgs),
}

/// Reads every file of a data folder that no broker uses, names what is damaged, and changes nothing.
///
/// If something is, each job of which something cannot be read is named too. The journals are copied into the folder for
/// temporary files (TMPDIR) meanwhile, 64 MiB at most as a rule.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {damage, jobs: [{job_id, unreadable}], files}.\n\n\
    Exit codes: 0 nothing is damaged, 1 something is, 2 it is no data folder or a broker uses it.")]
struct CheckArgs {
    /// The data folder, as `mycelium serve` takes it with --data-dir: the mycelium `default` in it is looked over. For another
    /// give its own folder, such as `mycelium-data/north`.
    folder: PathBuf,
}

/// Copies what can be read of a damaged data folder into a new one that opens, and lists what cannot.
///
/// The damaged folder is left as it is. Jobs of which something is lost are named; those that are not finished fail with
/// `RecordDamagedError` when they would run. Where it is damaged what lists the files of a table, all files of it that are
/// there are read. What was in damaged parts of the journals is lost without a name: the last
/// line says how many acknowledged commits (each one or several changes, of one moment) that are. What they had changed
/// is as it was before: a job that one of them submitted is not known, one that it ended may run again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: {jobs, unreadable: [{job_id, unreadable}], blobs, gaps, damage, journal_gaps, \
    journal_gap_bytes, newest_commit, acknowledged_commit, commits_lost}.\n\n\
    Exit codes: 0 the new folder was made and opens, whatever is lost, 1 it could not be made, 2 FOLDER is no data folder \
    or in use, or NEW is there."
)]
struct SalvageArgs {
    /// The damaged data folder, or the folder of one mycelium in it; without that, `default` is meant.
    folder: PathBuf,
    /// The data folder to make, which must not be there; the mycelium is `default` in it.
    new: PathBuf,
}

/// Copies all that a running broker has stored into a new data folder, as it is at one moment, with its large values.
///
/// The broker goes on meanwhile. When the command is done the copy is durable, and a broker can be started on it. One
/// that was broken off says so when it is opened.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {folder, commit, entries, blobs, damaged_blobs}.\n\n\
    Example: mycelium store backup /backups/2026-07-01")]
struct BackupArgs {
    /// The data folder to make, which must not be there; the mycelium that --mycelium names is `default` in it.
    folder: PathBuf,
}

pub(crate) async fn run(args: Args, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    // Files that are made are for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match args.command {
        Command::Check(args) => check(&args, output),
        Command::Salvage(args) => salvage(&args, output),
        Command::Backup(args) => backup(args, client, output).await,
    }
}

/// Reads a folder that may be damaged. The database asserts some of what it finds; what that is is told by the store, so
/// these panics are not printed, and one that the store has not caught is an error.
fn read<T>(work: impl FnOnce() -> Result<T, StoreError>) -> anyhow::Result<T> {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_of_database = |place: &str| place.contains("lsm-tree") || place.contains("fjall");
        if !info.location().is_some_and(|place| is_of_database(place.file())) {
            print(info);
        }
    }));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let _ = std::panic::take_hook();
    match done {
        Ok(done) => done.map_err(misuse),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            bail!("the folder cannot be read: {why}")
        }
    }
}

/// Folders that cannot be right are a wrong command line.
fn misuse(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::InUse { .. } | StoreError::Foreign { .. } => Misuse(error.to_string()).into(),
        error => error.into(),
    }
}

#[derive(Serialize)]
struct UnreadableJob {
    job_id: String,
    unreadable: String,
}

fn unreadable(jobs: std::collections::BTreeMap<impl ToString, String>) -> Vec<UnreadableJob> {
    jobs.into_iter().map(|(job, unreadable)| UnreadableJob { job_id: job.to_string(), unreadable }).collect()
}

fn tell_jobs(jobs: &[UnreadableJob], output: Output) -> anyhow::Result<()> {
    for UnreadableJob { job_id, unreadable } in jobs {
        output.line(&format!("job {job_id}: {unreadable} cannot be read"))?;
    }
    Ok(())
}

fn check(args: &CheckArgs, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report {
        damage: Vec<String>,
        jobs: Vec<UnreadableJob>,
        files: usize,
    }
    let found = read(|| embedded::check(&args.folder))?;
    let report = Report { damage: found.damage, jobs: unreadable(found.jobs), files: found.files };
    if output.is_json() {
        output.json(&report)?;
    } else {
        for damage in &report.damage {
            output.line(&format!("damaged: {damage}"))?;
        }
        tell_jobs(&report.jobs, output)?;
    }
    if !report.damage.is_empty() {
        bail!(
            "{} of {} damaged; save the rest with: mycelium store salvage {} NEW",
            count(report.damage.len() as u64, "place"),
            count(report.files as u64, "file"),
            args.folder.display()
        );
    }
    if !output.is_json() {
        output.line(&format!("{} read, nothing is damaged", count(report.files as u64, "file")))?;
    }
    Ok(())
}

fn salvage(args: &SalvageArgs, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report {
        jobs: usize,
        unreadable: Vec<UnreadableJob>,
        blobs: Vec<String>,
        gaps: usize,
        damage: Vec<String>,
        journal_gaps: usize,
        journal_gap_bytes: u64,
        newest_commit: u64,
        acknowledged_commit: Option<u64>,
        commits_lost: u64,
    }
    let saved = read(|| embedded::salvage(&args.folder, &args.new))?;
    let report = Report {
        jobs: saved.jobs,
        unreadable: unreadable(saved.unreadable),
        blobs: saved.blobs,
        gaps: saved.gaps,
        damage: saved.damage,
        journal_gaps: saved.journal_gaps,
        journal_gap_bytes: saved.journal_gap_bytes,
        newest_commit: saved.newest,
        acknowledged_commit: saved.acknowledged,
        commits_lost: saved.commits_lost,
    };
    if output.is_json() {
        return Ok(output.json(&report)?);
    }
    for damage in &report.damage {
        output.line(&format!("damaged: {damage}"))?;
    }
    tell_jobs(&report.unreadable, output)?;
    for blob in &report.blobs {
        output.line(&format!("left out: {blob}"))?;
    }
    output.line(&format!(
        "{} saved in {}, of which {} cannot be read whole; {} of the tables damaged",
        count(report.jobs as u64, "job"),
        args.new.display(),
        report.unreadable.len(),
        count(report.gaps as u64, "place")
    ))?;
    if report.journal_gaps > 0 {
        output.line(&format!(
            "{} in the journals that cannot be read, {} in all",
            count(report.journal_gaps as u64, "gap"),
            count(report.journal_gap_bytes, "byte")
        ))?;
    }
    let newest = report.newest_commit;
    Ok(output.line(&match (report.commits_lost, report.acknowledged_commit) {
        (0, Some(_)) => format!("no acknowledged commit is missing; the newest is {newest}"),
        (0, None) => format!("the newest commit saved is {newest}; which was acknowledged last is not known"),
        (lost, acknowledged) => format!(
            "LOST: {} that had been acknowledged, but for what the tables had of them; the newest saved is {newest}, \
             the newest acknowledged {}",
            count(lost, "commit"),
            acknowledged.map_or_else(|| "is not known".to_owned(), |commit| commit.to_string())
        ),
    })?)
}

#[derive(Debug, Default, Serialize)]
struct BackedUp {
    folder: String,
    commit: u64,
    entries: u64,
    blobs: u64,
    damaged_blobs: Vec<String>,
}

async fn backup(args: BackupArgs, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    // Before the broker begins what it does for one at a time.
    NewStore::check_absent(&args.folder).map_err(misuse)?;
    // Tells of a broker that does not answer, and of a URL that is none, as all commands do.
    let mycelium: Mycelium = client::connect(client).await?;
    let endpoint = Endpoint::from_shared(mycelium.url().to_owned())?;
    let mut calls = StoreServiceClient::new(endpoint.connect().await?)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let request = v1::BackupRequest { mycelium: mycelium.name().to_owned() };
    let mut messages = calls.backup(request).await.map_err(|status| refused(&status))?.into_inner();

    // One thread writes; what comes waits for it, and the broker for that.
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING_MAX);
    let folder = args.folder.clone();
    let writer = tokio::task::spawn_blocking(move || write_copy(&folder, receiver));
    let mut broken_off = None;
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                if sender.send(message).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                broken_off = Some(refused(&status));
                break;
            }
        }
    }
    drop(sender);
    let written = writer.await.context("the thread that writes the copy panicked")?;
    if let Some(error) = broken_off {
        return Err(error.context("the backup was broken off, and the copy is not finished"));
    }
    let done = written?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        output.line(&format!(
            "{} and {} as of commit {} are in {}",
            count(done.entries, "record"),
            count(done.blobs, "blob"),
            done.commit,
            done.folder
        ))?;
    }
    if let Some(first) = done.damaged_blobs.first() {
        bail!(
            "{} left out because they are damaged: {first}",
            count(done.damaged_blobs.len() as u64, "blob")
        );
    }
    Ok(())
}

fn refused(status: &tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unimplemented => {
            anyhow::anyhow!("the broker makes no backups: it is of an earlier version")
        }
        code if status.message().is_empty() => anyhow::anyhow!("the broker answered {code:?}"),
        _ => anyhow::anyhow!("{}", status.message()),
    }
}

/// Writes what comes into a new folder. Blocks.
fn write_copy(
    folder: &std::path::Path,
    mut messages: tokio::sync::mpsc::Receiver<v1::BackupResponse>,
) -> anyhow::Result<BackedUp> {
    let mut done = BackedUp { folder: folder.display().to_string(), ..BackedUp::default() };
    match messages.blocking_recv().and_then(|message| message.kind) {
        Some(Kind::Begin(begin))
            if (OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&begin.format_version) =>
        {
            done.commit = begin.commit;
        }
        Some(Kind::Begin(begin)) => {
            bail!(
                "the broker stores in format {}, and this program copies formats {OLDEST_FORMAT_VERSION} to \
                 {FORMAT_VERSION}: use the program of the broker's version",
                begin.format_version
            );
        }
        _ => bail!("the backup does not begin as it should"),
    }
    let mut copy = NewStore::create(folder).map_err(misuse)?;
    let mut blob: Option<(BlobDigest, NewBlob)> = None;
    while let Some(message) = messages.blocking_recv() {
        match message.kind {
            Some(Kind::Entries(entries)) => {
                for entry in &entries.entries {
                    copy.put(&entries.table, &entry.key, &entry.value)?;
                    done.entries += 1;
                }
            }
            Some(Kind::Blob(piece)) => {
                let digest = BlobDigest::from_slice(&piece.digest).context("a blob without its digest")?;
                let mut open = match blob.take() {
                    Some((of, open)) if of == digest => open,
                    _ => copy.blob(digest)?,
                };
                open.write(&piece.chunk)?;
                if !piece.damage.is_empty() {
                    open.discard()?;
                    done.damaged_blobs.push(piece.damage);
                } else if piece.last {
                    open.finish()?;
                    done.blobs += 1;
                } else {
                    blob = Some((digest, open));
                }
            }
            Some(Kind::End(_)) => {
                copy.finish()?;
                return Ok(done);
            }
            Some(Kind::Begin(_)) | None => bail!("the broker sent what this program does not know"),
        }
    }
    bail!("the backup was broken off, and the copy is not finished")
}
