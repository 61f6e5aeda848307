//! JSON in which every character can be seen: those that are [hidden](super::format::is_hidden) stand as `\\u` escapes.
//! It means the same, and shows on a terminal what it is.

use std::io::{self, Write};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer as AnySerializer};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::value::RawValue;
use serde_json::{Number, Serializer};

use super::format::is_hidden;

/// A value, which keeps the order of its fields and every digit of what came as JSON.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// What came as JSON.
    Raw(Box<RawValue>),
    List(Vec<Json>),
    /// Names and values.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// An object with these fields.
    pub(crate) fn object<const N: usize>(fields: [(&str, Json); N]) -> Self {
        Self::Object(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// With one more field; one of the same name makes room for it.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Self>) -> Self {
        if let Self::Object(fields) = &mut self {
            match fields.iter_mut().find(|(field, _)| field == name) {
                Some((_, old)) => *old = value.into(),
                None => fields.push((name.to_owned(), value.into())),
            }
        }
        self
    }

    /// With those fields of another object that this one has not.
    pub(crate) fn and(mut self, other: Self) -> Self {
        if let (Self::Object(fields), Self::Object(others)) = (&mut self, other) {
            for (name, value) in others {
                if !fields.iter().any(|(field, _)| *field == name) {
                    fields.push((name, value));
                }
            }
        }
        self
    }

    /// A field of it; null if there is none.
    pub(crate) fn get(&self, name: &str) -> Self {
        match self {
            Self::Object(fields) => {
                fields.iter().find(|(field, _)| field == name).map_or(Self::Null, |(_, value)| value.clone())
            }
            _ => Self::Null,
        }
    }

    /// The same fields, each without a value.
    pub(crate) fn without_values(self) -> Self {
        match self {
            Self::Object(fields) => {
                Self::Object(fields.into_iter().map(|(name, _)| (name, Self::Null)).collect())
            }
            _ => Self::Null,
        }
    }
}

macro_rules! json_from {
    ($($type:ty, $value:ident => $json:expr;)*) => {
        $(
            impl From<$type> for Json {
                fn from($value: $type) -> Self {
                    $json
                }
            }
        )*
    };
}

json_from! {
    bool, value => Self::Bool(value);
    u32, value => Self::Number(value.into());
    u64, value => Self::Number(value.into());
    i64, value => Self::Number(value.into());
    // What JSON has no number for is null.
    f64, value => Number::from_f64(value).map_or(Self::Null, Self::Number);
    &str, value => Self::Text(value.to_owned());
    String, value => Self::Text(value);
    Vec<Json>, value => Self::List(value);
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Serialize for Json {
    fn serialize<S: AnySerializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Raw(raw) => raw.serialize(serializer),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
        }
    }
}

/// Writes a value over several lines.
pub(super) fn write_pretty(writer: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, Seen(PrettyFormatter::new())))
}

/// Writes a value on one line, without its end.
pub(super) fn write_line(writer: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, Seen(CompactFormatter)))
}

/// Formats as another does, but for the characters of strings.
struct Seen<F>(F);

fn write_seen<W: ?Sized + Write>(writer: &mut W, text: &str) -> io::Result<()> {
    let mut rest = text;
    // What is below DEL was escaped before, or stands between values: line breaks of what came as JSON.
    while let Some(at) = rest.find(|character: char| character >= '\u{7f}' && is_hidden(character)) {
        let (before, from) = rest.split_at(at);
        writer.write_all(before.as_bytes())?;
        let mut characters = from.chars();
        if let Some(hidden) = characters.next() {
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        rest = characters.as_str();
    }
    writer.write_all(rest.as_bytes())
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
                self.0.$name(writer $(, $argument)*)
            }
        )*
    };
}

impl<F: Formatter> Formatter for Seen<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_seen(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_seen(writer, fragment)
    }

    forward! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn hidden_characters_are_escapes_and_mean_the_same() {
        let hostile = "a\u{202e}b\u{200b}\u{9b}\u{7f}\u{e0041}\"\n\u{1b}[2J é 蜜 🐝";
        let value = BTreeMap::from([(hostile, [hostile])]);
        let (mut line, mut pretty) = (Vec::new(), Vec::new());
        write_line(&mut line, &value).unwrap();
        write_pretty(&mut pretty, &value).unwrap();
        let (line, pretty) = (String::from_utf8(line).unwrap(), String::from_utf8(pretty).unwrap());
        for text in [&line, &pretty] {
            assert!(!text.contains(|c: char| is_hidden(c) && c != '\n'), "{text:?}");
            assert!(text.contains(r"a\u202eb\u200b\u009b\u007f\udb40\udc41"), "{text}");
            assert!(text.contains("é 蜜 🐝"), "what can be seen stays: {text}");
            let read: BTreeMap<String, Vec<String>> = serde_json::from_str(text).unwrap();
            assert_eq!(read[hostile], [hostile]);
        }
        let mut as_ever = Vec::new();
        let plain = BTreeMap::from([("a", vec![1, 2]), ("b", Vec::new())]);
        write_pretty(&mut as_ever, &plain).unwrap();
        assert_eq!(as_ever, serde_json::to_vec_pretty(&plain).unwrap());
    }

    #[test]
    fn what_came_as_json_is_written_the_same_way() {
        let raw = RawValue::from_string("{\n \"a\u{202e}\": 1.10}".to_owned()).unwrap();
        let mut line = Vec::new();
        write_line(&mut line, &raw).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), "{\n \"a\\u202e\": 1.10}");
    }
}
