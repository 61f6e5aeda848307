//! What the owner of a core shows of itself to others.

use mycelium_core::ids::Commit;

use super::message::CallError;
use crate::defect::Defect;
use crate::store::{self, Lack};

/// How far it is, and how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The newest commit.
    pub(crate) commit: Commit,
    /// Whether the store takes changes: if not, requests are refused.
    pub(crate) store: StoreState,
    /// The defect for which the core had to start again, until the next commit, or which ended it.
    pub(crate) defect: Option<Defect>,
}

impl Progress {
    /// All is well.
    pub(crate) fn of(commit: Commit) -> Self {
        Self { commit, store: StoreState::Writable, defect: None }
    }
}

/// Whether the store takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreState {
    Writable,
    /// It failed, and is waited for.
    Unavailable,
    /// There is no space. What is stored can be read.
    Full,
    /// What is stored can be read, and not changed.
    ReadOnly,
}

impl StoreState {
    pub(super) fn after(error: &store::Error) -> Self {
        match error.lack() {
            Some(Lack::Space) => Self::Full,
            Some(Lack::Writing) => Self::ReadOnly,
            None => Self::Unavailable,
        }
    }

    /// What it is called where machines read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
        }
    }

    /// Why a change is refused; `None` if it is not.
    pub(crate) fn refusal(self) -> Option<CallError> {
        match self {
            Self::Writable => None,
            Self::Unavailable => Some(CallError::StoreUnavailable),
            Self::Full => Some(CallError::StoreFull),
            Self::ReadOnly => Some(CallError::StoreReadOnly),
        }
    }

    /// Whether the core can be asked.
    pub(crate) fn is_readable(self) -> bool {
        self != Self::Unavailable
    }
}
