//! Whether the files of an export are what was written, and whether a store holds what they say.

use std::fs;

use super::error::file;
use super::folder::{FileEntry, Folder, Lines, Manifest, file_name};
use super::sections::{self, Blobs, Section, Visitor};
use super::source::{Out, Sink, Source};
use super::{Error, blob_files};

/// Makes sure that each file is what the manifest says, line by line, and that all blobs are there. Their bytes are
/// held against their names when they are copied.
pub(super) fn files(folder: &Folder, manifest: &Manifest) -> Result<(), Error> {
    sections::visit(&mut Files { folder, entries: manifest.files.iter() })
}

struct Files<'a> {
    folder: &'a Folder,
    entries: std::slice::Iter<'a, FileEntry>,
}

impl Visitor for Files<'_> {
    fn visit<S: Section>(&mut self) -> Result<(), Error> {
        let path = self.folder.lines_of(S::NAME);
        let next = self.entries.as_slice().first();
        if S::IS_NEW && next.is_none_or(|entry| entry.name != file_name(S::NAME)) {
            return Ok(());
        }
        let Some(entry) = self.entries.next().filter(|entry| entry.name == file_name(S::NAME)) else {
            let what = "the manifest does not name it where it should".to_owned();
            return Err(Error::Damaged { file: path, line: None, what });
        };
        let mut lines = Lines::open(&path)?;
        let blobs = self.folder.blobs();
        while let Some(line) = lines.next()? {
            if S::IS_STORED {
                continue;
            }
            let (digest, size) = match Blobs::read_line(line) {
                Ok(blob) => blob,
                Err(error) => return Err(lines.damaged(error.to_string())),
            };
            let path = blob_files::path_of(&blobs, digest);
            let found = fs::metadata(&path).map_err(file("read", &path))?.len();
            if found != size {
                let what = format!("it has {found} bytes, and had {size} when it was written");
                return Err(Error::Damaged { file: path, line: None, what });
            }
        }
        lines.finish(entry)
    }
}

/// Makes sure that a store holds what the files say, and nothing else: what is read of it is written as it was before.
pub(super) fn store(folder: &Folder, source: &Source<'_>) -> Result<(), Error> {
    sections::visit(&mut Stored { folder, source })
}

struct Stored<'a> {
    folder: &'a Folder,
    source: &'a Source<'a>,
}

impl Visitor for Stored<'_> {
    fn visit<S: Section>(&mut self) -> Result<(), Error> {
        let path = self.folder.lines_of(S::NAME);
        if S::IS_NEW && !path.exists() {
            return Ok(());
        }
        let mut expected = Expected { lines: Lines::open(&path)? };
        if S::IS_STORED {
            let (mut section, mut place) = (S::default(), S::Place::default());
            while section.read(self.source, &mut place, &mut Out::to(&mut expected))? {}
        } else {
            expected.blobs(self.source)?;
        }
        match expected.lines.next()? {
            Some(_) => Err(expected.lines.damaged("what it says is not stored".to_owned())),
            None => Ok(()),
        }
    }
}

/// The lines that are to come.
struct Expected {
    lines: Lines,
}

impl Expected {
    /// Reads all blobs: there may be others beside them, which a broker removes.
    fn blobs(&mut self, source: &Source<'_>) -> Result<(), Error> {
        while let Some(line) = self.lines.next()? {
            let blob = Blobs::read_line(line);
            let (digest, size) = blob.map_err(|error| self.lines.damaged(error.to_string()))?;
            let folder = source.blobs.as_deref().ok_or(Error::NoBlobs)?;
            if blob_files::check(&blob_files::path_of(folder, digest), digest)? != Some(size) {
                return Err(self.lines.damaged("the blob that is stored is another".to_owned()));
            }
        }
        Ok(())
    }
}

impl Sink for Expected {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let found = line.strip_suffix(b"\n").unwrap_or(line);
        match self.lines.next()? {
            Some(expected) if expected == found => Ok(()),
            Some(_) => Err(self.lines.damaged("what is stored of it is something else".to_owned())),
            None => Err(self.lines.damaged("more is stored than stands up to here".to_owned())),
        }
    }

    fn copied(&mut self, _: u64) {}

    fn left_out(&mut self, _: String) {}
}
