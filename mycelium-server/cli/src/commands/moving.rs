//! `mycelium export` and `mycelium import`: move what is stored.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use mycelium_server::moving::{self, Error, Export, Moved};
use mycelium_server::store::arango::Address;
use mycelium_server::store::embedded::DEFAULT;
use mycelium_server::store::{Error as StoreError, Storage};
use serde::Serialize;

use super::serve::DATA_DIR;
use crate::args::ClientArgs;
use crate::errors::Misuse;
use crate::output::Output;
use crate::output::format::count;
use crate::store_address::{Trust, address};

/// Writes all of a stored mycelium into a new folder, as lines of JSON with the large values beside.
///
/// No broker may have it open meanwhile. Everything goes: jobs with what was submitted and returned, flows, failures with
/// each occurrence, elves with all revisions, sessions, submissions. Each line begins with a checksum of the rest of it,
/// and manifest.json names each file with its lines, bytes and SHA-256. An export that was cut off goes on when the same
/// command is given again.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {mycelium, folder, files: {name: lines}, blob_bytes, left_out, went_on}.\n\n\
    Exit codes: 0 all of it is exported, 1 it is not (or blobs were left out because they are damaged), 2 there is no such \
    mycelium in FOLDER, a broker uses it, or DIR is there.\n\n\
    Examples:\n  mycelium export mycelium-data /moves/2026-07-01\n  \
    MYCELIUM_STORE_USER=mycelium MYCELIUM_STORE_PASSWORD_FILE=password.txt mycelium export http://localhost:8529 \
    /moves/2026-07-01 --data-dir mycelium-data")]
pub(crate) struct ExportArgs {
    /// The data folder, as `mycelium serve` takes it with --data-dir, or the folder of one mycelium in it; or the URL of an
    /// ArangoDB server. The mycelium is `default`, or the one that --mycelium names.
    #[arg(value_name = "FOLDER|URL")]
    from: PathBuf,
    /// The folder to make for the export.
    dir: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Makes a mycelium of what `mycelium export` has written.
///
/// The export is checked before anything is changed, and what was stored is read again and held against it at the end.
/// Lists, graphs, values, revisions and numbers are the same as before. A broker refuses a mycelium whose import was cut
/// off; the same command goes on with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "JSON: {mycelium, folder, files: {name: lines}, blob_bytes, left_out, went_on}.\n\n\
    Exit codes: 0 all of it is imported, 1 it is not, 2 DIR is no export, the mycelium is not empty, or a broker uses it.\n\n\
    Examples:\n  mycelium import /moves/2026-07-01 mycelium-data\n  \
    MYCELIUM_STORE_USER=mycelium MYCELIUM_STORE_PASSWORD_FILE=password.txt mycelium import /moves/2026-07-01 \
    http://localhost:8529 --data-dir mycelium-blobs")]
pub(crate) struct ImportArgs {
    /// The folder of the export.
    dir: PathBuf,
    /// The data folder, which is made if it is not there; or the URL of an ArangoDB server, on which the mycelium is created
    /// if it is not there and the user may. The mycelium is `default`, or the one that --mycelium names; it must be empty.
    #[arg(value_name = "FOLDER|URL")]
    to: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// What belongs to a URL. User and password come from the environment, as for `mycelium serve`.
#[derive(Debug, clap::Args)]
struct DatabaseArgs {
    /// The data folder of the broker on that ArangoDB server, in which large values are kept.
    #[arg(long, env = "MYCELIUM_DATA_DIR", value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,
    #[command(flatten)]
    trust: Trust,
}

/// Where a stored mycelium is.
enum Place {
    Folder(PathBuf),
    Database { server: Address, data: PathBuf },
}

impl Place {
    fn read(place: PathBuf, database: DatabaseArgs) -> Result<Self, Misuse> {
        let DatabaseArgs { data_dir: data, trust } = database;
        match place.to_str().filter(|place| Address::is_url(place)) {
            Some(url) => Ok(Self::Database { server: address(Some(url), &trust)?, data }),
            None => Ok(Self::Folder(place)),
        }
    }

    fn open_stored(&self, name: &str) -> Result<Arc<dyn Storage>, StoreError> {
        match self {
            Self::Folder(folder) => moving::open_stored(folder, name),
            Self::Database { server, data } => moving::open_stored_database(server, data, name),
        }
    }

    fn open_to_fill(&self, name: &str) -> Result<Arc<dyn Storage>, StoreError> {
        match self {
            Self::Folder(folder) => moving::open_to_fill(folder, name),
            Self::Database { server, data } => moving::open_database_to_fill(server, data, name),
        }
    }
}

/// Without user and password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Database { server, .. } => server.fmt(f),
        }
    }
}

pub(crate) async fn export(args: ExportArgs, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    let name = name(client);
    let ExportArgs { from, dir, database } = args;
    let folder = dir.display().to_string();
    let from = Place::read(from, database)?;
    let moved = aside(move || {
        let store = from.open_stored(&name)?;
        closing(&*store, moving::export(&*store, &name, &dir))
    });
    let moved = moved.await?;
    tell(&moved, &moved.mycelium, &folder, output)?;
    match moved.left_out.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let left_out = count(moved.left_out.len() as u64, "blob");
            anyhow::bail!("{left_out} left out because they are damaged: {first}")
        }
    }
}

pub(crate) async fn import(args: ImportArgs, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    let name = name(client);
    let ImportArgs { dir, to, database } = args;
    let to = Place::read(to, database)?;
    let (place, to_name) = (to.to_string(), name.clone());
    let moved = aside(move || {
        let export = Export::open(&dir)?;
        let store = to.open_to_fill(&to_name)?;
        closing(&*store, export.import(&*store))
    });
    tell(&moved.await?, &name, &place, output)
}

/// Closes a store that was not moved: what was done well has closed it. So whoever comes next need not wait until the lease
/// of one in a database has run out.
fn closing(store: &dyn Storage, moved: Result<Moved, Error>) -> Result<Moved, Error> {
    if moved.is_err()
        && let Err(error) = store.close().wait()
    {
        // It runs out by itself, and why it was not moved is told.
        tracing::warn!(%error, "what was moved could not be closed");
    }
    moved
}

fn name(client: &ClientArgs) -> String {
    client.mycelium.clone().unwrap_or_else(|| DEFAULT.to_owned())
}

/// Does what blocks on a thread that may.
async fn aside(work: impl FnOnce() -> Result<Moved, Error> + Send + 'static) -> anyhow::Result<Moved> {
    // Files that are made are for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let moved = tokio::task::spawn_blocking(work).await.context("the thread that moves it panicked")?;
    moved.map_err(|error| match &error {
        Error::Store(store) if store.is_damage() => anyhow::Error::new(error).context(
            "what is stored cannot be read whole (look it over with: mycelium store check; save what can be read with: \
             mycelium store salvage)",
        ),
        _ if error.is_misuse() => Misuse(error.to_string()).into(),
        _ => error.into(),
    })
}

fn tell(moved: &Moved, mycelium: &str, folder: &str, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        mycelium: &'a str,
        folder: &'a str,
        files: serde_json::Map<String, serde_json::Value>,
        blob_bytes: u64,
        left_out: &'a [String],
        went_on: bool,
    }
    if output.is_json() {
        let files = moved.lines.iter().map(|(name, lines)| (name.clone(), (*lines).into()));
        return Ok(output.json_line(&Report {
            mycelium,
            folder,
            files: files.collect(),
            blob_bytes: moved.blob_bytes,
            left_out: &moved.left_out,
            went_on: moved.went_on,
        })?);
    }
    for (name, lines) in &moved.lines {
        output.line(&format!("{name}: {}", count(*lines, "line")))?;
    }
    let blobs = count(moved.blob_bytes, "byte");
    let went_on = if moved.went_on { ", where it went on after it had been cut off" } else { "" };
    Ok(output.line(&format!("the mycelium `{mycelium}`, with {blobs} in blobs, is in {folder}{went_on}"))?)
}
