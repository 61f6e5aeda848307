//! Versions of ArangoDB, and which of them mycelium works with.

use std::fmt;

/// A version as far as it counts: what follows the third number is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u32; 3]);

impl Version {
    /// Reads a version such as `3.12.7-2` or `4.0.0-devel`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut numbers = [0; 3];
        for number in &mut numbers {
            let part = parts.next()?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
            *number = digits.parse().ok()?;
        }
        Some(Self(numbers))
    }

    /// Why mycelium does not work with it, if so.
    pub(super) fn refusal(self, is_cluster: bool) -> Option<&'static str> {
        match self {
            Self(version) if version < [3, 11, 11] => {
                Some("it is too old, and orders large numbers wrongly in indexes")
            }
            Self([3, 12, 0..=3]) => Some("3.12.0 to 3.12.3 have defects in the order of indexes"),
            Self([3, 12, 4]) if is_cluster => Some("in a cluster it takes 3.12.5"),
            Self(_) => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_whatever_follows() {
        for (text, expected) in [
            ("3.12.5", Some([3, 12, 5])),
            ("3.12.7-2", Some([3, 12, 7])),
            ("4.0.0-devel", Some([4, 0, 0])),
            ("3.11.14.1", Some([3, 11, 14])),
            ("3.12", None),
            ("3.12.x", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), expected.map(Version), "{text}");
        }
    }

    #[test]
    fn versions_with_defects_in_their_indexes_are_refused() {
        for (text, single, cluster) in [
            ("3.10.14", false, false),
            ("3.11.10", false, false),
            ("3.11.11", true, true),
            ("3.11.14", true, true),
            ("3.12.0", false, false),
            ("3.12.3", false, false),
            ("3.12.4", true, false),
            ("3.12.5", true, true),
            ("3.12.10-1", true, true),
            ("4.0.0-devel", true, true),
        ] {
            let version = Version::parse(text).unwrap();
            let taken = [false, true].map(|is_cluster| version.refusal(is_cluster).is_none());
            assert_eq!(taken, [single, cluster], "{text}");
        }
    }
}
