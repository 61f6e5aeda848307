//! How single values are written.

use std::borrow::Cow;
use std::time::Duration;

use mycelium_proto::v1::JobProgress;
use prost_types::Timestamp;

/// What a table shows where there is nothing to show.
pub(crate) const NOTHING: &str = "-";

/// An id of 16 bytes as the UUID that commands take; other lengths, which a broker does not send, in hexadecimal.
pub(crate) fn id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_other| hex(bytes), |uuid| uuid.to_string())
}

/// As [`id`]; `None` if there is none.
pub(crate) fn id_if_any(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| id(bytes))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    format!("{:x}", bytes::Bytes::copy_from_slice(bytes))
}

/// The beginning of a digest: enough to tell revisions apart by eye.
pub(crate) fn short_digest(bytes: &[u8]) -> String {
    hex(&bytes[..bytes.len().min(6)])
}

/// A time as programs read it (RFC 3339, UTC).
pub(crate) fn rfc3339(time: Option<&Timestamp>) -> Option<String> {
    time.map(Timestamp::to_string)
}

/// A time as people read it, in UTC, to the second.
pub(crate) fn utc(time: Option<&Timestamp>) -> String {
    match time {
        // Whole seconds: the text is then `2026-11-22T21:26:23Z`, whatever the length of the year.
        Some(time) => {
            Timestamp { seconds: time.seconds, nanos: 0 }.to_string().replace('T', " ").replace('Z', "")
        }
        None => NOTHING.to_owned(),
    }
}

/// How long it is from one time to another; nothing if either is missing.
pub(crate) fn between(from: Option<&Timestamp>, to: Option<&Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else { return NOTHING.to_owned() };
    let nanos = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    // Clocks may be set back between two events; that is no reason to show a negative time.
    let nanos = u64::try_from((nanos(to) - nanos(from)).max(0)).unwrap_or(u64::MAX);
    span(Duration::from_nanos(nanos))
}

/// How far a job is: `40 %, row 400`.
pub(crate) fn progress(progress: &JobProgress) -> String {
    let percent = progress.fraction * 100.0;
    match progress.text.as_str() {
        "" => format!("{percent:.0} %"),
        text => format!("{percent:.0} %, {text}"),
    }
}

/// A span as programs read it, in milliseconds; nothing if it is not set.
pub(crate) fn millis(span: Option<&prost_types::Duration>) -> Option<u64> {
    let span = Duration::try_from(*span?).ok()?;
    Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// A span of time, to about three digits.
pub(crate) fn span(span: Duration) -> String {
    if span < Duration::from_millis(10) {
        format!("{:.1} ms", span.as_secs_f64() * 1e3)
    } else if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else if span < Duration::from_secs(60) {
        format!("{:.1} s", span.as_secs_f64())
    } else {
        humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
    }
}

/// Text of unknown origin on one line: characters that are [hidden](is_hidden) are written out.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => line.push(' '),
            hidden if is_hidden(hidden) => line.extend(hidden.escape_default()),
            other => line.push(other),
        }
    }
    line
}

/// Text of unknown origin on its own lines: as [`one_line`], but for line breaks and tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let is_written_out = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    if !text.contains(is_written_out) {
        return Cow::Borrowed(text);
    }
    let mut lines = String::with_capacity(text.len());
    for character in text.chars() {
        if is_written_out(character) {
            lines.extend(character.escape_default());
        } else {
            lines.push(character);
        }
    }
    Cow::Owned(lines)
}

/// Whether people do not see a character, but only what it does to the text around it: control characters, which steer
/// terminals, those that set the direction of text, which let it read otherwise than it is, and those without width
/// (what Unicode calls default ignorable), by which two names differ that look the same.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// One line of at most `max` characters.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    let line = one_line(text);
    match line.char_indices().nth(max) {
        None => line,
        Some(_) => line.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A name, which may be empty.
pub(crate) fn name(name: &str) -> &str {
    if name.is_empty() { NOTHING } else { name }
}

/// A process, as it is named to people: its id, if it said one, and its host.
pub(crate) fn process(id: u32, host: &str) -> String {
    let id = if id == 0 { "unknown".to_owned() } else { id.to_string() };
    if host.is_empty() { id } else { format!("{id} on {host}") }
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_and_in_utc() {
        let time = Timestamp { seconds: 1_795_382_783, nanos: 120_000_000 };
        assert_eq!(utc(Some(&time)), "2026-11-22 21:26:23");
        assert_eq!(rfc3339(Some(&time)).unwrap(), "2026-11-22T21:26:23.120Z");
        assert_eq!(utc(None), "-");
        let later = Timestamp { seconds: time.seconds + 3, nanos: 0 };
        assert_eq!(between(Some(&time), Some(&later)), "2.9 s");
        assert_eq!(between(Some(&later), Some(&time)), "0.0 ms");
        assert_eq!(between(Some(&later), None), "-");
        assert_eq!(span(Duration::from_millis(12)), "12 ms");
        assert_eq!(span(Duration::from_secs(3_661)), "1h 1m 1s");
    }

    #[test]
    fn ids_are_written_as_commands_take_them() {
        assert_eq!(id(&[0x11; 16]), "11111111-1111-1111-1111-111111111111");
        assert_eq!(id(&[0x1f, 0]), "1f00");
        assert_eq!(id_if_any(&[]), None);
        assert_eq!(short_digest(&[0xab; 32]), "abababababab");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal_nor_break_a_line() {
        assert_eq!(one_line("a\n\u{1b}[2J"), "a \\u{1b}[2J");
        assert_eq!(lines("a\n\u{1b}[2J\tb"), "a\n\\u{1b}[2J\tb");
        assert_eq!(one_line("pay\u{202e}fdp.exe"), "pay\\u{202e}fdp.exe");
        assert_eq!(
            lines("a\u{200b}b\u{feff}\u{e0041}c\u{2066}\u{2028}"),
            "a\\u{200b}b\\u{feff}\\u{e0041}c\\u{2066}\\u{2028}"
        );
        assert_eq!(
            lines("bee, Biene, abeille, пчела, 蜜蜂, נמלה, 🐝"),
            "bee, Biene, abeille, пчела, 蜜蜂, נמלה, 🐝"
        );
        assert_eq!(shorten("elephant", 8), "elephant");
        assert_eq!(shorten("elephants", 8), "elephan…");
        assert_eq!(count(1, "job") + &count(0, "job"), "1 job0 jobs");
    }
}
