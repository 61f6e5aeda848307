//! Keys of documents.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The most bytes of a key.
const KEY_BYTES_MAX: usize = 254;
/// The most bytes of a part of a key that is made of a name: two of them fit with a digest or two ids beside them.
const PART_BYTES_MAX: usize = 80;

/// A name as (part of) a key: itself where its characters allow and it is short enough, else its digest. The characters
/// that join parts, and those that would need care in URLs, do not stand in it.
pub(in super::super) fn of_name(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    // What looks like a digest is taken for a name that has to be digested: no two names have one key.
    if !name.is_empty() && name.len() <= PART_BYTES_MAX && name.bytes().all(fits) && !name.starts_with(DIGEST)
    {
        return name.to_owned();
    }
    let mut key = DIGEST.to_owned();
    key.push_str(&hex(&Sha256::digest(name)));
    key
}

const DIGEST: &str = "sha256-";

/// Joins parts.
pub(in super::super) fn join(parts: &[&dyn std::fmt::Display]) -> String {
    let mut key = String::with_capacity(KEY_BYTES_MAX.min(parts.len() * 37));
    for (place, part) in parts.iter().enumerate() {
        // Writing to a string does not fail.
        let _written = write!(key, "{}{part}", if place == 0 { "" } else { "." });
    }
    debug_assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes", key.len());
    key
}

/// Bytes in lower-case hexadecimal digits: they sort as the bytes do, whatever the collation.
pub(in super::super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _written = write!(text, "{byte:02x}");
    }
    text
}

/// Undoes [`hex`].
pub(in super::super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_where_they_can_be_and_no_two_share_one() {
        assert_eq!(of_name("task_weigh-2"), "task_weigh-2");
        let digested = of_name("a b");
        assert_eq!(digested.len(), DIGEST.len() + 64);
        let others = ["", "Zoë", "a.b", "a/b", "a:b", "50%", &"x".repeat(PART_BYTES_MAX + 1), &digested];
        let mut keys: Vec<String> =
            others.iter().map(|name| of_name(name)).chain([digested.clone()]).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
        assert!(keys.iter().all(|key| key.starts_with(DIGEST)));
    }

    #[test]
    fn hex_digits_are_read_as_the_bytes_they_were() {
        assert_eq!(hex(&[0, 0x0f, 0xff]), "000fff");
        assert_eq!(from_hex("000fff"), Some(vec![0, 0x0f, 0xff]));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("é")), (None, None, None));
    }
}
