//! What elves write down of what they do, in a file that outlives them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use elf_runtime::{JobId, TaskContext};

/// What a task has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It has begun.
    Started,
    /// It is about to return.
    Ended,
    /// It has noticed that it was cancelled.
    Cancelled,
}

/// One line of a diary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub event: Event,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The process.
    pub process: u32,
}

/// A file that elves append to and tests read. Each line is one write to the end of the file, so that it is there,
/// whole, when the process that wrote it is killed.
#[derive(Debug)]
pub struct Diary {
    file: File,
}

impl Diary {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("cannot open the diary {}", path.display()))? })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, event: Event, context: &TaskContext) -> std::io::Result<()> {
        let event = match event {
            Event::Started => "started",
            Event::Ended => "ended",
            Event::Cancelled => "cancelled",
        };
        let line = format!("{event} {} {} {}\n", context.job_id(), context.attempt(), std::process::id());
        (&self.file).write_all(line.as_bytes())
    }

    /// Reads all lines of some diaries. Those not written yet are empty.
    ///
    /// # Errors
    /// If a file cannot be read, or says something else.
    pub fn read(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            };
            for line in text.lines() {
                entries.push(entry(line).with_context(|| format!("a diary says `{line}`"))?);
            }
        }
        Ok(entries)
    }

    /// The attempts of each job that have had this event, in the order of the files.
    pub fn attempts(entries: &[Entry], event: Event) -> BTreeMap<JobId, Vec<u32>> {
        let mut attempts: BTreeMap<JobId, Vec<u32>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.event == event) {
            attempts.entry(entry.job).or_default().push(entry.attempt);
        }
        attempts
    }
}

fn entry(line: &str) -> anyhow::Result<Entry> {
    let words: Vec<&str> = line.split(' ').collect();
    let [event, job, attempt, process] = words.as_slice() else { bail!("it does not have four words") };
    let event = match *event {
        "started" => Event::Started,
        "ended" => Event::Ended,
        "cancelled" => Event::Cancelled,
        other => bail!("`{other}` is no event"),
    };
    Ok(Entry { event, job: job.parse()?, attempt: attempt.parse()?, process: process.parse()? })
}
