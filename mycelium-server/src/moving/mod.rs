//! Moves a mycelium: writes all that its store holds into a folder of JSON lines with the blobs beside, and such a folder
//! into an empty store, of whatever kind.
//!
//! An export is the same, byte for byte, whatever kind of store it was made from. So what was imported is verified by
//! reading it as for an export, and comparing that with the files. Both go on where they were when they were cut off: an
//! export notes beside its files how far they are durable, and an import counts the commits of the store, since equal
//! files make equal batches. A mycelium whose import was cut off is served by no broker (`marker`).
//!
//! It works on stores that no broker has open, through the contract of all stores alone.

mod blob_files;
mod error;
mod export;
mod folder;
mod import;
mod line;
pub(crate) mod marker;
mod places;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod verify;

pub use self::error::Error;
pub use self::export::export;
pub use self::import::Export;
pub use self::places::{open_database_to_fill, open_stored, open_stored_database, open_to_fill};

use self::folder::Manifest;

/// How large the batches of an import are: a batch ends with the line that reaches either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    lines: u64,
    /// In bytes of lines.
    bytes: u64,
}

impl Bounds {
    /// A store that is far away takes such a batch in one request.
    const DEFAULT: Self = Self { lines: 1_000, bytes: 4 * 1024 * 1024 };
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The name that the mycelium had where it was exported.
    pub mycelium: String,
    /// How many lines each file has, by its name: a record each, but for `failures.jsonl`, in which occurrences stand too.
    pub lines: Vec<(String, u64)>,
    /// All blobs together, in bytes.
    pub blob_bytes: u64,
    /// Blobs that were damaged when the export was made, and are not in it.
    pub left_out: Vec<String>,
    /// Whether it went on where it had been cut off.
    pub went_on: bool,
}

impl Moved {
    fn of(manifest: Manifest, went_on: bool) -> Self {
        Self {
            mycelium: manifest.origin.mycelium,
            lines: manifest.files.into_iter().map(|file| (file.name, file.lines)).collect(),
            blob_bytes: manifest.blob_bytes,
            left_out: manifest.left_out,
            went_on,
        }
    }
}
