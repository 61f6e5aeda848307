//! JSON text, as far as it can be dealt with without parsing it.

use bytes::{BufMut, BytesMut};
use serde::de::IgnoredAny;

/// Whether an encoding is JSON, which is the only one that can be put into lists and maps, or be an operand.
#[must_use]
pub fn is_json_encoding(encoding: &str) -> bool {
    encoding.is_empty() || encoding == "application/json"
}

/// Whether `bytes` are one valid JSON value in UTF-8. Takes no memory and does not recurse, however deep the value is.
#[must_use]
pub fn is_json(bytes: &[u8]) -> bool {
    // The parser skips what it ignores byte by byte, so whether it is UTF-8 has to be asked first.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Brackets and commas around `n` parts.
#[must_use]
pub fn separators(n: usize) -> usize {
    2 + n.saturating_sub(1)
}

/// How many bytes a text takes as a JSON string.
#[must_use]
pub fn string_len(text: &str) -> usize {
    let escaped: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
            0x00..0x20 => 5,
            _ => 0,
        })
        .sum();
    text.len() + escaped + 2
}

/// Writes a text as a JSON string, which takes [`string_len`] bytes.
pub fn write_string(buffer: &mut BytesMut, text: &str) {
    // Strings always serialise; an error could only come from the writer, and a buffer in memory has none.
    let written = serde_json::to_writer(buffer.writer(), text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_string_is_what_is_written() {
        for text in ["", "bee", "\"\\\n\u{1}\u{7f}", "Süße 🐝", "\u{8}\u{c}\r\t"] {
            let mut buffer = BytesMut::new();
            write_string(&mut buffer, text);
            assert_eq!(buffer.len(), string_len(text), "{text:?}");
        }
    }

    #[test]
    fn valid_is_told_from_invalid_at_any_depth() {
        for good in ["1", "-1.5e3", "\"ä\"", "[1,{\"a\":null}]", " true "] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", "nul", "1 2", "[1,", "\"\u{1}\"", "{1:2}"] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(&[b'"', 0xff, b'"']), "not UTF-8");
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
        assert!(is_json(("[".repeat(500_000) + &"]".repeat(500_000)).as_bytes()));
    }
}
