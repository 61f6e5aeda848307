//! The data folder: one folder for each mycelium in it.

pub(crate) mod database;

use std::io;
use std::path::{Path, PathBuf};

use crate::name::{DEFAULT, is_name};
use crate::private;
use crate::store::{Error, holds_store, is_store_folder};

/// What begins the name of a folder that is being deleted: no mycelium has such a name.
const DELETED: &str = ".deleted-";

/// The folder of the mycelium `name` within the data folder `dir`, which is made if it is not there.
///
/// # Errors
/// [`Error::Foreign`] if `dir` holds something, and nothing of ours; [`Error::Unavailable`] if it cannot be read or
/// made.
pub(crate) fn mycelium_dir(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = dir.display().to_string();
    let unavailable = |source| unavailable(format!("the data folder {folder} cannot be used"), source);
    let ours = dir.join(name);
    match std::fs::read_dir(dir) {
        Ok(mut entries) => {
            let is_empty = entries.next().transpose().map_err(unavailable)?.is_none();
            if !is_empty && !ours.is_dir() && !dir.join(DEFAULT).is_dir() {
                let why = format!("it holds other things, and no folder `{name}`");
                return Err(Error::Foreign { folder, why });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            // Either it, or what it is said to be in.
            let file = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
            if file == dir {
                return Err(Error::Foreign { folder, why: "it is not a folder".to_owned() });
            }
            return Err(Error::Unavailable {
                what: format!("the data folder {folder} cannot be made: {} is not a folder", file.display()),
                certainly_not_applied: true,
                source: None,
            });
        }
        Err(error) => return Err(unavailable(error)),
    }
    private::create_dir_all(dir).map_err(unavailable)?;
    private::create_dir_all(&ours).map_err(unavailable)?;
    match private::tighten(dir) {
        // It is somebody else's, who gave it to us to use. Ours in it is closed to others.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        tightened => tightened.map_err(unavailable)?,
    }
    Ok(ours)
}

/// The names of the mycelia within the data folder. What is left of one whose deletion was interrupted is removed.
///
/// # Errors
/// [`Error::Unavailable`] if the folder cannot be read.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let unavailable =
        |source| unavailable(format!("the data folder {} cannot be read", dir.display()), source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unavailable)? {
        let entry = entry.map_err(unavailable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with(DELETED) {
            std::fs::remove_dir_all(entry.path()).map_err(unavailable)?;
        } else if is_name(&name) && (is_store_folder(&entry.path()) || holds_store(&entry.path())) {
            // One that cannot be opened says why when it is asked for.
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes sure that the folder of a mycelium does not belong to one that is kept in a database.
///
/// # Errors
/// [`Error::Unfit`] if it does.
pub(crate) fn check_not_of_database(dir: &Path, name: &str) -> Result<(), Error> {
    let folder = dir.join(name);
    if !database::is_of_database(&folder) {
        return Ok(());
    }
    Err(Error::Unfit {
        what: format!(
            "the folder {} belongs to a mycelium that is kept in a database; give the URL of the database server with \
             --store, or another folder with --data-dir",
            folder.display()
        ),
    })
}

/// A mycelium with something stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// The mycelia of which something is stored in the data folder `dir`, in the order of their names, and `default` last:
/// copies are made in this order. Or, if it is the folder of one mycelium itself, that one, as `default`. Nothing is
/// changed.
///
/// # Errors
/// [`Error::Foreign`] if there are none; [`Error::Unavailable`] if the folder cannot be read.
pub fn stored_in(dir: &Path) -> Result<Vec<Stored>, Error> {
    let stored = |name: &str, folder: PathBuf| Stored { name: name.to_owned(), folder };
    if holds_store(dir) {
        return Ok(vec![stored(DEFAULT, dir.to_owned())]);
    }
    let away = |source| unavailable(format!("the data folder {} cannot be read", dir.display()), source);
    let none = |why: &str| Error::Foreign { folder: dir.display().to_string(), why: why.to_owned() };
    let mut found = Vec::new();
    let entries = std::fs::read_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => none("it is not a folder"),
        io::ErrorKind::NotFound => none("it is not there"),
        _ => away(error),
    })?;
    for entry in entries {
        let entry = entry.map_err(away)?;
        if let Ok(name) = entry.file_name().into_string()
            && is_name(&name)
            && holds_store(&entry.path())
        {
            found.push(stored(&name, entry.path()));
        }
    }
    found.sort_by_key(|one| (one.name == DEFAULT, one.name.clone()));
    if found.is_empty() {
        return Err(none("no mycelium is stored in it"));
    }
    Ok(found)
}

/// Removes the folder of a mycelium. It is gone at once, even if the process dies before all of it is.
///
/// # Errors
/// [`Error::Unavailable`] if it cannot be removed.
pub(crate) fn remove(dir: &Path, name: &str) -> Result<(), Error> {
    let unavailable = |source| unavailable(format!("the mycelium `{name}` cannot be removed"), source);
    let deleted = dir.join(format!("{DELETED}{name}"));
    match std::fs::remove_dir_all(&deleted) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(error)),
        _removed_or_not_there => {}
    }
    std::fs::rename(dir.join(name), &deleted).map_err(unavailable)?;
    sync(dir).map_err(unavailable)?;
    std::fs::remove_dir_all(&deleted).map_err(unavailable)
}

fn sync(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

fn unavailable(what: String, source: io::Error) -> Error {
    Error::Unavailable { what, certainly_not_applied: true, source: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_listed_by_name_and_default_last() {
        let temp = tempfile::tempdir().unwrap();
        let refused = |dir: &Path| stored_in(dir).unwrap_err().to_string();
        assert!(refused(temp.path()).ends_with("no mycelium is stored in it"), "{}", refused(temp.path()));
        assert!(refused(&temp.path().join("nowhere")).ends_with("it is not there"));
        for (name, files) in [
            ("south", ["mycelium.unfinished"].as_slice()),
            ("default", &["mycelium.format"]),
            ("north", &["mycelium.format"]),
            ("lost-its-format", &["mycelium.mark"]),
            ("begun", &["mycelium.mark", "mycelium.creating"]),
            ("empty", &[]),
            (".deleted-west", &["mycelium.format"]),
            ("Not a name", &["mycelium.format"]),
        ] {
            std::fs::create_dir(temp.path().join(name)).unwrap();
            for file in files {
                std::fs::write(temp.path().join(name).join(file), "").unwrap();
            }
        }
        let found: Vec<_> = stored_in(temp.path()).unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(found, ["lost-its-format", "north", "south", "default"]);
        assert!(temp.path().join(".deleted-west").is_dir(), "nothing is removed");
        let folder = temp.path().join("north");
        assert_eq!(stored_in(&folder).unwrap(), [Stored { name: DEFAULT.to_owned(), folder }]);

        let mut served = names(temp.path()).unwrap();
        served.sort();
        assert_eq!(served, ["begun", "default", "empty", "lost-its-format", "north", "south"]);
    }

    #[test]
    fn a_new_or_empty_folder_or_one_of_ours_is_taken_and_others_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let new = temp.path().join("a/b");
        assert_eq!(mycelium_dir(&new, "default").unwrap(), new.join("default"));
        assert_eq!(mycelium_dir(&new, "default").unwrap(), new.join("default"));

        let foreign = temp.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
        assert!(matches!(mycelium_dir(&foreign, "default"), Err(Error::Foreign { .. })));
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing was made in it");

        let file = foreign.join("letter.txt");
        assert!(matches!(mycelium_dir(&file, "default"), Err(Error::Foreign { .. })));
        let below = mycelium_dir(&file.join("a/b"), "default").unwrap_err().to_string();
        assert!(below.contains(&format!("{} is not a folder", file.display())), "{below}");
    }
}
