//! JSON as the server takes and gives it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use indexmap::map::Entry;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::{Object, Value};
use crate::error::{Failure, Outcome};

/// How deep arrays and objects may lie in one another in a body: slightly below 200, says the documentation.
const DEPTH_MAX: usize = 190;

/// The first double of which the neighbours are more than one away; from there on the server writes `.0`.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// Reads a body. Attributes that occur twice are refused, as is what lies too deep.
pub(crate) fn read_json(text: &[u8]) -> Outcome<Value> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let (mistake, names) = (Cell::new(false), Names::default());
    let value = Seed { depth: 0, unknown: &mistake, names: &names }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| {
        let message = format!("VPackError error: {e}");
        if mistake.get() { Failure::unknown(600, message) } else { Failure::new(600, message) }
    })
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    depth: usize,
    /// Set where a body holds what the documentation does not decide.
    unknown: &'a Cell<bool>,
    names: &'a Names,
}

/// Names of attributes, of which a body has the same ones over and over.
type Names = RefCell<HashSet<Arc<str>, FixedState>>;

struct NameSeed<'a>(&'a Names);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Arc<str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Arc<str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name of an attribute")
    }

    fn visit_str<E>(self, name: &str) -> Result<Arc<str>, E> {
        let mut names = self.0.borrow_mut();
        if let Some(known) = names.get(name) {
            return Ok(known.clone());
        }
        let name: Arc<str> = Arc::from(name);
        names.insert(name.clone());
        Ok(name)
    }
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("too deep nesting in array/object"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::Int).map_err(|_| {
            self.unknown.set(true);
            E::custom(format!("what becomes of the integer {number} is not documented"))
        })
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Double(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let (inner, mut values) = (self.deeper()?, Vec::new());
        while let Some(value) = seq.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (inner, mut object) = (self.deeper()?, Object::default());
        while let Some(name) = map.next_key_seed(NameSeed(self.names))? {
            let value = map.next_value_seed(inner)?;
            match object.entry(name) {
                Entry::Vacant(place) => place.insert(value),
                Entry::Occupied(place) => {
                    let message = format!("Duplicate attribute name `{}`", place.key());
                    return Err(A::Error::custom(message));
                }
            };
        }
        Ok(Value::Object(Arc::new(object)))
    }
}

impl Value {
    /// As text, without spaces.
    pub(crate) fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    pub(crate) fn write_json(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
            Self::Int(number) => text.push_str(&number.to_string()),
            Self::Double(number) => write_double(*number, text),
            Self::Str(string) => write_string(string, text),
            Self::Array(values) => {
                text.push('[');
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    value.write_json(text);
                }
                text.push(']');
            }
            Self::Object(object) => {
                text.push('{');
                for (i, (name, value)) in object.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    write_string(name, text);
                    text.push(':');
                    value.write_json(text);
                }
                text.push('}');
            }
        }
    }
}

/// Doubles that are whole lose their fraction, but for those that no longer are exact.
fn write_double(number: f64, text: &mut String) {
    let size = number.abs();
    let infallible = match size {
        _ if size != 0.0 && !(1e-7..1e21).contains(&size) => write!(text, "{number:e}"),
        _ if size >= EXACT_BELOW => write!(text, "{number:.1}"),
        _ => write!(text, "{}", if size == 0.0 { 0.0 } else { number }),
    };
    debug_assert!(infallible.is_ok(), "a string takes what is written into it");
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let mut rest = 0;
    for (at, byte) in string.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        text.push_str(&string[rest..at]);
        match escape {
            "" => text.push_str(&format!("\\u{byte:04x}")),
            _ => text.push_str(escape),
        }
        rest = at + 1;
    }
    text.push_str(&string[rest..]);
    text.push('"');
}
