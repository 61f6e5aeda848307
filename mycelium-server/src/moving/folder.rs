//! The folder of an export.
//!
//! ```text
//! manifest.json     what it is an export of, and each file with its lines, bytes and digest; written last
//! manifest.sha256   the digest of that, as `sha256sum --check` reads it
//! *.jsonl           the lines of a section each
//! blobs/            large values, each in a file that its SHA-256 names
//! unfinished.json   while it is being written: how far that has come
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use mycelium_core::ids::{Commit, FinishNumber, FlowNumber, JobNumber, SessionId};
use mycelium_core::image::Counters;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::file;
use super::text::{Hex, hex};
use super::{Error, blob_files, line};
use crate::private;

/// What an export says that it is.
const FORMAT: &str = "mycelium export";
/// The version of everything in an export.
const VERSION: u32 = 1;

const MANIFEST: &str = "manifest.json";
const MANIFEST_DIGEST: &str = "manifest.sha256";
const UNFINISHED: &str = "unfinished.json";
const BLOBS: &str = "blobs";

/// The longest line that is read, in bytes. The longest that is written has a specification of 8 MiB, in base64.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file of lines, as far as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) name: String,
    pub(super) lines: u64,
    pub(super) bytes: u64,
    pub(super) sha256: Hex<32>,
}

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    format: String,
    pub(super) version: u32,
    /// The name it had.
    pub(super) mycelium: String,
    /// The kind of store that it was in.
    pub(super) store: String,
    /// The newest numbers that were given out.
    numbers: Numbers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    commit: u64,
    job: u64,
    flow: u64,
    finish: u64,
    session: u64,
}

impl Origin {
    pub(super) fn new(mycelium: &str, store: &str, counters: Counters) -> Self {
        let Counters { commit, job, flow, finish, session } = counters;
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            mycelium: mycelium.to_owned(),
            store: store.to_owned(),
            numbers: Numbers {
                commit: commit.0,
                job: job.0,
                flow: flow.0,
                finish: finish.0,
                session: session.0,
            },
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let Numbers { commit, job, flow, finish, session } = self.numbers;
        Counters {
            commit: Commit(commit),
            job: JobNumber(job),
            flow: FlowNumber(flow),
            finish: FinishNumber(finish),
            session: SessionId(session),
        }
    }

    /// How another differs from it, in words; `None` if it does not.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.mycelium != other.mycelium {
            Some(format!("that was of the mycelium `{}`", other.mycelium))
        } else if self.store != other.store {
            Some(format!("that was of a store of the kind {}", other.store))
        } else if self.numbers != other.numbers {
            Some(format!(
                "its newest commit was {}, and is {} now",
                other.numbers.commit, self.numbers.commit
            ))
        } else {
            (self != other).then(|| format!("it has version {}", other.version))
        }
    }
}

/// What is in an export that is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(flatten)]
    pub(super) origin: Origin,
    pub(super) files: Vec<FileEntry>,
    /// All blobs together, in bytes.
    pub(super) blob_bytes: u64,
    /// What was damaged, and is not in it.
    pub(super) left_out: Vec<String>,
}

/// How far the writing of an export has come, durably.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    #[serde(flatten)]
    pub(super) origin: Origin,
    /// Files that are whole.
    pub(super) files: Vec<FileEntry>,
    /// The one that is being written, up to where it is durable, and where its section goes on.
    pub(super) current: Option<(FileEntry, serde_json::Value)>,
    pub(super) blob_bytes: u64,
    pub(super) left_out: Vec<String>,
}

/// The folder of an export.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Takes the folder for an export of `origin`: makes it if it is not there, or finds how far one has come that was
    /// cut off.
    pub(super) fn begin(path: &Path, origin: &Origin) -> Result<(Self, Option<Progress>), Error> {
        let folder = Self::at(path);
        private::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
            _ => file("make", path)(error),
        })?;
        if folder.file(MANIFEST).exists() {
            return Err(Error::Exists(path.to_owned()));
        }
        let unfinished = folder.file(UNFINISHED);
        if unfinished.exists() {
            let progress: Progress = read_json(&unfinished)?;
            return match origin.difference(&progress.origin) {
                Some(why) => Err(Error::OtherExport { folder: path.to_owned(), why }),
                None => Ok((folder, Some(progress))),
            };
        }
        // The process may have died before it had begun.
        let temporary = folder.file(&temporary(UNFINISHED));
        for entry in fs::read_dir(path).map_err(file("read", path))? {
            if entry.map_err(file("read", path))?.path() != temporary {
                return Err(Error::Exists(path.to_owned()));
            }
        }
        // Somebody may have made it, for all to read.
        private::tighten(path).map_err(file("close to others", path))?;
        Ok((folder, None))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file of a section.
    pub(super) fn lines_of(&self, section: &str) -> PathBuf {
        self.file(&file_name(section))
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.file(BLOBS)
    }

    /// Notes, durably, how far the export has come.
    pub(super) fn note(&self, progress: &Progress) -> Result<(), Error> {
        self.write(UNFINISHED, &self.json(UNFINISHED, progress)?)
    }

    /// Makes the export valid, all of which is durable.
    pub(super) fn finish(&self, manifest: &Manifest) -> Result<(), Error> {
        blob_files::remove_staging(&self.blobs())?;
        let text = self.json(MANIFEST, manifest)?;
        let digest = hex(&Sha256::digest(&text));
        self.write(MANIFEST_DIGEST, format!("{digest}  {MANIFEST}\n").as_bytes())?;
        self.write(MANIFEST, &text)?;
        let unfinished = self.file(UNFINISHED);
        fs::remove_file(&unfinished).map_err(file("remove", &unfinished))?;
        blob_files::sync(&self.path)
    }

    /// What the export says is in it, and the digest of that, which names the export.
    pub(super) fn manifest(&self) -> Result<(Manifest, [u8; 32]), Error> {
        let not_one = |why: &str| Error::NotAnExport { folder: self.path.clone(), why: why.to_owned() };
        let path = self.file(MANIFEST);
        if !path.exists() {
            return Err(not_one(match self.file(UNFINISHED).exists() {
                true => "it was not finished; run `mycelium export` again, which goes on where it was",
                false => "it holds no manifest.json",
            }));
        }
        let text = read_small(&path)?;
        let digest_path = self.file(MANIFEST_DIGEST);
        let digest: [u8; 32] = Sha256::digest(&text).into();
        if read_small(&digest_path)? != format!("{}  {MANIFEST}\n", hex(&digest)).as_bytes() {
            let what = format!("it is not what {} says", digest_path.display());
            return Err(Error::Damaged { file: path, line: None, what });
        }
        let about: Origin = parse(&path, &text)?;
        if about.format != FORMAT || about.version != VERSION {
            return Err(not_one(&format!(
                "its format is {} {}, and this program reads {FORMAT} {VERSION}",
                about.format, about.version
            )));
        }
        Ok((parse(&path, &text)?, digest))
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_vec_pretty(value);
        let mut text = text.map_err(|error| file("write", &self.file(name))(error.into()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Writes a file that is there as a whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (path, temporary) = (self.file(name), self.file(&temporary(name)));
        let write = || {
            let mut file = private::create_file(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(file("write", &path))?;
        blob_files::sync(&self.path)
    }
}

/// The name of a section's file.
pub(super) fn file_name(section: &str) -> String {
    format!("{section}.jsonl")
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    parse(path, &read_small(path)?)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Damaged {
        file: path.to_owned(),
        line: None,
        what: format!("it cannot be read: {error}"),
    })
}

fn read_small(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(file("read", path))?;
    Ok(bytes)
}

/// A file of lines that is read, each of which is checked.
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    /// The number of the line that was read last.
    pub(super) number: u64,
    bytes: u64,
    hasher: Sha256,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let opened = File::open(path).map_err(file("read", path))?;
        let file = BufReader::with_capacity(256 * 1024, opened);
        Ok(Self { path: path.to_owned(), file, line: Vec::new(), number: 0, bytes: 0, hasher: Sha256::new() })
    }

    /// The next line, without its break.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        if read.map_err(file("read", &self.path))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += self.line.len() as u64;
        self.hasher.update(&self.line);
        if self.line.pop() != Some(b'\n') {
            return Err(self.damaged("it does not end with a line break".to_owned()));
        }
        line::check(&self.line).map_err(|error| self.damaged(error.to_string()))?;
        Ok(Some(&self.line))
    }

    /// What is wrong with the line that was read last.
    pub(super) fn damaged(&self, what: String) -> Error {
        Error::Damaged { file: self.path.clone(), line: Some(self.number), what }
    }

    /// Makes sure that what was read, to its end, is what was written.
    pub(super) fn finish(self, entry: &FileEntry) -> Result<(), Error> {
        let found = FileEntry {
            name: entry.name.clone(),
            lines: self.number,
            bytes: self.bytes,
            sha256: Hex(self.hasher.finalize().into()),
        };
        if found == *entry {
            return Ok(());
        }
        let what = match found.lines == entry.lines {
            true => "its lines are not those that its digest says".to_owned(),
            false => format!("it has {} lines, and had {} when it was written", found.lines, entry.lines),
        };
        Err(Error::Damaged { file: self.path, line: None, what })
    }
}
