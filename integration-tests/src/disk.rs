//! What a disk has kept of a folder when the power fails: for each file the content that it had when it was last synced,
//! for each folder the names. What was written and not synced is lost, or some of it is there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use tempfile::TempDir;

/// What is written as a whole, in bytes, or not.
const BLOCK_BYTES: usize = 4096;
/// How much is copied at once, in bytes: whole blocks.
const COPY_BYTES: usize = 16 * BLOCK_BYTES;

/// A file or folder whatever its name, and not another one that got its number later.
type Id = (u64, Option<SystemTime>);

/// The names in a folder, and which of them are folders.
type Names = BTreeMap<OsString, (Id, bool)>;

/// What was synced of a folder and all that is in it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    folders: BTreeMap<Id, Names>,
    /// Copies, by file.
    files: BTreeMap<Id, PathBuf>,
    copies: TempDir,
    copied: u64,
}

/// What a file or folder held when its sync began.
#[derive(Debug)]
pub enum Held {
    /// A copy of a file.
    File(Id, PathBuf),
    /// The names in a folder.
    Folder(Id, Names),
}

impl Disk {
    /// Begins with what is in a folder now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(root: &Path) -> io::Result<Self> {
        let (root, copies) = (root.canonicalize()?, tempfile::tempdir()?);
        let mut disk = Self { root, copies, folders: BTreeMap::new(), files: BTreeMap::new(), copied: 0 };
        for path in walk(&disk.root)?.1.into_values() {
            let held = disk.hold(&path)?;
            disk.keep(held);
        }
        Ok(disk)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Copies what a file or folder holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn hold(&mut self, path: &Path) -> io::Result<Held> {
        if path.metadata()?.is_dir() {
            return Ok(Held::Folder(id(path)?, names(path)?));
        }
        self.copied += 1;
        let copy = self.copies.path().join(self.copied.to_string());
        copy_written(&File::open(path)?, &File::create(&copy)?)?;
        Ok(Held::File(id(path)?, copy))
    }

    /// Keeps what was held when a sync began that has succeeded.
    pub fn keep(&mut self, held: Held) {
        match held {
            Held::Folder(id, names) => drop(self.folders.insert(id, names)),
            Held::File(id, copy) => {
                if let Some(before) = self.files.insert(id, copy) {
                    // What stays is removed with the others.
                    _ = fs::remove_file(before);
                }
            }
        }
    }

    /// Fills a new folder with what is there after the power failed: what was synced, and of the rest what `stays` says,
    /// which is asked for the names of each folder, the length of each file, and each of its blocks.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn after_power_loss(&self, to: &Path, mut stays: impl FnMut() -> bool) -> io::Result<()> {
        let (now, paths) = walk(&self.root)?;
        let none = Names::new();
        let mut folders = vec![(id(&self.root)?, to.to_owned())];
        while let Some((folder, to)) = folders.pop() {
            fs::create_dir_all(&to)?;
            let synced = self.folders.get(&folder).unwrap_or(&none);
            // All or none of them: file systems rename in one step.
            let names = now.get(&folder).filter(|now| *now != synced && stays()).unwrap_or(synced);
            for (name, (id, is_folder)) in names {
                let to = to.join(name);
                if *is_folder {
                    folders.push((*id, to));
                    continue;
                }
                let file = File::options().read(true).write(true).create_new(true).open(&to)?;
                if let Some(synced) = self.files.get(id) {
                    copy_written(&File::open(synced)?, &file)?;
                }
                // One that was removed meanwhile, by a thread that has not synced that.
                if let Some(Ok(now)) = paths.get(id).map(File::open) {
                    mix(&file, &now, &mut stays)?;
                }
            }
        }
        Ok(())
    }
}

fn id(path: &Path) -> io::Result<Id> {
    let about = path.metadata()?;
    Ok((about.ino(), about.created().ok()))
}

fn names(folder: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // One that is removed meanwhile is not there.
        if let Ok(id) = id(&entry.path()) {
            names.insert(entry.file_name(), (id, entry.path().is_dir()));
        }
    }
    Ok(names)
}

/// The folders in a folder with their names, and where everything is.
fn walk(root: &Path) -> io::Result<(BTreeMap<Id, Names>, BTreeMap<Id, PathBuf>)> {
    let (mut folders, mut paths) = (BTreeMap::new(), BTreeMap::new());
    let mut left = vec![(id(root)?, root.to_owned())];
    while let Some((id, path)) = left.pop() {
        let found = names(&path).unwrap_or_default();
        for (name, (id, is_folder)) in &found {
            let path = path.join(name);
            match is_folder {
                true => left.push((*id, path)),
                false => drop(paths.insert(*id, path)),
            }
        }
        folders.insert(id, found);
        paths.insert(id, path);
    }
    Ok((folders, paths))
}

/// Copies a file, with the holes in it.
fn copy_written(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let (mut place, mut buffer) = (0, vec![0; COPY_BYTES]);
    loop {
        match lseek(from, place, Whence::SeekData) {
            Ok(data) => place = data,
            // There is no more.
            Err(Errno::ENXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let read = (&*from).read(&mut buffer)?;
        to.write_all_at(&buffer[..read], u64::try_from(place).map_err(io::Error::other)?)?;
        place += i64::try_from(read).map_err(io::Error::other)?;
    }
}

/// Takes over into `file`, which has what was synced, what stays of what was written since.
fn mix(file: &File, now: &File, stays: &mut impl FnMut() -> bool) -> io::Result<()> {
    let (before, after) = (file.metadata()?.len(), now.metadata()?.len());
    if before != after && stays() {
        file.set_len(after)?;
    }
    let length = file.metadata()?.len().min(after);
    let (mut old, mut new) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    for place in (0..length).step_by(COPY_BYTES) {
        let bytes = COPY_BYTES.min(usize::try_from(length - place).map_err(io::Error::other)?);
        file.read_exact_at(&mut old[..bytes], place)?;
        // Cut off meanwhile.
        if now.read_exact_at(&mut new[..bytes], place).is_err() {
            return Ok(());
        }
        if old[..bytes] == new[..bytes] {
            continue;
        }
        for (at, (old, new)) in
            (0..).zip(old[..bytes].chunks(BLOCK_BYTES).zip(new[..bytes].chunks(BLOCK_BYTES)))
        {
            if old != new && stays() {
                file.write_all_at(new, place + at * BLOCK_BYTES as u64)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there after the power failed, and nothing of what was not synced is.
    fn left(disk: &Disk) -> anyhow::Result<BTreeMap<String, String>> {
        let image = tempfile::tempdir()?;
        disk.after_power_loss(image.path(), || false)?;
        let mut found = BTreeMap::new();
        for path in walk(image.path())?.1.into_values().filter(|path| path.is_file()) {
            let name = path.strip_prefix(image.path())?.display().to_string();
            found.insert(name, fs::read_to_string(path)?);
        }
        Ok(found)
    }

    fn all(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn sync(disk: &mut Disk, path: &Path) -> io::Result<()> {
        let held = disk.hold(path)?;
        disk.keep(held);
        Ok(())
    }

    #[test]
    fn what_is_there_is_what_was_synced_under_the_names_that_were() -> anyhow::Result<()> {
        let temp = tempfile::tempdir()?;
        let (root, folder) = (temp.path(), temp.path().join("folder"));
        fs::write(root.join("before"), "kept")?;
        let mut disk = Disk::new(root)?;
        assert_eq!(left(&disk)?, all(&[("before", "kept")]));

        // A file whose folders are not synced has no name, and one that is not synced no content.
        fs::create_dir(&folder)?;
        fs::write(folder.join("staged"), "whole")?;
        sync(&mut disk, &folder.join("staged"))?;
        fs::rename(folder.join("staged"), folder.join("named"))?;
        fs::write(folder.join("empty"), "not synced")?;
        fs::write(root.join("before"), "lost")?;
        sync(&mut disk, &folder)?;
        assert_eq!(left(&disk)?, all(&[("before", "kept")]));
        sync(&mut disk, root)?;
        let synced = all(&[("before", "kept"), ("folder/empty", ""), ("folder/named", "whole")]);
        assert_eq!(left(&disk)?, synced);

        // What is removed and not synced is there.
        fs::remove_file(folder.join("named"))?;
        assert_eq!(left(&disk)?, synced);
        sync(&mut disk, &folder)?;
        assert_eq!(left(&disk)?, all(&[("before", "kept"), ("folder/empty", "")]));
        Ok(())
    }

    #[test]
    fn of_what_was_not_synced_some_may_stay() -> anyhow::Result<()> {
        let temp = tempfile::tempdir()?;
        let path = temp.path().join("file");
        fs::write(&path, [b'a'; 3 * BLOCK_BYTES])?;
        let disk = Disk::new(temp.path())?;
        fs::write(&path, [b'b'; 4 * BLOCK_BYTES])?;
        fs::write(temp.path().join("new"), "new")?;
        let image = tempfile::tempdir()?;
        // The names, the length, and of the blocks the second.
        let mut asked = 0;
        disk.after_power_loss(image.path(), || {
            asked += 1;
            [1, 2, 4].contains(&asked)
        })?;
        let mixed = fs::read(image.path().join("file"))?;
        let blocks: Vec<u8> = mixed.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
        assert_eq!(blocks, [b'a', b'b', b'a', 0]);
        assert!(fs::read(image.path().join("new"))?.is_empty());
        Ok(())
    }
}
