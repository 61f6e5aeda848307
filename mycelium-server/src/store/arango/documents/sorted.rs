//! Numbers that documents are sorted by: 16 hexadecimal digits, which sort as the numbers do whatever the collation, and
//! keep numbers of more than 53 bits. For `#[serde(with)]`.

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// The digits of a number.
pub(in super::super) fn text(number: u64) -> String {
    format!("{number:016x}")
}

/// Undoes [`text`].
pub(in super::super) fn number(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Writes a number.
pub(in super::super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*number))
}

/// Reads one.
pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let read = String::deserialize(deserializer)?;
    number(&read).ok_or_else(|| de::Error::custom("a number of 16 hexadecimal digits was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_their_digits_do() {
        let numbers = [0, 1, 15, 16, u64::from(u32::MAX), 1 << 53, u64::MAX];
        let texts = numbers.map(text);
        assert!(texts.is_sorted());
        assert_eq!(texts.map(|text| number(&text)), numbers.map(Some));
        assert_eq!((number("1"), number("000000000000000g")), (None, None));
    }
}
