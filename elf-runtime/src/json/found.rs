//! What stands at a place of a JSON text, by its type and never by its content.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::place::Step;

/// The text of the part at a place; none if there is no such place.
pub(super) fn part<'a>(json: &'a [u8], steps: &[Step]) -> Option<&'a str> {
    let mut part: &RawValue = serde_json::from_slice(json).ok()?;
    for step in steps {
        part = match step {
            Step::Index(index) => *serde_json::from_str::<Vec<&RawValue>>(part.get()).ok()?.get(*index)?,
            Step::Key(key) => {
                serde_json::from_str::<HashMap<String, &RawValue>>(part.get()).ok()?.remove(key)?
            }
        };
    }
    Some(part.get())
}

/// What a JSON text is, with its article.
pub(super) fn kind(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a bool",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "a map",
        _ if is_integer(json) => "an integer",
        Some(_) | None => "a float",
    }
}

/// Whether a number is written as an integer.
pub(super) fn is_integer(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Whether there may be an integer beyond what 64 bits hold, in a pass over the text that looks at two bytes in three and
/// parses nothing. What stands in a string may look like one.
pub(super) fn may_have_wide_integer(json: &[u8]) -> bool {
    // The shortest such integer has 19 digits, so one of the words of 8 bytes that begin 12 bytes apart lies within it.
    const STRIDE: usize = 12;
    let mut at = 0;
    // Behind the last word of the number that was looked at last, if it goes on there.
    let mut seen = None;
    while let Some(word) = json.get(at..at + WORD) {
        if !is_digits(word) {
            at += STRIDE;
            continue;
        }
        let goes_on = seen == Some(at);
        seen = Some(at + WORD);
        if goes_on {
            at += WORD;
            continue;
        }
        let start = json[..at].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |before| before + 1);
        let before = start.checked_sub(1).map(|before| json[before]);
        let most: &[u8] = match before {
            Some(b'-') => b"9223372036854775808",
            _ => b"18446744073709551615",
        };
        if before != Some(b'.')
            && let Some(digits) = json.get(start..start + most.len())
            && digits.iter().rev().all(u8::is_ascii_digit)
            && (digits > most || json.get(start + most.len()).is_some_and(u8::is_ascii_digit))
        {
            return true;
        }
        at += WORD;
    }
    false
}

/// The integers beyond 64 bits of which a float loses digits, as the bits of those floats.
pub(super) fn lossy_integers(json: &[u8]) -> HashSet<u64> {
    let mut lossy = HashSet::new();
    let mut rest = json;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'"' => behind_string(after),
            b'-' | b'0'..=b'9' => {
                let is_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let end = rest.iter().position(|byte| !is_number(byte)).unwrap_or(rest.len());
                let (number, behind) = rest.split_at(end);
                lossy.extend(std::str::from_utf8(number).ok().and_then(lossy_float));
                behind
            }
            _ => after,
        };
    }
    lossy
}

/// How deep lists and maps are nested.
pub(super) fn depth(json: &[u8]) -> usize {
    let (mut depth, mut depth_max) = (0_usize, 0);
    let mut rest = json;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'"' => behind_string(after),
            b'[' | b'{' => {
                depth += 1;
                depth_max = depth.max(depth_max);
                after
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                after
            }
            _ => after,
        };
    }
    depth_max
}

/// What stands behind a string that has begun.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [] => return rest,
            [b'"', behind @ ..] => return behind,
            [b'\\', _, behind @ ..] => behind,
            [_, behind @ ..] => behind,
        };
    }
}

/// The float that serde_json makes of an integer beyond 64 bits, if the digits cannot be told from it: neither those of
/// its value nor the shortest that mean it, which is how JavaScript writes one.
fn lossy_float(number: &str) -> Option<u64> {
    const DIGITS_MIN: usize = 19;
    if number.len() < DIGITS_MIN
        || !is_integer(number)
        || number.parse::<u64>().is_ok()
        || number.parse::<i64>().is_ok()
    {
        return None;
    }
    let float: f64 = serde_json::from_str(number).ok()?;
    (format!("{float}") != number && format!("{float:.0}") != number).then_some(float.to_bits())
}

const WORD: usize = 8;

/// Whether eight bytes are digits, all at once.
fn is_digits(word: &[u8]) -> bool {
    let Ok(word) = <[u8; WORD]>::try_from(word) else { return false };
    let word = u64::from_le_bytes(word);
    // A digit is 0x30 to 0x39: its upper half is 3, and stays so when 6 is added.
    const UPPER: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const DIGITS: u64 = 0x3030_3030_3030_3030;
    (word & UPPER) == DIGITS && (word.wrapping_add(0x0606_0606_0606_0606) & UPPER) == DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_named_by_their_type_alone() {
        let json = br#" {"a": [null, {"b c": "hunter2"}], "a2": -1.5e3} "#;
        let key = |key: &str| Step::Key(key.to_owned());
        let at = |steps: &[Step]| part(json, steps).map(kind);
        assert_eq!(at(&[]), Some("a map"));
        assert_eq!(at(&[key("a")]), Some("a list"));
        assert_eq!(at(&[key("a"), Step::Index(0)]), Some("null"));
        assert_eq!(at(&[key("a"), Step::Index(1), key("b c")]), Some("a string"));
        assert_eq!(at(&[key("a2")]), Some("a float"));
        assert_eq!(at(&[key("a"), Step::Index(2)]), None);
        assert_eq!(at(&[key("x")]), None);
        assert_eq!((kind("-7"), kind("true")), ("an integer", "a bool"));
    }

    #[test]
    fn the_integers_that_a_float_would_change_are_told_from_all_else() {
        let count = |json: &str| lossy_integers(json.as_bytes()).len();
        const WIDE: &str = "340282366920938463463374607431768211455";
        assert_eq!(count(&format!("[{WIDE}, -{WIDE},{{\"a\":18446744073709551617}}, {WIDE}]")), 3);
        for fine in [
            "18446744073709551615",
            "-9223372036854775808",
            "200000000000000000000",
            "147573952589676410000",
            "18446744073709551616",
            "3.4028236692093846346337460743176821e38",
            "",
        ] {
            assert_eq!(count(fine), 0, "{fine}");
        }
        assert_eq!(count(&format!(r#"["{WIDE}", "\\\"{WIDE}", {{"{WIDE}": 1}}]"#)), 0);
        assert_eq!(count(&format!(r#"["\\", {WIDE}]"#)), 1);
    }

    #[test]
    fn integers_beyond_64_bits_are_noticed_wherever_they_stand() {
        let wide = |text: &str| may_have_wide_integer(text.as_bytes());
        for shift in 0..40 {
            let before = " ".repeat(shift);
            for number in ["18446744073709551616", "-9223372036854775809", &"7".repeat(39)] {
                assert!(wide(&format!("{before}{number}")), "{shift} {number}");
                assert!(wide(&format!("[1,{before}{number}]")), "{shift} {number}");
            }
            for number in ["18446744073709551615", "-9223372036854775808", "0.1234567890123456789012", "1.5"]
            {
                assert!(!wide(&format!("{before}{number}")), "{shift} {number}");
                assert!(!wide(&format!("[{before}{number},{number}]")), "{shift} {number}");
            }
        }
        assert!(!wide(""));
        // In a time that grows with the length and not with its square.
        let long = format!("0.{}", "7".repeat(10_000_000));
        assert!(!wide(&long));
        assert!(wide(&format!("[{long},{}]", "7".repeat(30))));
    }
}
