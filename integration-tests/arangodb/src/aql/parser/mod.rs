//! From text to statements: names become slots, bind parameters their values.

mod clauses;
mod expressions;
mod modifications;
mod traversals;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::modifications::overwrite_mode;
use crate::aql::ast::{Expr, Query, Slot, Statement};
use crate::aql::lexer::{self, Token, Word};
use crate::error::{Failure, Outcome};
use crate::value::{Object, Value};

/// How deep expressions and subqueries may lie in one another.
const NESTING_MAX: usize = 400;

/// Parses a statement. `is_4`: as a server of 4.x, with its reserved words and without what it no longer has.
pub(crate) fn parse(text: &str, binds: &Object, is_4: bool) -> Outcome<Statement> {
    if text.trim().is_empty() {
        return Err(Failure::new(1502, "query is empty"));
    }
    let mut parser = Parser {
        text,
        words: lexer::words(text, is_4)?,
        next: 0,
        binds,
        used: BTreeSet::new(),
        names: Vec::new(),
        scopes: Vec::new(),
        depth: 0,
        in_ends: false,
        is_4,
    };
    let mut declared = Vec::new();
    if parser.take_keyword("WITH") {
        declared = parser.list_of_collections()?;
    }
    let query = parser.query()?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected());
    }
    if let Some(name) = binds.keys().find(|name| !parser.used.contains(&***name)) {
        return Err(Failure::new(
            1552,
            format!("AQL: bind parameter '{name}' was not declared in the query"),
        ));
    }
    Ok(Statement { query, slots: parser.names.len(), names: parser.names, declared })
}

/// A variable that can be seen.
struct Variable {
    name: Arc<str>,
    slot: Slot,
    /// It was made after the first loop of its query.
    in_loop: bool,
}

/// The variables of a query, or of an inline expression.
#[derive(Default)]
struct Scope {
    variables: Vec<Variable>,
    loops: bool,
    /// The query has a modification.
    modified: bool,
}

pub(super) struct Parser<'a> {
    text: &'a str,
    words: Vec<Word>,
    next: usize,
    binds: &'a Object,
    used: BTreeSet<Arc<str>>,
    names: Vec<Arc<str>>,
    scopes: Vec<Scope>,
    depth: usize,
    /// `IN` is no operator, but comes before the collection of a modification.
    in_ends: bool,
    /// As a server of 4.x.
    is_4: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.words[self.next.min(self.words.len() - 1)].token
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        &self.words[(self.next + ahead).min(self.words.len() - 1)].token
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.next += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &str) -> Outcome<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Keyword(found) if *found == keyword)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.next += usize::from(found);
        found
    }

    fn expect_keyword(&mut self, keyword: &str) -> Outcome<()> {
        if self.take_keyword(keyword) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A word that is only one of the language where it stands.
    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(name) if name.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    fn unexpected(&self) -> Failure {
        let word = &self.words[self.next.min(self.words.len() - 1)];
        let near: String = self.text[word.at..].chars().take(40).collect();
        let what = match &word.token {
            Token::End => "end of query string".to_owned(),
            Token::Keyword(keyword) => format!("{keyword} declaration"),
            Token::Name(_) | Token::Quoted(_) => "identifier".to_owned(),
            Token::Literal(value) => format!("{} literal", value.type_name()),
            Token::Bind(_) | Token::BindCollection(_) => "bind parameter".to_owned(),
            Token::Sign(sign) => format!("'{sign}'"),
        };
        Failure::parse(format!(
            "unexpected {what} near '{near}' at position {}",
            lexer::place(self.text, word.at)
        ))
    }

    /// Something that the language has, and the double has not.
    fn not_known(&self, what: &str) -> Failure {
        let word = &self.words[self.next.min(self.words.len() - 1)];
        Failure::unknown(1501, format!("{what} at position {}", lexer::place(self.text, word.at)))
    }

    fn name(&mut self) -> Outcome<Arc<str>> {
        match self.peek().clone() {
            Token::Name(name) | Token::Quoted(name) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn bind(&mut self, name: &str) -> Outcome<Value> {
        self.used.insert(Arc::from(name));
        self.binds.get(name).cloned().ok_or_else(|| {
            Failure::new(1551, format!("AQL: no value specified for declared bind parameter '{name}'"))
        })
    }

    /// The name of a collection, as it is or by a bind parameter.
    fn collection(&mut self) -> Outcome<Arc<str>> {
        match self.peek().clone() {
            Token::BindCollection(name) => {
                self.next += 1;
                let name = format!("@{name}");
                match self.bind(&name)? {
                    Value::Str(collection) => Ok(collection),
                    _ => Err(Failure::new(
                        1553,
                        format!("AQL: bind parameter '{name}' has an invalid value or type"),
                    )),
                }
            }
            _ => self.name(),
        }
    }

    fn list_of_collections(&mut self) -> Outcome<Vec<Arc<str>>> {
        let mut names = vec![self.collection()?];
        loop {
            if self.take_sign(",")
                || matches!(self.peek(), Token::Name(_) | Token::Quoted(_) | Token::BindCollection(_))
            {
                names.push(self.collection()?);
            } else {
                return Ok(names);
            }
        }
    }

    fn scope(&mut self) -> &mut Scope {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn lookup(&self, name: &str) -> Option<Slot> {
        let variables = self.scopes.iter().rev().flat_map(|scope| scope.variables.iter().rev());
        variables.filter(|variable| &*variable.name == name).map(|variable| variable.slot).next()
    }

    fn new_slot(&mut self, name: &Arc<str>) -> Slot {
        self.names.push(name.clone());
        self.names.len() - 1
    }

    /// Makes a pseudo-variable, which may hide one of an outer query.
    fn declare_pseudo(&mut self, name: &str) -> Slot {
        let name = Arc::from(name);
        let slot = self.new_slot(&name);
        self.scope().variables.push(Variable { name, slot, in_loop: false });
        slot
    }

    fn declare(&mut self, name: &Arc<str>) -> Outcome<Slot> {
        if self.lookup(name).is_some() {
            return Err(Failure::new(1511, format!("AQL: variable '{name}' is assigned multiple times")));
        }
        let slot = self.new_slot(name);
        let in_loop = self.scope().loops;
        self.scope().variables.push(Variable { name: name.clone(), slot, in_loop });
        Ok(slot)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= NESTING_MAX {
            return Err(Failure::new(1524, "query expression exceeds nesting limit"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// A query with a scope of its own.
    fn query(&mut self) -> Outcome<Query> {
        self.within(false, |parser| {
            parser.scopes.push(Scope::default());
            let query = parser.deeper(Self::clauses);
            parser.scopes.pop();
            query
        })
    }

    /// Parses with another meaning of `IN`: brackets of all kinds give it back its own.
    fn within<T>(&mut self, in_ends: bool, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let outer = std::mem::replace(&mut self.in_ends, in_ends);
        let parsed = parse(self);
        self.in_ends = outer;
        parsed
    }

    fn starts_query(&self) -> bool {
        const FIRST: &[&str] =
            &["FOR", "LET", "INSERT", "UPDATE", "REPLACE", "REMOVE", "UPSERT", "RETURN", "WITH"];
        matches!(self.peek(), Token::Keyword(keyword) if FIRST.contains(keyword))
    }

    /// `OPTIONS { .. }`, which must be constant. None where there are none.
    fn options(&mut self) -> Outcome<Vec<(Arc<str>, Value)>> {
        if !self.take_word("OPTIONS") {
            return Ok(Vec::new());
        }
        let Expr::Object(attributes) = self.object()? else {
            return Err(self.unexpected());
        };
        attributes
            .iter()
            .map(|(name, value)| match (constant(name), constant(value)) {
                (Some(Value::Str(name)), Some(value)) => Ok((name, value)),
                _ => Err(Failure::new(1575, "AQL: query options must be readable at query compile time")),
            })
            .collect()
    }
}

/// The value of what needs no row.
pub(super) fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Value(value) => Some(value.clone()),
        Expr::Array(items) => items.iter().map(constant).collect::<Option<Vec<_>>>().map(Value::array),
        _ => None,
    }
}

/// An option that has another type than it should.
pub(super) fn bad_option(clause: &str, name: &str) -> Failure {
    Failure::unknown(1539, format!("AQL: {clause} option '{name}', or its value"))
}
