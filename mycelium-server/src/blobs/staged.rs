//! Blobs on their way into a folder of this machine, written while the rest of them is still coming.
//!
//! What is not finished stands apart from the blobs, under a name of its own. It goes when the writer is dropped, and
//! what a process leaves that dies goes with the next start.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::output::Output;

/// How many parts wait for the disk.
const PARTS_WAITING_MAX: usize = 4;
/// Where files stand that are not finished, within the folder of blobs.
const STAGING: &str = "staging";

/// A file that is being written, by a thread that may wait for the disk.
pub(super) struct StagedFile {
    orders: mpsc::Sender<Order>,
    /// None when it has ended.
    thread: Option<JoinHandle<io::Result<()>>>,
}

enum Order {
    Write(Vec<Bytes>),
    /// Under this name within the folder of blobs.
    Finish(PathBuf),
}

impl StagedFile {
    /// Begins a file in a folder of blobs.
    pub(super) fn begin(folder: &Path) -> Self {
        let (orders, receiver) = mpsc::channel(PARTS_WAITING_MAX);
        let folder = folder.to_owned();
        let thread = tokio::task::spawn_blocking(move || run(&folder, receiver));
        Self { orders, thread: Some(thread) }
    }

    /// Adds bytes at the end. Waits while many wait for the disk already.
    pub(super) async fn write(&mut self, part: Vec<Bytes>) -> io::Result<()> {
        match self.orders.send(Order::Write(part)).await {
            Ok(()) => Ok(()),
            Err(_ended) => Err(self.failure().await),
        }
    }

    /// Makes what was written durable, under its name within the folder.
    pub(super) async fn finish(mut self, name: PathBuf) -> io::Result<()> {
        match self.orders.send(Order::Finish(name)).await {
            Ok(()) => self.end().await,
            Err(_ended) => Err(self.failure().await),
        }
    }

    async fn end(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Err(io::Error::other("the file was given up before"));
        };
        thread.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Why the thread takes no more.
    async fn failure(&mut self) -> io::Error {
        self.end().await.err().unwrap_or_else(|| io::Error::other("the file is finished"))
    }
}

fn run(folder: &Path, mut orders: mpsc::Receiver<Order>) -> io::Result<()> {
    let mut options = tempfile::Builder::new();
    // As any other file: its own default is one that nobody else can read.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let staged = options.tempfile_in(folder.join(STAGING))?;
    let file = staged.as_file();
    let mut output = Output::new(file);
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Write(part) => {
                for bytes in part {
                    output.write(file, &bytes)?;
                }
            }
            Order::Finish(name) => {
                output.finish(file)?;
                file.sync_all()?;
                let path = folder.join(name);
                staged.persist(&path)?;
                return sync_folder(path.parent().unwrap_or(folder));
            }
        }
    }
    // Nobody wants it any more, or what becomes of it.
    if let Err(error) = staged.close() {
        tracing::warn!(%error, "an unfinished blob is removed at the next start only");
    }
    Ok(())
}

/// Makes the place for unfinished files, in which nothing stands that another process left. Blocks.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    let staging = folder.join(STAGING);
    match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(&staging)
}

/// Makes the names in a folder durable. Blocks.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
