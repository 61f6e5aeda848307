//! JSON Schema: what a task declares of its parameters and outputs, and values held against it.
//!
//! Schemas and values come from elves and clients, so both are judged within bounds: a schema is compiled once, to a
//! table without circles and of a bounded size; a judgement takes a bounded number of steps and recurses a bounded
//! number of times. Numbers are compared by their digits, so no width of an integer matters. What does not fit is
//! told by place, expected and found type, never by what the value is.
//!
//! Judged are the assertions of draft 2020-12 and of draft 7, but for these, which are taken as annotations: `format`
//! and those on contents (as the drafts have it), `unevaluatedItems`, `unevaluatedProperties`, `$dynamicRef`, patterns
//! that a matcher of linear time does not know (look-around, back-references), and references to other documents,
//! which nobody fetches.

mod compile;
mod judge;
mod number;
mod problem;

use regex::Regex;

use crate::json::{Json, JsonError};
pub use compile::SchemaError;

/// A schema, ready to hold values against.
#[derive(Debug)]
pub struct Schema {
    /// The first is the schema itself.
    nodes: Vec<Node>,
    /// Whether it asks only what the outermost value is, and not what stands in it.
    is_shallow: bool,
    bytes: usize,
}

/// How a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is not what the schema says: the place, what is expected and what is found there.
    #[error("{0}")]
    Value(String),
}

/// A schema within a schema: all of its rules apply. Without rules it takes everything.
#[derive(Debug, Default)]
struct Node {
    rules: Box<[Rule]>,
}

/// The index of a node.
type Id = u32;

/// One thing that a schema says.
#[derive(Debug)]
enum Rule {
    /// Nothing is taken.
    Never,
    Types(Kinds),
    /// One of these values.
    Enum(Box<[Json<'static>]>),
    Bound(Bound, Box<str>),
    MultipleOf(Box<str>),
    /// How many characters, elements, entries.
    Length(Sized, Counts),
    Pattern(Box<Pattern>),
    /// The first elements, each by itself.
    Prefix(Box<[Id]>),
    /// The elements from this one on.
    Items(usize, Id),
    Unique,
    Contains(Id, Counts),
    Properties(Box<Properties>),
    PropertyNames(Id),
    Required(Box<[Box<str>]>),
    /// If there is an entry of this name, so there are those.
    DependentRequired(Box<str>, Box<[Box<str>]>),
    DependentSchema(Box<str>, Id),
    All(Box<[Id]>),
    Any(Box<[Id]>),
    One(Box<[Id]>),
    Not(Id),
    /// If the first fits, so does the second; else the third does.
    If(Id, Id, Id),
    Reference(Id),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Minimum,
    Above,
    Maximum,
    Below,
}

/// What has a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sized {
    Text,
    List,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    min: u64,
    max: u64,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// About how many steps it takes for each byte of a text.
    cost: usize,
}

#[derive(Debug)]
struct Properties {
    /// Sorted by name.
    named: Box<[(Box<str>, Id)]>,
    /// `None`: a pattern that is not judged, whose entries may be any.
    patterns: Box<[(Option<Pattern>, Id)]>,
    others: Option<Id>,
}

/// A set of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kinds(u8);

/// The types that schemas tell apart, by their bits.
const KINDS: [(&str, Kinds); 7] = [
    ("boolean", Kinds(2)),
    ("integer", Kinds(4)),
    ("number", Kinds(4 | 8)),
    ("string", Kinds(16)),
    ("array", Kinds(32)),
    ("object", Kinds(64)),
    ("null", Kinds(1)),
];

impl Kinds {
    fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kinds)| *kinds)
    }

    fn of(value: &Json<'_>) -> Self {
        match value {
            Json::Null => Self(1),
            Json::Bool(_) => Self(2),
            Json::Number(number) if number::Number::new(number).is_integer() => Self(4),
            Json::Number(_) => Self(8),
            Json::Text(_) => Self(16),
            Json::List(_) => Self(32),
            Json::Map(_) => Self(64),
        }
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        // A number that may have a fraction is told as such, and not as integer too.
        KINDS
            .iter()
            .filter(move |(name, kinds)| match *name {
                "integer" => self.0 & 12 == 4,
                "number" => self.0 & 8 != 0,
                _ => self.meets(*kinds),
            })
            .map(|(name, _)| *name)
    }
}

impl Schema {
    /// Compiles a schema. One that is empty takes everything.
    ///
    /// # Errors
    /// What is wrong with it and where, or that it is more than is kept.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        compile::compile(text)
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it takes every value.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.nodes.first().is_none_or(|root| root.rules.is_empty())
    }

    /// Checks that a text is JSON and holds it against the schema.
    ///
    /// # Errors
    /// If it is not JSON, or does not fit. A value that takes more steps or goes deeper than is judged at once fits.
    pub fn judge(&self, json: &[u8]) -> Result<(), Misfit> {
        judge::judge(self, json)
    }
}

#[cfg(test)]
mod tests;
