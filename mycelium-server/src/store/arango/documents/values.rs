//! Values: what people see of them and can filter on, and what they are read back from.
//!
//! ArangoDB gives back what a value means and not how it was written: 1.0 comes back as 1. So beside the value stands its
//! text, unless everybody writes it alike. What it cannot hold stands as text alone.

use std::collections::HashSet;

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::v1::{self, payload};
use mycelium_values::json::{self, Survey};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Text;
use super::{base64, key};
use crate::store::{Error, indexed};

/// Deeper values stand as text alone: in documents and requests they would be too deep.
const DEPTH_MAX: usize = 100;

/// A value in a document. Without any attribute it is null.
#[derive(Debug, Default, Serialize)]
pub(in super::super) struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    encoding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", with = "base64::optional")]
    bytes: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl<'a> Shown<'a> {
    /// Of a payload, such that [`Stored::payload`] gives it back.
    pub(in super::super) fn of(payload: &'a v1::Payload) -> Self {
        let encoding = payload.encoding.as_str();
        match &payload.content {
            Some(payload::Content::Inline(bytes)) if json::is_json_encoding(encoding) => {
                Self { encoding, ..Self::of_json(bytes) }
            }
            Some(payload::Content::Inline(bytes)) => Self::of_bytes(encoding, bytes),
            Some(payload::Content::Blob(blob)) => Self {
                encoding,
                digest: Some(key::hex(&blob.digest)),
                size: Some(blob.size),
                ..Self::default()
            },
            None => Self { encoding, ..Self::default() },
        }
    }

    /// The same for people alone: without a text that is read back, where there is a value.
    pub(in super::super) fn for_people(payload: &'a v1::Payload) -> Self {
        let shown = Self::of(payload);
        Self { text: shown.text.filter(|_| shown.value.is_none()), ..shown }
    }

    fn of_bytes(encoding: &'a str, bytes: &Bytes) -> Self {
        Self { encoding, bytes: Some(bytes.clone()), ..Self::default() }
    }

    fn of_json(bytes: &'a Bytes) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::of_bytes("", bytes) };
        // A null among attributes may be taken for one that is not there, so that is what it is.
        if text == "null" {
            return Self::default();
        }
        let fits =
            |survey: &Survey| survey.depth <= DEPTH_MAX && !survey.has_empty_key && survey.integers_fit;
        match json::survey(bytes).ok().filter(fits) {
            Some(survey) => {
                let value = serde_json::from_str(text).ok();
                let text = if survey.is_plain && value.is_some() { None } else { Some(text) };
                Self { value, text, ..Self::default() }
            }
            None => Self { text: Some(text), ..Self::default() },
        }
    }
}

/// A value as it is read.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Stored {
    #[serde(default)]
    value: Option<serde_json::Value>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    encoding: String,
    #[serde(default, with = "base64::optional")]
    bytes: Option<Bytes>,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

impl Stored {
    /// The payload that it was made of; `None` if it cannot have been made of any.
    fn payload(self) -> Option<v1::Payload> {
        let Self { value, text, encoding, bytes, digest, size } = self;
        let inline = |bytes| payload::Content::Inline(bytes);
        let content = match (value, text, bytes, digest) {
            (_, Some(text), None, None) => inline(Bytes::from(text)),
            (Some(value), None, None, None) => inline(Bytes::from(serde_json::to_vec(&value).ok()?)),
            (None, None, None, None) => inline(Bytes::from_static(b"null")),
            (None, None, Some(bytes), None) => inline(bytes),
            (None, None, None, Some(digest)) => payload::Content::Blob(v1::BlobRef {
                digest: Bytes::from(key::from_hex(&digest)?),
                size: size?,
            }),
            _ => return None,
        };
        Some(v1::Payload { encoding, content: Some(content) })
    }
}

/// What a job returned.
#[derive(Debug)]
pub(in super::super) enum Returned {
    /// Outputs by name.
    Named(v1::Outputs),
    /// Bytes that are not the usual form of that.
    Opaque(Bytes),
}

impl Returned {
    /// Of the encoded outputs of a job, such that [`read_outputs`] gives them back.
    pub(in super::super) fn of(job: JobId, encoded: &Bytes) -> Self {
        let is_kept = |output: &v1::NamedOutput| {
            output.payload.as_ref().is_some_and(|payload| payload.content.is_some())
        };
        let outputs = indexed::outputs(job, encoded.clone()).map(|outputs| v1::Outputs { outputs });
        match outputs {
            Ok(outputs)
                if outputs.outputs.iter().all(is_kept)
                    && are_distinct(&outputs.outputs)
                    && outputs.encode_to_vec() == *encoded =>
            {
                Self::Named(outputs)
            }
            Ok(_) | Err(_) => Self::Opaque(encoded.clone()),
        }
    }

    /// The names of the outputs; `None` if they cannot be told apart.
    pub(in super::super) fn names(&self) -> Option<Vec<&str>> {
        match self {
            Self::Named(outputs) => Some(outputs.outputs.iter().map(|output| output.name.as_str()).collect()),
            Self::Opaque(_) => None,
        }
    }

    /// The documents of the outputs.
    pub(in super::super) fn documents(&self, job: JobId) -> Vec<ResultDocument<'_>> {
        let document = |name, place, shown, encoded| ResultDocument {
            key: result_key(job, name),
            job: Text(job),
            name,
            place,
            shown,
            encoded,
        };
        match self {
            Self::Named(outputs) => (0..)
                .zip(&outputs.outputs)
                .map(|(place, output)| {
                    let shown = output.payload.as_ref().map(Shown::of).unwrap_or_default();
                    document(Some(output.name.as_str()), place, shown, None)
                })
                .collect(),
            Self::Opaque(encoded) => vec![document(None, 0, Shown::default(), Some(encoded.clone()))],
        }
    }
}

fn are_distinct(outputs: &[v1::NamedOutput]) -> bool {
    let mut names = HashSet::with_capacity(outputs.len());
    outputs.iter().all(|output| names.insert(output.name.as_str()))
}

/// The key of a result: of that of an output, or of all that a job returned.
pub(in super::super) fn result_key(job: JobId, output: Option<&str>) -> String {
    match output {
        Some(output) => key::join(&[&job, &key::of_name(output)]),
        None => format!("{job}!outputs"),
    }
}

/// What a job returned under one name, as a document of Results.
#[derive(Debug, Serialize)]
pub(in super::super) struct ResultDocument<'a> {
    #[serde(rename = "_key")]
    pub(in super::super) key: String,
    pub(in super::super) job: Text<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) name: Option<&'a str>,
    place: u32,
    #[serde(flatten)]
    shown: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none", with = "base64::optional")]
    encoded: Option<Bytes>,
}

/// A document of Results as it is read.
#[derive(Debug, Deserialize)]
pub(in super::super) struct StoredResult {
    #[serde(rename = "_key")]
    key: String,
    #[serde(default)]
    name: String,
    place: u32,
    #[serde(flatten)]
    stored: Stored,
    #[serde(default, with = "base64::optional")]
    encoded: Option<Bytes>,
}

/// The encoded outputs of a job that is DONE, of its results and the names that its document gives.
///
/// # Errors
/// [`Error::Damaged`].
pub(in super::super) fn read_outputs(
    job: JobId,
    names: Option<&[String]>,
    mut results: Vec<StoredResult>,
) -> Result<Bytes, Error> {
    let damaged = |what: String| Error::Damaged { what };
    let Some(names) = names else {
        let whole = result_key(job, None);
        let encoded =
            results.into_iter().find(|result| result.key == whole).and_then(|result| result.encoded);
        return encoded.ok_or_else(|| damaged(format!("document Results/{whole} is missing")));
    };
    // Others are left of an earlier end of the job.
    let whole = result_key(job, None);
    results.retain(|result| result.key != whole && names.contains(&result.name));
    results.sort_by_key(|result| result.place);
    if results.len() != names.len() {
        let there = results.len();
        return Err(damaged(format!("job {job} has {there} of its {} documents in Results", names.len())));
    }
    let outputs = names.iter().zip(results).map(|(name, result)| {
        let StoredResult { key, name: stored_name, stored, .. } = result;
        let payload = stored.payload().filter(|_| stored_name == *name);
        let payload = payload.ok_or_else(|| damaged(format!("document Results/{key} cannot be right")))?;
        Ok(v1::NamedOutput { name: stored_name, payload: Some(payload) })
    });
    Ok(Bytes::from(v1::Outputs { outputs: outputs.collect::<Result<_, Error>>()? }.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> v1::Payload {
        inline("", text.as_bytes())
    }

    fn inline(encoding: &str, bytes: &[u8]) -> v1::Payload {
        let content = Some(payload::Content::Inline(Bytes::copy_from_slice(bytes)));
        v1::Payload { encoding: encoding.to_owned(), content }
    }

    fn document(payload: &v1::Payload) -> serde_json::Value {
        serde_json::to_value(Shown::of(payload)).unwrap()
    }

    /// As ArangoDB may give a document back: whole doubles as integers.
    fn normalized(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Number(number)
                if number.as_f64().is_some_and(|float| float.fract() == 0.0) =>
            {
                number.as_f64().map_or(number.clone().into(), |float| serde_json::json!(float as i64))
            }
            serde_json::Value::Array(values) => values.into_iter().map(normalized).collect(),
            serde_json::Value::Object(entries) => {
                entries.into_iter().map(|(key, value)| (key, normalized(value))).collect()
            }
            other => other,
        }
    }

    fn read_back(document: serde_json::Value) -> Option<v1::Payload> {
        serde_json::from_value::<Stored>(normalized(document)).unwrap().payload()
    }

    #[test]
    fn every_value_is_read_back_as_it_was_written() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut payloads: Vec<v1::Payload> = [
            "null",
            "true",
            "1",
            "1.0",
            "-0",
            "1e2",
            "0.1",
            "9007199254740993",
            "18446744073709551616",
            "\"a\"",
            "\"\\u0000\"",
            "\"\\ud83d\\ude00\"",
            "[1,2]",
            "[1, 2]",
            "[1.0]",
            "{}",
            "{\"a\": null}",
            "{\"\":1}",
            "{\"_id\":1,\"a.b\":2}",
            " 1 ",
            "[null]",
            "\"\"",
            &deep(100),
            &deep(101),
            &deep(128),
        ]
        .into_iter()
        .map(json)
        .collect();
        payloads.push(inline("application/json", b"1.0"));
        payloads.push(inline("application/json", b"null"));
        payloads.push(inline("text/plain", b"hello"));
        payloads.push(inline("application/octet-stream", &[0xff, 0]));
        payloads.push(inline("", &[0xff]));
        let blob = v1::BlobRef { digest: Bytes::from(vec![7; 32]), size: 1 << 36 };
        payloads.push(v1::Payload { encoding: String::new(), content: Some(payload::Content::Blob(blob)) });
        for payload in &payloads {
            assert_eq!(read_back(document(payload)).as_ref(), Some(payload), "{payload:?}");
        }
        let named = payloads.iter().zip(0..).map(|(payload, place): (_, u32)| v1::NamedOutput {
            name: format!("output {place}"),
            payload: Some(payload.clone()),
        });
        let encoded = Bytes::from(v1::Outputs { outputs: named.collect() }.encode_to_vec());
        let returned = Returned::of(JobId::new([1; 16]), &encoded);
        let names: Vec<String> = returned.names().unwrap().into_iter().map(str::to_owned).collect();
        let mut documents = returned.documents(JobId::new([1; 16]));
        documents.reverse();
        let stored = documents.iter().map(|result| {
            serde_json::from_value::<StoredResult>(normalized(serde_json::to_value(result).unwrap())).unwrap()
        });
        assert_eq!(read_outputs(JobId::new([1; 16]), Some(&names), stored.collect()).unwrap(), encoded);
    }

    #[test]
    fn a_value_has_no_second_text_where_everybody_writes_it_alike() {
        assert_eq!(document(&json("[1,\"a\"]")), serde_json::json!({"value": [1, "a"]}));
        assert_eq!(document(&json("null")), serde_json::json!({}));
        assert_eq!(document(&json("1.0")), serde_json::json!({"value": 1.0, "text": "1.0"}));
        let empty_key = document(&json("{\"\":1}"));
        assert_eq!(empty_key, serde_json::json!({"text": "{\"\":1}"}), "what it cannot hold is text alone");
        assert!(document(&json(&format!("{}{}", "[".repeat(101), "]".repeat(101)))).get("value").is_none());
        let shown = serde_json::to_value(Shown::for_people(&json("1.0"))).unwrap();
        assert_eq!(shown, serde_json::json!({"value": 1.0}));
    }

    #[test]
    fn what_is_no_outputs_is_kept_as_it_is() {
        for encoded in [&b"outputs of a job"[..], &[0xff, 0xff]] {
            let encoded = Bytes::copy_from_slice(encoded);
            let returned = Returned::of(JobId::new([1; 16]), &encoded);
            assert_eq!(returned.names(), None);
            let job = JobId::new([1; 16]);
            let [document] = &returned.documents(job)[..] else { panic!("one document") };
            let stored = serde_json::from_value(serde_json::to_value(document).unwrap()).unwrap();
            assert_eq!(read_outputs(job, None, vec![stored]).unwrap(), encoded);
            assert!(read_outputs(job, None, Vec::new()).unwrap_err().is_damage());
        }
        let none = Returned::of(JobId::new([1; 16]), &Bytes::new());
        assert_eq!((none.names(), none.documents(JobId::new([1; 16])).len()), (Some(Vec::new()), 0));
        assert_eq!(read_outputs(JobId::new([1; 16]), Some(&[]), Vec::new()).unwrap(), Bytes::new());
    }
}
