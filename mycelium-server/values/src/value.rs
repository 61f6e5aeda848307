//! Values while they are computed.
//!
//! A value stays the text it came as until an operation looks into it, and then is parsed by one level only: the
//! elements of a list are texts again. So what is passed on untouched keeps its bytes, and nothing recurses however
//! deep a text is. What operations build themselves is at most [`Limits::depth`](crate::Limits::depth) deep.

mod read;
mod text;

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use indexmap::IndexMap;

use crate::budget::{Budget, ELEMENT_BYTES, Limits};
use crate::error::{ErrorKind, Failure};
use crate::json::{separators, write_string};
use crate::types::Type;
use read::{read, read_int, read_list, read_map};

pub use text::Text;

/// What an element takes while its list is read, which grows as it goes.
const PARSED_BYTES: usize = 96;
/// What a list or a map takes beside its elements.
const LIST_BYTES: usize = 112;
/// How much of a value is shown in a message, in bytes.
const SHOWN_BYTES: usize = 64;

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`.
    Null,
    /// A bool.
    Bool(bool),
    /// A number without fraction.
    Int(Int),
    /// A finite number.
    Float(f64),
    /// A string.
    Text(Text),
    /// A list whose elements are told apart.
    List(Arc<List>),
    /// A map whose entries are told apart.
    Map(Arc<Map>),
    /// JSON text that was not looked into: one valid value without blanks around it.
    Raw(Bytes),
    /// An integer beyond the range of ints, as its text: it is passed on, and is no operand.
    Wide(Bytes),
}

/// An integer between −2^63 and 2^64−1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Int {
    // Two halves, so that values stay small: an i128 would have to be aligned to 16 bytes.
    high: i64,
    low: u64,
}

impl Int {
    /// The least.
    pub const MIN: i128 = i64::MIN as i128;
    /// The greatest.
    pub const MAX: i128 = u64::MAX as i128;

    /// None if it is out of range.
    #[must_use]
    pub fn new(value: i128) -> Option<Self> {
        if !(Self::MIN..=Self::MAX).contains(&value) {
            return None;
        }
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        Some(Self {
            high: i64::from_le_bytes(high.try_into().ok()?),
            low: u64::from_le_bytes(low.try_into().ok()?),
        })
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }
}

impl fmt::Debug for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A list whose elements are told apart.
#[derive(Debug, Default)]
pub struct List {
    items: Vec<Value>,
    /// Its length as JSON text.
    encoded_len: usize,
    /// About what it takes in memory.
    memory: usize,
    depth: u32,
}

/// A map whose entries are told apart.
#[derive(Debug, Default)]
pub struct Map {
    entries: Entries,
    encoded_len: usize,
    memory: usize,
    depth: u32,
}

/// The entries of a map, in order.
pub(crate) type Entries = IndexMap<Text, Value>;

impl List {
    /// The elements.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Map {
    /// The entries, in order.
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }
}

impl Value {
    /// An int, if it is within the range.
    pub(crate) fn int(value: i128) -> Result<Self, Failure> {
        Int::new(value).map(Self::Int).ok_or_else(|| {
            Failure::new(ErrorKind::Overflow, "the number lies beyond what an int holds, −2^63 to 2^64−1")
        })
    }

    /// A count, which is always within the range.
    pub(crate) fn count(value: usize) -> Self {
        Self::Int(Int { high: 0, low: value as u64 })
    }

    pub(crate) fn float(value: f64) -> Result<Self, Failure> {
        if value.is_finite() {
            Ok(Self::Float(value))
        } else {
            Err(Failure::new(ErrorKind::Overflow, "the result is beyond what a float holds"))
        }
    }

    pub(crate) fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A list of these, whose memory was taken before.
    pub(crate) fn list(items: Vec<Self>, budget: &Budget) -> Result<Self, Failure> {
        let depth = 1 + items.iter().map(Self::depth).max().unwrap_or(0);
        budget.depth(depth)?;
        let encoded_len =
            items.iter().fold(separators(items.len()), |sum, item| sum.saturating_add(item.encoded_len()));
        let memory = items
            .iter()
            .fold(LIST_BYTES + items.len() * ELEMENT_BYTES, |sum, item| sum.saturating_add(item.memory()));
        Ok(Self::List(Arc::new(List { items, encoded_len, memory, depth })))
    }

    /// A map of these, whose memory was taken before.
    pub(crate) fn map(entries: Entries, budget: &Budget) -> Result<Self, Failure> {
        let depth = 1 + entries.values().map(Self::depth).max().unwrap_or(0);
        budget.depth(depth)?;
        let encoded_len = entries.iter().fold(separators(entries.len()), |sum, (key, value)| {
            sum.saturating_add(key.encoded_len() + 1).saturating_add(value.encoded_len())
        });
        let memory =
            entries.iter().fold(LIST_BYTES + entries.len() * 2 * ELEMENT_BYTES, |sum, (key, value)| {
                sum.saturating_add(key.len()).saturating_add(value.memory())
            });
        Ok(Self::Map(Arc::new(Map { entries, encoded_len, memory, depth })))
    }

    /// Valid JSON text.
    #[must_use]
    pub fn raw(json: &Bytes) -> Self {
        let start = json.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        let end =
            json.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(json.len(), |last| last + 1);
        Self::part(json.slice(start..end.max(start)))
    }

    /// Valid JSON text without blanks around it. What is small enough is read at once.
    fn part(json: Bytes) -> Self {
        match json.first() {
            None | Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'-' | b'0'..=b'9') => match read_int(&json) {
                Some(int) => Self::Int(int),
                None if json.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9')) => Self::Wide(json),
                None => Self::Raw(json),
            },
            Some(_) => Self::Raw(json),
        }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::Text(_) => Type::String,
            Self::List(_) => Type::List,
            Self::Map(_) => Type::Map,
            Self::Raw(json) => match json.first() {
                Some(b'"') => Type::String,
                Some(b'[') => Type::List,
                Some(b'{') => Type::Map,
                Some(_) | None => Type::Float,
            },
            Self::Wide(_) => Type::Int,
        }
    }

    /// The bool, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            Self::Null
            | Self::Int(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Map(_)
            | Self::Raw(_)
            | Self::Wide(_) => None,
        }
    }

    /// The elements of a list, each as the text it came as unless an operation has looked into it.
    ///
    /// # Errors
    /// If it is no list, or one that takes more to read than `limits` allow.
    pub fn into_elements(mut self, limits: Limits) -> Result<Vec<Self>, Failure> {
        let kind = self.kind();
        if kind == Type::List {
            self.look(&mut Budget::new(limits))?;
        }
        match self {
            Self::List(list) => {
                Ok(Arc::try_unwrap(list).map_or_else(|list| list.items.clone(), |list| list.items))
            }
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Map(_)
            | Self::Raw(_)
            | Self::Wide(_) => {
                Err(Failure::new(ErrorKind::WrongType, format!("the value is {kind}, and must be list")))
            }
        }
    }

    /// About what it takes in memory beyond its place in a list.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Raw(_) | Self::Wide(_) => 0,
            Self::Text(text) => text.len() + ELEMENT_BYTES,
            Self::List(list) => list.memory,
            Self::Map(map) => map.memory,
        }
    }

    /// How many lists and maps that were told apart stand in each other here.
    fn depth(&self) -> u32 {
        match self {
            Self::List(list) => list.depth,
            Self::Map(map) => map.depth,
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Raw(_)
            | Self::Wide(_) => 0,
        }
    }

    /// Its length as JSON text, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Null => 4,
            Self::Bool(true) => 4,
            Self::Bool(false) => 5,
            Self::Int(int) => int_len(int.get()),
            Self::Float(float) => float_text(*float).len(),
            Self::Text(text) => text.encoded_len(),
            Self::List(list) => list.encoded_len,
            Self::Map(map) => map.encoded_len,
            Self::Raw(json) | Self::Wide(json) => json.len(),
        }
    }

    /// Parses it by one level, if it is text still.
    pub(crate) fn look(&mut self, budget: &mut Budget) -> Result<(), Failure> {
        if let Self::Wide(_) = self {
            return Err(Failure::new(
                ErrorKind::Overflow,
                "the number lies beyond what an int holds, −2^63 to 2^64−1",
            ));
        }
        let Self::Raw(json) = &*self else { return Ok(()) };
        budget.scan(json.len())?;
        let looked = match json.first() {
            Some(b'"') => {
                budget.memory(json.len())?;
                let text: String = read(json)?;
                Self::text(text)
            }
            Some(b'[') => read_list(json, budget)?,
            Some(b'{') => read_map(json, budget)?,
            // The standard parser is exact; that of serde_json may miss by the last bit.
            Some(_) | None => {
                let float = std::str::from_utf8(json).ok().and_then(|text| text.parse().ok());
                Self::float(float.unwrap_or(f64::INFINITY)).map_err(|_| {
                    Failure::new(ErrorKind::Overflow, "the number is beyond what a float holds")
                })?
            }
        };
        *self = looked;
        Ok(())
    }

    /// As [`look`](Self::look), on a copy.
    pub(crate) fn looked(&self, budget: &mut Budget) -> Result<Self, Failure> {
        let mut copy = self.clone();
        copy.look(budget)?;
        Ok(copy)
    }

    /// Its JSON text.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        if let Self::Raw(json) | Self::Wide(json) = self {
            return json.clone();
        }
        let len = self.encoded_len();
        let mut buffer = BytesMut::with_capacity(len);
        self.write(&mut buffer);
        debug_assert_eq!(buffer.len(), len, "the length computed is the length written");
        buffer.freeze()
    }

    /// Writes it as JSON text. Recurses as deep as operations build, which is limited.
    fn write(&self, buffer: &mut BytesMut) {
        match self {
            Self::Null => buffer.put_slice(b"null"),
            Self::Bool(true) => buffer.put_slice(b"true"),
            Self::Bool(false) => buffer.put_slice(b"false"),
            Self::Int(int) => buffer.put_slice(int.get().to_string().as_bytes()),
            Self::Float(float) => buffer.put_slice(float_text(*float).as_bytes()),
            Self::Text(text) => write_string(buffer, text),
            Self::Raw(json) | Self::Wide(json) => buffer.put_slice(json),
            Self::List(list) => {
                buffer.put_u8(b'[');
                for (index, item) in list.items.iter().enumerate() {
                    if index > 0 {
                        buffer.put_u8(b',');
                    }
                    item.write(buffer);
                }
                buffer.put_u8(b']');
            }
            Self::Map(map) => {
                buffer.put_u8(b'{');
                for (index, (key, value)) in map.entries.iter().enumerate() {
                    if index > 0 {
                        buffer.put_u8(b',');
                    }
                    write_string(buffer, key);
                    buffer.put_u8(b':');
                    value.write(buffer);
                }
                buffer.put_u8(b'}');
            }
        }
    }
}

/// The beginning of a text, for messages.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().find(|(index, _)| *index >= SHOWN_BYTES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn int_len(value: i128) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
    digits + usize::from(value < 0)
}

/// A finite float as JSON text: the shortest that reads back as the same number.
fn float_text(value: f64) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}
