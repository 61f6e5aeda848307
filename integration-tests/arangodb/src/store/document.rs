//! Rules for documents and their keys.

use std::sync::Arc;

use super::collection::{Collection, Kind};
use crate::error::{Failure, Outcome};
use crate::value::{Object, Value};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 254;

/// Checks the characters and the length of a key.
pub(crate) fn check_key(key: &Value) -> Outcome<Arc<str>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-:.@()+,=;$!*'%".contains(c);
    match key {
        Value::Str(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.chars().all(allowed) => {
            Ok(key.clone())
        }
        _ => Err(Failure::new(1221, "illegal document key")),
    }
}

/// Splits `collection/key`.
pub(crate) fn split_id(id: &str) -> Option<(&str, &str)> {
    let (collection, key) = id.split_once('/')?;
    (!collection.is_empty() && check_key(&Value::str(key)).is_ok()).then_some((collection, key))
}

/// The document as it is stored: system attributes first, as the server writes them.
pub(super) fn sealed(collection: &Collection, key: &str, body: &Object, revision: Value) -> Outcome<Value> {
    let mut document = Object::with_capacity_and_hasher(body.len() + 3, Default::default());
    document.insert(Arc::from("_key"), Value::str(key));
    document.insert(Arc::from("_id"), Value::from(format!("{}/{key}", collection.name)));
    if collection.kind == Kind::Edge {
        for end in ["_from", "_to"] {
            match body.get(end) {
                Some(Value::Str(id)) if split_id(id).is_some() => {
                    document.insert(Arc::from(end), Value::Str(id.clone()));
                }
                _ => return Err(Failure::new(1233, "edge attribute missing or invalid")),
            }
        }
    }
    document.insert(Arc::from("_rev"), revision);
    for (name, value) in body {
        let system = match &**name {
            "_key" | "_id" | "_rev" => true,
            "_from" | "_to" => collection.kind == Kind::Edge,
            "" => return Err(Failure::unknown(600, "an attribute with an empty name")),
            name if name.starts_with('_') => {
                return Err(Failure::unknown(
                    600,
                    format!("the attribute '{name}', which begins like those of the system"),
                ));
            }
            _ => false,
        };
        if !system {
            document.insert(name.clone(), value.clone());
        }
    }
    Ok(Value::Object(Arc::new(document)))
}

/// What a patch makes of a document.
pub(super) fn patched(old: &Object, patch: &Object, keep_null: bool, merge: bool) -> Object {
    let mut new = old.clone();
    for (name, value) in patch {
        let value = match (new.get(name), value) {
            (Some(Value::Object(old)), Value::Object(patch)) if merge => {
                Value::Object(Arc::new(patched(old, patch, keep_null, true)))
            }
            (_, value) if keep_null => value.clone(),
            (_, value) => without_nulls(value),
        };
        if value.is_null() && !keep_null {
            new.shift_remove(name);
        } else {
            new.insert(name.clone(), value);
        }
    }
    new
}

/// Without the attributes that are null, in objects within objects, but not in arrays.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::object(
            object
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value))),
        ),
        _ => value.clone(),
    }
}
