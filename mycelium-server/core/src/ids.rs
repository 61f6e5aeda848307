//! Ids, each a type of its own, made in one place.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: give 32 hexadecimal digits, with or without dashes")]
pub struct ParseIdError(String);

macro_rules! bytes {
    ($name:ident($length:literal)) => {
        impl $name {
            /// The value with these bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The value with these bytes; `None` if there are more or fewer than it has.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }
    };
}

macro_rules! id16 {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        bytes!($name(16));

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                match Uuid::try_parse(text) {
                    Ok(id) => Ok(Self(*id.as_bytes())),
                    Err(_) => Err(ParseIdError(text.to_owned())),
                }
            }
        }
    )+};
}

id16! {
    /// Names a job; chosen by its submitter.
    JobId;
    /// Names a flow; chosen by its submitter.
    FlowId;
    /// Names a submission of several parts; chosen by its submitter.
    SubmissionId;
    /// Names an action on many jobs; chosen by who asks for it.
    ActionId;
    /// Names a process that serves elves; chosen by the process.
    InstanceId;
    /// Names a failure: a digest of its identity.
    FailureId;
    /// Names a signature: a digest of what a declaration says of the parameters of a task.
    SignatureId;
}

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

number! {
    /// Numbers an execution of a job, from 1; 0 stands for none yet. It only rises, and so fences off reports of
    /// earlier executions.
    Attempt(u32);
    /// Numbers a session, from 1. Never used twice in a mycelium, not even across restarts of the broker.
    SessionId(u64);
    /// Numbers a batch of changes that the store takes as one, from 1.
    Commit(u64);
    /// Numbers jobs in the order of their submission, from 1: the order within an elf's queue.
    JobNumber(u64);
    /// Numbers flows in the order they were made, from 1.
    FlowNumber(u64);
    /// Numbers the policies by which jobs are retried and timed out; 0 is that of the job's task.
    PolicyId(u32);
    /// Numbers jobs in the order they finished, from 1. A job that is retried and finishes again gets a new one.
    FinishNumber(u64);
    /// Numbers the assignments of one session, in the order they were made, from 1.
    AssignNumber(u64);
    /// Numbers the evaluations that a core hands out, from 1. A job that has to be evaluated anew gets a new one.
    EvaluationNumber(u64);
    /// What a caller gave to find its request again in the replies.
    RequestId(u64);
    /// A tag that the shell hangs on a command and finds again in the effects: how payloads pass the core by.
    Attachment(u32);
    /// A digest of a job's content, to tell a repeated submission from a different one with the same id.
    ContentDigest(u64);
}

/// SHA-256 over the source text of an elf or a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision([u8; 32]);

bytes!(Revision(32));

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({self})")
    }
}

/// SHA-256 over the secret of a session. Comparing takes the same time wherever two differ, and it is never shown.
#[derive(Clone, Copy, Eq)]
pub struct SecretDigest([u8; 32]);

bytes!(SecretDigest(32));

impl PartialEq for SecretDigest {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |differing, (a, b)| differing | (a ^ b));
        // Kept from being turned into a comparison that ends early.
        std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

/// What a process says of the program that it runs: a digest of the executable, or what the build was named. Empty if it said
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Build {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl Build {
    /// The most bytes it has.
    pub const BYTES_MAX: usize = 64;
    /// Nothing was said.
    pub const UNKNOWN: Self = Self { bytes: [0; Self::BYTES_MAX], len: 0 };

    /// What was said; `None` if that is longer than it may be.
    pub fn new(text: &str) -> Option<Self> {
        let len = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len })
    }

    /// What was said; empty if nothing was.
    pub fn as_str(&self) -> &str {
        let said = &self.bytes[..usize::from(self.len)];
        std::str::from_utf8(said).expect("it was made of text")
    }
}

impl Default for Build {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Build({:?})", self.as_str())
    }
}

/// One attempt of one job: what an elf gives back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: Attempt,
}

/// A moment by the wall clock, for people: microseconds since the Unix epoch. May go back, and jump: nothing is measured
/// with it alone, and nothing depends on its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// How long it is since `earlier`, if the clock was not set; zero if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` earlier; the epoch if that is before it.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// A moment by a clock that never goes back and counts all time that passes, for intervals: microseconds since a beginning
/// that means nothing to another process. Never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Steady(pub u64);

impl Steady {
    /// The moment `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How long it is since `earlier`; zero if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What the shell's two clocks show.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Clocks {
    /// For intervals.
    pub steady: Steady,
    /// For what is shown.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_a_short_text() {
        for text in ["", "v1.2.3+local", "ä", &"0".repeat(64)] {
            assert_eq!(Build::new(text).unwrap().as_str(), text);
        }
        assert_eq!(Build::new(&"0".repeat(65)), None);
        assert_eq!(Build::new(&"0".repeat(300)), None);
        assert_eq!(Build::new(""), Some(Build::UNKNOWN));
    }
}
