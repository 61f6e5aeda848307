//! The data folder: one folder for each mycelium in it.

use std::io;
use std::path::{Path, PathBuf};

use crate::private;
use crate::store::Error;

/// The folder of the mycelium `name` within the data folder `dir`, which is made if it is not there.
///
/// # Errors
/// [`Error::Foreign`] if `dir` holds something, and nothing of ours; [`Error::Unavailable`] if it cannot be read or
/// made.
pub(crate) fn mycelium_dir(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = dir.display().to_string();
    let away = |source: io::Error| Error::Unavailable {
        what: format!("the data folder {folder} cannot be used"),
        certainly_not_applied: true,
        source: Some(Box::new(source)),
    };
    let ours = dir.join(name);
    match std::fs::read_dir(dir) {
        Ok(mut entries) => {
            let is_empty = entries.next().transpose().map_err(away)?.is_none();
            if !is_empty && !ours.is_dir() {
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
        Err(error) => return Err(away(error)),
    }
    private::create_dir_all(dir).map_err(away)?;
    private::create_dir_all(&ours).map_err(away)?;
    match private::tighten(dir) {
        // It is somebody else's, who gave it to us to use. Ours in it is closed to others.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        tightened => tightened.map_err(away)?,
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

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
