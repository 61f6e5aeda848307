//! The folders of mycelia that are kept in databases: what of them stands on this machine.
//!
//! ```text
//! mycelium.database  names the mycelium that the folder belongs to
//! blobs/             values that are too large to travel inline
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{DELETED, mycelium_dir, sync, unavailable};
use crate::name::{DEFAULT, is_name};
use crate::private;
use crate::store::{Error, holds_store};

/// Names the mycelium that a folder belongs to.
const MARK_FILE: &str = "mycelium.database";
/// The mark while it is written.
const MARKING_FILE: &str = "mycelium.marking";
/// The longest mark that is read, in bytes; a longer one is not ours.
const MARK_BYTES_MAX: u64 = 256;

/// Whether a folder belongs to a mycelium that is kept in a database.
pub(super) fn is_of_database(folder: &Path) -> bool {
    folder.join(MARK_FILE).exists()
}

/// Makes sure that the data folder `dir` holds no mycelium of the embedded store, which would seem to be lost.
///
/// # Errors
/// [`Error::Unfit`] if it does, with how to move it to `server`.
pub(crate) fn check_not_embedded(dir: &Path, name: &str, server: &str) -> Result<(), Error> {
    let folders = [dir.to_owned(), dir.join(DEFAULT), dir.join(name)];
    if !folders.iter().any(|folder| holds_store(folder)) {
        return Ok(());
    }
    let folder = dir.display();
    Err(Error::Unfit {
        what: format!(
            "the data folder {folder} holds mycelia of the embedded store, which a broker on {server} does not read; move \
             each with `mycelium export {folder} DIR` and `mycelium import DIR {server}`, or give another folder with \
             --data-dir"
        ),
    })
}

/// Makes ready the folder of the mycelium `name`, which its database calls `id`, within the data folder `dir`, and returns
/// the one of its blobs.
///
/// # Errors
/// [`Error::Unfit`] if it belongs to another mycelium; [`Error::Foreign`] if it holds anything else;
/// [`Error::Unavailable`] if it cannot be read or made.
pub(crate) fn claim(dir: &Path, name: &str, id: &str) -> Result<PathBuf, Error> {
    let folder = mycelium_dir(dir, name)?;
    let shown = folder.display();
    let away = |source| unavailable(format!("the folder {shown} cannot be used"), source);
    match read_mark(&folder).map_err(away)? {
        Some(mark) if mark == id => {}
        Some(_other) => {
            return Err(Error::Unfit {
                what: format!(
                    "the folder {shown} holds the large values of another mycelium; give the folder of this one with \
                     --data-dir, or move that one away"
                ),
            });
        }
        None if holds_anything(&folder).map_err(away)? => {
            let why = format!("it holds other things, and no `{MARK_FILE}`");
            return Err(Error::Foreign { folder: shown.to_string(), why });
        }
        None => write_mark(&folder, id).map_err(away)?,
    }
    Ok(folder.join("blobs"))
}

/// The folder of the blobs of the mycelium `name`, which its database calls `id`, within the data folder `dir`, in which a
/// broker has kept them. Nothing is made: in a wrong folder there would seem to be none.
///
/// # Errors
/// [`Error::Unfit`] if it does not belong to that mycelium; [`Error::Unavailable`] if it cannot be read.
pub(crate) fn claimed(dir: &Path, name: &str, id: &str) -> Result<PathBuf, Error> {
    let folder = dir.join(name);
    let shown = folder.display();
    match read_mark(&folder)
        .map_err(|source| unavailable(format!("the folder {shown} cannot be read"), source))?
    {
        Some(mark) if mark == id => Ok(folder.join("blobs")),
        Some(_) | None => Err(Error::Unfit {
            what: format!(
                "the folder {shown} is not the one with the large values of this mycelium; give the data folder of its \
                 broker with --data-dir"
            ),
        }),
    }
}

fn read_mark(folder: &Path) -> io::Result<Option<String>> {
    let file = match File::open(folder.join(MARK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut mark = String::new();
    file.take(MARK_BYTES_MAX).read_to_string(&mut mark)?;
    Ok(Some(mark.trim_end().to_owned()))
}

fn write_mark(folder: &Path, id: &str) -> io::Result<()> {
    let marking = folder.join(MARKING_FILE);
    let mut file = private::create_file(&marking)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(marking, folder.join(MARK_FILE))?;
    sync(folder)
}

fn holds_anything(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name() != MARKING_FILE {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets the folder of a mycelium aside whose database is about to be dropped.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn set_aside(dir: &Path, name: &str) -> Result<(), Error> {
    discard(dir, name)?;
    rename(dir, name, &dir.join(name), &aside(dir, name))
}

/// Puts back what was set aside: the database is still there.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn put_back(dir: &Path, name: &str) -> Result<(), Error> {
    rename(dir, name, &aside(dir, name), &dir.join(name))
}

/// Removes what was set aside: the database is gone.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn discard(dir: &Path, name: &str) -> Result<(), Error> {
    match fs::remove_dir_all(aside(dir, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_remove(name, error)),
        _removed_or_not_there => Ok(()),
    }
}

/// Ends deletions that were interrupted: what was set aside of a mycelium that is still there is put back.
///
/// # Errors
/// [`Error::Unavailable`].
pub(crate) fn end_deletions(dir: &Path, is_there: impl Fn(&str) -> bool) -> Result<(), Error> {
    let away = |source| unavailable(format!("the data folder {} cannot be read", dir.display()), source);
    for entry in fs::read_dir(dir).map_err(away)? {
        let Ok(file) = entry.map_err(away)?.file_name().into_string() else { continue };
        match file.strip_prefix(DELETED) {
            Some(name) if !is_name(name) => {}
            Some(name) if is_there(name) && !dir.join(name).exists() => put_back(dir, name)?,
            Some(name) => discard(dir, name)?,
            None => {}
        }
    }
    Ok(())
}

fn aside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{DELETED}{name}"))
}

/// Renames a folder, unless it is not there.
fn rename(dir: &Path, name: &str, from: &Path, to: &Path) -> Result<(), Error> {
    match fs::rename(from, to) {
        Ok(()) => sync(dir).map_err(|error| cannot_remove(name, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot_remove(name, error)),
    }
}

fn cannot_remove(name: &str, source: io::Error) -> Error {
    unavailable(format!("the blobs of the mycelium `{name}` cannot be removed"), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_belongs_to_the_mycelium_that_took_it_first() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        let blobs = claim(&dir, "default", "one").unwrap();
        assert_eq!(blobs, dir.join("default/blobs"));
        fs::create_dir(&blobs).unwrap();
        assert_eq!(claim(&dir, "default", "one").unwrap(), blobs);
        assert_eq!(claimed(&dir, "default", "one").unwrap(), blobs);
        for (name, id) in [("default", "other"), ("north", "one")] {
            assert!(matches!(claimed(&dir, name, id), Err(Error::Unfit { .. })));
        }
        assert_eq!(names(&dir), ["default"], "nothing was made");
        let refused = claim(&dir, "default", "other").unwrap_err();
        assert!(matches!(refused, Error::Unfit { .. }) && refused.to_string().contains("another mycelium"));
        assert_eq!(claim(&dir, "north", "other").unwrap(), dir.join("north/blobs"));
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::create_dir(dir.join("default")).unwrap();
        // A process died when it was about to take it.
        fs::write(dir.join("default").join(MARKING_FILE), "").unwrap();
        claim(dir, "default", "one").unwrap();
        fs::create_dir(dir.join("north")).unwrap();
        fs::write(dir.join("north/letter.txt"), "dear").unwrap();
        assert!(matches!(claim(dir, "north", "one"), Err(Error::Foreign { .. })));
        assert_eq!(names(&dir.join("north")), ["letter.txt"]);
    }

    #[test]
    fn what_the_embedded_store_holds_is_not_passed_over() {
        let server = "http://h:8529";
        for place in [".", "default", "north"] {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().join(place);
            fs::create_dir_all(&folder).unwrap();
            assert_eq!(check_not_embedded(temp.path(), "north", server).ok(), Some(()));
            fs::write(folder.join("mycelium.format"), "").unwrap();
            let line = check_not_embedded(temp.path(), "north", server).unwrap_err().to_string();
            assert!(line.contains("mycelium export") && line.contains("mycelium import"), "{line}");
            assert!(line.contains(server) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_deletion_that_was_interrupted_is_ended_or_undone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        for name in ["dropped", "still-there", "not-opened"] {
            if name != "not-opened" {
                fs::create_dir_all(dir.join(name).join("blobs")).unwrap();
            }
            set_aside(dir, name).unwrap();
        }
        fs::create_dir_all(dir.join(".deleted-Not a name")).unwrap();
        end_deletions(dir, |name| name == "still-there").unwrap();
        assert_eq!(names(dir), [".deleted-Not a name", "still-there"]);
        assert!(dir.join("still-there/blobs").is_dir());
    }
}
