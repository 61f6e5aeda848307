//! Folders and files that no other user of the machine can read, or lock, whatever the umask is.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// What the owner may do with a folder, and nobody else.
const FOLDER_MODE: u32 = 0o700;
/// What the owner may do with a file, and nobody else.
const FILE_MODE: u32 = 0o600;
/// What others may do.
const OTHERS: u32 = 0o077;

/// Makes a folder. Its parent is there.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Makes a folder if it is not there, and those above it, which are as the umask has them. Their names are durable then.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    let parent = |path: &Path| match path.parent() {
        Some(here) if here.as_os_str().is_empty() => Some(Path::new(".").to_owned()),
        parent => parent.map(Path::to_owned),
    };
    let mut above = Vec::new();
    let mut next = parent(path);
    while let Some(folder) = next {
        let is_there = folder.exists();
        next = parent(&folder).filter(|_| !is_there);
        above.push(folder);
    }
    if let Some(parent) = above.first() {
        fs::create_dir_all(parent).map_err(|error| match error.kind() {
            // It is a file, and what is to be made is not there.
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        })?;
    }
    match create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    // Whether or not it was made now: who made it may have died before this.
    for folder in above {
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // It is somebody else's, who made this one for us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Makes a file, or empties the one that is there.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    options().create(true).truncate(true).open(path)
}

/// Opens a file to write at its end, which is made if it is not there.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    options().append(true).create(true).open(path)
}

/// Options for a file that is written, and that is private if it is made.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(FILE_MODE);
    options
}

/// Makes a folder and all that is in it private, if it is open to others: an earlier release left it as the umask had
/// it. What is in it goes first, so that a process that dies on the way begins anew.
pub(crate) fn tighten(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.permissions().mode() & OTHERS == 0 {
        return Ok(());
    }
    let mut folders = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next) {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                found.push(entry.path());
            } else if kind.is_file() {
                fs::set_permissions(entry.path(), Permissions::from_mode(FILE_MODE))?;
            }
        }
        folders.extend(found);
        next += 1;
    }
    // The outermost last.
    for folder in folders.iter().rev() {
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_open_to_others_is_private_at_every_depth() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data");
        fs::create_dir_all(data.join("default/store")).unwrap();
        let file = data.join("default/store/table");
        fs::write(&file, "secret").unwrap();
        for folder in [&data, &data.join("default"), &data.join("default/store")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        tighten(&data).unwrap();
        for folder in [&data, &data.join("default"), &data.join("default/store")] {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn what_is_made_is_private_from_its_first_moment() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("above/data");
        create_dir_all(&folder).unwrap();
        create_dir_all(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        create_file(&folder.join("file")).unwrap();
        assert_eq!(mode(&folder.join("file")), 0o600);
    }
}
