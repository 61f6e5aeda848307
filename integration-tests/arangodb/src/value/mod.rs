//! Values of documents and of the query language.

mod json;
mod order;

use std::sync::Arc;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

pub(crate) use self::json::read_json;

/// An object, in the order in which its attributes were written.
pub(crate) type Object = IndexMap<Arc<str>, Value, FixedState>;

/// A value. Copies share what they hold, so that rows and documents are cheap to copy.
#[derive(Clone, Debug, Default)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(Arc<str>),
    Array(Arc<Vec<Value>>),
    Object(Arc<Object>),
}

impl Value {
    pub(crate) fn str(text: impl AsRef<str>) -> Self {
        Self::Str(Arc::from(text.as_ref()))
    }

    pub(crate) fn array(values: Vec<Self>) -> Self {
        Self::Array(Arc::new(values))
    }

    pub(crate) fn object<K: AsRef<str>>(attributes: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Object(Arc::new(attributes.into_iter().map(|(k, v)| (Arc::from(k.as_ref()), v)).collect()))
    }

    /// A number; the language has no other for what is not finite than null.
    pub(crate) fn double(number: f64) -> Self {
        if number.is_finite() { Self::Double(number) } else { Self::Null }
    }

    pub(crate) fn count(n: usize) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Double(_))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Double(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&Vec<Self>> {
        match self {
            Self::Array(values) => Some(values),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Double(_) | Self::Str(_) | Self::Object(_) => {
                None
            }
        }
    }

    pub(crate) fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Double(_) | Self::Str(_) | Self::Array(_) => {
                None
            }
        }
    }

    /// The attribute of an object; null of anything else, and of what is not there.
    pub(crate) fn get(&self, name: &str) -> Self {
        self.as_object().and_then(|object| object.get(name)).cloned().unwrap_or_default()
    }

    pub(crate) fn at_path(&self, path: &[Arc<str>]) -> Self {
        path.iter().fold(self.clone(), |value, name| value.get(name))
    }

    /// What a condition takes the value for.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(truth) => *truth,
            Self::Int(number) => *number != 0,
            Self::Double(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// `TO_NUMBER`: null where a value has no number is 0, as the function gives it.
    pub(crate) fn to_number(&self) -> Self {
        match self {
            Self::Null | Self::Object(_) => Self::Int(0),
            Self::Bool(truth) => Self::Int(i64::from(*truth)),
            Self::Int(_) | Self::Double(_) => self.clone(),
            Self::Str(text) => {
                let text = text.trim();
                match text.parse::<i64>() {
                    Ok(number) => Self::Int(number),
                    Err(_) => match text.parse::<f64>() {
                        Ok(number) if number.is_finite() => Self::Double(number),
                        _ => Self::Int(0),
                    },
                }
            }
            Self::Array(values) => match values.as_slice() {
                [one] => one.to_number(),
                _ => Self::Int(0),
            },
        }
    }

    pub(crate) fn to_f64(&self) -> f64 {
        match self.to_number() {
            Self::Int(number) => number as f64,
            Self::Double(number) => number,
            Self::Null | Self::Bool(_) | Self::Str(_) | Self::Array(_) | Self::Object(_) => 0.0,
        }
    }

    /// As a whole number, cut towards zero.
    pub(crate) fn to_i64(&self) -> i64 {
        match self.to_number() {
            Self::Int(number) => number,
            Self::Double(number) => number as i64,
            Self::Null | Self::Bool(_) | Self::Str(_) | Self::Array(_) | Self::Object(_) => 0,
        }
    }

    /// `TO_STRING`.
    pub(crate) fn to_text(&self) -> Arc<str> {
        match self {
            Self::Null => Arc::from(""),
            Self::Str(text) => text.clone(),
            Self::Bool(_) | Self::Int(_) | Self::Double(_) | Self::Array(_) | Self::Object(_) => {
                Arc::from(self.to_json())
            }
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Double(_) => "number",
            Self::Str(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// About how many bytes the value takes, for limits of memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 16,
            Self::Str(text) => 16 + text.len(),
            Self::Array(values) => 16 + values.iter().map(Self::bytes).sum::<usize>(),
            Self::Object(object) => 16 + object.iter().map(|(k, v)| 16 + k.len() + v.bytes()).sum::<usize>(),
        }
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}

impl From<Vec<Self>> for Value {
    fn from(values: Vec<Self>) -> Self {
        Self::array(values)
    }
}
