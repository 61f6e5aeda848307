//! Reads JSON text, by one level.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Entries, Int, PARSED_BYTES, Text, Value};
use crate::budget::Budget;
use crate::error::Failure;

/// An int within the range, from a JSON number; `None` for floats and for what is out of range.
pub(super) fn read_int(json: &[u8]) -> Option<Int> {
    // 21 characters are enough for any int in range.
    if json.len() > 21 {
        return None;
    }
    let value: i128 = std::str::from_utf8(json).ok()?.parse().ok()?;
    Int::new(value)
}

pub(super) fn read<'a, T: serde::Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| unreadable(&error))
}

/// Reads a list by one level, and takes the memory of each element before it is kept.
struct Elements<'a> {
    json: &'a Bytes,
    budget: &'a mut Budget,
    refused: &'a mut Option<Failure>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(part) = elements.next_element::<&RawValue>()? {
            let taken = self.budget.steps(1).and_then(|()| self.budget.memory(PARSED_BYTES));
            taken.map_err(|failure| refuse(self.refused, failure))?;
            items.push(slice(self.json, part));
        }
        Ok(items)
    }
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut entries = Entries::new();
        while let Some((Key(key), part)) = map.next_entry::<Key<'_>, &RawValue>()? {
            let taken = self.budget.steps(2).and_then(|()| self.budget.memory(2 * PARSED_BYTES + key.len()));
            taken.map_err(|failure| refuse(self.refused, failure))?;
            // Of a duplicate key the later value counts.
            entries.insert(Text::from(key.into_owned()), slice(self.json, part));
        }
        Ok(entries)
    }
}

fn refuse<E: serde::de::Error>(refused: &mut Option<Failure>, failure: Failure) -> E {
    *refused = Some(failure);
    E::custom("a limit is reached")
}

pub(super) fn read_list(json: &Bytes, budget: &mut Budget) -> Result<Value, Failure> {
    let mut refused = None;
    let elements = Elements { json, budget, refused: &mut refused };
    let read = serde_json::Deserializer::from_slice(json).deserialize_seq(elements);
    let items = read.map_err(|error| refused.unwrap_or_else(|| unreadable(&error)))?;
    Value::list(items, budget)
}

pub(super) fn read_map(json: &Bytes, budget: &mut Budget) -> Result<Value, Failure> {
    let mut refused = None;
    let mut elements = Elements { json, budget, refused: &mut refused };
    let read = serde_json::Deserializer::from_slice(json).deserialize_map(&mut elements);
    let entries = read.map_err(|error| refused.unwrap_or_else(|| unreadable(&error)))?;
    Value::map(entries, budget)
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::invalid(format!("the value is no JSON that can be read: {error}"))
}

/// A part of a text, without copying it.
fn slice(json: &Bytes, part: &RawValue) -> Value {
    Value::part(json.slice_ref(part.get().as_bytes()))
}
