//! The bytes of a value.

use mycelium_proto::v1::{self, payload};
use serde_json::value::RawValue;

use crate::output::{Json, format};

/// The encoding of what does not name one.
pub(super) const JSON: &str = "application/json";

/// The bytes of a value.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    /// `application/json` unless the runtime chose another.
    encoding: &'a str,
    /// How many bytes it takes.
    bytes: u64,
    /// The value itself, exactly as it travelled, if it is JSON and no blob.
    value: Option<&'a RawValue>,
    /// If it is a blob, too large to be shown: the SHA-256 of its bytes.
    blob: Option<String>,
}

impl Payload<'_> {
    /// The value as people read it.
    pub(crate) fn text(&self) -> String {
        let bytes = || format::count(self.bytes, "byte");
        match (self.value, &self.blob) {
            (Some(value), _) => value.get().to_owned(),
            (None, Some(digest)) => format!("<{}, blob {}…>", bytes(), digest.get(..8).unwrap_or(digest)),
            (None, None) => format!("<{} of {}>", bytes(), self.encoding),
        }
    }

    /// As programs read it.
    pub(super) fn to_json(&self) -> Json {
        Json::object([
            ("encoding", self.encoding.into()),
            ("bytes", self.bytes.into()),
            ("value", self.value.map_or(Json::Null, |value| Json::Raw(value.to_owned()))),
            ("blob", self.blob.clone().into()),
        ])
    }
}

impl<'a> From<&'a v1::Payload> for Payload<'a> {
    fn from(payload: &'a v1::Payload) -> Self {
        let encoding = if payload.encoding.is_empty() { JSON } else { &payload.encoding };
        let inline: &[u8] = match &payload.content {
            Some(payload::Content::Inline(bytes)) => bytes,
            Some(payload::Content::Blob(blob)) => {
                let digest = Some(format::hex(&blob.digest));
                return Self { encoding, bytes: blob.size, value: None, blob: digest };
            }
            None => &[],
        };
        let value = if encoding == JSON { serde_json::from_slice(inline).ok() } else { None };
        Self { encoding, bytes: inline.len() as u64, value, blob: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digits_of_a_number_are_shown() {
        const WIDE: &str = "[340282366920938463463374607431768211455,1.10]";
        let content = Some(payload::Content::Inline(WIDE.into()));
        let payload = v1::Payload { content, ..v1::Payload::default() };
        let payload = Payload::from(&payload);
        assert_eq!(payload.text(), WIDE);
        assert!(serde_json::to_string(&payload.to_json()).unwrap().contains(WIDE));
    }

    #[test]
    fn a_blob_is_shown_by_its_size_and_the_beginning_of_its_name() {
        let blob = v1::BlobRef { digest: vec![0xab; 32].into(), size: 1_234_567 };
        let payload = v1::Payload { encoding: String::new(), content: Some(payload::Content::Blob(blob)) };
        let payload = Payload::from(&payload);
        assert_eq!(payload.text(), "<1234567 bytes, blob abababab…>");
        let json = serde_json::to_value(payload.to_json()).unwrap();
        let expected = serde_json::json!({
            "encoding": "application/json", "bytes": 1_234_567, "value": null, "blob": "ab".repeat(32),
        });
        assert_eq!(json, expected);
    }
}
