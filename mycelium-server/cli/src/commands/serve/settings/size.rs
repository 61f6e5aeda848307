//! Numbers of bytes, as people write them.

use anyhow::{Context as _, bail};

/// What they are counted in; first what is written, the largest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads `64MiB`, `500 kB`, or a number of bytes.
pub(super) fn read(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" => "B",
        unit => unit,
    };
    let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (false, Some((_, bytes))) = (number.is_empty(), unit) else {
        bail!("`{text}` is not a size such as 64MiB, 500kB or 67108864");
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*bytes));
    size.with_context(|| format!("`{text}` is more than can be counted"))
}

/// Writes it, exactly, so that it can be read again.
pub(in super::super) fn written(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_all_units_and_written_in_one() {
        for (text, expected) in [
            ("0", 0),
            ("67108864", 64 << 20),
            ("128MiB", 128 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1gib", 1 << 30),
            ("2TiB", 2 << 40),
            ("8 KiB", 8 << 10),
            ("500kB", 500_000),
            ("500KB", 500_000),
            ("3GB", 3_000_000_000),
            ("7 B", 7),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
            assert_eq!(read(&written(expected)).unwrap(), expected, "{text}");
        }
        let shown = [0, 7, 1 << 10, 500_000, 64 << 20, (64 << 20) + 1, 10 << 30, u64::MAX].map(written);
        assert_eq!(
            shown,
            ["0B", "7B", "1KiB", "500000B", "64MiB", "67108865B", "10GiB", "18446744073709551615B"]
        );
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "64M", "64 Mi B", "1.5GiB", "-1", "+1", "1e6", "64MiB!", "many"] {
            assert!(read(text).unwrap_err().to_string().contains("is not a size such as 64MiB"), "{text}");
        }
        for text in ["18446744073709551616", "99999999TiB"] {
            assert!(read(text).unwrap_err().to_string().contains("more than can be counted"), "{text}");
        }
    }
}
