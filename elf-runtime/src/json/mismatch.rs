//! What does not fit, and how it is told: by its place and its type, and never by its content.

use std::fmt;

use super::place::Step;
use crate::type_name::short;

/// Why JSON is not the value that was expected: where, what was expected there, and what is there, by its type. Tells
/// nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub(super) place: String,
    pub(super) problem: String,
}

impl Mismatch {
    pub(crate) fn new(problem: String) -> Self {
        Self { place: String::new(), problem }
    }

    /// Where: `animals[2].weight`; empty for the value itself.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "at `{}`: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Mismatch {}

/// A mistake as it is found.
pub(super) struct Mistake {
    pub(super) steps: Vec<Step>,
    pub(super) names: &'static [&'static str],
    pub(super) expected: &'static str,
    /// It is not the part at this place that is wrong but one of its keys, or the variant that it names.
    pub(super) is_name: bool,
    pub(super) is_wide: bool,
}

impl Mistake {
    /// `message` may quote the value, so no more is taken of it than how it begins.
    pub(super) fn told(&self, found: &str, message: &str) -> String {
        let expected = short(self.expected);
        if self.is_wide {
            return format!(
                "found an integer beyond 64 bits, whose digits a `{expected}` would lose: read it as a `u128`, an \
                 `i128` or a `Json<Box<RawValue>>`"
            );
        }
        let names = || {
            let names: Vec<String> =
                self.names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
            let more = if self.names.len() > NAMES_MAX { ", …" } else { "" };
            format!("{}{more}", names.join(", "))
        };
        let is = |beginning: &str| message.starts_with(beginning);
        if is("missing field `") {
            let named =
                |name: &&&str| message[15..].strip_prefix(**name).is_some_and(|rest| rest.starts_with('`'));
            return match self.names.iter().find(named) {
                Some(name) => format!("expected {expected}, and its field `{name}` is missing"),
                None => format!("expected {expected}, and one of its fields is missing"),
            };
        }
        if is("unknown field `") {
            return match self.names {
                [] => "found a field that is not known".to_owned(),
                _ => format!("found a field that is none of {}", names()),
            };
        }
        if is("duplicate field `") {
            return format!("expected {expected}, and found a field twice");
        }
        if is("unknown variant `") {
            return match self.names {
                [] => "found a name that is not known".to_owned(),
                _ => format!("expected one of {}, found another name", names()),
            };
        }
        if self.is_name {
            return "found a key of another type".to_owned();
        }
        if is("invalid length ") {
            return format!("expected {expected}, found {found} of another length");
        }
        // An integer for an integer, a string for a type that is written as one.
        if is("invalid value: ") || is("number out of range") {
            return format!("expected {expected}, found {found} that is none");
        }
        format!("expected {expected}, found {found}")
    }
}

/// The most names of fields or variants that are told.
const NAMES_MAX: usize = 16;
