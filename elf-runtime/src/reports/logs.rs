//! The lines that an attempt has logged and that were not sent: of many, those at the beginning and the newest.

use std::collections::VecDeque;
use std::time::SystemTime;

use mycelium_proto::{limits, v1};

/// How many bytes of an attempt's first lines are sent whatever comes, and how many of the newest wait.
const FIRST_BYTES: usize = 64 * 1024;
const NEWEST_BYTES: usize = 192 * 1024;
/// What a line counts beside its texts.
const LINE_BYTES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Lines {
    /// Of the first lines, those that were not sent, each with its number.
    first: VecDeque<(u64, v1::LogLine)>,
    /// What the first lines may still come to.
    first_left: usize,
    newest: VecDeque<(u64, v1::LogLine)>,
    /// What those count.
    newest_bytes: usize,
    /// What all count.
    bytes: usize,
    /// The number of the next line.
    next: u64,
}

impl Default for Lines {
    fn default() -> Self {
        let (first, newest) = (VecDeque::new(), VecDeque::new());
        Self { first, first_left: FIRST_BYTES, newest, newest_bytes: 0, bytes: 0, next: 0 }
    }
}

impl Lines {
    /// What those that wait count.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a line, in place of older ones if there are too many, or if there is no room for more: then it is left out
    /// itself if there is none. What is left out is counted.
    pub(super) fn add(&mut self, level: v1::LogLevel, target: &str, text: &str, has_room: bool) {
        let line = line(level, target, text);
        let (number, bytes) = (self.next, bytes_of(&line));
        self.next += 1;
        if has_room && bytes <= self.first_left {
            self.first_left -= bytes;
            self.bytes += bytes;
            self.first.push_back((number, line));
            return;
        }
        // What comes after one that did not fit is not among the first.
        self.first_left = 0;
        let mut is_room_made = has_room;
        while self.newest_bytes + bytes > NEWEST_BYTES || !is_room_made {
            let Some((_, oldest)) = self.newest.pop_front() else { break };
            self.newest_bytes -= bytes_of(&oldest);
            self.bytes -= bytes_of(&oldest);
            is_room_made = true;
        }
        if is_room_made {
            self.newest_bytes += bytes;
            self.bytes += bytes;
            self.newest.push_back((number, line));
        }
    }

    /// Takes the oldest, up to about so many bytes of them: runs of lines that follow one another, each with the number of its
    /// first.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<(u64, Vec<v1::LogLine>)> {
        let (mut runs, mut taken) = (Vec::<(u64, Vec<v1::LogLine>)>::new(), 0);
        while taken < bytes_max {
            let (number, line) = match self.first.pop_front() {
                Some(first) => first,
                None => match self.newest.pop_front() {
                    Some((number, line)) => {
                        self.newest_bytes -= bytes_of(&line);
                        (number, line)
                    }
                    None => break,
                },
            };
            taken += bytes_of(&line);
            self.bytes -= bytes_of(&line);
            match runs.last_mut() {
                Some((first, lines)) if *first + lines.len() as u64 == number => lines.push(line),
                Some(_) | None => runs.push((number, vec![line])),
            }
        }
        runs
    }
}

/// A line that is logged now.
pub(super) fn line(level: v1::LogLevel, target: &str, text: &str) -> v1::LogLine {
    v1::LogLine {
        at: Some(SystemTime::now().into()),
        level: level.into(),
        target: cut(target, limits::NAME_BYTES_MAX).to_owned(),
        text: cut(text, limits::LOG_LINE_BYTES_MAX).to_owned(),
    }
}

fn bytes_of(line: &v1::LogLine) -> usize {
    LINE_BYTES + line.target.len() + line.text.len()
}

/// The first bytes of a text, cut at a character.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(lines: &mut Lines, number: usize, has_room: bool) {
        let text = format!("{number:<width$}", width = 1024 - LINE_BYTES);
        lines.add(v1::LogLevel::Info, "", &text, has_room);
    }

    /// The numbers of those that are taken, as they say themselves.
    fn taken(lines: &mut Lines, bytes: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (first, run) in lines.take(bytes) {
            for (line, number) in run.iter().zip(first..) {
                assert_eq!(line.text.trim(), number.to_string());
                numbers.push(number);
            }
        }
        numbers
    }

    #[test]
    fn of_many_lines_the_first_and_the_newest_wait() {
        let mut lines = Lines::default();
        (0..10).for_each(|number| add(&mut lines, number, true));
        assert_eq!(taken(&mut lines, usize::MAX), (0..10).collect::<Vec<_>>());
        (10..1_000).for_each(|number| add(&mut lines, number, true));
        assert_eq!(lines.bytes(), (54 + 192) * 1024);
        let expected: Vec<u64> = (10..64).chain(1_000 - 192..1_000).collect();
        let some = taken(&mut lines, 30 * 1024);
        assert_eq!(some, expected[..30]);
        assert_eq!([some, taken(&mut lines, usize::MAX)].concat(), expected);
        assert_eq!((lines.bytes(), lines.newest_bytes), (0, 0));
    }

    #[test]
    fn without_room_a_line_takes_the_place_of_an_older_one_or_is_left_out() {
        let mut lines = Lines::default();
        add(&mut lines, 0, false);
        (1..3).for_each(|number| add(&mut lines, number, true));
        (3..6).for_each(|number| add(&mut lines, number, false));
        assert_eq!(taken(&mut lines, usize::MAX), [4, 5]);
    }

    #[test]
    fn lines_are_cut_between_characters() {
        let mut lines = Lines::default();
        lines.add(v1::LogLevel::Warn, "here", &"ü".repeat(limits::LOG_LINE_BYTES_MAX), true);
        let (_, run) = lines.take(1).remove(0);
        assert_eq!((run[0].text.len(), run[0].level()), (limits::LOG_LINE_BYTES_MAX, v1::LogLevel::Warn));
    }
}
