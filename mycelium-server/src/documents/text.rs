//! Texts, cut to their limits.

/// Cuts a text to at most `max` bytes, at a character.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

/// As [`cut`], for what people read: it says at its end that it was cut.
pub(crate) fn cut_message(text: &mut String, max: usize) {
    if text.len() > max {
        let mark = format!("… (cut, of {} bytes)", text.len());
        cut(text, max.saturating_sub(mark.len()));
        text.push_str(&mark);
    }
}
