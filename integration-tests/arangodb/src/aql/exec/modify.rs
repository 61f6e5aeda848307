//! Modifications.

use super::{Row, Run};
use crate::aql::ast::{Action, Modify, Overwrite, WriteOptions};
use crate::error::{Failure, Outcome};
use crate::store::{Path, Written};
use crate::value::Value;

impl<'q> Run<'_, '_, 'q> {
    /// Writes for each row, and gives the rows with what was written.
    pub(super) fn modify(&mut self, modify: &'q Modify, rows: Vec<Row>) -> Outcome<Vec<Row>> {
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            self.step()?;
            let writes = self.session.redo.len();
            match self.modify_one(modify, &mut row) {
                Ok(written) => {
                    // What was there already and is left alone is not counted.
                    let wrote = self.session.redo.len() > writes;
                    self.stats.writes_executed += i64::from(wrote);
                    modify.old.iter().for_each(|slot| row[*slot] = written.old.clone());
                    modify.new.iter().for_each(|slot| row[*slot] = written.new.clone());
                    out.push(row);
                }
                // An error that is ignored takes its row with it.
                Err(failure) if modify.options.ignore_errors && !failure.unknown => {
                    self.session.undo_to(writes)?;
                    self.stats.writes_ignored += 1;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(out)
    }

    fn modify_one(&mut self, modify: &'q Modify, row: &mut Row) -> Outcome<Written> {
        let (name, options) = (&modify.collection, &modify.options);
        match &modify.action {
            Action::Insert(document) => {
                let document = self.eval(document, row)?;
                self.session.insert(name, &document, options)
            }
            Action::Update(target, with) | Action::Replace(target, with) => {
                let replace = matches!(modify.action, Action::Replace(..));
                let target = self.eval(target, row)?;
                let body = match with {
                    Some(with) => self.eval(with, row)?,
                    None => target.clone(),
                };
                self.session.write(name, &target, &body, replace, options)
            }
            Action::Remove(target) => {
                let target = self.eval(target, row)?;
                self.session.remove(name, &target, options)
            }
            Action::Upsert { search, insert, write, replace } => {
                let search = self.eval(search, row)?;
                match self.lookup(name, &search)? {
                    Some(old) => {
                        modify.old.iter().for_each(|slot| row[*slot] = old.clone());
                        let body = self.eval(write, row)?;
                        self.session.write(name, &old.get("_key"), &body, *replace, options)
                    }
                    None => {
                        modify.old.iter().for_each(|slot| row[*slot] = Value::Null);
                        let document = self.eval(insert, row)?;
                        let options = WriteOptions { overwrite: Overwrite::Conflict, ..options.clone() };
                        self.session.insert(name, &document, &options)
                    }
                }
            }
        }
    }

    /// The first document that has all attributes of the example, with what this statement has written.
    fn lookup(&mut self, name: &str, search: &Value) -> Outcome<Option<Value>> {
        let Some(example) = search.as_object() else {
            return Err(Failure::new(1501, "AQL: UPSERT search expression must be an object"));
        };
        let matches = |document: &&Value| example.iter().all(|(name, value)| document.get(name) == *value);
        let collection = self.session.collection(name)?.clone();
        if let Some(key) = example.get("_key") {
            self.stats.scanned_index += 1;
            let found = key.as_str().and_then(|key| collection.get(key)).map(|stored| &stored.document);
            return Ok(found.filter(matches).cloned());
        }
        for (attribute, from) in [("_from", true), ("_to", false)] {
            if let Some(id) = example.get(attribute).and_then(Value::as_str) {
                let mut places: Box<dyn Iterator<Item = u64>> = if from {
                    Box::new(collection.edges_from(id))
                } else {
                    Box::new(collection.edges_to(id))
                };
                self.stats.scanned_index += 1;
                return Ok(places.find_map(|place| collection.at(place).filter(matches)).cloned());
            }
        }
        for index in collection.indexes.iter().filter(|index| index.is_made() && !index.sparse) {
            let known = |path: &Path| example.get(path.join(".").as_str()).cloned();
            let values: Vec<Value> = index.fields.iter().map_while(known).collect();
            if !values.is_empty() {
                self.stats.scanned_index += 1;
                let mut places = index.places(&values, None, None);
                return Ok(places.find_map(|place| collection.at(place).filter(matches)).cloned());
            }
        }
        self.stats.scanned_full += i64::try_from(collection.len()).unwrap_or(i64::MAX);
        Ok(collection.scan().find(matches).cloned())
    }
}
