//! Just enough JSON: is it valid, and how long is a string once it is written.

use serde::de::IgnoredAny;

/// Whether `bytes` are one valid JSON value, nested at most 127 deep.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_is_told_from_invalid_and_too_deep() {
        for good in ["1", "-1.5e3", "\"ä\"", "[1,{\"a\":null}]", " true "] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", "nul", "1 2", "[1,", "\"\u{1}\"", "{1:2}"] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(&[b'"', 0xff, b'"']), "not UTF-8");
        assert!(!is_json("[".repeat(100_000).as_bytes()));
    }
}
