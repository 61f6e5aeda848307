//! Jobs that may be what ends the processes that run them.

use crate::ids::JobId;

/// How a job is run that was lost with its elf again and again. Jobs that are no suspects go on in other processes, and
/// beside the first of these in the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Suspicion {
    /// As any other: the first loss makes nobody a suspect.
    #[default]
    None,
    /// Not in one process with another suspect, so that the next loss tells them apart.
    Suspected,
    /// In a process of its own, so that the next loss has no other explanation.
    Isolated,
}

/// How an attempt was lost with its elf.
#[derive(Debug)]
pub(crate) struct Loss<'a> {
    /// Whether it can have been started.
    pub(crate) may_have_started: bool,
    /// Whether the process held nothing else: then nothing else can have been its end.
    pub(crate) is_alone: bool,
    /// The jobs that can have been started there.
    pub(crate) started: &'a [JobId],
}

impl Suspicion {
    /// Of a job that can have been started in so many processes that were lost.
    pub(crate) fn of(elves_lost: u8) -> Self {
        match elves_lost {
            0 | 1 => Self::None,
            2 => Self::Suspected,
            3.. => Self::Isolated,
        }
    }

    /// Under this configuration.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn as_if(self, config: &crate::Config) -> Self {
        if config.leaves_out(crate::PlantedBug::SuspectsTogether) { Self::None } else { self }
    }
}
