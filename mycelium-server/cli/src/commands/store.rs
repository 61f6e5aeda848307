//! `mycelium store`: looks after data folders, and after mycelia in a database server.

mod backup;
mod database;

use std::path::{Path, PathBuf};

use anyhow::bail;
use mycelium_server::store::Error as StoreError;
use mycelium_server::store::arango::Address;
use mycelium_server::store::embedded::{self, DEFAULT, Salvaged, Stored};
use serde::Serialize;

use self::backup::BackupArgs;
use self::database::InitArgs;
use crate::args::ClientArgs;
use crate::errors::Misuse;
use crate::output::format::count;
use crate::output::{self, Output};
use crate::store_address::Trust;

/// Looks after data folders: checks them, saves what can be read of damaged ones, and backs up those in use. Looks after
/// mycelia in ArangoDB: creates and checks them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(InitArgs),
    Check(CheckArgs),
    Salvage(SalvageArgs),
    Backup(BackupArgs),
}

/// Reads every file of a data folder that no broker uses, names what is damaged, and changes nothing. Or looks at an
/// ArangoDB server and the mycelia on it.
///
/// If something of a folder is damaged, each job of which something cannot be read is named too. The journals are copied
/// into the folder for temporary files (TMPDIR) meanwhile, 64 MiB at most as a rule. Of a server, version, role, sharding
/// and licence are looked at, and of each mycelium collections, indexes, graphs and the rights of the user; every
/// statement is planned, and none may read a whole collection.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: a line for each mycelium. Of a folder: {mycelium, damage, jobs: [{job_id, unreadable}], files, \
    problem}. Of a server: {mycelium, database, version, cluster, bytes, bytes_max, lease: {holder, epoch, until}, \
    problems: [{kind, line}], notes: [{kind, line}]}.\n\n\
    Exit codes: 0 nothing is damaged or wrong, 1 something is, 2 it is no data folder or a broker uses it, or the address \
    is wrong."
)]
struct CheckArgs {
    /// The data folder, as `mycelium serve` takes it with --data-dir, or the folder of one mycelium in it; or the URL of
    /// an ArangoDB server. If there is none, the URL in MYCELIUM_STORE. All mycelia are looked over, one after the other,
    /// or the one that --mycelium names.
    #[arg(value_name = "FOLDER|URL")]
    place: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
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
    after_help = "JSON: a line for each mycelium, {mycelium, jobs, unreadable: [{job_id, unreadable}], blobs, gaps, \
    damage, journal_gaps, journal_gap_bytes, newest_commit, acknowledged_commit, commits_lost}.\n\n\
    Exit codes: 0 the new folder was made and opens, whatever is lost, 1 it could not be made, 2 FOLDER is no data folder \
    or in use, or NEW is there."
)]
struct SalvageArgs {
    /// The damaged data folder, all mycelia of which are meant, or the one that --mycelium names; or the folder of one.
    folder: PathBuf,
    /// The data folder to make, which must not be there. If one mycelium alone was meant, it is `default` in it.
    new: PathBuf,
}

pub(crate) async fn run(args: Args, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    // Files that are made are for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let only = client.mycelium.as_deref();
    match args.command {
        Command::Init(args) => database::init(&args, only, output).await,
        Command::Check(CheckArgs { place, trust }) => {
            let url = place.as_deref().and_then(Path::to_str).filter(|place| Address::is_url(place));
            match (place.as_deref(), url) {
                (Some(folder), None) => check(folder, only, output),
                (_, url) => database::check(url, &trust, only, output).await,
            }
        }
        Command::Salvage(args) => salvage(&args, only, output),
        Command::Backup(args) => backup::run(args, client, output).await,
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
        StoreError::InUse { .. } | StoreError::Foreign { .. } | StoreError::Exists { .. } => {
            Misuse(error.to_string()).into()
        }
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

/// The mycelia in a folder that are meant, none of which a broker uses.
fn stored(folder: &Path, only: Option<&str>) -> anyhow::Result<Vec<Stored>> {
    let mut stored = embedded::stored_in(folder).map_err(misuse)?;
    if let Some(only) = only {
        stored.retain(|one| one.name == only);
        if stored.is_empty() {
            let what = format!("nothing of a mycelium `{only}` is stored in {}", folder.display());
            return Err(Misuse(what).into());
        }
    }
    // A broker does not hold those that nobody uses, and might open them meanwhile.
    for Stored { folder, .. } in &stored {
        if let Err(error @ StoreError::InUse { .. }) = embedded::check_unused(folder) {
            return Err(misuse(error));
        }
    }
    Ok(stored)
}

/// What begins a line about one mycelium.
fn prefix(stored: &[Stored], name: &str) -> String {
    if stored.len() > 1 { format!("{name}: ") } else { String::new() }
}

fn tell_jobs(prefix: &str, jobs: &[UnreadableJob], output: Output) -> anyhow::Result<()> {
    for UnreadableJob { job_id, unreadable } in jobs {
        output.line(&format!("{prefix}job {job_id}: {unreadable} cannot be read"))?;
    }
    Ok(())
}

fn check(folder: &Path, only: Option<&str>, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        mycelium: &'a str,
        damage: Vec<String>,
        jobs: Vec<UnreadableJob>,
        files: usize,
        problem: Option<String>,
    }
    let stored = stored(folder, only)?;
    let (mut places, mut files, mut damaged, mut failed) = (0, 0, 0, None);
    for Stored { name, folder: of_mycelium } in &stored {
        let mut report =
            Report { mycelium: name, damage: Vec::new(), jobs: Vec::new(), files: 0, problem: None };
        match read(|| embedded::check(of_mycelium)) {
            Ok(found) => {
                report.jobs = unreadable(found.jobs);
                (report.damage, report.files) = (found.damage, found.files);
            }
            Err(error) if stored.len() == 1 => return Err(error),
            Err(error) => {
                report.problem = Some(format!("{error:#}"));
                failed = failed.or(Some(error.context(format!("mycelium {name} cannot be looked over"))));
            }
        }
        (places, files) = (places + report.damage.len(), files + report.files);
        damaged += usize::from(!report.damage.is_empty());
        if output.is_json() {
            output.json_line(&report)?;
            continue;
        }
        let prefix = prefix(&stored, name);
        if let Some(problem) = &report.problem {
            output.line(&format!("{prefix}{problem}"))?;
        }
        for damage in &report.damage {
            output.line(&format!("{prefix}damaged: {damage}"))?;
        }
        tell_jobs(&prefix, &report.jobs, output)?;
        if report.damage.is_empty() && report.problem.is_none() {
            let files = count(report.files as u64, "file");
            output.line(&format!("{prefix}{files} read, nothing is damaged"))?;
        }
    }
    if damaged > 0 {
        let of = if stored.len() > 1 {
            format!(", in {damaged} of {} mycelia", stored.len())
        } else {
            String::new()
        };
        bail!(
            "{} of {} damaged{of}; save the rest with: mycelium store salvage {} NEW",
            count(places as u64, "place"),
            count(files as u64, "file"),
            folder.display()
        );
    }
    failed.map_or(Ok(()), Err)
}

fn salvage(args: &SalvageArgs, only: Option<&str>, output: Output) -> anyhow::Result<()> {
    let stored = stored(&args.folder, only)?;
    embedded::check_absent(&args.new).map_err(misuse)?;
    let mut failed = Vec::new();
    // `default` is the last: no broker starts on a folder that was not finished.
    for Stored { name, folder } in &stored {
        let new_name = if only.is_some() { DEFAULT } else { name };
        match read(|| embedded::salvage(folder, &args.new, new_name)) {
            Ok(saved) => tell_saved(&prefix(&stored, name), name, saved, &args.new, output)?,
            Err(error) if stored.len() == 1 => return Err(error),
            Err(error) => {
                output::note(&format!("{name}: {error:#}"));
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        let of = format!("nothing was saved of {} of {} mycelia", failed.len(), stored.len());
        if failed.len() < stored.len() && failed.iter().any(|name| *name == DEFAULT) {
            let default = args.new.join(DEFAULT);
            bail!("{of}; for a broker to start on the rest, make the empty folder {}", default.display());
        }
        bail!(of);
    }
    Ok(())
}

fn tell_saved(prefix: &str, name: &str, saved: Salvaged, new: &Path, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        mycelium: &'a str,
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
    let report = Report {
        mycelium: name,
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
        return Ok(output.json_line(&report)?);
    }
    for damage in &report.damage {
        output.line(&format!("{prefix}damaged: {damage}"))?;
    }
    tell_jobs(prefix, &report.unreadable, output)?;
    for blob in &report.blobs {
        output.line(&format!("{prefix}left out: {blob}"))?;
    }
    output.line(&format!(
        "{prefix}{} saved in {}, of which {} cannot be read whole; {} of the tables damaged",
        count(report.jobs as u64, "job"),
        new.display(),
        report.unreadable.len(),
        count(report.gaps as u64, "place")
    ))?;
    if report.journal_gaps > 0 {
        output.line(&format!(
            "{prefix}{} in the journals that cannot be read, {} in all",
            count(report.journal_gaps as u64, "gap"),
            count(report.journal_gap_bytes, "byte")
        ))?;
    }
    let newest = report.newest_commit;
    let lost = match (report.commits_lost, report.acknowledged_commit) {
        (0, Some(_)) => format!("no acknowledged commit is missing; the newest is {newest}"),
        (0, None) => format!("the newest commit saved is {newest}; which was acknowledged last is not known"),
        (lost, acknowledged) => format!(
            "LOST: {} that had been acknowledged, but for what the tables had of them; the newest saved is {newest}, \
             the newest acknowledged {}",
            count(lost, "commit"),
            acknowledged.map_or_else(|| "is not known".to_owned(), |commit| commit.to_string())
        ),
    };
    Ok(output.line(&format!("{prefix}{lost}"))?)
}
