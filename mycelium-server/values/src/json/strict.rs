//! Reads JSON text strictly, in one pass and without recursion.
//!
//! What other readers let pass, and each in its own way, is refused here: numbers that no double holds, halves of
//! surrogate pairs, duplicate keys, nesting that most parsers give up on. So a value that is taken means
//! the same to everybody who reads it.

use std::borrow::Cow;
use std::fmt;

/// The most lists and maps that may stand in each other.
pub const DEPTH_MAX: usize = 128;
/// An integer of so many digits is within a double, whatever they are.
const DIGITS_WITHIN_DOUBLE: usize = 308;
/// Up to so many keys are compared each with each.
const KEYS_COMPARED_MAX: usize = 12;

/// Why a text is refused, and at which byte, counted from 0. It says nothing of what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// The place.
    pub byte: usize,
    /// What is wrong there.
    pub problem: JsonProblem,
}

/// What may be wrong with JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonProblem {
    /// A constant that other languages write: `NaN`, `Infinity`, `-Infinity`.
    Constant(&'static str),
    /// A number beyond what a double holds.
    NumberTooLarge,
    /// An escape of half a surrogate pair.
    LoneSurrogate,
    /// A key that its map has already.
    DuplicateKey,
    /// More than [`DEPTH_MAX`] lists and maps in each other.
    TooDeep,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Anything else.
    Syntax,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: ", self.byte)?;
        match self.problem {
            JsonProblem::Constant(name) => write!(f, "{name} is not JSON"),
            JsonProblem::NumberTooLarge => f.write_str("a number beyond what a double holds"),
            JsonProblem::LoneSurrogate => f.write_str("half of a surrogate pair"),
            JsonProblem::DuplicateKey => f.write_str("a duplicate key"),
            JsonProblem::TooDeep => write!(f, "nests more than {DEPTH_MAX} deep"),
            JsonProblem::NotUtf8 => f.write_str("is not UTF-8"),
            JsonProblem::Syntax => f.write_str("is not valid JSON"),
        }
    }
}

impl std::error::Error for JsonError {}

/// What is told of the parts of a text as they are read.
pub(super) trait Sink<'a> {
    fn scalar(&mut self, scalar: Scalar<'a>);
    fn begin(&mut self, container: Container);
    fn key(&mut self, key: RawText<'a>);
    fn end(&mut self);
}

#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// What stands between the quotes.
    Text(RawText<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    List,
    Map,
}

/// A string as it stands in the text, which was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawText<'a> {
    text: &'a str,
    has_escapes: bool,
}

impl<'a> RawText<'a> {
    /// With its escapes.
    pub(super) fn as_written(self) -> &'a str {
        self.text
    }

    pub(super) fn read(self) -> Cow<'a, str> {
        if self.has_escapes { Cow::Owned(unescape(self.text)) } else { Cow::Borrowed(self.text) }
    }
}

/// A list or map that is not at its end.
struct Open {
    container: Container,
    /// Of a map: where its keys begin among those of all that are open.
    keys: usize,
}

/// Where the text goes on.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// A value, or the end of the list that has just begun.
    FirstElement,
    /// A key, or the end of the map that has just begun.
    FirstKey,
    Key,
    /// A comma, or the end of what is open.
    After,
}

/// Reads one value and tells `sink` of its parts; gives its depth.
pub(super) fn read<'a>(bytes: &'a [u8], sink: &mut impl Sink<'a>) -> Result<usize, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { byte: error.valid_up_to(), problem: JsonProblem::NotUtf8 })?;
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut keys: Vec<(usize, Cow<'a, str>)> = Vec::new();
    let mut deepest = 0;
    let mut next = Next::Value;
    loop {
        let byte = reader.skip_blanks();
        next = match (next, byte) {
            (Next::FirstElement | Next::FirstKey | Next::After, Some(b']' | b'}')) if closes(&open, byte) => {
                if let Some(Open { container: Container::Map, keys: first }) = open.pop() {
                    distinct(&keys[first..])?;
                    keys.truncate(first);
                }
                reader.at += 1;
                sink.end();
                Next::After
            }
            (Next::After, Some(b',')) => {
                reader.at += 1;
                match open.last() {
                    Some(Open { container: Container::Map, .. }) => Next::Key,
                    Some(Open { container: Container::List, .. }) | None => Next::Value,
                }
            }
            (Next::FirstKey | Next::Key, Some(b'"')) => {
                let place = reader.at;
                let key = reader.string()?;
                sink.key(key);
                keys.push((place, key.read()));
                if reader.skip_blanks() != Some(b':') {
                    return Err(reader.wrong());
                }
                reader.at += 1;
                Next::Value
            }
            (Next::Value | Next::FirstElement, Some(start @ (b'[' | b'{'))) => {
                if open.len() == DEPTH_MAX {
                    return Err(JsonError { byte: reader.at, problem: JsonProblem::TooDeep });
                }
                reader.at += 1;
                let (container, next) = match start {
                    b'[' => (Container::List, Next::FirstElement),
                    _ => (Container::Map, Next::FirstKey),
                };
                open.push(Open { container, keys: keys.len() });
                deepest = deepest.max(open.len());
                sink.begin(container);
                next
            }
            (Next::Value | Next::FirstElement, Some(_)) => {
                sink.scalar(reader.scalar()?);
                Next::After
            }
            _ => return Err(reader.wrong()),
        };
        if open.is_empty() {
            return match reader.skip_blanks() {
                None => Ok(deepest),
                Some(_) => Err(reader.wrong()),
            };
        }
    }
}

fn closes(open: &[Open], byte: Option<u8>) -> bool {
    let container = open.last().map(|open| open.container);
    matches!((container, byte), (Some(Container::List), Some(b']')) | (Some(Container::Map), Some(b'}')))
}

/// Refuses duplicate keys.
fn distinct(keys: &[(usize, Cow<'_, str>)]) -> Result<(), JsonError> {
    let twice = if keys.len() <= KEYS_COMPARED_MAX {
        let mut seconds = keys.iter().enumerate();
        seconds.find_map(|(n, (place, key))| {
            keys[..n].iter().any(|(_, earlier)| earlier == key).then_some(*place)
        })
    } else {
        let mut sorted: Vec<(&str, usize)> = keys.iter().map(|(place, key)| (&**key, *place)).collect();
        sorted.sort_unstable();
        sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).min()
    };
    match twice {
        Some(byte) => Err(JsonError { byte, problem: JsonProblem::DuplicateKey }),
        None => Ok(()),
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self) -> JsonError {
        JsonError { byte: self.at, problem: JsonProblem::Syntax }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte that is no blank.
    fn skip_blanks(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn scalar(&mut self) -> Result<Scalar<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(Scalar::Text),
            Some(b'n') => self.word("null", Scalar::Null),
            Some(b't') => self.word("true", Scalar::Bool(true)),
            Some(b'f') => self.word("false", Scalar::Bool(false)),
            _ => self.number().map(Scalar::Number),
        }
    }

    fn word(&mut self, word: &str, scalar: Scalar<'a>) -> Result<Scalar<'a>, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(scalar)
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        for constant in ["NaN", "Infinity", "-Infinity"] {
            if self.bytes[start..].starts_with(constant.as_bytes()) {
                return Err(JsonError { byte: start, problem: JsonProblem::Constant(constant) });
            }
        }
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let whole = self.at - start;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if (has_exponent || whole > DIGITS_WITHIN_DOUBLE) && !number.parse::<f64>().is_ok_and(f64::is_finite)
        {
            return Err(JsonError { byte: start, problem: JsonProblem::NumberTooLarge });
        }
        Ok(number)
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong()) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<RawText<'a>, JsonError> {
        self.at += 1;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawText { text, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let place = self.at;
        let lone = JsonError { byte: place, problem: JsonProblem::LoneSurrogate };
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => match self.unit()? {
                0xD800..=0xDBFF => {
                    if !self.bytes[self.at..].starts_with(b"\\u") {
                        return Err(lone);
                    }
                    self.at += 1;
                    if !(0xDC00..=0xDFFF).contains(&self.unit()?) {
                        return Err(lone);
                    }
                }
                0xDC00..=0xDFFF => return Err(lone),
                _ => {}
            },
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// The four digits after a `u`.
    fn unit(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.wrong())?;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// How many bytes at the beginning are neither quote nor backslash nor control character. Eight at a time: strings
/// are most of what is read.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..at + 8).and_then(|chunk| <[u8; 8]>::try_from(chunk).ok()) {
        let word = u64::from_le_bytes(chunk);
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
        let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let found =
            control | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).unwrap_or(rest.len())
}

/// Reads the escapes of a string that was checked.
fn unescape(text: &str) -> String {
    let mut read = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        read.push_str(&rest[..at]);
        let unit = |from: usize| {
            rest.get(from..from + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
        };
        let (character, length) = match rest.as_bytes().get(at + 1).copied() {
            Some(b'u') => match unit(at + 2) {
                high @ 0xD800..=0xDBFF => {
                    let low = unit(at + 8) & 0x3FF;
                    (char::from_u32(0x10000 + ((high & 0x3FF) << 10) + low), 12)
                }
                other => (char::from_u32(other), 6),
            },
            Some(b'b') => (Some('\u{8}'), 2),
            Some(b'f') => (Some('\u{c}'), 2),
            Some(b'n') => (Some('\n'), 2),
            Some(b'r') => (Some('\r'), 2),
            Some(b't') => (Some('\t'), 2),
            Some(same) => (Some(char::from(same)), 2),
            None => (None, 1),
        };
        read.extend(character);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    read.push_str(rest);
    read
}

#[cfg(test)]
mod tests;
