//! Clauses that read.

use std::sync::Arc;

use super::{Parser, Variable, bad_option};
use crate::aql::ast::{Aggregate, Clause, Collect, Expr, For, Hint, Into, Member, Query, Source, Target};
use crate::aql::lexer::Token;
use crate::aql::walk;
use crate::error::{Failure, Outcome};
use crate::value::Value;

/// Clauses that modify.
const WRITES: &[&str] = &["INSERT", "UPDATE", "REPLACE", "REMOVE", "UPSERT"];

impl Parser<'_> {
    pub(super) fn clauses(&mut self) -> Outcome<Query> {
        let mut query = Query::default();
        loop {
            let Token::Keyword(keyword) = self.peek().clone() else {
                return self.finished(query);
            };
            if !self.starts_query() && !matches!(keyword, "FILTER" | "SORT" | "LIMIT" | "COLLECT" | "WINDOW")
            {
                return self.finished(query);
            }
            if self.scope().modified && !matches!(keyword, "LET" | "RETURN") && !WRITES.contains(&keyword) {
                return Err(self.not_known(&format!("{keyword} after a modification")));
            }
            self.next += 1;
            match keyword {
                "FOR" => self.for_in(&mut query)?,
                "FILTER" => query.clauses.push(Clause::Filter(self.expression()?)),
                "LET" => self.let_is(&mut query)?,
                "SORT" => self.sort(&mut query)?,
                "LIMIT" => {
                    let (skip, count) = self.limits()?;
                    if [&skip, &count].into_iter().any(|bound| !matches!(bound, Expr::Value(_))) {
                        return Err(Failure::parse("LIMIT values must be known when the query is compiled"));
                    }
                    query.clauses.push(Clause::Limit { skip, count });
                }
                "COLLECT" => self.collect(&mut query)?,
                "RETURN" => {
                    let distinct = self.take_keyword("DISTINCT");
                    if distinct && !self.scope().loops {
                        let message = "cannot use DISTINCT modifier on top-level query element";
                        return Err(Failure::parse(message));
                    }
                    query.clauses.push(Clause::Return { distinct, value: self.expression()? });
                    return Ok(query);
                }
                "INSERT" | "UPDATE" | "REPLACE" | "REMOVE" | "UPSERT" => {
                    if self.scope().modified {
                        return Err(Failure::new(1573, "AQL: multi-modify query"));
                    }
                    self.scope().modified = true;
                    self.modify(keyword, &mut query)?;
                }
                _ => {
                    self.next -= 1;
                    return Err(self.not_known(keyword));
                }
            }
        }
    }

    /// A query ends with `RETURN`, or has a modification.
    fn finished(&mut self, query: Query) -> Outcome<Query> {
        if self.scope().modified { Ok(query) } else { Err(self.unexpected()) }
    }

    fn for_in(&mut self, query: &mut Query) -> Outcome<()> {
        let names = if self.take_sign("[") {
            None
        } else {
            if self.is_sign("{") {
                return Err(self.not_known("destructuring of objects"));
            }
            let mut names = vec![self.name()?];
            while self.take_sign(",") {
                names.push(self.name()?);
            }
            Some(names)
        };
        let elements = if names.is_none() { self.names_until("]")? } else { Vec::new() };
        self.expect_keyword("IN")?;
        let depth = if self.direction().is_some() { None } else { Some(self.expression()?) };
        let names = match (self.direction(), names) {
            (Some(direction), Some(names)) => {
                let traverse = self.traverse(&names, depth, direction)?;
                query.clauses.push(Clause::Traverse(Box::new(traverse)));
                return Ok(());
            }
            (Some(_), None) => return Err(self.unexpected()),
            (None, names) => names,
        };
        let source = match depth {
            Some(Expr::Collection(name)) => Source::Collection(name),
            Some(values) => Source::Values(values),
            None => return Err(self.unexpected()),
        };
        if self.is_word("SEARCH") {
            return Err(self.not_known("SEARCH"));
        }
        self.scope().loops = true;
        let target = match names.as_deref() {
            Some([name]) => Target::Slot(self.declare(name)?),
            Some(_) => return Err(self.unexpected()),
            None => {
                let whole = self.hidden();
                let slots = elements.iter().map(|name| self.declare(name)).collect::<Outcome<_>>()?;
                Target::Array(whole, slots)
            }
        };
        let hint = self.hint()?;
        query.clauses.push(Clause::For(For { target, source, hint }));
        Ok(())
    }

    fn names_until(&mut self, sign: &str) -> Outcome<Vec<Arc<str>>> {
        let mut names = vec![self.name()?];
        while self.take_sign(",") {
            names.push(self.name()?);
        }
        self.expect_sign(sign)?;
        Ok(names)
    }

    fn hint(&mut self) -> Outcome<Hint> {
        let mut hint = Hint::default();
        for (name, value) in self.options()? {
            match (&*name, value) {
                ("indexHint", Value::Str(index)) => hint.indexes = vec![index],
                ("indexHint", Value::Array(indexes)) => {
                    let names = indexes.iter().map(|index| index.as_str().map(Arc::from));
                    hint.indexes = names.collect::<Option<_>>().ok_or_else(|| bad_option("FOR", &name))?;
                }
                ("forceIndexHint", Value::Bool(force)) => hint.force = force,
                ("disableIndex", Value::Bool(disable)) => hint.disable = disable,
                ("maxProjections" | "lookahead", Value::Int(_)) | ("useCache", Value::Bool(_)) => {}
                (name, _) => return Err(bad_option("FOR", name)),
            }
        }
        Ok(hint)
    }

    fn let_is(&mut self, query: &mut Query) -> Outcome<()> {
        if self.is_sign("[") || self.is_sign("{") {
            return Err(self.not_known("destructuring"));
        }
        loop {
            let name = self.name()?;
            self.expect_sign("=")?;
            let value = self.expression()?;
            let writes = walk::writes(&value);
            let slot = self.declare(&name)?;
            query.clauses.push(Clause::Let { slot, value, writes });
            if !self.take_sign(",") {
                return Ok(());
            }
        }
    }

    fn sort(&mut self, query: &mut Query) -> Outcome<()> {
        let mut keys = Vec::new();
        loop {
            let key = self.expression()?;
            let down = match self.peek() {
                Token::Keyword("DESC") => {
                    self.next += 1;
                    true
                }
                Token::Keyword("ASC") => {
                    self.next += 1;
                    false
                }
                _ => false,
            };
            keys.push((key, down));
            if !self.take_sign(",") {
                break;
            }
        }
        // `SORT null` says that the order does not matter.
        keys.retain(|(key, _)| !matches!(key, Expr::Value(_)));
        if !keys.is_empty() {
            query.clauses.push(Clause::Sort(keys));
        }
        Ok(())
    }

    /// Parses everything before the new variables are made, for the old ones end with the clause.
    fn collect(&mut self, query: &mut Query) -> Outcome<()> {
        let mut groups = Vec::new();
        while matches!(self.peek(), Token::Name(_) | Token::Quoted(_)) && *self.peek_at(1) == Token::Sign("=")
        {
            let name = self.name()?;
            self.expect_sign("=")?;
            groups.push((name, self.expression()?));
            if !self.take_sign(",") {
                break;
            }
        }
        let mut aggregates = Vec::new();
        if self.take_keyword("AGGREGATE") {
            loop {
                let name = self.name()?;
                self.expect_sign("=")?;
                aggregates.push(self.aggregate(name)?);
                if !self.take_sign(",") {
                    break;
                }
            }
        }
        let mut count = None;
        let mut into = None;
        if aggregates.is_empty() && self.take_keyword("WITH") {
            if !self.take_word("COUNT") {
                return Err(self.unexpected());
            }
            self.expect_keyword("INTO")?;
            count = Some(self.name()?);
        } else if self.take_keyword("INTO") {
            let name = self.name()?;
            into = Some((name, self.member(aggregates.is_empty())?));
        }
        if groups.is_empty() && aggregates.is_empty() && count.is_none() {
            return Err(self.unexpected());
        }
        let hashed = self.collect_options()?;
        self.scope().variables.clear();
        let groups = groups.into_iter().map(|(n, e)| Ok((self.declare(&n)?, e))).collect::<Outcome<_>>()?;
        let aggregates =
            aggregates.into_iter().map(|(n, a, e)| Ok((self.declare(&n)?, a, e))).collect::<Outcome<_>>()?;
        let count = count.map(|name| self.declare(&name)).transpose()?;
        let into = match into {
            Some((name, member)) => Some(Into { slot: self.declare(&name)?, member }),
            None => None,
        };
        let collect = Collect { groups, aggregates, into, count, hashed };
        query.clauses.push(Clause::Collect(Box::new(collect)));
        Ok(())
    }

    /// `keeps`: a list of variables may follow.
    fn member(&mut self, keeps: bool) -> Outcome<Member> {
        if self.take_sign("=") {
            return self.expression().map(Member::Value);
        }
        if keeps && self.take_word("KEEP") {
            let mut kept = Vec::new();
            loop {
                let name = self.name()?;
                let slot = self.lookup(&name).ok_or_else(|| unknown_variable(&name))?;
                kept.push((name, slot));
                if !self.take_sign(",") {
                    return Ok(Member::Variables(kept));
                }
            }
        }
        let scope = self.scope();
        let loops = scope.loops;
        let seen = |variable: &&Variable| !loops || variable.in_loop;
        let kept = scope.variables.iter().filter(seen).map(|v| (v.name.clone(), v.slot)).collect();
        Ok(Member::Variables(kept))
    }

    fn aggregate(&mut self, name: Arc<str>) -> Outcome<(Arc<str>, Aggregate, Expr)> {
        let function = self.name()?;
        let aggregate = match &*function.to_ascii_uppercase() {
            "LENGTH" | "COUNT" => Aggregate::Count,
            "SUM" => Aggregate::Sum,
            "AVERAGE" | "AVG" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            "UNIQUE" => Aggregate::Unique,
            "SORTED_UNIQUE" => Aggregate::SortedUnique,
            "COUNT_DISTINCT" | "COUNT_UNIQUE" => Aggregate::CountUnique,
            "PUSH" => Aggregate::Push,
            _ => return Err(Failure::unknown(1574, format!("the aggregate function '{function}'"))),
        };
        self.expect_sign("(")?;
        let value = if self.is_sign(")") { Expr::Value(Value::Null) } else { self.expression()? };
        self.expect_sign(")")?;
        Ok((name, aggregate, value))
    }

    /// Whether the groups come in the order of a hash, which is none.
    fn collect_options(&mut self) -> Outcome<bool> {
        let mut hashed = false;
        for (name, value) in self.options()? {
            match (&*name, value.as_str()) {
                ("method", Some("hash")) => hashed = true,
                ("method", Some("sorted")) => hashed = false,
                (name, _) => return Err(bad_option("COLLECT", name)),
            }
        }
        Ok(hashed)
    }
}

pub(super) fn unknown_variable(name: &str) -> Failure {
    Failure::new(1512, format!("AQL: unknown variable '{name}'"))
}
