//! Words of a statement.

use std::sync::Arc;

use crate::error::{Failure, Outcome};
use crate::value::Value;

/// Words that cannot be names without quotes.
const RESERVED: &[&str] = &[
    "AGGREGATE",
    "ALL",
    "ALL_SHORTEST_PATHS",
    "AND",
    "ANY",
    "ASC",
    "COLLECT",
    "DESC",
    "DISTINCT",
    "FALSE",
    "FILTER",
    "FOR",
    "GRAPH",
    "IN",
    "INBOUND",
    "INSERT",
    "INTO",
    "K_PATHS",
    "K_SHORTEST_PATHS",
    "LET",
    "LIKE",
    "LIMIT",
    "NONE",
    "NOT",
    "NULL",
    "OR",
    "OUTBOUND",
    "REMOVE",
    "REPLACE",
    "RETURN",
    "SHORTEST_PATH",
    "SORT",
    "TRUE",
    "UPDATE",
    "UPSERT",
    "WINDOW",
    "WITH",
];

/// Words that 4.x reserves besides.
const RESERVED_BY_4: &[&str] =
    &["INNER_JOIN", "LEFT_JOIN", "RIGHT_JOIN", "OUTER_JOIN", "MATCH", "WHILE", "UNTIL", "SCAN", "FOLD"];

/// Signs of two and three characters, longest first.
const SIGNS: &[&str] = &["::", "..", "==", "!=", "<=", ">=", "=~", "!~", "&&", "||"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A reserved word, in capitals.
    Keyword(&'static str),
    Name(Arc<str>),
    /// A name in ticks, which is never a word of the language.
    Quoted(Arc<str>),
    Literal(Value),
    Bind(Arc<str>),
    /// `@@name`
    BindCollection(Arc<str>),
    Sign(&'static str),
    End,
}

/// A word and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) token: Token,
    pub(crate) at: usize,
}

/// Splits a statement into words. `reserve_more`: as a server of 4.x.
pub(crate) fn words(text: &str, reserve_more: bool) -> Outcome<Vec<Word>> {
    let mut lexer = Lexer { text, at: 0, reserve_more };
    let mut words = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        words.push(Word { token, at });
        if end {
            return Ok(words);
        }
    }
}

/// Line and column of a place, both from 1.
pub(crate) fn place(text: &str, at: usize) -> String {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    reserve_more: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn fail(&self, message: &str) -> Failure {
        Failure::parse(format!("{message} at position {}", place(self.text, self.at)))
    }

    fn skip_blanks(&mut self) -> Outcome<()> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            if blanks > 0 {
                self.at += blanks;
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end =
                    rest.find("*/").ok_or_else(|| self.fail("unexpected unterminated multi-line comment"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Outcome<Token> {
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token::End);
        };
        match first {
            'a'..='z' | 'A'..='Z' | '_' | '$' => self.word(),
            '0'..='9' => self.number(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '"' | '\'' => self.string(first).map(|text| Token::Literal(Value::str(text))),
            '`' | '´' => self.string(first).map(|text| Token::Quoted(Arc::from(text))),
            '@' => self.bind(),
            _ => self.sign(),
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    fn word(&mut self) -> Outcome<Token> {
        let more = self.reserve_more;
        // A dollar sign only leads, and what begins with underscores goes on with a letter.
        let (begin, rest) = (self.at, self.rest());
        let stem = rest.strip_prefix('$').unwrap_or_else(|| rest.trim_start_matches('_'));
        if !stem.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.fail("unexpected character"));
        }
        self.at += usize::from(rest.starts_with('$'));
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let word = &self.text[begin..self.at];
        let capitals = word.to_ascii_uppercase();
        let reserved =
            RESERVED.iter().chain(RESERVED_BY_4.iter().filter(|_| more)).find(|name| **name == capitals);
        Ok(match (reserved, capitals.as_str()) {
            (_, "TRUE") => Token::Literal(Value::Bool(true)),
            (_, "FALSE") => Token::Literal(Value::Bool(false)),
            (_, "NULL") => Token::Literal(Value::Null),
            (Some(keyword), _) => Token::Keyword(keyword),
            (None, _) => Token::Name(Arc::from(word)),
        })
    }

    fn number(&mut self) -> Outcome<Token> {
        for (prefix, radix) in [("0x", 16), ("0b", 2)] {
            if self.rest().to_ascii_lowercase().starts_with(prefix) {
                self.at += 2;
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                let number = i64::from_str_radix(digits, radix);
                return number
                    .map(|n| Token::Literal(Value::Int(n)))
                    .map_err(|_| self.fail("invalid number literal"));
            }
        }
        let start = self.at;
        self.take_while(|c| c.is_ascii_digit());
        let mut whole = true;
        // `1..3` is a range, not a fraction.
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            whole = false;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            let rest = self.rest()[1..].trim_start_matches(['+', '-']);
            if rest.starts_with(|c: char| c.is_ascii_digit()) {
                whole = false;
                self.at = self.text.len() - rest.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let digits = &self.text[start..self.at];
        if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
            return Err(self.fail("leading zeros in a number"));
        }
        if self.rest().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(self.fail("unexpected identifier after a number"));
        }
        match digits.parse::<i64>() {
            Ok(number) if whole => Ok(Token::Literal(Value::Int(number))),
            _ => digits
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(|number| Token::Literal(Value::Double(number)))
                .ok_or_else(|| Failure::new(1504, "number value is out of range")),
        }
    }

    fn string(&mut self, quote: char) -> Outcome<String> {
        let unterminated = self.fail("unexpected unterminated string literal");
        let mut text = String::new();
        let mut chars = self.text[self.at + quote.len_utf8()..].char_indices();
        let start = self.at + quote.len_utf8();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at = start + at + quote.len_utf8();
                    return Ok(text);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some('b') => text.push('\u{8}'),
                    Some('f') => text.push('\u{c}'),
                    Some('u') => {
                        let mut unit = || -> Option<u16> {
                            let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                            u16::from_str_radix(&digits, 16).ok()
                        };
                        let first = unit().ok_or_else(|| unterminated.clone())?;
                        let units = if (0xd800..0xdc00).contains(&first) {
                            chars.next();
                            chars.next();
                            let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                            let second =
                                u16::from_str_radix(&digits, 16).map_err(|_| unterminated.clone())?;
                            vec![first, second]
                        } else {
                            vec![first]
                        };
                        text.push_str(&String::from_utf16_lossy(&units));
                    }
                    Some(c) => text.push(c),
                    None => return Err(unterminated),
                },
                _ => text.push(c),
            }
        }
        Err(unterminated)
    }

    fn bind(&mut self) -> Outcome<Token> {
        self.at += 1;
        let collection = self.rest().starts_with('@');
        self.at += usize::from(collection);
        let name: Arc<str> = Arc::from(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'));
        match (name.trim_start_matches('_'), collection) {
            ("", _) => Err(self.fail("unexpected '@'")),
            (_, true) => Ok(Token::BindCollection(name)),
            (_, false) => Ok(Token::Bind(name)),
        }
    }

    fn sign(&mut self) -> Outcome<Token> {
        const ONE: &[&str] = &[
            "(", ")", "[", "]", "{", "}", ",", ".", ":", "?", "=", "<", ">", "+", "-", "*", "/", "%", "!",
            ";",
        ];
        let sign = SIGNS.iter().chain(ONE).find(|sign| self.rest().starts_with(**sign)).copied();
        let sign = sign.ok_or_else(|| self.fail("unexpected character"))?;
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }
}
