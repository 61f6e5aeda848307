//! Sorted indexes over attributes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexKind {
    Primary,
    Edge,
    Persistent,
}

impl IndexKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Edge => "edge",
            Self::Persistent => "persistent",
        }
    }
}

/// The attributes of a path, from the outermost.
pub(crate) type Path = Vec<Arc<str>>;

/// An index. Those of keys and of ends of edges only describe themselves: the collection keeps their entries.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) kind: IndexKind,
    pub(crate) fields: Vec<Path>,
    pub(crate) unique: bool,
    pub(crate) sparse: bool,
    pub(crate) deduplicate: bool,
    pub(crate) estimates: bool,
    pub(crate) cache_enabled: bool,
    pub(crate) stored_values: Vec<Value>,
    /// Values of the fields, and where the document is.
    entries: BTreeSet<(Vec<Value>, u64)>,
}

/// Splits `a.b` into its attributes.
pub(crate) fn path_of(field: &str) -> Path {
    field.split('.').map(Arc::from).collect()
}

impl Index {
    pub(crate) fn new(id: u64, name: &str, kind: IndexKind, fields: &[&str], unique: bool) -> Self {
        Self {
            id,
            name: Arc::from(name),
            kind,
            fields: fields.iter().map(|field| path_of(field)).collect(),
            unique,
            sparse: false,
            deduplicate: true,
            estimates: true,
            cache_enabled: false,
            stored_values: Vec::new(),
            entries: BTreeSet::new(),
        }
    }

    pub(crate) fn primary() -> Self {
        Self::new(0, "primary", IndexKind::Primary, &["_key"], true)
    }

    pub(crate) fn edge() -> Self {
        Self::new(1, "edge", IndexKind::Edge, &["_from", "_to"], false)
    }

    /// Somebody asked for it.
    pub(crate) fn is_made(&self) -> bool {
        self.kind == IndexKind::Persistent
    }

    pub(crate) fn field_names(&self) -> Vec<String> {
        self.fields.iter().map(|path| path.join(".")).collect()
    }

    /// The values by which a document stands in the index; none where a sparse one leaves it out.
    fn values(&self, document: &Value) -> Option<Vec<Value>> {
        if !self.is_made() {
            return None;
        }
        let values: Vec<Value> = self.fields.iter().map(|path| document.at_path(path)).collect();
        (!self.sparse || !values.iter().any(Value::is_null)).then_some(values)
    }

    pub(super) fn insert(&mut self, document: &Value, place: u64) {
        if let Some(values) = self.values(document) {
            self.entries.insert((values, place));
        }
    }

    pub(super) fn remove(&mut self, document: &Value, place: u64) {
        if let Some(values) = self.values(document) {
            self.entries.remove(&(values, place));
        }
    }

    /// The document at a place is another now.
    pub(super) fn change(&mut self, old: &Value, new: &Value, place: u64) {
        let (old, new) = (self.values(old), self.values(new));
        if old != new {
            old.map(|values| self.entries.remove(&(values, place)));
            new.map(|values| self.entries.insert((values, place)));
        }
    }

    /// Where the document is that has the values of this one in all fields. Nulls are values here, but for a sparse
    /// index, which has none.
    pub(super) fn holder(&self, document: &Value) -> Option<u64> {
        let values = self.values(document)?;
        self.places(&values, None, None).next()
    }

    /// Places in the order of the index: of the entries that begin with these values, and whose next field lies
    /// between the bounds. A bound is a value and whether it belongs to the range.
    pub(crate) fn places<'a>(
        &'a self,
        equal: &[Value],
        lower: Option<(Value, bool)>,
        upper: Option<(Value, bool)>,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let equal = equal.to_vec();
        let mut first = equal.clone();
        first.extend(lower.iter().map(|(bound, _)| bound.clone()));
        let fields = equal.len();
        let in_range = move |values: &[Value]| {
            let Some(next) = values.get(fields) else { return true };
            upper.as_ref().is_none_or(|(bound, with)| next < bound || *with && next == bound)
        };
        self.entries
            .range((first, 0)..)
            .take_while(move |(values, _)| values[..fields] == equal[..] && in_range(values))
            .filter(move |(values, _)| {
                lower
                    .as_ref()
                    .is_none_or(|(bound, with)| *with || values.get(fields).is_some_and(|v| v > bound))
            })
            .map(|(_, place)| *place)
    }
}
