//! What statements that read answer with.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::store::Error;

/// A document in an answer. It is still text: one that is damaged does not keep the others from being read.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Row {
    /// The key of the document.
    #[serde(rename = "k")]
    pub(in super::super) key: String,
    /// In a list, its place there.
    #[serde(default)]
    pub(in super::super) at: String,
    /// The attributes of it that are read.
    #[serde(rename = "d")]
    document: Box<RawValue>,
}

impl Row {
    /// Reads the document `D` as the record `R`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is none.
    pub(in super::super) fn read<D, R>(&self, collection: &str) -> Result<R, Error>
    where
        D: DeserializeOwned,
        R: TryFrom<D, Error: Display>,
    {
        let document: D =
            serde_json::from_str(self.document.get()).map_err(|error| self.damaged(collection, &error))?;
        document.try_into().map_err(|why| self.damaged(collection, &why))
    }

    /// What is to be said of one that is damaged.
    pub(in super::super) fn damaged(&self, collection: &str, why: &dyn Display) -> Error {
        Error::Damaged { what: format!("document {collection}/{}: {why}", self.key) }
    }
}
