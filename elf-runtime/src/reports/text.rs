//! The text of what is reported, cut while it is written.

use std::fmt::{self, Write as _};

use mycelium_proto::limits::PROGRESS_TEXT_BYTES_MAX;

/// The beginning of a text.
pub(super) struct Text {
    bytes: [u8; PROGRESS_TEXT_BYTES_MAX],
    len: usize,
}

impl Text {
    /// The beginning of what `text` shows as.
    pub(super) fn of(text: impl fmt::Display) -> Self {
        let mut cut = Self { bytes: [0; PROGRESS_TEXT_BYTES_MAX], len: 0 };
        // It ends where there is no more room, or where `text` cannot be shown any further.
        let _cut = write!(cut, "{text}");
        cut
    }

    pub(super) fn as_str(&self) -> &str {
        // It is made of whole characters.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let mut end = part.len().min(self.bytes.len() - self.len);
        while !part.is_char_boundary(end) {
            end -= 1;
        }
        let taken = &part[..end];
        self.bytes[self.len..self.len + taken.len()].copy_from_slice(taken.as_bytes());
        self.len += taken.len();
        if taken.len() == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::of(format_args!("row {}", 400)).as_str(), "row 400");
        let long = "é".repeat(PROGRESS_TEXT_BYTES_MAX);
        assert_eq!(Text::of(&long).as_str(), &long[..PROGRESS_TEXT_BYTES_MAX - 1], "of two bytes each");
        let parts = format!("{}ü!", "x".repeat(PROGRESS_TEXT_BYTES_MAX - 1));
        let cut = Text::of(format_args!("{}{}", &parts[..10], &parts[10..]));
        assert_eq!(cut.as_str(), &parts[..PROGRESS_TEXT_BYTES_MAX - 1], "nothing comes after the cut");
    }
}
