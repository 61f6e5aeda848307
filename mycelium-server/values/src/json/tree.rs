//! JSON text as a tree, for those who have to look at all of it. Numbers stay the digits they came as.

use std::borrow::Cow;

use super::strict::{Container, JsonError, RawText, Scalar, Sink, read};

/// A value, read whole.
#[derive(Debug, Clone)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Map(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// Reads a text, which is at most [`DEPTH_MAX`](super::DEPTH_MAX) deep.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let mut tree = Tree { open: Vec::new(), keys: Vec::new(), root: Json::Null };
        read(bytes, &mut tree)?;
        Ok(tree.root)
    }

    /// Reads a text, and keeps of a list or map nothing but that it is one.
    pub(crate) fn parse_outermost(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let mut outermost = Outermost { depth: 0, root: Json::Null };
        read(bytes, &mut outermost)?;
        Ok(outermost.root)
    }

    /// The entry of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The same, with texts of its own.
    pub(crate) fn into_owned(self) -> Json<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => Json::Null,
            Self::Bool(bool) => Json::Bool(bool),
            Self::Number(number) => Json::Number(own(number)),
            Self::Text(text) => Json::Text(own(text)),
            Self::List(items) => Json::List(items.into_iter().map(Self::into_owned).collect()),
            Self::Map(entries) => {
                Json::Map(entries.into_iter().map(|(key, value)| (own(key), value.into_owned())).collect())
            }
        }
    }
}

impl<'a> From<Scalar<'a>> for Json<'a> {
    fn from(scalar: Scalar<'a>) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(bool) => Self::Bool(bool),
            Scalar::Number(number) => Self::Number(Cow::Borrowed(number)),
            Scalar::Text(text) => Self::Text(text.read()),
        }
    }
}

impl From<Container> for Json<'_> {
    fn from(container: Container) -> Self {
        match container {
            Container::List => Self::List(Vec::new()),
            Container::Map => Self::Map(Vec::new()),
        }
    }
}

/// Builds the tree from the parts of the text.
struct Tree<'a> {
    open: Vec<Json<'a>>,
    /// The keys whose values are not there yet.
    keys: Vec<Cow<'a, str>>,
    root: Json<'a>,
}

impl<'a> Tree<'a> {
    fn add(&mut self, value: Json<'a>) {
        match self.open.last_mut() {
            Some(Json::List(items)) => items.push(value),
            Some(Json::Map(entries)) => entries.extend(self.keys.pop().map(|key| (key, value))),
            Some(_) | None => self.root = value,
        }
    }
}

impl<'a> Sink<'a> for Tree<'a> {
    fn scalar(&mut self, scalar: Scalar<'a>) {
        self.add(Json::from(scalar));
    }

    fn begin(&mut self, container: Container) {
        self.open.push(Json::from(container));
    }

    fn key(&mut self, key: RawText<'a>) {
        self.keys.push(key.read());
    }

    fn end(&mut self) {
        if let Some(ended) = self.open.pop() {
            self.add(ended);
        }
    }
}

struct Outermost<'a> {
    depth: usize,
    root: Json<'a>,
}

impl<'a> Sink<'a> for Outermost<'a> {
    fn scalar(&mut self, scalar: Scalar<'a>) {
        if self.depth == 0 {
            self.root = Json::from(scalar);
        }
    }

    fn begin(&mut self, container: Container) {
        if self.depth == 0 {
            self.root = Json::from(container);
        }
        self.depth += 1;
    }

    fn key(&mut self, _key: RawText<'a>) {}

    fn end(&mut self) {
        self.depth -= 1;
    }
}
