//! JSON in which every character can be seen: those that are [hidden](super::format::is_hidden) stand as `\\u` escapes.
//! It means the same, and shows on a terminal what it is.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::format::is_hidden;

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
