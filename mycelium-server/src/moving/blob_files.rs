//! Blobs as files, in 256 folders by the first two digits of their digests: in a store, and in an export.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Error;
use super::error::file;
use crate::private;
use crate::store::BlobDigest;

/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;
/// Where blobs stand that are not whole. A broker empties it when it starts.
const STAGING: &str = "staging";

pub(super) fn path_of(folder: &Path, digest: BlobDigest) -> PathBuf {
    let name = digest.to_string();
    folder.join(&name[..2]).join(name)
}

/// The blobs that begin with this byte, in their order.
pub(super) fn of_shard(folder: &Path, shard: u8) -> Result<Vec<BlobDigest>, Error> {
    let shard = folder.join(format!("{shard:02x}"));
    let entries = match fs::read_dir(&shard) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file("read", &shard)(error)),
    };
    let mut digests = Vec::new();
    for entry in entries {
        let name = entry.map_err(file("read", &shard))?.file_name();
        if let Some(digest) = name.to_str().and_then(|name| name.parse().ok()) {
            digests.push(digest);
        }
    }
    digests.sort_unstable();
    Ok(digests)
}

/// Whether two blobs stand in the same folder.
pub(super) fn is_beside(one: BlobDigest, other: BlobDigest) -> bool {
    one.as_bytes()[0] == other.as_bytes()[0]
}

/// Reads a blob. Returns its size; `None` if it is not what its name says.
pub(super) fn check(path: &Path, digest: BlobDigest) -> Result<Option<u64>, Error> {
    read(path, digest, |_| Ok(()))
}

/// Copies a blob into a folder of blobs, which is there, under its name only once it is whole and durable. Returns its size; `None`, and
/// nothing is copied, if it is not what its name says. The folder that it stands in is to be [synced](sync_shard) after.
pub(super) fn copy(from: &Path, folder: &Path, digest: BlobDigest) -> Result<Option<u64>, Error> {
    let staging = folder.join(STAGING);
    make(&staging)?;
    let staged = staging.join(digest.to_string());
    let mut copy = private::create_file(&staged).map_err(file("make", &staged))?;
    let size = read(from, digest, |bytes| copy.write_all(bytes).map_err(file("write", &staged)))?;
    if size.is_none() {
        fs::remove_file(&staged).map_err(file("remove", &staged))?;
        return Ok(None);
    }
    copy.sync_all().map_err(file("sync", &staged))?;
    let path = path_of(folder, digest);
    if let Some(shard) = path.parent() {
        make(shard)?;
    }
    fs::rename(&staged, &path).map_err(file("rename", &staged))?;
    Ok(size)
}

/// Makes a folder in one that is there.
fn make(path: &Path) -> Result<(), Error> {
    match private::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file("make", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the name of a blob durable, and those of all that stand beside it.
pub(super) fn sync_shard(folder: &Path, digest: BlobDigest) -> Result<(), Error> {
    let path = path_of(folder, digest);
    let shard = path.parent().unwrap_or(folder);
    for folder in [shard, folder] {
        sync(folder)?;
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(file("sync", folder))
}

/// Removes the place for blobs that are not whole.
pub(super) fn remove_staging(folder: &Path) -> Result<(), Error> {
    let staging = folder.join(STAGING);
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", &staging)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read(
    path: &Path,
    digest: BlobDigest,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Option<u64>, Error> {
    let mut blob = File::open(path).map_err(file("read", path))?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; READ_BYTES]);
    loop {
        match blob.read(&mut buffer).map_err(file("read", path))? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
                each(&buffer[..n])?;
            }
        }
    }
    Ok((hasher.finalize().as_slice() == digest.as_bytes()).then_some(size))
}
