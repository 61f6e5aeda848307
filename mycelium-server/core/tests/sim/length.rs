//! How long a run is.

use std::time::Duration;

/// How long things go wrong in a run, and how close to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Twelve seconds, in which things go wrong much closer to each other: for many seeds at every change.
    Short,
    /// Four minutes, in which things may last longer than every lease and timeout.
    Long,
}

impl Length {
    /// The first thousand seeds are short, and of the others all but every tenth.
    pub(crate) fn of(seed: u64) -> Self {
        if seed >= 1_000 && seed.is_multiple_of(10) { Self::Long } else { Self::Short }
    }

    pub(crate) fn faults(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(12),
            Self::Long => Duration::from_secs(240),
        }
    }

    /// How many jobs there are at once, about.
    pub(crate) fn jobs(self) -> usize {
        match self {
            Self::Short => 20,
            Self::Long => 120,
        }
    }

    /// How far apart ideas of the client are, in microseconds.
    pub(crate) fn ideas_apart(self) -> u64 {
        match self {
            Self::Short => 300_000,
            Self::Long => 1_500_000,
        }
    }

    /// How many in a hundred tasks begin with a job of their own.
    pub(crate) fn nests(self) -> u64 {
        match self {
            Self::Short => 30,
            Self::Long => 10,
        }
    }

    /// Whether all that there is is looked at after that batch, which takes longer than the batch.
    pub(crate) fn looks_at(self, batch: u64) -> bool {
        match self {
            Self::Short => batch.is_multiple_of(8),
            Self::Long => true,
        }
    }

    /// How far apart things happen that do so every `micros` in a long run.
    pub(crate) fn apart(self, micros: u64) -> u64 {
        match self {
            Self::Short => micros / 12,
            Self::Long => micros,
        }
    }
}
