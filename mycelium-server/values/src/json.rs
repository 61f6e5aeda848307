//! JSON text, as far as it can be dealt with without parsing it.

mod strict;
mod survey;
mod tree;

use bytes::{BufMut, BytesMut};

pub use strict::{DEPTH_MAX, JsonError, JsonProblem};
pub use survey::{Survey, survey};
pub(crate) use tree::Json;

/// Whether an encoding is JSON, which is the only one that can be put into lists and maps, or be an operand.
#[must_use]
pub fn is_json_encoding(encoding: &str) -> bool {
    encoding.is_empty() || encoding == "application/json"
}

/// Checks that `bytes` are one JSON value in UTF-8 that means the same to all who read it, and gives how many lists and
/// maps stand in each other. Does not recurse; takes the memory of a map's keys while it is open.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn check(bytes: &[u8]) -> Result<usize, JsonError> {
    struct Nobody;
    impl<'a> strict::Sink<'a> for Nobody {
        fn scalar(&mut self, _scalar: strict::Scalar<'a>) {}
        fn begin(&mut self, _container: strict::Container) {}
        fn key(&mut self, _key: strict::RawText<'a>) {}
        fn end(&mut self) {}
    }
    strict::read(bytes, &mut Nobody)
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
}
