//! How ids, bytes and moments are written in an export.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mycelium_core::ids::Timestamp;
use mycelium_core::labels::Labels;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is written as it is shown: ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Each of some ids.
pub(super) fn texts<T: Copy>(ids: &[T]) -> Vec<Text<T>> {
    ids.iter().copied().map(Text).collect()
}

/// The ids that were written.
pub(super) fn ids<T>(texts: Vec<Text<T>>) -> Vec<T> {
    texts.into_iter().map(|Text(id)| id).collect()
}

/// Bytes that are written as hexadecimal digits: digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom(format!("not {} hexadecimal digits", 2 * N)))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// Bytes that mean something to others alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Base64(pub(super) Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(D::Error::custom)
    }
}

/// A moment: for people, and exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// In ISO 8601, UTC. Not read back; null after the year 9999.
    at: Option<String>,
    /// In microseconds since the Unix epoch.
    us: u64,
}

impl From<Timestamp> for Moment {
    fn from(Timestamp(us): Timestamp) -> Self {
        /// The last second of the year 9999.
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        let since = Duration::from_micros(us);
        let at = (since < LAST)
            .then(|| humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + since).to_string());
        Self { at, us }
    }
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        Self(moment.us)
    }
}

/// Labels, by key.
pub(super) type LabelMap = BTreeMap<String, String>;

/// Labels as they are written: nothing if there are none.
pub(super) fn label_map(labels: &Labels) -> LabelMap {
    labels.into()
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::JobId;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let id = JobId::new([0xab; 16]);
        let json = serde_json::to_string(&(Text(id), Hex([7_u8; 3]), Base64(Bytes::from_static(b"\xff\0"))));
        let json = json.unwrap();
        assert_eq!(json, r#"["abababab-abab-abab-abab-abababababab","070707","/wA="]"#);
        let read: (Text<JobId>, Hex<3>, Base64) = serde_json::from_str(&json).unwrap();
        assert_eq!(read, (Text(id), Hex([7; 3]), Base64(Bytes::from_static(b"\xff\0"))));
        for wrong in [r#""0707""#, r#""07070""#, r#""07070x""#, r#""070707070707""#] {
            assert!(serde_json::from_str::<Hex<3>>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_exact_whatever_the_calendar_says() {
        for us in [0, 1, 1_767_225_600_000_001, 253_402_300_799_000_000, u64::MAX] {
            let moment = Moment::from(Timestamp(us));
            let json = serde_json::to_string(&moment).unwrap();
            assert_eq!(Timestamp::from(serde_json::from_str::<Moment>(&json).unwrap()), Timestamp(us));
        }
        assert_eq!(Moment::from(Timestamp(1)).at.unwrap(), "1970-01-01T00:00:00.000001Z");
        assert_eq!(Moment::from(Timestamp(u64::MAX)).at, None);
    }
}
