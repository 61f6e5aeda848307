//! What can go wrong in a store.

use mycelium_core::ids::Commit;

use crate::documents::Undecodable;

/// Why a store has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another broker uses it.
    #[error("{what} is in use by another broker")]
    InUse {
        /// The folder, or the database.
        what: String,
    },
    /// The folder holds something else than a store of ours, or one of a version that this program cannot read.
    #[error("{folder} is not a data folder of this version of mycelium: {why}")]
    Foreign {
        /// The folder.
        folder: String,
        /// What speaks against it.
        why: String,
    },
    /// The store, or the folder that goes with it, cannot be used as it is.
    #[error("{what}")]
    Unfit {
        /// What stands in the way, and what to do about it.
        what: String,
    },
    /// A copy was to be written into a folder that is there already.
    #[error("{folder} is there already; a copy is written into a new folder")]
    Exists {
        /// The folder.
        folder: String,
    },
    /// What is stored cannot be right.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is wrong, and where.
        what: String,
    },
    /// The store cannot be read or written now: it is full, read-only or unavailable.
    #[error("the store is not available: {what}")]
    Unavailable {
        /// What failed.
        what: String,
        /// Whether a batch that was being stored has certainly not been stored.
        certainly_not_applied: bool,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Another broker has taken this store over, and nothing that this one writes is stored any more.
    #[error("another broker has taken the store over: {what}")]
    Fenced {
        /// How that shows.
        what: String,
    },
    /// The batch is not one that can be stored after the last.
    #[error("commit {given} does not follow commit {last}: another broker has written to this store")]
    OutOfOrder {
        /// The last commit.
        last: Commit,
        /// The one that was given.
        given: Commit,
    },
    /// The batch cannot be stored by this store, now or later: it breaks a limit that the caller should have kept.
    #[error("the batch cannot be stored: {what}")]
    Refused {
        /// What is wrong with it.
        what: String,
    },
}

impl From<Undecodable> for Error {
    fn from(document: Undecodable) -> Self {
        Self::Damaged { what: document.to_string() }
    }
}

/// What is wrong with a record or a file that is damaged: the text of an [`Error::Damaged`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) String);

/// What a store needs to take changes, and does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Space: the disk is full, or a quota is used up.
    Space,
    /// A file system, or a server, that takes changes: it is read-only.
    Writing,
}

/// What causes an error of a store that can be read, and takes no changes for now.
#[derive(Debug, thiserror::Error)]
#[error("what is stored can be read, and not changed")]
pub(crate) struct TakesNoChanges;

/// Whether an error comes of a disk that is full, or of a store that is read-only, which is told by what it was caused by.
pub(crate) fn lack_in(error: &(dyn std::error::Error + 'static)) -> Option<Lack> {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<TakesNoChanges>() {
            return Some(Lack::Writing);
        }
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(StorageFull | QuotaExceeded) => return Some(Lack::Space),
            Some(ReadOnlyFilesystem) => return Some(Lack::Writing),
            Some(_) | None => next = error.source(),
        }
    }
    None
}

impl Error {
    /// What is missing, if the store cannot be written for want of space, or because it is read-only. What is stored can
    /// be read all the same.
    pub fn lack(&self) -> Option<Lack> {
        lack_in(self)
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::InUse { .. }
            | Self::Foreign { .. }
            | Self::Unfit { .. }
            | Self::Exists { .. }
            | Self::Damaged { .. }
            | Self::Fenced { .. }
            | Self::OutOfOrder { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Whether something that is stored is damaged, while the rest may well be read.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether a batch that was being stored has certainly not been stored, not even in part.
    pub fn is_certainly_not_applied(&self) -> bool {
        match self {
            Self::Unavailable { certainly_not_applied, .. } => *certainly_not_applied,
            Self::InUse { .. }
            | Self::Foreign { .. }
            | Self::Unfit { .. }
            | Self::Exists { .. }
            | Self::Fenced { .. }
            | Self::OutOfOrder { .. }
            | Self::Refused { .. } => true,
            Self::Damaged { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn unavailable(kind: io::ErrorKind) -> Error {
        let source = fjall::Error::Storage(fjall::LsmError::Io(io::Error::from(kind)));
        Error::Unavailable {
            what: "a test".to_owned(),
            certainly_not_applied: true,
            source: Some(Box::new(source)),
        }
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_is_told_apart_from_one_that_cannot_be_reached() {
        assert_eq!(unavailable(io::ErrorKind::StorageFull).lack(), Some(Lack::Space));
        assert_eq!(unavailable(io::ErrorKind::QuotaExceeded).lack(), Some(Lack::Space));
        assert_eq!(unavailable(io::ErrorKind::ReadOnlyFilesystem).lack(), Some(Lack::Writing));
        assert_eq!(unavailable(io::ErrorKind::PermissionDenied).lack(), None);
        assert_eq!(Error::Damaged { what: "a test".to_owned() }.lack(), None);
    }
}
