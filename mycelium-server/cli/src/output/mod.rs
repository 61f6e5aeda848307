//! What commands print: tables and sentences for people, JSON for programs. Standard output holds nothing but data;
//! notes and errors go to standard error.

pub(crate) mod format;
mod json;
mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

pub(crate) use self::json::Json;
pub(crate) use self::table::Table;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences, for people.
    #[value(alias = "text")]
    Table,
    /// JSON, for programs.
    Json,
}

/// Why printing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The reader has closed the pipe, as `head` does. Not reported as an error.
    #[error("standard output was closed")]
    Closed,
    /// Standard output failed.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
    /// A result cannot be written as JSON.
    #[error("cannot write the result as JSON")]
    Json(#[source] serde_json::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => Self::from(io::Error::from(kind)),
            None => Self::Json(error),
        }
    }
}

/// The one way to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints text for people, and hands it on at once. Whatever of it came from others, and was not made fit for a line
    /// of its own before, can neither steer a terminal nor read otherwise than it is.
    pub(crate) fn text(self, text: &str) -> Result<(), Error> {
        write(format::lines(text).as_bytes())
    }

    /// Prints text exactly as it is into a file or a pipe, and as [`text`](Self::text) on a terminal.
    pub(crate) fn verbatim(self, text: &str) -> Result<(), Error> {
        if io::stdout().is_terminal() { self.text(text) } else { write(text.as_bytes()) }
    }

    /// Prints a line.
    pub(crate) fn line(self, line: &str) -> Result<(), Error> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a table, or a sentence if it is empty.
    pub(crate) fn table(self, table: Table, if_empty: &str) -> Result<(), Error> {
        if table.is_empty() { self.line(if_empty) } else { self.text(&table.text()) }
    }

    /// Prints a value as JSON over several lines.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Error> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        json::write_pretty(&mut stdout, value)?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// Prints a value as one line of JSON, and hands it on at once.
    pub(crate) fn json_line(self, value: &impl Serialize) -> Result<(), Error> {
        let mut line = Vec::new();
        json::write_line(&mut line, value)?;
        line.push(b'\n');
        write(&line)
    }
}

fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Prints a note beside the data, on standard error.
pub(crate) fn note(text: &str) {
    // If standard error is closed there is nowhere left to report it.
    let _gone = writeln!(io::stderr().lock(), "{}", format::lines(text));
}
