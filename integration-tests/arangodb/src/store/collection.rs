//! One collection and its indexes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::index::Index;
use crate::error::{Failure, Outcome};
use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Document,
    Edge,
}

impl Kind {
    /// As the interface writes it.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Document => 2,
            Self::Edge => 3,
        }
    }
}

/// A document, and the commit that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) document: Value,
    pub(crate) commit: u64,
}

/// Places of the edges of each vertex.
type Ends = HashMap<Arc<str>, BTreeSet<u64>>;

#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) name: Arc<str>,
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) wait_for_sync: bool,
    /// In the order in which they were first written: a scan gives them so.
    documents: BTreeMap<u64, Stored>,
    /// The primary index.
    keys: BTreeMap<Arc<str>, u64>,
    from: Ends,
    to: Ends,
    /// Primary first, then the edge index where there is one, then those that were made.
    pub(crate) indexes: Vec<Index>,
    next: u64,
    /// The commits that removed documents, for transactions that saw them.
    removed: HashMap<Arc<str>, u64>,
}

impl Collection {
    pub(crate) fn new(name: &str, id: u64, kind: Kind) -> Self {
        let mut indexes = vec![Index::primary()];
        if kind == Kind::Edge {
            indexes.push(Index::edge());
        }
        Self {
            name: Arc::from(name),
            id,
            kind,
            wait_for_sync: false,
            documents: BTreeMap::new(),
            keys: BTreeMap::new(),
            from: Ends::new(),
            to: Ends::new(),
            indexes,
            next: 0,
            removed: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Stored> {
        self.keys.get(key).and_then(|place| self.documents.get(place))
    }

    pub(crate) fn at(&self, place: u64) -> Option<&Value> {
        self.documents.get(&place).map(|stored| &stored.document)
    }

    pub(crate) fn scan(&self) -> impl Iterator<Item = &Value> {
        self.documents.values().map(|stored| &stored.document)
    }

    pub(crate) fn by_key(&self) -> impl DoubleEndedIterator<Item = (&Arc<str>, u64)> {
        self.keys.iter().map(|(key, place)| (key, *place))
    }

    pub(crate) fn place_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key).copied()
    }

    pub(crate) fn edges_from(&self, id: &str) -> impl Iterator<Item = u64> + '_ {
        self.from.get(id).into_iter().flatten().copied()
    }

    pub(crate) fn edges_to(&self, id: &str) -> impl Iterator<Item = u64> + '_ {
        self.to.get(id).into_iter().flatten().copied()
    }

    /// The commit that last wrote or removed what has that key.
    pub(crate) fn last_commit(&self, key: &str) -> u64 {
        self.get(key)
            .map(|stored| stored.commit)
            .or_else(|| self.removed.get(key).copied())
            .unwrap_or_default()
    }

    /// Writes a document, or removes it. Gives what stood there.
    pub(crate) fn put(
        &mut self,
        key: &Arc<str>,
        document: Option<&Value>,
        commit: u64,
    ) -> Outcome<Option<Value>> {
        let old = self.keys.get(key).copied();
        if let Some(document) = document {
            self.check_unique(key, document, old)?;
        }
        match (old, document) {
            (Some(place), Some(document)) => Ok(self.relink(place, document, commit)),
            (None, Some(document)) => {
                self.link(key, document, commit);
                Ok(None)
            }
            (_, None) => {
                self.removed.insert(key.clone(), commit);
                Ok(old.and_then(|place| self.unlink(place)))
            }
        }
    }

    fn check_unique(&self, key: &str, document: &Value, old: Option<u64>) -> Outcome<()> {
        for index in self.indexes.iter().filter(|index| index.unique && index.is_made()) {
            if let Some(other) = index.holder(document).filter(|place| Some(*place) != old) {
                let holder =
                    self.at(other).map(|document| document.get("_key").to_text()).unwrap_or_default();
                return Err(Failure::new(
                    1210,
                    format!(
                        "unique constraint violated - in index {} of type persistent over '{}'; conflicting key: \
                         {holder}; document key: {key}",
                        index.name,
                        index.field_names().join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }

    fn unlink(&mut self, place: u64) -> Option<Value> {
        let document = self.documents.remove(&place)?.document;
        for index in &mut self.indexes {
            index.remove(&document, place);
        }
        self.keys.remove(&*document.get("_key").to_text());
        for (ends, attribute) in [(&mut self.from, "_from"), (&mut self.to, "_to")] {
            remove_end(ends, &document.get(attribute).to_text(), place);
        }
        Some(document)
    }

    /// Writes a document where there was one, and of the indexes only those whose attributes changed.
    fn relink(&mut self, place: u64, document: &Value, commit: u64) -> Option<Value> {
        let stored = self.documents.get_mut(&place)?;
        stored.commit = commit;
        let old = std::mem::replace(&mut stored.document, document.clone());
        for index in &mut self.indexes {
            index.change(&old, document, place);
        }
        if self.kind == Kind::Edge {
            for (ends, attribute) in [(&mut self.from, "_from"), (&mut self.to, "_to")] {
                let (before, after) = (old.get(attribute).to_text(), document.get(attribute).to_text());
                if before != after {
                    remove_end(ends, &before, place);
                    ends.entry(after).or_default().insert(place);
                }
            }
        }
        Some(old)
    }

    fn link(&mut self, key: &Arc<str>, document: &Value, commit: u64) {
        let place = self.next;
        self.next += 1;
        for index in &mut self.indexes {
            index.insert(document, place);
        }
        self.keys.insert(key.clone(), place);
        if self.kind == Kind::Edge {
            for (ends, attribute) in [(&mut self.from, "_from"), (&mut self.to, "_to")] {
                ends.entry(document.get(attribute).to_text()).or_default().insert(place);
            }
        }
        self.documents.insert(place, Stored { document: document.clone(), commit });
    }

    /// Builds an index over what is there.
    pub(crate) fn add_index(&mut self, mut index: Index) -> Outcome<()> {
        for (place, stored) in &self.documents {
            if index.unique && index.holder(&stored.document).is_some() {
                return Err(Failure::new(
                    1210,
                    format!("unique constraint violated - in index {}", index.name),
                ));
            }
            index.insert(&stored.document, *place);
        }
        self.indexes.push(index);
        Ok(())
    }

    pub(crate) fn truncate(&mut self, commit: u64) {
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            if let Some(place) = self.keys.get(&key).copied() {
                self.unlink(place);
                self.removed.insert(key, commit);
            }
        }
    }
}

fn remove_end(ends: &mut Ends, vertex: &str, place: u64) {
    if let Some(places) = ends.get_mut(vertex) {
        places.remove(&place);
        if places.is_empty() {
            ends.remove(vertex);
        }
    }
}
