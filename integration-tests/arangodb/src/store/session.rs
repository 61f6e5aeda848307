//! Writes of one transaction: applied at once, with what it takes to undo them and to do them again.

use std::borrow::Cow;
use std::sync::Arc;

use super::collection::Collection;
use super::document::{check_key, patched, sealed};
use super::{Collections, Locks};
use crate::aql::ast::{Overwrite, WriteOptions};
use crate::error::{Failure, Outcome};
use crate::faults::{Refusal, Refused};
use crate::value::{Object, Value, read_json};

/// A document as it is to be; none to remove it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) collection: Arc<str>,
    pub(crate) key: Arc<str>,
    pub(crate) document: Option<Value>,
    /// The commit that wrote it.
    pub(crate) commit: u64,
}

/// What a write did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Null where there was nothing.
    pub(crate) old: Value,
    /// Null where there is nothing, and where nothing was written.
    pub(crate) new: Value,
}

/// A transaction that sees and writes collections.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) collections: &'a mut Collections,
    pub(crate) locks: &'a Locks,
    /// Number of the transaction, as it stands in the locks.
    pub(crate) own: u64,
    /// Where the collections are those of a snapshot: the collections as they are now, and the last commit seen.
    pub(crate) snapshot: Option<(&'a Collections, u64)>,
    pub(crate) commit: u64,
    /// What stood there before, in the order of the writes.
    pub(crate) undo: Vec<Change>,
    pub(crate) redo: Vec<Change>,
    /// Keys that it locked, of which some were not written.
    pub(crate) touched: Vec<(Arc<str>, Arc<str>)>,
    /// Documents that are refused for good.
    pub(crate) refused: Vec<Refusal>,
}

impl<'a> Session<'a> {
    /// A transaction that sees the collections as they are.
    pub(crate) fn new(collections: &'a mut Collections, locks: &'a Locks, own: u64, commit: u64) -> Self {
        Self {
            collections,
            locks,
            own,
            snapshot: None,
            commit,
            undo: Vec::new(),
            redo: Vec::new(),
            touched: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub(crate) fn collection(&self, name: &str) -> Outcome<&Arc<Collection>> {
        self.collections.get(name).ok_or_else(|| not_found(name))
    }

    fn revision(&self) -> Value {
        Value::from(format!("_r{:011x}", (self.commit << 20) + self.redo.len() as u64))
    }

    /// Fails if another transaction holds the key, or wrote it after the snapshot of this one.
    fn lock(&mut self, collection: &Arc<str>, key: &Arc<str>) -> Outcome<()> {
        let place = (collection.clone(), key.clone());
        let held = !self.locks.is_empty() && self.locks.get(&place).is_some_and(|holder| *holder != self.own);
        let changed = self.snapshot.is_some_and(|(now, seen)| {
            now.get(collection).is_some_and(|collection| collection.last_commit(key) > seen)
        });
        if held || changed {
            return Err(Failure::conflict(key));
        }
        self.touched.push(place);
        Ok(())
    }

    fn put(&mut self, collection: &Arc<str>, key: &Arc<str>, document: Option<Value>) -> Outcome<Written> {
        let commit = self.commit;
        let target = self.collections.get_mut(collection).ok_or_else(|| not_found(collection))?;
        let target = Arc::make_mut(target);
        let before = target.last_commit(key);
        let old = target.put(key, document.as_ref(), commit)?;
        let change = |document: &Option<Value>, commit| Change {
            collection: collection.clone(),
            key: key.clone(),
            document: document.clone(),
            commit,
        };
        self.undo.push(change(&old, before));
        self.redo.push(change(&document, commit));
        Ok(Written { old: old.unwrap_or_default(), new: document.unwrap_or_default() })
    }

    pub(crate) fn insert(
        &mut self,
        name: &Arc<str>,
        document: &Value,
        options: &WriteOptions,
    ) -> Outcome<Written> {
        let collection = self.collection(name)?.clone();
        let body = as_body(document)?;
        let key = match body.get("_key") {
            Some(key) => check_key(key)?,
            None => self.new_key(&collection),
        };
        // The key is locked whatever becomes of the document.
        self.lock(name, &key)?;
        let exists = collection.get(&key).map(|stored| stored.document.clone());
        let body = match (exists, options.overwrite) {
            (Some(_), Overwrite::Ignore) => return Ok(Written::default()),
            (Some(_), Overwrite::Conflict) => {
                return Err(Failure::new(
                    1210,
                    format!(
                        "unique constraint violated - in index primary of type primary over '_key'; conflicting key: {key}"
                    ),
                ));
            }
            (Some(old), Overwrite::Update) => {
                self.check_revision(&old, body, options)?;
                let patched = patched(as_body(&old)?, body, options.keep_null, options.merge_objects);
                Cow::Owned(patched)
            }
            (Some(old), Overwrite::Replace) => {
                self.check_revision(&old, body, options)?;
                Cow::Borrowed(body)
            }
            (None, _) => Cow::Borrowed(body),
        };
        let new = sealed(&collection, &key, &body, self.revision())?;
        self.check_refused(name, &new)?;
        drop(collection);
        self.put(name, &key, Some(new))
    }

    /// Keys that the server makes are numbers that rise.
    fn new_key(&self, collection: &Collection) -> Arc<str> {
        let mut number = (self.commit << 20) + self.redo.len() as u64 + 1;
        while collection.get(&number.to_string()).is_some() {
            number += 1;
        }
        Arc::from(number.to_string())
    }

    fn check_revision(&self, old: &Value, body: &Object, options: &WriteOptions) -> Outcome<()> {
        match body.get("_rev") {
            Some(revision) if !options.ignore_revs && *revision != old.get("_rev") => {
                Err(Failure::new(1200, "conflict, _rev values do not match"))
            }
            _ => Ok(()),
        }
    }

    fn check_refused(&self, collection: &str, document: &Value) -> Outcome<()> {
        for refusal in self.refused.iter().filter(|refusal| refusal.collection == collection) {
            let refused = match &refusal.what {
                Refused::Value(name, value) => document.get(name) == read_json(value.to_string().as_bytes())?,
                Refused::Longer(bytes) => document.to_json().len() > *bytes,
            };
            if refused {
                let key = document.get("_key").to_text();
                return Err(Failure::new(refusal.number, format!("document '{key}' is refused on demand")));
            }
        }
        Ok(())
    }

    /// Updates or replaces a document that must be there.
    pub(crate) fn write(
        &mut self,
        name: &Arc<str>,
        target: &Value,
        body: &Value,
        replace: bool,
        options: &WriteOptions,
    ) -> Outcome<Written> {
        let collection = self.collection(name)?.clone();
        let key = key_of(target)?;
        self.lock(name, &key)?;
        let old = collection.get(&key).map(|stored| stored.document.clone()).ok_or_else(missing)?;
        let patch = as_body(body)?;
        self.check_revision(
            &old,
            if options.ignore_revs { patch } else { target.as_object().unwrap_or(patch) },
            options,
        )?;
        let new = if replace {
            Cow::Borrowed(patch)
        } else {
            Cow::Owned(patched(as_body(&old)?, patch, options.keep_null, options.merge_objects))
        };
        // Of an edge that is replaced both ends must be told again.
        let new = sealed(&collection, &key, &new, self.revision())?;
        self.check_refused(name, &new)?;
        drop(collection);
        self.put(name, &key, Some(new))
    }

    pub(crate) fn remove(
        &mut self,
        name: &Arc<str>,
        target: &Value,
        options: &WriteOptions,
    ) -> Outcome<Written> {
        let collection = self.collection(name)?.clone();
        let key = key_of(target)?;
        self.lock(name, &key)?;
        let old = collection.get(&key).map(|stored| stored.document.clone()).ok_or_else(missing)?;
        if let Some(target) = target.as_object() {
            self.check_revision(&old, target, options)?;
        }
        drop(collection);
        self.put(name, &key, None)
    }

    /// Takes back what was written since there were that many writes.
    pub(crate) fn undo_to(&mut self, writes: usize) -> Outcome<()> {
        self.redo.truncate(writes);
        while self.undo.len() > writes {
            if let Some(change) = self.undo.pop() {
                apply(self.collections, &change)?;
            }
        }
        Ok(())
    }
}

/// Writes what a transaction wrote, or takes it back.
pub(crate) fn apply(collections: &mut Collections, change: &Change) -> Outcome<()> {
    let target = collections.get_mut(&change.collection).ok_or_else(|| not_found(&change.collection))?;
    Arc::make_mut(target).put(&change.key, change.document.as_ref(), change.commit).map(drop)
}

pub(crate) fn not_found(name: &str) -> Failure {
    Failure::new(1203, format!("AQL: collection or view not found: {name}"))
}

fn missing() -> Failure {
    Failure::new(1202, "document not found")
}

fn as_body(document: &Value) -> Outcome<&Object> {
    document.as_object().ok_or_else(|| Failure::new(1227, "invalid document type"))
}

/// The key of a document, or a key as it is. What an id stands for is not looked at.
fn key_of(target: &Value) -> Outcome<Arc<str>> {
    match target {
        Value::Str(_) => check_key(target),
        Value::Object(object) => match object.get("_key") {
            Some(key) => check_key(key),
            None => Err(Failure::new(1226, "missing document key")),
        },
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Array(_) => {
            Err(Failure::new(1221, "illegal document key"))
        }
    }
}
