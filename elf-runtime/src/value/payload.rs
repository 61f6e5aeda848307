//! The bytes of one value, as they travel.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, Mismatch, Unwritable};
use crate::type_name;

/// The encoding of values that serde wrote: UTF-8 JSON.
const JSON: &str = "application/json";

/// The bytes of one value and how they are encoded. JSON unless said otherwise; payloads of other encodings pass
/// from task to task untouched, as whole values only.
///
/// It may be large: what is above 64 KiB ([`limits::PAYLOAD_BYTES_MAX`]) travels beside the jobs and outcomes that name
/// it, unseen. At most 64 GiB ([`limits::BLOB_BYTES_MAX`]) travel; larger ones are refused before they are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    encoding: Cow<'static, str>,
    bytes: Bytes,
}

/// Why a value cannot be written to a payload or read from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The value has no JSON form (a map whose keys are not text, for example), or one that is read back as something
    /// else: NaN and infinities, which JSON does not have, and `Some` of what is null, which reads as `None`.
    #[error("it cannot be written as JSON: {0}")]
    Unwritable(#[source] Unwritable),
    /// The payload is not the JSON of a value of this type.
    #[error("it cannot be read as `{}`: {source}", type_name::short(expected))]
    Unreadable {
        /// The Rust type that was expected.
        expected: &'static str,
        /// Where it is none. Says nothing of the content.
        #[source]
        source: Mismatch,
    },
    /// The payload is not JSON.
    #[error("it is encoded as `{0}`, not as JSON")]
    OtherEncoding(String),
    /// The payload is larger than what travels.
    #[error("it takes {bytes} bytes, and at most {} travel", limits::BLOB_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl Payload {
    /// Writes a value as JSON.
    ///
    /// # Errors
    /// [`PayloadError::Unwritable`] if the value has no JSON form that is read back as what it is.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let bytes = json::to_vec(value).map_err(PayloadError::Unwritable)?;
        Ok(Self::from_json_bytes(Bytes::from(bytes)))
    }

    /// A payload of bytes that are JSON already. They are not checked.
    #[must_use]
    pub const fn from_json_bytes(bytes: Bytes) -> Self {
        Self { encoding: Cow::Borrowed(JSON), bytes }
    }

    /// A payload in an encoding of the caller's own, as a media type.
    #[must_use]
    pub fn encoded(encoding: impl Into<Cow<'static, str>>, bytes: Bytes) -> Self {
        Self { encoding: encoding.into(), bytes }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`PayloadError::OtherEncoding`] if it is not JSON, [`PayloadError::Unreadable`] if it is not the JSON of a
    /// `T`, or has an integer beyond 64 bits where a `T` (a [`serde_json::Value`], say) would make a float of it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        if !self.is_json() {
            return Err(PayloadError::OtherEncoding(self.encoding.clone().into_owned()));
        }
        json::from_slice(&self.bytes)
            .map_err(|source| PayloadError::Unreadable { expected: std::any::type_name::<T>(), source })
    }

    /// How the bytes are encoded, as a media type.
    #[must_use]
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Whether the bytes are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.encoding == JSON
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// # Errors
    /// [`PayloadError::TooLarge`] if it is larger than what travels.
    pub(crate) fn check_size(&self) -> Result<(), PayloadError> {
        check_size(self.bytes.len())
    }

    /// Whether it is too large to travel inline.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes.len() > limits::PAYLOAD_BYTES_MAX
    }

    /// A payload whose encoding is written as on the wire: empty for JSON.
    pub(crate) fn from_wire(encoding: String, bytes: Bytes) -> Self {
        let encoding =
            if encoding.is_empty() || encoding == JSON { Cow::Borrowed(JSON) } else { Cow::Owned(encoding) };
        Self { encoding, bytes }
    }

    /// The payload as it travels inline, whatever its size.
    pub(crate) fn into_inline(self) -> v1::Payload {
        // On the wire an empty encoding means JSON, which saves 16 bytes a value.
        let encoding = if self.is_json() { String::new() } else { self.encoding.into_owned() };
        v1::Payload { encoding, content: Some(v1::payload::Content::Inline(self.bytes)) }
    }
}

fn check_size(bytes: usize) -> Result<(), PayloadError> {
    if bytes as u64 > limits::BLOB_BYTES_MAX { Err(PayloadError::TooLarge { bytes }) } else { Ok(()) }
}

/// Which values, by index, become blobs: those too large to travel inline, and of the rest the largest ones until what
/// stays inline comes to no more than `inline_max` bytes.
pub(crate) fn choose_large(sizes: &[usize], inline_max: usize) -> Vec<usize> {
    let is_large = |index: &usize| sizes[*index] > limits::PAYLOAD_BYTES_MAX;
    let (mut large, mut inline): (Vec<usize>, Vec<usize>) = (0..sizes.len()).partition(is_large);
    let mut inline_bytes: usize = inline.iter().map(|index| sizes[*index]).sum();
    if inline_bytes > inline_max {
        inline.sort_by_key(|index| Reverse(sizes[*index]));
        for index in inline {
            if inline_bytes <= inline_max {
                break;
            }
            inline_bytes -= sizes[index];
            large.push(index);
        }
    }
    large
}

/// Without the content, which is nobody's business in a log.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.encoding, self.bytes.len())
    }
}

/// The JSON, cut after 64 characters; of other encodings the name and the size.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARACTERS_MAX: usize = 64;
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if self.is_json() => match text.char_indices().nth(CHARACTERS_MAX) {
                Some((end, _)) => write!(f, "{}…", &text[..end]),
                None => f.write_str(text),
            },
            Ok(_) | Err(_) => write!(f, "<{}, {} bytes>", self.encoding, self.bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_all_their_64_bits() {
        for number in [i64::MIN, -1, i64::MAX] {
            assert_eq!(Payload::json(&number).unwrap().read::<i64>().unwrap(), number);
        }
        assert_eq!(Payload::json(&u64::MAX).unwrap().read::<u64>().unwrap(), u64::MAX);
    }

    #[test]
    fn json_is_the_default_on_the_wire_and_others_keep_their_name() {
        let json = Payload::json("bee").unwrap();
        let wire = json.clone().into_inline();
        assert_eq!(wire.encoding, "");
        let back = Payload::from_wire(wire.encoding, json.bytes().clone());
        assert_eq!(back.read::<String>().unwrap(), "bee");

        let other = Payload::encoded("image/png", Bytes::from_static(b"x"));
        let back = Payload::from_wire(other.clone().into_inline().encoding, other.bytes().clone());
        assert_eq!(back, other);
        assert_eq!(
            back.read::<String>().unwrap_err().to_string(),
            "it is encoded as `image/png`, not as JSON"
        );
    }

    #[test]
    fn a_payload_of_the_wrong_type_says_what_was_expected() {
        let error = Payload::json("bee").unwrap().read::<i64>().unwrap_err().to_string();
        assert_eq!(error, "it cannot be read as `i64`: expected i64, found a string");
    }

    #[test]
    fn the_size_limits_are_exact() {
        let of = |size| Payload::from_json_bytes(Bytes::from(vec![b'1'; size]));
        assert!(!of(limits::PAYLOAD_BYTES_MAX).is_large());
        assert!(of(limits::PAYLOAD_BYTES_MAX + 1).is_large());
        let max = usize::try_from(limits::BLOB_BYTES_MAX).unwrap();
        check_size(max).unwrap();
        let error = check_size(max + 1).unwrap_err();
        assert_eq!(error.to_string(), "it takes 68719476737 bytes, and at most 68719476736 travel");
    }

    #[test]
    fn what_is_logged_of_a_payload_is_not_its_content() {
        assert_eq!(format!("{:?}", Payload::json("hunter2").unwrap()), "Payload(application/json, 9 bytes)");
    }

    #[test]
    fn a_long_payload_is_shown_cut_at_a_character() {
        let shown = Payload::json(&"ü".repeat(100)).unwrap().to_string();
        assert_eq!(shown.chars().count(), 65);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn what_is_large_becomes_a_blob_and_then_the_largest_until_the_rest_fits() {
        const MAX: usize = limits::PAYLOAD_BYTES_MAX;
        assert_eq!(choose_large(&[MAX, MAX + 1, 0], 10 * MAX), [1]);
        assert_eq!(choose_large(&[3, 2, 5, 4], 9), [2]);
        assert_eq!(choose_large(&[3, 2, 5, 4], 8), [2, 3]);
        assert_eq!(choose_large(&[MAX + 1, 3, 2, 5, 4], 4), [0, 3, 4, 1]);
        // As many at the limit as fit together, and one more.
        let sizes = vec![MAX; limits::JOB_BYTES_MAX / MAX + 1];
        assert_eq!(choose_large(&sizes, limits::JOB_BYTES_MAX).len(), 1);
        assert_eq!(choose_large(&sizes[1..], limits::JOB_BYTES_MAX).len(), 0);
        assert!(choose_large(&[], 0).is_empty());
    }
}
