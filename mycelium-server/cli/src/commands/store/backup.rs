//! `mycelium store backup`: writes what a broker sends into a new data folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use elf_runtime::{Code, Error as ClientError, Line, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1;
use mycelium_proto::v1::backup_response::Kind;
use mycelium_proto::v1::store_service_client::StoreServiceClient;
use mycelium_server::store::BlobDigest;
use mycelium_server::store::embedded::{
    self, DEFAULT, FORMAT_VERSION, NewBlob, NewStore, OLDEST_FORMAT_VERSION,
};
use serde::Serialize;

use super::misuse;
use crate::args::ClientArgs;
use crate::commands::client;
use crate::output::Output;
use crate::output::format::count;

/// How many messages of a backup wait for the disk.
const WAITING_MAX: usize = 4;

/// Copies all that a running broker has stored into a new data folder, each mycelium as it is at one moment, with its large
/// values.
///
/// The broker goes on meanwhile. When the command is done the copy is durable, and a broker can be started on it. One
/// that was broken off says so when it is opened.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: a line for each mycelium, {mycelium, folder, commit, entries, blobs, damaged_blobs}.\n\n\
    Example: mycelium store backup /backups/2026-07-01"
)]
pub(super) struct BackupArgs {
    /// The data folder to make, which must not be there. If --mycelium names one, that is `default` in it.
    folder: PathBuf,
}

#[derive(Debug, Default, Serialize)]
struct BackedUp {
    mycelium: String,
    folder: String,
    commit: u64,
    entries: u64,
    blobs: u64,
    damaged_blobs: Vec<String>,
}

pub(super) async fn run(args: BackupArgs, client: &ClientArgs, output: Output) -> anyhow::Result<()> {
    // Before the broker begins what it does for one at a time.
    embedded::check_absent(&args.folder).map_err(misuse)?;
    // Tells of a broker that does not answer, and of a URL that is none, as all commands do.
    let mycelium: Mycelium = client::connect(client).await?;
    let mut calls =
        StoreServiceClient::new(mycelium.line()).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let names = match &client.mycelium {
        Some(only) => vec![only.clone()],
        None => names(&mycelium).await?,
    };
    let (mut damaged, mut first) = (0, None);
    for name in &names {
        let new_name = if client.mycelium.is_some() { DEFAULT } else { name };
        let mut done = backup_one(&mut calls, name, &args.folder, new_name).await?;
        done.mycelium.clone_from(name);
        damaged += done.damaged_blobs.len();
        first = first.or(done.damaged_blobs.first().cloned());
        if output.is_json() {
            output.json_line(&done)?;
            continue;
        }
        let prefix = if names.len() > 1 { format!("{name}: ") } else { String::new() };
        output.line(&format!(
            "{prefix}{} and {} as of commit {} are in {}",
            count(done.entries, "record"),
            count(done.blobs, "blob"),
            done.commit,
            done.folder
        ))?;
    }
    if let Some(first) = first {
        bail!("{} left out because they are damaged: {first}", count(damaged as u64, "blob"));
    }
    Ok(())
}

/// The mycelia of a broker, `default` last: no broker starts on a folder that was not finished.
async fn names(mycelium: &Mycelium) -> anyhow::Result<Vec<String>> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListMyceliaRequest { page_size: limits::PAGE_SIZE_MAX, page_token };
        let page = match mycelium.list_mycelia(request).await {
            Ok(page) => page,
            // It is of a version that had one alone.
            Err(ClientError::Refused { code: Code::Unimplemented, .. }) => break,
            Err(error) => return Err(error.into()),
        };
        names.extend(page.mycelia.into_iter().map(|one| one.name).filter(|name| name != DEFAULT));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.push(DEFAULT.to_owned());
    Ok(names)
}

async fn backup_one(
    calls: &mut StoreServiceClient<Line>,
    name: &str,
    folder: &Path,
    new_name: &str,
) -> anyhow::Result<BackedUp> {
    let request = v1::BackupRequest { mycelium: name.to_owned() };
    let mut messages = calls.backup(request).await.map_err(|status| refused(&status))?.into_inner();

    // One thread writes; what comes waits for it, and the broker for that.
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING_MAX);
    let (folder, new_name) = (folder.to_owned(), new_name.to_owned());
    let writer = tokio::task::spawn_blocking(move || write_copy(&folder, &new_name, receiver));
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
    match broken_off {
        Some(error) => Err(error.context("the backup was broken off, and the copy is not finished")),
        None => written,
    }
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
    folder: &Path,
    name: &str,
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
    let mut copy = NewStore::create(folder, name).map_err(misuse)?;
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
