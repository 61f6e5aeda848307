//! Clauses that write.

use super::{Parser, bad_option};
use crate::aql::ast::{Action, Clause, Expr, Modify, Overwrite, Query, WriteOptions};
use crate::error::Outcome;
use crate::value::Value;

impl Parser<'_> {
    pub(super) fn modify(&mut self, keyword: &str, query: &mut Query) -> Outcome<()> {
        let mut old = None;
        let action = match keyword {
            "INSERT" => Action::Insert(self.written()?),
            "REMOVE" => Action::Remove(self.written()?),
            "UPDATE" | "REPLACE" => {
                let target = self.written()?;
                let with = if self.take_keyword("WITH") { Some(self.written()?) } else { None };
                if keyword == "UPDATE" { Action::Update(target, with) } else { Action::Replace(target, with) }
            }
            _ => {
                if self.is_keyword("FILTER") {
                    return Err(self.not_known("UPSERT FILTER"));
                }
                // An object as it is written, without names that are computed.
                let search = self.object()?;
                let named = |(name, _): &(Expr, Expr)| matches!(name, Expr::Value(Value::Str(_)));
                if !matches!(&search, Expr::Object(attributes) if attributes.iter().all(named)) {
                    return Err(self.not_known("an UPSERT that looks for computed names"));
                }
                self.expect_keyword("INSERT")?;
                let insert = self.written()?;
                let replace = self.take_keyword("REPLACE");
                if !replace {
                    self.expect_keyword("UPDATE")?;
                }
                old = Some(self.declare_pseudo("OLD"));
                let write = self.written()?;
                Action::Upsert { search, insert, write, replace }
            }
        };
        if !self.take_keyword("INTO") {
            self.expect_keyword("IN")?;
        }
        let collection = self.collection()?;
        let options = self.write_options(keyword)?;
        let overwrites = matches!(options.overwrite, Overwrite::Replace | Overwrite::Update);
        if old.is_none() && (keyword != "INSERT" || overwrites) {
            old = Some(self.declare_pseudo("OLD"));
        }
        let new = if keyword == "REMOVE" { None } else { Some(self.declare_pseudo("NEW")) };
        query.clauses.push(Clause::Modify(Box::new(Modify { action, collection, options, old, new })));
        Ok(())
    }

    /// An expression that ends before the `IN` of the collection.
    fn written(&mut self) -> Outcome<Expr> {
        self.within(true, Self::expression)
    }

    fn write_options(&mut self, keyword: &str) -> Outcome<WriteOptions> {
        let mut options = WriteOptions::default();
        for (name, value) in self.options()? {
            let updates = matches!(keyword, "INSERT" | "UPDATE" | "UPSERT");
            match (&*name, &value) {
                ("waitForSync", Value::Bool(wait)) => options.wait_for_sync = *wait,
                ("ignoreErrors", Value::Bool(ignore)) => options.ignore_errors = *ignore,
                ("exclusive", Value::Bool(exclusive)) => options.exclusive = *exclusive,
                ("refillIndexCaches", Value::Bool(_)) => {}
                ("readOwnWrites", Value::Bool(true)) if keyword == "UPSERT" => {}
                ("ignoreRevs", Value::Bool(ignore)) if keyword != "INSERT" => options.ignore_revs = *ignore,
                ("keepNull", Value::Bool(keep)) if updates => options.keep_null = *keep,
                ("mergeObjects", Value::Bool(merge)) if updates => options.merge_objects = *merge,
                ("overwrite", Value::Bool(_)) if self.is_4 => return Err(bad_option(keyword, &name)),
                ("overwrite", Value::Bool(true)) if keyword == "INSERT" => {
                    options.overwrite = Overwrite::Replace
                }
                ("overwrite", Value::Bool(false)) if keyword == "INSERT" => {}
                ("overwriteMode", Value::Str(mode)) if keyword == "INSERT" => {
                    options.overwrite = overwrite_mode(mode).ok_or_else(|| bad_option(keyword, &name))?;
                }
                _ => return Err(bad_option(keyword, &name)),
            }
        }
        Ok(options)
    }
}

/// The mode of that name.
pub(crate) fn overwrite_mode(mode: &str) -> Option<Overwrite> {
    match mode {
        "conflict" => Some(Overwrite::Conflict),
        "ignore" => Some(Overwrite::Ignore),
        "replace" => Some(Overwrite::Replace),
        "update" => Some(Overwrite::Update),
        _ => None,
    }
}
