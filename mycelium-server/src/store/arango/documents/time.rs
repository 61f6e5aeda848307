//! Moments: in ISO 8601, exact, and beside that in milliseconds, to calculate with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mycelium_core::ids::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last moment that ISO 8601 has a year of four digits for.
const LAST: Timestamp = Timestamp(253_402_300_799_999_999);

/// A moment, such as `2026-11-29T10:16:49.123456Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Date(pub(in super::super) Timestamp);

impl Date {
    /// Whole milliseconds since the Unix epoch.
    pub(in super::super) fn ms(self) -> u64 {
        self.0.0 / 1_000
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = Duration::from_micros(self.0.min(LAST).0);
        serializer.collect_str(&humantime::format_rfc3339_micros(UNIX_EPOCH + since))
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: SystemTime = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        let since = moment.duration_since(UNIX_EPOCH).map_err(D::Error::custom)?;
        u64::try_from(since.as_micros()).map(|micros| Self(Timestamp(micros))).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_what_was_written() {
        for micros in [0, 1, 999, 1_000, 1_764_411_409_123_456, LAST.0] {
            let date = Date(Timestamp(micros));
            let text = serde_json::to_string(&date).unwrap();
            assert_eq!(serde_json::from_str::<Date>(&text).unwrap(), date, "{text}");
        }
        let date = Date(Timestamp(1_764_411_409_123_456));
        assert_eq!(serde_json::to_string(&date).unwrap(), "\"2025-11-29T10:16:49.123456Z\"");
        assert_eq!(date.ms(), 1_764_411_409_123);
        assert!(serde_json::from_str::<Date>("\"yesterday\"").is_err());
        // Later than that there is no text of the form; nobody's clock stands there.
        assert_eq!(
            serde_json::to_string(&Date(Timestamp(u64::MAX))).unwrap(),
            serde_json::to_string(&Date(LAST)).unwrap()
        );
    }
}
