//! Any message of the contract as JSON, by its descriptor, so that a field that is added is shown without a word here.
//!
//! Fields go by their names. Ids and digests are strings, times RFC 3339 in UTC, durations milliseconds (`late_by_ms`),
//! numbers numbers, enumerations as the contract names them without their prefix, and what is not set is null. A choice
//! called `kind` is an object with the name of what was chosen, and the fields of that. [`RULES`] says what else is
//! shown otherwise.

use std::sync::OnceLock;

use mycelium_proto::v1;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value,
};

use super::Payload;
use crate::output::{Json, format};

/// How a field is shown if not as its type says.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Not at all.
    Hidden,
    /// Under another name.
    Named(&'static str),
    /// Its fields stand among those of the message that holds it.
    Inline,
    /// It holds JSON.
    Json,
    /// Zero stands for what is not known.
    ZeroIsNull,
}

/// `Message.field` of the contract, and how it is shown.
const RULES: &[(&str, Rule)] = &[
    ("Elf.declaration", Rule::Inline),
    // Large, and asked for by itself.
    ("ElfDeclaration.source", Rule::Hidden),
    ("ElfInstance.process_id", Rule::ZeroIsNull),
    ("FailureGroup.failure", Rule::Inline),
    ("FailureGroup.occurrences", Rule::Named("occurrences_count")),
    ("Frame.line", Rule::ZeroIsNull),
    // Watches do not ask for them.
    ("JobChange.outputs", Rule::Hidden),
    ("JobChange.outputs_omitted", Rule::Hidden),
    ("JobValue.value", Rule::Inline),
    ("LineageJob.job", Rule::Inline),
    ("NamedOutput.payload", Rule::Inline),
    ("OutputDeclaration.schema", Rule::Json),
    ("OutputRef.name", Rule::Named("output")),
    ("ParameterDeclaration.schema", Rule::Json),
    // A command calls again until it is false.
    ("RetryJobsResponse.more", Rule::Hidden),
    ("Revision.source", Rule::Hidden),
    ("TaskDeclaration.source", Rule::Hidden),
    ("ValueNode.body_input", Rule::Named("input")),
];

fn rule(field: &FieldDescriptor) -> Option<Rule> {
    let message = field.parent_message();
    let is_meant = |name: &str| name.split_once('.') == Some((message.name(), field.name()));
    RULES.iter().find(|(name, _)| is_meant(name)).map(|(_, rule)| *rule)
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // The set comes with this program, and a test reads it. Of an empty pool every message is shown as null.
    POOL.get_or_init(|| DescriptorPool::decode(mycelium_proto::FILE_DESCRIPTOR_SET).unwrap_or_default())
}

/// A message as JSON.
pub(crate) fn view<T: Message + Name>(message: &T) -> Json {
    let Some(descriptor) = pool().get_message_by_name(&T::full_name()) else { return Json::Null };
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_or(Json::Null, |message| object(&message))
}

/// Messages as JSON.
pub(crate) fn views<'a, T: Message + Name + 'a>(messages: impl IntoIterator<Item = &'a T>) -> Json {
    Json::List(messages.into_iter().map(view).collect())
}

fn object(message: &DynamicMessage) -> Json {
    if let Some(well_known) = well_known(message) {
        return well_known;
    }
    let mut fields = Vec::new();
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        let choice =
            field.containing_oneof().filter(|choice| choice.name() == "kind" && !choice.is_synthetic());
        if choice.is_none() {
            push(&mut fields, message, &field);
        } else if message.has_field(&field) {
            fields.push(("kind".to_owned(), Json::from(field.name())));
            match message.get_field(&field).as_ref() {
                Value::Message(chosen) => inline(&mut fields, object(chosen)),
                _ => push(&mut fields, message, &field),
            }
        }
    }
    let has_kind = descriptor.oneofs().any(|choice| choice.name() == "kind" && !choice.is_synthetic());
    if has_kind && !fields.iter().any(|(name, _)| name == "kind") {
        // A broker that is newer chose what this program does not know.
        fields.push(("kind".to_owned(), Json::from("unknown")));
    }
    Json::Object(fields)
}

fn push(fields: &mut Vec<(String, Json)>, message: &DynamicMessage, field: &FieldDescriptor) {
    let is_set = !field.supports_presence() || message.has_field(field);
    let shown = || if is_set { value(&message.get_field(field), field) } else { Json::Null };
    let name = field.name().to_owned();
    match rule(field) {
        Some(Rule::Hidden) => {}
        Some(Rule::Named(name)) => fields.push((name.to_owned(), shown())),
        Some(Rule::Inline) => {
            let inner = match message.get_field(field).as_ref() {
                Value::Message(inner) => object(inner),
                _ => Json::Null,
            };
            inline(fields, if is_set { inner } else { inner.without_values() });
        }
        Some(Rule::Json) => {
            let json = message.get_field(field).as_str().and_then(|text| serde_json::from_str(text).ok());
            fields.push((name, json.map_or(Json::Null, Json::Raw)));
        }
        Some(Rule::ZeroIsNull) if message.get_field(field).is_default_for_field(field) => {
            fields.push((name, Json::Null));
        }
        Some(Rule::ZeroIsNull) | None => {
            let unit = if is_message(field, "google.protobuf.Duration") { "_ms" } else { "" };
            fields.push((name + unit, shown()));
        }
    }
}

fn inline(fields: &mut Vec<(String, Json)>, inner: Json) {
    if let Json::Object(inner) = inner {
        fields.extend(inner);
    }
}

fn is_message(field: &FieldDescriptor, name: &str) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == name)
}

fn value(value: &Value, field: &FieldDescriptor) -> Json {
    match value {
        Value::Bool(value) => Json::Bool(*value),
        Value::I32(value) => Json::from(i64::from(*value)),
        Value::I64(value) => Json::from(*value),
        Value::U32(value) => Json::from(*value),
        Value::U64(value) => Json::from(*value),
        Value::F32(value) => Json::from(f64::from(*value)),
        Value::F64(value) => Json::from(*value),
        // The contract says what is not there with an empty text.
        Value::String(text) if text.is_empty() && !field.is_list() && !field.is_map() => Json::Null,
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => format::id_if_any(bytes).map_or(Json::Null, Json::Text),
        Value::EnumNumber(number) => Json::from(enumeration(field, *number)),
        Value::Message(message) => object(message),
        Value::List(items) => Json::List(items.iter().map(|item| self::value(item, field)).collect()),
        Value::Map(entries) => {
            let mut fields: Vec<_> =
                entries.iter().map(|(key, entry)| (text_of(key), self::value(entry, field))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Json::Object(fields)
        }
    }
}

fn text_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// The name of a value without the prefix that all of its enumeration have: `DONE`, `UPSTREAM_FAILED`.
fn enumeration(field: &FieldDescriptor, number: i32) -> String {
    let Kind::Enum(of) = field.kind() else { return number.to_string() };
    let unset = of.default_value();
    let prefix = unset.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    match of.get_value(number).filter(|value| value.number() != unset.number()) {
        Some(value) => value.name().strip_prefix(prefix).unwrap_or(value.name()).to_owned(),
        // A broker that is newer.
        None => UNKNOWN.to_owned(),
    }
}

/// What stands for a value of an enumeration that this program does not know.
pub(crate) const UNKNOWN: &str = "UNKNOWN";

/// Messages that have a form of their own.
fn well_known(message: &DynamicMessage) -> Option<Json> {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let time = message.transcode_to::<prost_types::Timestamp>().ok();
            Some(format::rfc3339(time.as_ref()).map_or(Json::Null, Json::Text))
        }
        "google.protobuf.Duration" => {
            let span = message.transcode_to::<prost_types::Duration>().ok();
            Some(format::millis(span.as_ref()).map_or(Json::Null, Json::from))
        }
        "mycelium.v1.Payload" => {
            let payload = message.transcode_to::<v1::Payload>().unwrap_or_default();
            Some(Payload::from(&payload).to_json())
        }
        "mycelium.v1.ValuePreview" => {
            let preview = message.transcode_to::<v1::ValuePreview>().unwrap_or_default();
            Some(super::values::preview(&preview))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown<T: Message + Name>(message: &T) -> serde_json::Value {
        serde_json::to_value(view(message)).unwrap()
    }

    #[test]
    fn rules_are_for_fields_that_there_are() {
        for (name, _) in RULES {
            let (message, field) = name.split_once('.').unwrap();
            let message = pool().get_message_by_name(&format!("mycelium.v1.{message}"));
            assert!(message.is_some_and(|message| message.get_field_by_name(field).is_some()), "{name}");
        }
        for name in ["Payload", "ValuePreview"] {
            assert!(pool().get_message_by_name(&format!("mycelium.v1.{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn a_job_is_shown_with_each_of_its_fields() {
        let job = v1::Job {
            job_id: vec![0x11; 16].into(),
            elf: "scale".to_owned(),
            status: v1::JobStatus::UpstreamFailed.into(),
            priority: -3,
            submitted_at: Some(prost_types::Timestamp { seconds: 1_795_382_783, nanos: 120_000_000 }),
            revision: vec![0xab; 32].into(),
            labels: [("team", "bees"), ("empty", "")].map(|(key, value)| (key.into(), value.into())).into(),
            ..v1::Job::default()
        };
        let shown = shown(&job);
        let fields = pool().get_message_by_name("mycelium.v1.Job").unwrap().fields().count();
        assert_eq!(shown.as_object().unwrap().len(), fields);
        assert_eq!(shown["job_id"], "11111111-1111-1111-1111-111111111111");
        assert_eq!((&shown["elf"], &shown["task"]), (&json!("scale"), &json!(null)));
        assert_eq!((&shown["status"], &shown["priority"]), (&json!("UPSTREAM_FAILED"), &json!(-3)));
        assert_eq!(shown["submitted_at"], "2026-11-22T21:26:23.120Z");
        assert_eq!((&shown["started_at"], &shown["attempt"]), (&json!(null), &json!(0)));
        assert_eq!(shown["revision"], "ab".repeat(32));
        assert_eq!((&shown["elements"], &shown["failure_id"]), (&json!(null), &json!(null)));
        assert_eq!(shown["labels"], json!({ "empty": "", "team": "bees" }));
        assert_eq!(self::shown(&v1::Job { status: 99, ..job })["status"], "UNKNOWN");
    }

    #[test]
    fn what_was_chosen_is_told_by_its_name_and_shown_beside_it() {
        use v1::value_node::Kind;
        let node = |kind| shown(&v1::ValueNode { kind });
        let operation = v1::Operation { name: "add".to_owned(), inputs: vec![0, 1], body: None };
        assert_eq!(
            node(Some(Kind::Operation(operation))),
            json!({ "kind": "operation", "name": "add", "inputs": [0, 1], "body": null })
        );
        let output = v1::OutputRef { job_id: vec![0x11; 16].into(), name: String::new() };
        assert_eq!(
            node(Some(Kind::Output(output))),
            json!({ "kind": "output", "job_id": "11111111-1111-1111-1111-111111111111", "output": null })
        );
        assert_eq!(node(Some(Kind::BodyInput(3))), json!({ "kind": "body_input", "input": 3 }));
        let literal = v1::Payload {
            content: Some(v1::payload::Content::Inline("[1.10]".into())),
            ..v1::Payload::default()
        };
        let literal = v1::ValueNode { kind: Some(Kind::Literal(literal)) };
        assert_eq!(
            serde_json::to_string(&view(&literal)).unwrap(),
            r#"{"kind":"literal","encoding":"application/json","bytes":6,"value":[1.10],"blob":null}"#
        );
        assert_eq!(node(None), json!({ "kind": "unknown" }));
    }

    #[test]
    fn rules_are_followed() {
        let failure = v1::Failure { r#type: "Broken".to_owned(), ..v1::Failure::default() };
        let group =
            v1::FailureGroup { failure: Some(failure), occurrences: 2, ..v1::FailureGroup::default() };
        let group = shown(&group);
        assert_eq!((&group["type"], &group["occurrences_count"]), (&json!("Broken"), &json!(2)));
        assert!(group.get("failure").is_none() && group.get("occurrences").is_none(), "{group}");
        let elf = shown(&v1::Elf::default());
        assert_eq!((&elf["name"], &elf["tasks"]), (&json!(null), &json!(null)), "it said nothing of itself");
        assert!(elf.get("source").is_none(), "{elf}");
        let schema = r#"{"type":"integer"}"#.to_owned();
        let parameter = v1::ParameterDeclaration { schema, ..v1::ParameterDeclaration::default() };
        assert_eq!(shown(&parameter)["schema"], json!({ "type": "integer" }));
        assert_eq!(shown(&v1::Frame::default())["line"], json!(null));
        let late_by = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        let full = v1::NoFreeWindow { late_by, ..v1::NoFreeWindow::default() };
        assert_eq!(shown(&full)["late_by_ms"], json!(1_500));
    }
}
