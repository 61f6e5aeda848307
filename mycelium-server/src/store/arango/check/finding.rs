//! What a look at a server or a database finds.

use serde::Serialize;

use super::super::address::mycelium_of;
use super::super::client::{Database, Failure, Kind};
use crate::name::DEFAULT;

/// Something that was found: one line that says what it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{line}")]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The line.
    pub line: String,
}

/// What a finding is about. Serialized by its name: `not-arango`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// No mycelium can have the name.
    Name,
    /// Nobody answers at the address.
    Unreachable,
    /// The certificate of the server is not trusted, or the file of trusted ones cannot be used.
    Certificate,
    /// What answers is not ArangoDB, or stands before it.
    NotArango,
    /// User or password are wrong.
    Login,
    /// The user may not do what is needed.
    Rights,
    /// The server is starting, stopping, or has too much to do.
    Unavailable,
    /// The server takes no writes: its licence has run out, its data are too large for it, or it was made read-only.
    ReadOnly,
    /// Mycelium does not work with this version of ArangoDB.
    Version,
    /// The server is neither a single one nor a coordinator.
    Role,
    /// The database is spread over several servers of a cluster.
    Sharding,
    /// There is no such mycelium, or no mycelium at all.
    Missing,
    /// The database holds something else than a mycelium.
    Foreign,
    /// The mycelium was written by another version of this program.
    Format,
    /// A collection is missing, or of the wrong type.
    Collection,
    /// An index is missing, or not as it should be.
    Index,
    /// A graph is missing, or not as it should be.
    Graph,
    /// A statement cannot be planned, or would read a whole collection.
    Statement,
    /// The server refused a request of the look itself.
    Refused,
    /// Note: the server does not tell its version.
    HiddenVersion,
    /// Note: the state of the licence is not told, or it comes to an end.
    License,
    /// Note: the plan of a statement is not told, or not in full.
    HiddenPlan,
    /// Note: the clocks of the server and of this machine differ.
    Clock,
    /// Note: a cluster keeps fewer copies than it should.
    Copies,
}

impl FindingKind {
    /// Whether mycelium cannot work so. Else it is a note.
    pub fn is_problem(self) -> bool {
        match self {
            Self::Name
            | Self::Unreachable
            | Self::Certificate
            | Self::NotArango
            | Self::Login
            | Self::Rights
            | Self::Unavailable
            | Self::ReadOnly
            | Self::Version
            | Self::Role
            | Self::Sharding
            | Self::Missing
            | Self::Foreign
            | Self::Format
            | Self::Collection
            | Self::Index
            | Self::Graph
            | Self::Statement
            | Self::Refused => true,
            Self::HiddenVersion | Self::License | Self::HiddenPlan | Self::Clock | Self::Copies => false,
        }
    }
}

impl Finding {
    pub(in super::super) fn new(kind: FindingKind, line: impl Into<String>) -> Self {
        Self { kind, line: line.into() }
    }
}

impl From<Failure> for Finding {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind() {
            Kind::Unreachable => FindingKind::Unreachable,
            Kind::Certificate => FindingKind::Certificate,
            Kind::NotArango | Kind::Unreadable => FindingKind::NotArango,
            Kind::NotLoggedIn => FindingKind::Login,
            Kind::NotAllowed => FindingKind::Rights,
            Kind::ReadOnly => FindingKind::ReadOnly,
            Kind::Conflict | Kind::Busy | Kind::Killed | Kind::Unknown => FindingKind::Unavailable,
            Kind::NotThere | Kind::AlreadyThere | Kind::TooLarge | Kind::Refused => FindingKind::Refused,
        };
        Self::new(kind, failure.to_string())
    }
}

/// A database in messages.
pub(in super::super) fn shown(database: &Database) -> String {
    format!("database `{}` at {}", database.name(), database.server().shown())
}

/// The command that creates what a database lacks.
pub(in super::super) fn init(database: &Database) -> String {
    let mycelium = match mycelium_of(database.name()) {
        Some(DEFAULT) | None => String::new(),
        Some(name) => format!(" --mycelium {name}"),
    };
    format!("mycelium store init {}{mycelium}", database.server().shown())
}
