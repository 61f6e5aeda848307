//! What can go wrong while a mycelium is moved.

use std::io;
use std::path::{Path, PathBuf};

use mycelium_core::ids::Commit;

use crate::store;

/// Why a mycelium was not exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store that is read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file or folder of the export cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried, such as `read`.
        what: &'static str,
        /// What it was tried with.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of an export is not as it was written, or is missing.
    #[error("{file}{}: {what}", line.map(|line| format!(", line {line}")).unwrap_or_default(), file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The line, from 1; `None` if it is the file as a whole.
        line: Option<u64>,
        /// What is wrong.
        what: String,
    },
    /// An export was to be written into a folder that holds other things.
    #[error("{} is there already, and is no export that was cut off: an export is written into a new folder", .0.display())]
    Exists(PathBuf),
    /// An export was to be written into a folder in which another was cut off.
    #[error("{folder} holds what was cut off of another export ({why}); remove it, or name a new folder", folder = folder.display())]
    OtherExport {
        /// The folder.
        folder: PathBuf,
        /// How they differ.
        why: String,
    },
    /// An export was to be read from a folder that holds none.
    #[error("{folder} is not an export that this version of mycelium reads: {why}", folder = folder.display())]
    NotAnExport {
        /// The folder.
        folder: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// The mycelium to import into holds something.
    #[error("the mycelium is not empty (its newest commit is {0}): an import makes a new one")]
    NotEmpty(Commit),
    /// The mycelium to import into was begun to be made of another export.
    #[error(
        "another export was begun to be imported here and was cut off: go on with that one, or remove the mycelium and \
         begin anew"
    )]
    OtherImport,
    /// The mycelium to export was begun to be made by an import, which was cut off.
    #[error(
        "the import into this mycelium was not finished; run `mycelium import` again, which goes on where it was"
    )]
    Unfinished,
    /// There are blobs, and no place for them.
    #[error("a store of this kind has no place for large values")]
    NoBlobs,
}

impl Error {
    /// Whether what was asked for cannot be right: nothing is damaged, and trying again does not help.
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::Exists(_)
            | Self::OtherExport { .. }
            | Self::NotAnExport { .. }
            | Self::NotEmpty(_)
            | Self::OtherImport
            | Self::Unfinished
            | Self::NoBlobs
            | Self::Store(
                store::Error::InUse { .. } | store::Error::Foreign { .. } | store::Error::Exists { .. },
            ) => true,
            Self::Store(_) | Self::File { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// Makes errors of files that say what was tried with which.
pub(super) fn file(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path: path.clone(), source }
}
