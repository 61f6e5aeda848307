//! Ids and digests as text.

use std::fmt;
use std::str::FromStr;

use mycelium_core::ids::{Build, Revision};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key;

/// An id as it is written everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Text<T>(pub(in super::super) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A build as text.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct BuildText(pub(in super::super) Build);

impl BuildText {
    pub(in super::super) fn is_unknown(&self) -> bool {
        self.0 == Build::UNKNOWN
    }
}

impl Serialize for BuildText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for BuildText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Build::new(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("a build of at most 64 bytes was expected"))
    }
}

/// A revision, in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct RevisionText(pub(in super::super) Revision);

impl Serialize for RevisionText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RevisionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = key::from_hex(&String::deserialize(deserializer)?);
        let revision = bytes.and_then(|bytes| Revision::from_slice(&bytes));
        revision.map(Self).ok_or_else(|| D::Error::custom("a digest of 64 hexadecimal digits was expected"))
    }
}
