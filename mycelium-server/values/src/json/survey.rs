//! What a store has to know of a value that it gives to others to keep: whether they can, and give it back as it was.

use super::strict::{self, Container, JsonError, RawText, Scalar, Sink};

/// Integers up to here, and down to as far below zero, are the same wherever numbers are doubles.
const EXACT_MAX: u64 = 1 << 53;

/// What a JSON text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// How many lists and maps stand in each other.
    pub depth: usize,
    /// Whether a map has the empty text for a key.
    pub has_empty_key: bool,
    /// Whether all integers in it have 64 bits, with a sign.
    pub integers_fit: bool,
    /// Whether it is written in the one way in which everybody writes what it means: null, a boolean, a text without
    /// needless escapes, an integer that a double holds exactly, or a list of these without blanks.
    pub is_plain: bool,
}

/// Looks a value over, once and without recursion.
///
/// # Errors
/// As [`check`](super::check).
pub fn survey(bytes: &[u8]) -> Result<Survey, JsonError> {
    let mut surveyor = Surveyor { integers_fit: true, is_plain: true, ..Surveyor::default() };
    let depth = strict::read(bytes, &mut surveyor)?;
    let Surveyor { has_empty_key, integers_fit, is_plain, values, written, .. } = surveyor;
    // A list has a comma before each value but the first, and is one of the values itself.
    let commas = if depth == 0 { 0 } else { usize::saturating_sub(values, 2) };
    Ok(Survey { depth, has_empty_key, integers_fit, is_plain: is_plain && written + commas == bytes.len() })
}

#[derive(Default)]
struct Surveyor {
    has_empty_key: bool,
    integers_fit: bool,
    is_plain: bool,
    open: usize,
    values: usize,
    /// The bytes of scalars and brackets.
    written: usize,
}

impl<'a> Sink<'a> for Surveyor {
    fn scalar(&mut self, scalar: Scalar<'a>) {
        self.values += 1;
        self.written += match scalar {
            Scalar::Null | Scalar::Bool(true) => 4,
            Scalar::Bool(false) => 5,
            Scalar::Number(number) => {
                self.number(number);
                number.len()
            }
            Scalar::Text(text) => {
                self.is_plain &= is_plain_text(text);
                text.as_written().len() + 2
            }
        };
    }

    fn begin(&mut self, container: Container) {
        self.values += 1;
        self.written += 2;
        self.open += 1;
        self.is_plain &= container == Container::List && self.open == 1;
    }

    fn key(&mut self, key: RawText<'a>) {
        self.has_empty_key |= key.as_written().is_empty();
    }

    fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

impl Surveyor {
    fn number(&mut self, number: &str) {
        if number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            self.is_plain = false;
            return;
        }
        match number.parse::<i64>() {
            Ok(integer) => self.is_plain &= integer.unsigned_abs() <= EXACT_MAX && number != "-0",
            Err(_) => (self.integers_fit, self.is_plain) = (false, false),
        }
    }
}

/// Whether no other writer would write the text otherwise.
fn is_plain_text(text: RawText<'_>) -> bool {
    let mut bytes = text.as_written().bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && !matches!(bytes.next(), Some(b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f')) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Survey {
        survey(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_everybody_writes_alike_is_plain() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "9007199254740992",
            "-9007199254740992",
            "\"\"",
            "\"Zoë\\n\\\"\"",
            "[]",
            "[1]",
            "[null,true,\"a,b\",-3]",
        ] {
            assert!(of(text).is_plain, "{text}");
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), text, "it is written like that");
        }
    }

    #[test]
    fn what_may_come_back_otherwise_is_not() {
        for text in [
            "1.0",
            "1e3",
            "-0",
            "9007199254740993",
            "\"\\u0041\"",
            "\"\\/\"",
            "[1, 2]",
            "[ ]",
            " 1",
            "{}",
            "{\"a\":1}",
            "[[]]",
            "[1.5]",
            "[1,2] ",
            "[{}]",
            "18446744073709551615",
        ] {
            assert!(!of(text).is_plain, "{text}");
        }
    }

    #[test]
    fn what_others_may_not_keep_is_seen() {
        assert_eq!(of("[[{\"a\":[]}]]").depth, 4);
        assert!(of("[{\"\":1}]").has_empty_key && !of("{\"a\":\"\"}").has_empty_key);
        assert!(of("[9223372036854775807,-9223372036854775808,1e300]").integers_fit);
        assert!(
            !of("[9223372036854775808]").integers_fit && !of("{\"a\":-9223372036854775809}").integers_fit
        );
        assert!(survey(b"{\"a\":1,\"a\":2}").is_err() && survey(b"NaN").is_err());
    }
}
