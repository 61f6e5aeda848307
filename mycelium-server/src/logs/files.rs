//! Where the lines of attempts are kept: a file each, in a folder for each flow, so that what is deleted gives its room back
//! at once. Nothing is synced: logs are best effort.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mycelium_core::ids::{FlowId, Token};

use super::lines::{self, FILE_BYTES_MAX, Piece};
use crate::private;

/// What logs may take of memory where there is no folder for them, in bytes.
const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) enum Files {
    Folder(PathBuf),
    /// Of a broker that keeps everything in memory.
    Memory(Mutex<Memory>),
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    files: BTreeMap<(FlowId, Token), Vec<u8>>,
    bytes: usize,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    /// In bytes.
    pub(super) bytes: usize,
    /// The number of the next line.
    pub(super) next: u64,
}

impl Files {
    /// Finds out how far the file of an attempt has come, if there is one. What is not whole at its end goes.
    pub(super) fn end(&self, flow: FlowId, token: Token) -> io::Result<End> {
        let file = self.read_file(flow, token)?;
        let (pieces, bytes) = lines::read(&file);
        if bytes < file.len() {
            self.replace(flow, token, &file[..bytes])?;
        }
        Ok(End { bytes, next: pieces.iter().map(Piece::end).max().unwrap_or(0) })
    }

    /// Adds lines to the file of an attempt that has come so far.
    pub(super) fn append(&self, flow: FlowId, token: Token, piece: &Piece, end: End) -> io::Result<End> {
        let mut added = Vec::new();
        lines::write(piece, &mut added);
        match self {
            Self::Folder(folder) => {
                if end.bytes == 0 {
                    private::create_dir_all(&folder.join(flow.to_string()))?;
                }
                let path = path_of(folder, flow, token);
                private::options().append(true).create(true).open(path)?.write_all(&added)?;
            }
            Self::Memory(memory) => locked(memory).put(flow, token, |file| file.extend_from_slice(&added))?,
        }
        let end = End { bytes: end.bytes + added.len(), next: piece.end() };
        if end.bytes <= FILE_BYTES_MAX { Ok(end) } else { self.cut(flow, token, end) }
    }

    /// Lets go of what is in the middle of a file.
    fn cut(&self, flow: FlowId, token: Token, end: End) -> io::Result<End> {
        let mut kept = Vec::new();
        for piece in lines::cut(lines::read(&self.read_file(flow, token)?).0) {
            lines::write(&piece, &mut kept);
        }
        self.replace(flow, token, &kept)?;
        Ok(End { bytes: kept.len(), ..end })
    }

    /// What is kept of an attempt.
    pub(super) fn read(&self, flow: FlowId, token: Token) -> io::Result<Vec<Piece>> {
        Ok(lines::cut(lines::read(&self.read_file(flow, token)?).0))
    }

    /// Removes all lines of a flow.
    pub(super) fn remove(&self, flow: FlowId) -> io::Result<()> {
        match self {
            Self::Folder(folder) => match fs::remove_dir_all(folder.join(flow.to_string())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            Self::Memory(memory) => {
                let mut memory = locked(memory);
                memory.files.retain(|(of, _), _| *of != flow);
                memory.bytes = memory.files.values().map(Vec::len).sum();
                Ok(())
            }
        }
    }

    /// The file of an attempt; empty if there is none.
    fn read_file(&self, flow: FlowId, token: Token) -> io::Result<Vec<u8>> {
        match self {
            Self::Folder(folder) => match fs::read(path_of(folder, flow, token)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                read => read,
            },
            Self::Memory(memory) => Ok(locked(memory).files.get(&(flow, token)).cloned().unwrap_or_default()),
        }
    }

    /// Puts other contents into the place of a file: whoever reads it sees the one or the other.
    fn replace(&self, flow: FlowId, token: Token, contents: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                let path = path_of(folder, flow, token);
                let beside = path.with_extension("new");
                private::create_file(&beside)?.write_all(contents)?;
                fs::rename(beside, path)
            }
            Self::Memory(memory) => locked(memory).put(flow, token, |file| {
                file.clear();
                file.extend_from_slice(contents);
            }),
        }
    }
}

impl Memory {
    fn put(&mut self, flow: FlowId, token: Token, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        if self.bytes > MEMORY_BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.files.entry((flow, token)).or_default();
        let before = file.len();
        write(file);
        self.bytes = self.bytes + file.len() - before;
        Ok(())
    }
}

fn path_of(folder: &Path, flow: FlowId, token: Token) -> PathBuf {
    folder.join(flow.to_string()).join(format!("{}.{}", token.job, token.attempt))
}

fn locked(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::{Attempt, JobId};
    use mycelium_proto::v1::LogLine;

    use super::*;

    fn piece(first: u64, n: u64) -> Piece {
        let line = |number| LogLine { text: format!("{number:>1000}"), ..LogLine::default() };
        Piece { first, lines: (first..first + n).map(line).collect() }
    }

    fn numbers(pieces: &[Piece]) -> Vec<u64> {
        let lines = pieces.iter().flat_map(|piece| &piece.lines);
        lines.map(|line| line.text.trim().parse().unwrap()).collect()
    }

    fn check(files: &Files) {
        let flow = FlowId::new([1; 16]);
        let token = |attempt| Token { job: JobId::new([2; 16]), attempt: Attempt(attempt) };
        let mut end = files.end(flow, token(1)).unwrap();
        assert_eq!(end, End::default());
        for first in (0..2_000).step_by(50) {
            end = files.append(flow, token(1), &piece(first, 50), end).unwrap();
            assert!(end.bytes <= FILE_BYTES_MAX && end.next == first + 50);
        }
        assert_eq!(files.end(flow, token(1)).unwrap(), end, "as it is found after a restart");
        let kept = numbers(&files.read(flow, token(1)).unwrap());
        assert_eq!((kept[0], *kept.last().unwrap()), (0, 1_999));
        assert!((230..=260).contains(&kept.len()) && kept.is_sorted(), "{kept:?}");
        files.append(flow, token(2), &piece(0, 1), End::default()).unwrap();
        let other = FlowId::new([9; 16]);
        files.append(other, token(1), &piece(7, 1), End::default()).unwrap();
        files.remove(flow).unwrap();
        files.remove(flow).unwrap();
        assert_eq!(files.read(flow, token(1)).unwrap(), []);
        assert_eq!(numbers(&files.read(other, token(1)).unwrap()), [7]);
    }

    #[test]
    fn lines_are_kept_in_files_and_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        check(&Files::Folder(folder.path().join("logs")));
        check(&Files::Memory(Mutex::default()));
    }

    #[test]
    fn what_was_cut_off_in_the_middle_is_written_after_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::Folder(folder.path().to_owned());
        let (flow, token) = (FlowId::new([1; 16]), Token { job: JobId::new([2; 16]), attempt: Attempt(1) });
        let end = files.append(flow, token, &piece(0, 3), End::default()).unwrap();
        files.append(flow, token, &piece(3, 1), end).unwrap();
        let path = path_of(folder.path(), flow, token);
        let torn = fs::read(&path).unwrap();
        fs::write(&path, &torn[..torn.len() - 7]).unwrap();
        assert_eq!(files.end(flow, token).unwrap(), end);
        files.append(flow, token, &piece(5, 1), end).unwrap();
        assert_eq!(numbers(&files.read(flow, token).unwrap()), [0, 1, 2, 5]);
    }
}
