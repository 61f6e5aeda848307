//! Writes what a store holds into a folder.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::file;
use super::folder::{FileEntry, Folder, Manifest, Origin, Progress, file_name};
use super::sections::{self, Section, Visitor};
use super::source::{Out, Sink, Source};
use super::text::Hex;
use super::{Error, Moved, marker, verify};
use crate::private;
use crate::store::Storage;

/// What is written before it is noted how far the export has come, in bytes, blobs included.
pub(super) const NOTE_BYTES: u64 = 64 * 1024 * 1024;

/// Writes all that a store holds into the folder `path`, which is new, or in which the same was cut off. Nobody else may
/// write to the store meanwhile. Blocks.
///
/// # Errors
/// Any but those of imports. After most the same call goes on where it was.
pub fn export(store: &dyn Storage, mycelium: &str, path: &Path) -> Result<Moved, Error> {
    export_noting(store, mycelium, path, NOTE_BYTES)
}

pub(super) fn export_noting(
    store: &dyn Storage,
    mycelium: &str,
    path: &Path,
    note_bytes: u64,
) -> Result<Moved, Error> {
    let mut source = Source::open(store)?;
    if marker::is_in(&source.image) {
        return Err(Error::Unfinished);
    }
    let origin = Origin::new(mycelium, store.kind(), source.image.counters);
    let (folder, progress) = Folder::begin(path, &origin)?;
    let blobs = folder.blobs();
    private::create_dir_all(&blobs).map_err(file("make", &blobs))?;
    source.copy_blobs_to = Some(&blobs);
    let is_new = progress.is_none();
    let progress = progress.unwrap_or_else(|| Progress {
        origin,
        files: Vec::new(),
        current: None,
        blob_bytes: 0,
        left_out: Vec::new(),
    });
    if is_new {
        folder.note(&progress)?;
    }
    let mut export = Export { source: &source, folder: &folder, progress, note_bytes, done: 0 };
    sections::visit(&mut export)?;
    let Progress { origin, files, blob_bytes, left_out, .. } = export.progress;
    let manifest = Manifest { origin, files, blob_bytes, left_out };
    verify::files(&folder, &manifest)?;
    folder.finish(&manifest)?;
    // Others need not wait until it is known that nobody has it open.
    store.close().wait()?;
    Ok(Moved::of(manifest, !is_new))
}

struct Export<'a> {
    source: &'a Source<'a>,
    folder: &'a Folder,
    progress: Progress,
    note_bytes: u64,
    /// How many sections were gone through.
    done: usize,
}

impl Visitor for Export<'_> {
    fn visit<S: Section>(&mut self) -> Result<(), Error> {
        self.done += 1;
        if self.done <= self.progress.files.len() {
            return Ok(());
        }
        let path = self.folder.lines_of(S::NAME);
        let (mut place, mut written) = match self.progress.current.take() {
            None => (S::Place::default(), Written::create(&path)?),
            Some((entry, place)) => {
                let place = serde_json::from_value(place).map_err(|error| Error::Damaged {
                    file: path.clone(),
                    line: None,
                    what: format!("where it goes on cannot be read: {error}"),
                })?;
                (place, Written::go_on(&path, &entry)?)
            }
        };
        (written.blob_bytes, written.left_out) = (self.progress.blob_bytes, self.progress.left_out.clone());
        let mut section = S::default();
        while section.read(self.source, &mut place, &mut Out::to(&mut written))? {
            if written.since_noted >= self.note_bytes {
                let entry = written.sync(S::NAME)?;
                let at = serde_json::to_value(&place);
                let at = at.map_err(|error| file("write", &path)(error.into()))?;
                self.note(&written, Some((entry, at)))?;
                written.since_noted = 0;
            }
        }
        let entry = written.sync(S::NAME)?;
        self.progress.files.push(entry);
        self.note(&written, None)
    }
}

impl Export<'_> {
    fn note(
        &mut self,
        written: &Written,
        current: Option<(FileEntry, serde_json::Value)>,
    ) -> Result<(), Error> {
        self.progress.current = current;
        self.progress.blob_bytes = written.blob_bytes;
        self.progress.left_out.clone_from(&written.left_out);
        self.folder.note(&self.progress)
    }
}

/// A file of lines that is written.
struct Written {
    path: PathBuf,
    file: BufWriter<File>,
    lines: u64,
    bytes: u64,
    hasher: Sha256,
    since_noted: u64,
    blob_bytes: u64,
    left_out: Vec<String>,
}

impl Written {
    fn create(path: &Path) -> Result<Self, Error> {
        let created = private::create_file(path).map_err(file("make", path))?;
        Ok(Self::new(path, created))
    }

    fn new(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(256 * 1024, file),
            lines: 0,
            bytes: 0,
            hasher: Sha256::new(),
            since_noted: 0,
            blob_bytes: 0,
            left_out: Vec::new(),
        }
    }

    /// Goes on where the file is durable. What comes after that is written anew.
    fn go_on(path: &Path, entry: &FileEntry) -> Result<Self, Error> {
        let opened = OpenOptions::new().read(true).write(true).open(path).map_err(file("read", path))?;
        let mut hasher = Sha256::new();
        let (mut left, mut buffer) = (entry.bytes, vec![0; 256 * 1024]);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            (&opened).read_exact(&mut buffer[..part]).map_err(file("read", path))?;
            hasher.update(&buffer[..part]);
            left -= part as u64;
        }
        if Hex(hasher.clone().finalize().into()) != entry.sha256 {
            let what = "it is not what was written; remove the folder and export anew".to_owned();
            return Err(Error::Damaged { file: path.to_owned(), line: None, what });
        }
        let cut = opened.set_len(entry.bytes).and_then(|()| (&opened).seek(SeekFrom::Start(entry.bytes)));
        cut.map_err(file("write", path))?;
        Ok(Self { lines: entry.lines, bytes: entry.bytes, hasher, ..Self::new(path, opened) })
    }

    /// Makes what was written durable.
    fn sync(&mut self, section: &str) -> Result<FileEntry, Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(file("write", &self.path))?;
        Ok(FileEntry {
            name: file_name(section),
            lines: self.lines,
            bytes: self.bytes,
            sha256: Hex(self.hasher.clone().finalize().into()),
        })
    }
}

impl Sink for Written {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        self.file.write_all(line).map_err(file("write", &self.path))?;
        self.hasher.update(line);
        self.lines += 1;
        self.bytes += line.len() as u64;
        self.since_noted += line.len() as u64;
        Ok(())
    }

    fn copied(&mut self, bytes: u64) {
        self.blob_bytes += bytes;
        self.since_noted += bytes;
    }

    fn left_out(&mut self, what: String) {
        self.left_out.push(what);
    }
}
