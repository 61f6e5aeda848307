//! The types that travel between tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use mycelium_proto::limits;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::call::TaskOutputs;
use crate::json::{self, Mismatch, Unwritable};
use crate::schema::{OutputDeclaration, output_schema_of};
use crate::task_error::TaskError;
use crate::value::node::Node;
use crate::value::payload::{Payload, PayloadError};

/// The name of the output of a task that returns one value.
pub(crate) const VALUE: &str = "value";

/// A type that travels between tasks: what one task returns is what another one takes.
///
/// | type | outputs |
/// |---|---|
/// | `()` | none |
/// | a struct with `#[derive(Output)]` | one for each field, by the field's name |
/// | an enum, tuple struct or struct with `#[derive(Output)] #[output(value)]` | one, `value` |
/// | numbers, `bool`, `char`, `String`, `Option`, `Vec`, arrays, tuples, maps, sets, `serde_json::Value` | one, `value` |
/// | [`Json<T>`], for a type of another crate that has serde only | one, `value` |
///
/// Rust allows one implementation for a type, and cannot tell "a struct" from "any other type that serde can write".
/// So there is no implementation for all types that serde can write: the common ones are listed here, one's own
/// types derive it, and the types of others go into a [`Json`].
#[diagnostic::on_unimplemented(
    message = "values of the type `{Self}` do not travel between tasks",
    label = "neither taken nor returned by a task",
    note = "for a type of your own write `#[derive(Output, Serialize, Deserialize)]`",
    note = "for a type of another crate that has serde's traits write `Json<{Self}>`"
)]
pub trait Output: Serialize + DeserializeOwned + JsonSchema + Send + Sync + Sized + 'static {
    /// What is behind `value.name()`: for a derived struct a companion with one method for each field.
    type Fields: Fields;

    /// Whether it is a number, so that null is no such value and fails where it is compared.
    #[doc(hidden)]
    const IS_NUMBER: bool = false;

    /// The outputs of a task that returns this type.
    fn declarations() -> Vec<OutputDeclaration>;

    /// Writes the value as outputs.
    ///
    /// # Errors
    /// [`PayloadError`] if the value has no JSON form.
    fn into_outputs(self) -> Result<TaskOutputs, PayloadError>;

    /// Reads the value from outputs.
    ///
    /// # Errors
    /// [`PayloadError`] if an output is missing or does not fit.
    fn from_outputs(outputs: TaskOutputs) -> Result<Self, PayloadError>;
}

/// The fields of a value that is not there yet, as values of their own. `#[derive(Output)]` writes one for each
/// struct; types without fields have [`NoFields`].
pub trait Fields: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    fn from_node(node: Node) -> Self;
    #[doc(hidden)]
    fn node(&self) -> &Node;
}

/// The fields of types that have none.
#[derive(Clone, Debug)]
pub struct NoFields(Node);

impl Fields for NoFields {
    fn from_node(node: Node) -> Self {
        Self(node)
    }

    fn node(&self) -> &Node {
        &self.0
    }
}

/// What a task returns: a value, or a `Result` of one with any error that turns into a [`TaskError`].
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "not something that a task returns",
    note = "a task returns a value that travels between tasks, or a `Result` of one with an error type that turns \
            into a `TaskError`, such as `TaskError` itself or any `std::error::Error`",
    note = "for a type of your own write `#[derive(Output, Serialize, Deserialize)]`"
)]
pub trait TaskReturn {
    /// The value.
    type Value: Output;

    /// The value or the failure.
    ///
    /// # Errors
    /// The failure, if the task failed; at the place of the call, if it has none of its own.
    #[track_caller]
    fn into_result(self) -> Result<Self::Value, TaskError>;
}

impl<T: Output> TaskReturn for T {
    type Value = T;

    fn into_result(self) -> Result<T, TaskError> {
        Ok(self)
    }
}

impl<T: Output, E> TaskReturn for Result<T, E>
where
    TaskError: From<E>,
{
    type Value = T;

    #[track_caller]
    fn into_result(self) -> Result<T, TaskError> {
        // Neither a closure nor `Into`: their callers would be the place.
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(TaskError::from(error)),
        }
    }
}

/// A value of a type of another crate, which has serde's traits and no schema. On the wire it is the bare value.
///
/// ```
/// use elf_runtime::{Json, Output};
/// let outputs = Json(std::time::Duration::from_secs(1)).into_outputs().unwrap();
/// assert_eq!(outputs.get("value").unwrap().to_string(), r#"{"secs":1,"nanos":0}"#);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

impl<T> JsonSchema for Json<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

/// The one output `value` of a type.
pub fn value_declaration<T: JsonSchema>() -> Vec<OutputDeclaration> {
    vec![OutputDeclaration { name: VALUE.into(), schema: output_schema_of::<T>() }]
}

/// The value as the one output `value`.
pub fn value_into_outputs<T: Serialize>(value: &T) -> Result<TaskOutputs, PayloadError> {
    let payload = Payload::json(value).map_err(|error| match error {
        PayloadError::Unwritable(unwritable) => PayloadError::Unwritable(unwritable.within(VALUE)),
        other => other,
    })?;
    Ok(TaskOutputs::new().with(VALUE, payload))
}

/// The value from the one output `value`.
pub fn value_from_outputs<T: DeserializeOwned>(outputs: &TaskOutputs) -> Result<T, PayloadError> {
    match outputs.get(VALUE) {
        Some(payload) => payload.read(),
        None => Err(PayloadError::Unreadable {
            expected: std::any::type_name::<T>(),
            source: Mismatch::new(format!("the output `{VALUE}` is missing")),
        }),
    }
}

/// The parts of an implementation for a type with the one output `value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __one_value {
    () => {
        fn declarations() -> ::std::vec::Vec<$crate::OutputDeclaration> {
            $crate::__private::value_declaration::<Self>()
        }

        fn into_outputs(self) -> ::core::result::Result<$crate::TaskOutputs, $crate::PayloadError> {
            $crate::__private::value_into_outputs(&self)
        }

        fn from_outputs(outputs: $crate::TaskOutputs) -> ::core::result::Result<Self, $crate::PayloadError> {
            $crate::__private::value_from_outputs(&outputs)
        }
    };
}

impl Output for () {
    type Fields = NoFields;

    fn declarations() -> Vec<OutputDeclaration> {
        Vec::new()
    }

    fn into_outputs(self) -> Result<TaskOutputs, PayloadError> {
        Ok(TaskOutputs::new())
    }

    fn from_outputs(_outputs: TaskOutputs) -> Result<Self, PayloadError> {
        Ok(())
    }
}

/// Reads whatever the task returned, as the contract says of a whole: null if it has no outputs, the value if it has
/// one that is named `value`, and else a map of all.
impl Output for serde_json::Value {
    type Fields = NoFields;

    fn declarations() -> Vec<OutputDeclaration> {
        value_declaration::<Self>()
    }

    fn into_outputs(self) -> Result<TaskOutputs, PayloadError> {
        value_into_outputs(&self)
    }

    fn from_outputs(outputs: TaskOutputs) -> Result<Self, PayloadError> {
        if outputs.is_empty() {
            return Ok(Self::Null);
        }
        if outputs.len() == 1 && outputs.get(VALUE).is_some() {
            return value_from_outputs(&outputs);
        }
        outputs.iter().map(|(name, payload)| Ok((name.to_owned(), payload.read::<Self>()?))).collect()
    }
}

macro_rules! numbers {
    ($($type:ty),* $(,)?) => {
        $(impl Output for $type {
            type Fields = NoFields;
            const IS_NUMBER: bool = true;
            $crate::__one_value!();
        })*
    };
}
numbers! { i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64 }

macro_rules! one_value {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {
        $(impl<$($generics)*> Output for $type {
            type Fields = NoFields;
            $crate::__one_value!();
        })*
    };
}

/// What an element of a collection must be.
pub trait Element: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static> Element for T {}

one_value! {
    [] bool, [] char, [] String,
    [] std::time::Duration, [] std::path::PathBuf, [] std::net::IpAddr,
    [T: Serialize + DeserializeOwned + Send + Sync + 'static] Json<T>,
    [T: Element] Option<T>,
    [T: Element] Vec<T>,
    [T: Element] Box<T>,
    [T: Element + Ord] BTreeSet<T>,
    [T: Element + Eq + Hash, S: BuildHasher + Default + Send + Sync + 'static] HashSet<T, S>,
    [K: Element + Ord, V: Element] BTreeMap<K, V>,
    [K: Element + Eq + Hash, V: Element, S: BuildHasher + Default + Send + Sync + 'static] HashMap<K, V, S>,
    [A: Element] (A,),
    [A: Element, B: Element] (A, B),
    [A: Element, B: Element, C: Element] (A, B, C),
    [A: Element, B: Element, C: Element, D: Element] (A, B, C, D),
    [A: Element, B: Element, C: Element, D: Element, E: Element] (A, B, C, D, E),
    [A: Element, B: Element, C: Element, D: Element, E: Element, F: Element] (A, B, C, D, E, F),
    [T: Element] [T; 1], [T: Element] [T; 2], [T: Element] [T; 3], [T: Element] [T; 4],
}

/// Splits the JSON of a struct into one output for each field, in order, without copying.
pub fn record_into_outputs<T: Serialize>(record: &T) -> Result<TaskOutputs, PayloadError> {
    let whole = Payload::json(record)?;
    let fields: RawFields<'_> = serde_json::from_slice(whole.bytes()).map_err(|_| {
        PayloadError::Unwritable(Unwritable::new("it is not written as a struct with named fields"))
    })?;
    Ok(fields
        .0
        .into_iter()
        .map(|(name, raw)| (name, Payload::from_json_bytes(whole.bytes().slice_ref(raw.get().as_bytes()))))
        .collect())
}

/// Reads a struct from one output for each field.
pub fn record_from_outputs<T: DeserializeOwned>(outputs: &TaskOutputs) -> Result<T, PayloadError> {
    let mut object = Vec::with_capacity(outputs.iter().map(|(n, p)| n.len() + p.bytes().len() + 4).sum());
    object.push(b'{');
    for (index, (name, payload)) in outputs.iter().enumerate() {
        if !payload.is_json() {
            return Err(PayloadError::OtherEncoding(payload.encoding().to_owned()));
        }
        if index > 0 {
            object.push(b',');
        }
        object.append(&mut json::to_vec(name).map_err(PayloadError::Unwritable)?);
        object.push(b':');
        object.extend_from_slice(payload.bytes());
    }
    object.push(b'}');
    // Each may be as deep as a value can be.
    json::from_slice_within(&object, limits::VALUE_DEPTH_MAX + 1)
        .map_err(|source| PayloadError::Unreadable { expected: std::any::type_name::<T>(), source })
}

/// The fields of a JSON object in their order, each as the text it is.
struct RawFields<'a>(Vec<(String, &'a serde_json::value::RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawFields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RawFields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a struct with named fields")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(RawFields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Output + PartialEq + std::fmt::Debug>(value: T) -> Vec<String> {
        let names = T::declarations().into_iter().map(|output| output.name.into_owned()).collect();
        let copy: T = Payload::json(&value).unwrap().read().unwrap();
        let outputs = value.into_outputs().unwrap();
        assert_eq!(outputs.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), names);
        assert_eq!(T::from_outputs(outputs).unwrap(), copy);
        names
    }

    #[test]
    fn common_types_are_one_output() {
        assert_eq!(round_trip(i64::MAX), ["value"]);
        assert_eq!(round_trip("bee".to_owned()), ["value"]);
        assert_eq!(round_trip(vec![Some(1.5), None]), ["value"]);
        assert_eq!(round_trip((true, 'x', [1_u8, 2])), ["value"]);
        assert_eq!(round_trip(HashMap::from([("a".to_owned(), vec![1])])), ["value"]);
        assert_eq!(round_trip(serde_json::json!({"a": [1, null]})), ["value"]);
        assert_eq!(round_trip(Json(std::time::Duration::from_secs(1))), ["value"]);
    }

    #[test]
    fn nothing_is_no_output() {
        assert_eq!(round_trip(()), [""; 0]);
    }

    #[test]
    fn a_program_that_does_not_know_the_task_reads_what_it_returned_as_a_whole() {
        let read = |outputs| serde_json::Value::from_outputs(outputs).unwrap();
        assert_eq!(read(TaskOutputs::new()), serde_json::Value::Null);
        assert_eq!(read(7.into_outputs().unwrap()), serde_json::json!(7));
        let two = TaskOutputs::new()
            .with("species", Payload::json("bee").unwrap())
            .with("value", Payload::json(&7).unwrap());
        assert_eq!(read(two), serde_json::json!({"species": "bee", "value": 7}));
    }

    #[test]
    fn a_missing_output_is_named() {
        let error = i64::from_outputs(TaskOutputs::new()).unwrap_err();
        assert_eq!(error.to_string(), "it cannot be read as `i64`: the output `value` is missing");
    }
}
