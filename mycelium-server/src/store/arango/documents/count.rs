//! Counts, with which people calculate: numbers as far as every reader of JSON has them exactly, beyond that their
//! hexadecimal digits. For `#[serde(with)]`.

use serde::{Deserialize, Deserializer, Serializer, de};

use super::sorted;

/// The largest number that a float holds as well as all below it.
const EXACT_MAX: u64 = (1 << 53) - 1;

#[derive(Deserialize)]
#[serde(untagged, expecting = "a count was expected: a whole number, or 16 hexadecimal digits")]
enum Count {
    Whole(u64),
    /// What the database has calculated is a float for it.
    Float(f64),
    Digits(String),
}

/// Writes a count.
pub(in super::super) fn serialize<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match *count {
        exact @ ..=EXACT_MAX => serializer.serialize_u64(exact),
        _ => sorted::serialize(count, serializer),
    }
}

/// Reads one.
pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let count = match Count::deserialize(deserializer)? {
        Count::Whole(count) => Some(count),
        // In these bounds nothing is cut off.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and fits")]
        Count::Float(float) if float.fract() == 0.0 && (0.0..=EXACT_MAX as f64).contains(&float) => {
            Some(float as u64)
        }
        Count::Float(_) => None,
        Count::Digits(digits) => sorted::number(&digits),
    };
    count.ok_or_else(|| de::Error::custom("a count was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
    struct One(#[serde(with = "super")] u64);

    #[test]
    fn a_count_is_read_as_what_was_written() {
        for count in [0, 1, EXACT_MAX, EXACT_MAX + 1, u64::MAX] {
            let text = serde_json::to_string(&One(count)).unwrap();
            assert_eq!(serde_json::from_str::<One>(&text).unwrap(), One(count), "{text}");
        }
        assert_eq!(serde_json::to_string(&One(EXACT_MAX)).unwrap(), "9007199254740991");
        assert_eq!(serde_json::to_string(&One(EXACT_MAX + 1)).unwrap(), "\"0020000000000000\"");
        assert_eq!(serde_json::from_str::<One>("3.0").unwrap(), One(3));
        for wrong in ["-1", "1.5", "1e300", "null", "\"7\"", "[]"] {
            assert!(serde_json::from_str::<One>(wrong).is_err(), "{wrong}");
        }
    }
}
