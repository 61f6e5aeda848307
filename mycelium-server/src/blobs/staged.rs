//! Blobs on their way into a folder of this machine, written while the rest of them is still coming.
//!
//! What is not finished stands apart from the blobs, under a name of its own. It goes soon after the writer was dropped,
//! and what a process leaves that dies goes with the next start.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::{mpsc, oneshot};

use super::output::Output;

/// How many parts wait for the disk.
const PARTS_WAITING_MAX: usize = 4;
/// Where files stand that are not finished, within the folder of blobs.
const STAGING: &str = "staging";

/// A file that is being written, by a thread of its own that may wait for the disk.
///
/// The runtime's threads for that are few in some programs, and what is written may come from what one of them has to
/// read first.
pub(super) struct StagedFile {
    orders: mpsc::Sender<Order>,
    /// What became of the file. None when it was said.
    ended: Option<oneshot::Receiver<io::Result<()>>>,
}

enum Order {
    Write(Bytes),
    /// Under this name within the folder of blobs.
    Finish(PathBuf),
}

impl StagedFile {
    /// Begins a file in a folder of blobs. `place` is dropped when the file is done and takes nothing any more, which
    /// for one that was given up is a while after this is dropped.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub(super) fn begin(folder: &Path, place: impl Send + 'static) -> io::Result<Self> {
        let (orders, receiver) = mpsc::channel(PARTS_WAITING_MAX);
        let (end, ended) = oneshot::channel();
        let folder = folder.to_owned();
        std::thread::Builder::new().name("blob-writer".into()).spawn(move || {
            let result = run(&folder, receiver);
            drop(place);
            // Whoever gave it up does not ask.
            _ = end.send(result);
        })?;
        Ok(Self { orders, ended: Some(ended) })
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.orders.capacity() == self.orders.max_capacity()
    }

    /// Adds bytes at the end. Waits while many wait for the disk already.
    pub(super) async fn write(&mut self, part: Bytes) -> io::Result<()> {
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
        let Some(ended) = self.ended.take() else {
            return Err(io::Error::other("the file was given up before"));
        };
        ended
            .await
            .unwrap_or_else(|_panicked| Err(io::Error::other("the thread that writes the file panicked")))
    }

    /// Why the thread takes no more.
    async fn failure(&mut self) -> io::Error {
        self.end().await.err().unwrap_or_else(|| io::Error::other("the file is finished"))
    }
}

/// Writes a file as it is told, until it has its name or is given up.
fn run(folder: &Path, orders: mpsc::Receiver<Order>) -> io::Result<()> {
    // Nobody else can read it: such is the default of these files.
    let staged = tempfile::Builder::new().tempfile_in(folder.join(STAGING))?;
    let name = match fill(staged.as_file(), orders) {
        Ok(Some(name)) => name,
        given_up => {
            discard(staged);
            return given_up.map(|_| ());
        }
    };
    let path = folder.join(name);
    if let Err(refused) = staged.persist(&path) {
        discard(refused.file);
        return Err(refused.error);
    }
    sync_folder(path.parent().unwrap_or(folder))
}

/// Fills a file and makes it durable. Gives the name it should have, or none if nobody wants it any more.
fn fill(file: &File, mut orders: mpsc::Receiver<Order>) -> io::Result<Option<PathBuf>> {
    let mut output = Output::new(file);
    while let Some(order) = orders.blocking_recv() {
        if orders.is_closed() {
            // Given up. What waits for the disk would take memory and time for nothing.
            break;
        }
        match order {
            Order::Write(part) => output.write(file, &part)?,
            Order::Finish(name) => {
                output.finish(file)?;
                file.sync_all()?;
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

fn discard(staged: NamedTempFile) {
    if let Err(error) = staged.close() {
        tracing::warn!(%error, "an unfinished blob is removed at the next start only");
    }
}

/// Makes the place for unfinished files, in which nothing stands that another process left. Blocks.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    let staging = folder.join(STAGING);
    crate::private::create_dir_all(folder)?;
    crate::private::create_dir_all(&staging)?;
    for leftover in std::fs::read_dir(&staging)? {
        // Whoever gave it up in this process may be faster.
        match std::fs::remove_file(leftover?.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes the names in a folder durable. Blocks.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        prepare(temp.path()).unwrap();
        temp
    }

    fn is_empty(folder: &Path) -> bool {
        std::fs::read_dir(folder.join(STAGING)).unwrap().next().is_none()
    }

    #[tokio::test]
    async fn what_a_file_takes_is_taken_until_its_thread_has_ended() {
        let temp = folder();
        let place = Arc::new(());
        let mut file = StagedFile::begin(temp.path(), Arc::clone(&place)).unwrap();
        file.write(Bytes::from_static(b"abc")).await.unwrap();
        let begun = async {
            while is_empty(temp.path()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), begun).await.unwrap();
        assert_eq!(Arc::strong_count(&place), 2);
        file.finish("name".into()).await.unwrap();
        assert_eq!(Arc::strong_count(&place), 1);
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"abc");
    }

    #[test]
    fn what_was_given_up_is_neither_written_on_nor_named() {
        let temp = folder();
        let (orders, receiver) = mpsc::channel(PARTS_WAITING_MAX);
        orders.try_send(Order::Write(Bytes::from_static(b"abc"))).unwrap();
        orders.try_send(Order::Finish("name".into())).unwrap();
        drop(orders);
        run(temp.path(), receiver).unwrap();
        assert!(!temp.path().join("name").exists());
        assert!(is_empty(temp.path()));
    }

    #[tokio::test]
    async fn what_cannot_get_its_name_leaves_nothing() {
        let temp = folder();
        let file = StagedFile::begin(temp.path(), ()).unwrap();
        let refused = file.finish("nowhere/name".into()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(is_empty(temp.path()));
    }

    #[test]
    fn a_start_removes_what_was_left() {
        let temp = folder();
        std::fs::write(temp.path().join(STAGING).join("left"), "half").unwrap();
        prepare(temp.path()).unwrap();
        assert!(is_empty(temp.path()));
    }
}
