//! Strings.

use std::fmt;
use std::sync::Arc;

use crate::json::string_len;

/// A string, with its length as JSON text: that is asked for again and again.
#[derive(Clone)]
pub struct Text(Arc<(Box<str>, usize)>);

impl Text {
    pub(super) fn encoded_len(&self) -> usize {
        self.0.1
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Arc::new((Box::from(text), string_len(text))))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let encoded_len = string_len(&text);
        Self(Arc::new((text.into_boxed_str(), encoded_len)))
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.0
    }
}

impl std::borrow::Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    /// UTF-8 keeps the order of code points.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        str::cmp(self, other)
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        str::hash(self, state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
