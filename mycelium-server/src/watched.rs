//! Files that are read again when they change.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The largest that such a file may be, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why files are not taken. What was read before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("; "))]
pub struct FileProblem {
    /// What is wrong, each a sentence that names its file.
    pub problems: Vec<String>,
}

impl FileProblem {
    pub(crate) fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

/// Reads a file whole.
///
/// # Errors
/// If it cannot be read, or is larger than 1 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(read) if read as u64 <= FILE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(FileProblem::one(format!("`{shown}` is larger than 1 MiB"))),
        Err(error) => Err(FileProblem::one(format!("`{shown}` cannot be read: {error}"))),
    }
}

/// Tells whether any of some files has changed, by what is in them: times of files are too coarse, and are not kept by all
/// who write them.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<PathBuf>,
    seen: Option<[u8; 32]>,
    /// What was last told to be wrong with them.
    told: Option<String>,
}

impl Watched {
    /// Nothing of them has been seen yet.
    pub(crate) fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), seen: None, told: None }
    }

    /// Whether they are as they were when this was last asked.
    pub(crate) fn has_changed(&mut self) -> bool {
        let mut digest = Sha256::new();
        for file in &self.files {
            match read(file) {
                Ok(bytes) => {
                    digest.update((bytes.len() as u64).to_be_bytes());
                    digest.update(bytes);
                }
                Err(problem) => digest.update(problem.to_string()),
            }
        }
        let now: [u8; 32] = digest.finalize().into();
        self.seen.replace(now) != Some(now)
    }

    /// What they are now holds from now on.
    pub(crate) fn taken(&mut self) {
        self.told = None;
    }

    /// What they are now cannot be used. Time may mend that, as where a certificate is not valid yet, so that they are looked
    /// at again. Says whether that is news.
    pub(crate) fn refused(&mut self, problem: &FileProblem) -> bool {
        self.seen = None;
        let told = Some(problem.to_string());
        let is_news = self.told != told;
        self.told = told;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_by_their_content_and_by_going() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        std::fs::write(&one, "a").unwrap();
        let mut watched = Watched::new([one.clone(), two.clone()]);
        assert!(watched.has_changed(), "nothing was seen before");
        assert!(!watched.has_changed());
        std::fs::write(&one, "a").unwrap();
        assert!(!watched.has_changed(), "written again as it was");
        std::fs::write(&two, "").unwrap();
        assert!(watched.has_changed(), "one came");
        std::fs::write(&one, "b").unwrap();
        assert!(watched.has_changed());
        std::fs::remove_file(&one).unwrap();
        assert!(watched.has_changed(), "one went");
        assert!(!watched.has_changed());
    }

    #[test]
    fn files_that_cannot_be_used_are_looked_at_again_and_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "a").unwrap();
        let mut watched = Watched::new([file]);
        let [early, other] = ["not valid yet", "no PEM"].map(FileProblem::one);
        let looks = [&early, &early, &other].map(|problem| (watched.has_changed(), watched.refused(problem)));
        assert_eq!(looks, [(true, true), (true, false), (true, true)]);
        assert!(watched.has_changed());
        watched.taken();
        assert!(!watched.has_changed(), "they are taken as they are");
        assert!(watched.refused(&other), "it is wrong again");
    }

    #[test]
    fn files_are_read_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("large");
        let bytes = FILE_BYTES_MAX as usize;
        std::fs::write(&file, vec![7; bytes]).unwrap();
        assert_eq!(read(&file).unwrap().len(), bytes);
        std::fs::write(&file, vec![7; bytes + 1]).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("larger than 1 MiB"));
        let missing = read(&dir.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing` cannot be read"), "{missing}");
    }
}
