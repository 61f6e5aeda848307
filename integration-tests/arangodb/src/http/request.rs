//! Requests taken apart, and answers put together. Whatever a request says that nobody looks at is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::error::{Failure, Outcome};
use crate::value::{Object, Value, read_json};

/// A request, its path without the database.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) database: Arc<str>,
    pub(crate) path: Vec<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Who asks; empty where nobody logged in.
    pub(crate) user: String,
    /// What it writes is to meet a conflict.
    pub(crate) conflicts: bool,
}

impl Request {
    /// Refuses parameters other than these.
    pub(crate) fn only_query(&self, names: &[&str]) -> Outcome<()> {
        match self.query.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(Failure::unknown(10, format!("query parameter '{name}'"))),
            None => Ok(()),
        }
    }

    /// A switch among the parameters.
    pub(crate) fn switch(&self, name: &str) -> Outcome<Option<bool>> {
        match self.query.get(name).map(String::as_str) {
            None => Ok(None),
            // Numbers are what some clients send, and the server takes.
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Failure::unknown(10, format!("value '{other}' of query parameter '{name}'"))),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Outcome<Value> {
        read_json(&self.body)
    }

    /// The body as an object with no other attributes than these.
    pub(crate) fn object(&self, names: &[&str]) -> Outcome<Arc<Object>> {
        let body = if self.body.is_empty() { Value::object::<&str>([]) } else { self.json()? };
        let Value::Object(object) = body else {
            return Err(Failure::new(600, "expecting JSON object body"));
        };
        only(&object, names, "body")?;
        Ok(object)
    }

    /// The transaction of which the request is a part.
    pub(crate) fn transaction(&self) -> Outcome<Option<u64>> {
        match self.header("x-arango-trx-id") {
            None => Ok(None),
            Some(id) => {
                let unknown = || Failure::new(1655, format!("transaction '{id}' not found"));
                id.parse().map(Some).map_err(|_| unknown())
            }
        }
    }
}

/// Refuses attributes other than these.
pub(crate) fn only(object: &Object, names: &[&str], what: &str) -> Outcome<()> {
    match object.keys().find(|name| !names.contains(&&***name)) {
        Some(name) => Err(Failure::unknown(10, format!("attribute '{name}' of {what}"))),
        None => Ok(()),
    }
}

/// An attribute that is a switch where it is there.
pub(crate) fn switch(object: &Object, name: &str) -> Outcome<Option<bool>> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(bad_type(name)),
    }
}

/// An attribute that is a number where it is there.
pub(crate) fn number(object: &Object, name: &str) -> Outcome<Option<f64>> {
    match object.get(name) {
        None => Ok(None),
        Some(number) if number.is_number() => Ok(Some(number.to_f64())),
        Some(_) => Err(bad_type(name)),
    }
}

/// An attribute that is a text.
pub(crate) fn text(object: &Object, name: &str) -> Outcome<Option<Arc<str>>> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad_type(name)),
    }
}

pub(crate) fn bad_type(name: &str) -> Failure {
    Failure::new(10, format!("expecting another type of value for '{name}'"))
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", headers: Vec::new(), body: body.to_json() }
    }

    /// An object that says that all went well.
    pub(crate) fn ok<'n>(status: u16, attributes: impl IntoIterator<Item = (&'n str, Value)>) -> Self {
        let common = [("error", Value::Bool(false)), ("code", Value::Int(i64::from(status)))];
        Self::json(status, &Value::object(common.into_iter().chain(attributes)))
    }

    /// `result` and nothing else.
    pub(crate) fn result(status: u16, result: Value) -> Self {
        Self::ok(status, [("result", result)])
    }

    /// Attributes of an object, and that all went well.
    pub(crate) fn told(status: u16, object: &Value) -> Self {
        let attributes: Vec<(Arc<str>, Value)> = match object.as_object() {
            Some(object) => object.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            None => Vec::new(),
        };
        Self::ok(status, attributes.iter().map(|(name, value)| (&**name, value.clone())))
    }

    pub(crate) fn failure(failure: &Failure) -> Self {
        Self::json(failure.status, &failure_value(failure, true))
    }

    pub(crate) fn page(status: u16, content_type: &'static str, body: &str) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.to_owned() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A refusal as it is told; without its status as an element of a batch.
pub(crate) fn failure_value(failure: &Failure, with_code: bool) -> Value {
    let code = with_code.then_some(("code", Value::Int(i64::from(failure.status))));
    let told = [
        ("error", Value::Bool(true)),
        ("errorNum", Value::Int(i64::from(failure.number))),
        ("errorMessage", Value::str(&failure.message)),
    ];
    Value::object(code.into_iter().chain(told))
}

/// Decodes `%..` in paths and parameters. `plus`: a plus is a space.
pub(crate) fn decoded(text: &str, plus: bool) -> Outcome<String> {
    let malformed = || Failure::new(400, "malformed URL");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().ok_or_else(malformed)?, rest.next().ok_or_else(malformed)?];
                let digits = std::str::from_utf8(&digits).map_err(|_| malformed())?;
                u8::from_str_radix(digits, 16).map_err(|_| malformed())?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}
