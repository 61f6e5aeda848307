//! Functions of strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha256, Sha512};

use super::{Calls, Function, MANY, argument, function};
use crate::error::Outcome;
use crate::value::{Value, read_json};

pub(super) const TABLE: &[Function] = &[
    function("CHAR_LENGTH", 1, 1, |_, a| Ok(Value::count(a[0].to_text().chars().count()))),
    function("CONCAT", 1, MANY, |_, a| {
        Ok(Value::from(parts(a).map(|v| v.to_text().to_string()).collect::<String>()))
    }),
    function("CONCAT_SEPARATOR", 2, MANY, |_, a| {
        let texts: Vec<String> =
            parts(&a[1..]).filter(|v| !v.is_null()).map(|v| v.to_text().to_string()).collect();
        Ok(Value::from(texts.join(&a[0].to_text())))
    }),
    function("CONTAINS", 2, 3, contains),
    function("FIND_FIRST", 2, 4, |_, a| find(a, true)),
    function("FIND_LAST", 2, 4, |_, a| find(a, false)),
    function("JSON_PARSE", 1, 1, json_parse),
    function("JSON_STRINGIFY", 1, 1, |_, a| Ok(Value::from(a[0].to_json()))),
    function("LEFT", 2, 2, |_, a| {
        let count = usize::try_from(a[1].to_i64()).unwrap_or_default();
        Ok(Value::from(a[0].to_text().chars().take(count).collect::<String>()))
    }),
    function("RIGHT", 2, 2, |_, a| {
        let (text, count) = (a[0].to_text(), usize::try_from(a[1].to_i64()).unwrap_or_default());
        let skip = text.chars().count().saturating_sub(count);
        Ok(Value::from(text.chars().skip(skip).collect::<String>()))
    }),
    function("LIKE", 2, 3, |calls, a| like(calls, &a[0], &a[1], argument(a, 2).is_true()).map(Value::Bool)),
    function("LOWER", 1, 1, |_, a| Ok(Value::from(a[0].to_text().to_lowercase()))),
    function("UPPER", 1, 1, |_, a| Ok(Value::from(a[0].to_text().to_uppercase()))),
    function("LTRIM", 1, 2, |_, a| {
        let chars = trimmed(a);
        Ok(Value::from(a[0].to_text().trim_start_matches(chars.as_slice())))
    }),
    function("RTRIM", 1, 2, |_, a| {
        let chars = trimmed(a);
        Ok(Value::from(a[0].to_text().trim_end_matches(chars.as_slice())))
    }),
    function("TRIM", 1, 2, |calls, a| {
        if argument(a, 1).is_number() {
            return Err(calls.not_known("a number for what to trim"));
        }
        let chars = trimmed(a);
        Ok(Value::from(a[0].to_text().trim_matches(chars.as_slice())))
    }),
    function("REGEX_TEST", 2, 3, |calls, a| {
        let pattern = regex(calls, &a[1], argument(a, 2).is_true())?;
        Ok(pattern.is_match(&a[0].to_text()).into())
    }),
    function("REGEX_REPLACE", 3, 4, |calls, a| {
        let pattern = regex(calls, &a[1], argument(a, 3).is_true())?;
        let replacement = a[2].to_text();
        if replacement.contains(['$', '\\']) {
            return Err(calls.not_known("a replacement with references"));
        }
        Ok(Value::from(pattern.replace_all(&a[0].to_text(), &*replacement).into_owned()))
    }),
    function("REPEAT", 2, 3, |_, a| {
        let texts =
            vec![a[0].to_text().to_string(); usize::try_from(a[1].to_i64()).unwrap_or_default().min(100_000)];
        Ok(Value::from(texts.join(&argument(a, 2).to_text())))
    }),
    function("REVERSE", 1, 1, |_, a| match &a[0] {
        Value::Array(values) => Ok(Value::array(values.iter().rev().cloned().collect())),
        value => Ok(Value::from(value.to_text().chars().rev().collect::<String>())),
    }),
    function("SHA256", 1, 1, |_, a| Ok(Value::from(hex(&Sha256::digest(a[0].to_text().as_bytes()))))),
    function("SHA512", 1, 1, |_, a| Ok(Value::from(hex(&Sha512::digest(a[0].to_text().as_bytes()))))),
    function("SPLIT", 1, 3, split),
    function("STARTS_WITH", 2, 3, |calls, a| match &a[1] {
        Value::Str(prefix) => Ok(a[0].to_text().starts_with(&**prefix).into()),
        Value::Array(prefixes) => {
            let text = a[0].to_text();
            let least = if a.len() > 2 { a[2].to_i64() } else { 1 };
            let found = prefixes.iter().filter(|prefix| text.starts_with(&*prefix.to_text())).count();
            Ok((Value::count(found) >= Value::Int(least)).into())
        }
        _ => calls.mismatch(),
    }),
    function("SUBSTITUTE", 2, 4, substitute),
    function("SUBSTRING", 2, 3, substring),
    function("TO_BASE64", 1, 1, |_, a| Ok(Value::from(STANDARD.encode(a[0].to_text().as_bytes())))),
    function("TO_HEX", 1, 1, |_, a| Ok(Value::from(hex(a[0].to_text().as_bytes())))),
    function("TO_CHAR", 1, 1, |calls, a| match u32::try_from(a[0].to_i64()).ok().and_then(char::from_u32) {
        Some(c) => Ok(Value::from(c.to_string())),
        None => calls.mismatch(),
    }),
    function("ENCODE_URI_COMPONENT", 1, 1, |_, a| {
        let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b);
        let text = a[0].to_text();
        let encoded =
            text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
        Ok(Value::from(encoded.collect::<String>()))
    }),
    function("IS_IPV4", 1, 1, |_, a| Ok(a[0].as_str().is_some_and(|text| ipv4(text).is_some()).into())),
    function("IPV4_TO_NUMBER", 1, 1, |calls, a| match a[0].as_str().and_then(ipv4) {
        Some(address) => Ok(Value::Int(i64::from(address))),
        None => calls.mismatch(),
    }),
    function("IPV4_FROM_NUMBER", 1, 1, |calls, a| match u32::try_from(a[0].to_i64()) {
        Ok(address) if a[0].is_number() => Ok(Value::from(std::net::Ipv4Addr::from(address).to_string())),
        _ => calls.mismatch(),
    }),
    function("LEVENSHTEIN_DISTANCE", 2, 2, |_, a| {
        Ok(Value::count(distance(&a[0].to_text(), &a[1].to_text())))
    }),
];

/// The arguments, or the elements where the only one is an array.
fn parts(a: &[Value]) -> impl Iterator<Item = &Value> {
    match a {
        [Value::Array(values)] => values.iter(),
        _ => a.iter(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ipv4(text: &str) -> Option<u32> {
    text.parse::<std::net::Ipv4Addr>().ok().map(u32::from)
}

fn trimmed(a: &[Value]) -> Vec<char> {
    match a.get(1) {
        Some(chars) if !chars.is_null() => chars.to_text().chars().collect(),
        _ => vec![' ', '\t', '\r', '\n'],
    }
}

fn contains(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (text, part) = (a[0].to_text(), a[1].to_text());
    let found = if part.is_empty() { None } else { text.find(&*part) };
    Ok(match (found, argument(a, 2).is_true()) {
        (found, false) => found.is_some().into(),
        (Some(at), true) => Value::count(text[..at].chars().count()),
        (None, true) => Value::Int(-1),
    })
}

/// Places are counted in characters; the end belongs to the range.
fn find(a: &[Value], first: bool) -> Outcome<Value> {
    let (text, part): (Vec<char>, Vec<char>) =
        (a[0].to_text().chars().collect(), a[1].to_text().chars().collect());
    let start = usize::try_from(argument(a, 2).to_i64()).unwrap_or_default();
    let end = match argument(a, 3) {
        Value::Null => text.len(),
        end => usize::try_from(end.to_i64() + 1).unwrap_or_default().min(text.len()),
    };
    let mut places = (start..end).filter(|at| text[*at..end].starts_with(&part));
    let found = if first { places.next() } else { places.next_back() };
    Ok(found.map_or(Value::Int(-1), Value::count))
}

fn json_parse(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    match a[0].as_str().map(|text| read_json(text.as_bytes())) {
        Some(Ok(value)) => Ok(value),
        Some(Err(failure)) if failure.unknown => Err(failure),
        _ => calls.mismatch(),
    }
}

/// `%` stands for any characters, `_` for one, and a backslash before them for themselves.
pub(crate) fn like(calls: &Calls, text: &Value, pattern: &Value, any_case: bool) -> Outcome<bool> {
    let mut wanted = String::from("^(?s:");
    let pattern = pattern.to_text();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => wanted.push_str(".*"),
            '_' => wanted.push('.'),
            '\\' => wanted.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => wanted.push_str(&regex::escape(&c.to_string())),
        }
    }
    wanted.push_str(")$");
    let pattern = RegexBuilder::new(&wanted).case_insensitive(any_case).build();
    pattern.map(|pattern| pattern.is_match(&text.to_text())).map_err(|_| calls.not_known("the pattern"))
}

/// Patterns that both kinds of expressions take mean the same; others are refused.
pub(crate) fn regex(calls: &Calls, pattern: &Value, any_case: bool) -> Outcome<Regex> {
    let pattern = pattern.to_text();
    RegexBuilder::new(&pattern)
        .case_insensitive(any_case)
        .build()
        .map_err(|_| calls.not_known("the expression"))
}

fn split(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (text, limit) = (a[0].to_text(), a.get(2).map(Value::to_i64));
    let separators: Vec<String> = match argument(a, 1) {
        Value::Array(separators) => separators.iter().map(|v| v.to_text().to_string()).collect(),
        Value::Null => return Ok(Value::array(vec![Value::Str(text)])),
        separator => vec![separator.to_text().to_string()],
    };
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let found =
            separators.iter().find(|separator| !separator.is_empty() && rest.starts_with(separator.as_str()));
        match found {
            Some(separator) => {
                pieces.push(Value::str(&text[start..at]));
                at += separator.len();
                start = at;
            }
            None => {
                let width = rest.chars().next().map_or(1, char::len_utf8);
                at += width;
                if separators.iter().any(String::is_empty) {
                    pieces.push(Value::str(&text[start..at]));
                    start = at;
                }
            }
        }
    }
    if start < text.len() || !separators.iter().any(String::is_empty) {
        pieces.push(Value::str(&text[start..]));
    }
    if let Some(limit) = limit {
        pieces.truncate(usize::try_from(limit).unwrap_or_default());
    }
    Ok(Value::array(pieces))
}

fn substitute(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let (pairs, limit): (Vec<(String, String)>, Option<&Value>) = match (&a[1], a.get(2)) {
        (Value::Object(object), limit) => {
            (object.iter().map(|(k, v)| (k.to_string(), v.to_text().to_string())).collect(), limit)
        }
        (Value::Array(search), Some(Value::Array(replace))) => {
            let with = |at: usize| replace.get(at).map(|v| v.to_text().to_string()).unwrap_or_default();
            (search.iter().enumerate().map(|(at, v)| (v.to_text().to_string(), with(at))).collect(), a.get(3))
        }
        (Value::Array(search), replace) => {
            let with = replace.map(|v| v.to_text().to_string()).unwrap_or_default();
            (search.iter().map(|v| (v.to_text().to_string(), with.clone())).collect(), a.get(3))
        }
        (Value::Str(search), replace) => (
            vec![(search.to_string(), replace.map(|v| v.to_text().to_string()).unwrap_or_default())],
            a.get(3),
        ),
        _ => return calls.mismatch(),
    };
    let mut left = limit.map_or(i64::MAX, Value::to_i64);
    let text = a[0].to_text();
    let (mut out, mut at) = (String::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let found = pairs.iter().find(|(search, _)| !search.is_empty() && rest.starts_with(search.as_str()));
        match found {
            Some((search, replace)) if left > 0 => {
                out.push_str(replace);
                at += search.len();
                left -= 1;
            }
            _ => {
                let c = rest.chars().next().unwrap_or_default();
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    Ok(Value::from(out))
}

fn substring(_: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let text: Vec<char> = a[0].to_text().chars().collect();
    let (length, start) = (text.len() as i64, a[1].to_i64());
    let start = if start < 0 { (start + length).max(0) } else { start.min(length) };
    let end = match a.get(2).map(Value::to_i64) {
        None => length,
        Some(count) if count < 0 => length + count,
        Some(count) => start.saturating_add(count).min(length),
    };
    let (start, end) = (usize::try_from(start).unwrap_or_default(), usize::try_from(end).unwrap_or_default());
    Ok(Value::from(text.get(start..end.max(start)).unwrap_or_default().iter().collect::<String>()))
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let cost = usize::from(one[i - 1] != other[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}
