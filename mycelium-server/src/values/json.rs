//! Just enough JSON to tell whether a payload is any.

use serde::de::IgnoredAny;

/// Whether `bytes` are one valid JSON value in UTF-8. Takes no memory and does not recurse, however deep the value is.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    // The parser skips what it ignores byte by byte, so whether it is UTF-8 has to be asked first.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_is_told_from_invalid_at_any_depth() {
        for good in ["1", "-1.5e3", "\"ä\"", "[1,{\"a\":null}]", " true "] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", "nul", "1 2", "[1,", "\"\u{1}\"", "{1:2}"] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(&[b'"', 0xff, b'"']), "not UTF-8");
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
        assert!(is_json(("[".repeat(500_000) + &"]".repeat(500_000)).as_bytes()));
    }
}
