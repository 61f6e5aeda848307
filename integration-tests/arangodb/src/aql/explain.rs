//! Plans as `explain` tells them: which nodes a statement has, and by which index each loop finds its documents.

use crate::aql::ast::{Action, Clause, Edges, Expr, Query, Source, Statement};
use crate::aql::check::Uses;
use crate::aql::{plan, walk};
use crate::error::Outcome;
use crate::store::{Collection, Collections, Index, not_found};
use crate::value::Value;

/// The plan of a statement. `rules`: of the optimizer, besides those of the statement.
pub(crate) fn explain(
    statement: &Statement,
    uses: &Uses,
    collections: &Collections,
    rules: &[&str],
) -> Outcome<Value> {
    let mut nodes = Nodes { collections, nodes: Vec::new(), rules: rules.iter().map(Value::str).collect() };
    nodes.add("SingletonNode", []);
    nodes.query(&statement.query)?;
    let told = uses.reads.iter().map(|name| (name, "read")).chain(
        uses.writes
            .iter()
            .map(|name| (name, if uses.exclusive.contains(name) { "exclusive" } else { "write" })),
    );
    let used: Vec<Value> = told
        .filter(|(name, kind)| *kind != "read" || !uses.writes.contains(*name))
        .map(|(name, kind)| Value::object([("name", Value::Str(name.clone())), ("type", Value::str(kind))]))
        .collect();
    let variables = statement
        .names
        .iter()
        .enumerate()
        .map(|(id, name)| Value::object([("id", Value::count(id)), ("name", Value::Str(name.clone()))]));
    let count = Value::count(nodes.nodes.len());
    Ok(Value::object([
        ("nodes", Value::array(nodes.nodes)),
        ("rules", Value::array(nodes.rules)),
        ("collections", Value::array(used)),
        ("variables", Value::array(variables.collect())),
        ("estimatedCost", count.clone()),
        ("estimatedNrItems", count),
        ("isModificationQuery", Value::Bool(walk::query_writes(&statement.query))),
    ]))
}

struct Nodes<'c> {
    collections: &'c Collections,
    nodes: Vec<Value>,
    rules: Vec<Value>,
}

impl Nodes<'_> {
    fn add<const N: usize>(&mut self, kind: &str, details: [(&str, Value); N]) {
        let id = self.nodes.len() + 1;
        let before: Vec<Value> = if id > 1 { vec![Value::count(id - 1)] } else { Vec::new() };
        let cost = Value::count(id);
        let common = [
            ("type", Value::str(kind)),
            ("dependencies", Value::array(before)),
            ("id", Value::count(id)),
            ("estimatedCost", cost.clone()),
            ("estimatedNrItems", cost),
        ];
        self.nodes.push(Value::object(common.into_iter().chain(details)));
    }

    fn rule(&mut self, rule: &str) {
        let rule = Value::str(rule);
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }

    /// How documents of a collection are found.
    fn find(&mut self, collection: &Collection, index: Option<usize>) {
        let name = Value::Str(collection.name.clone());
        match index.and_then(|place| collection.indexes.get(place)) {
            Some(index) => {
                self.rule("use-indexes");
                // Without the name of the collection in front.
                let told = describe(collection, index).as_object().cloned().unwrap_or_default();
                let told = told.into_iter().map(|(name, value)| match &*name {
                    "id" => (name, Value::from(index.id.to_string())),
                    _ => (name, value),
                });
                let told = Value::array(vec![Value::object(told)]);
                self.add("IndexNode", [("collection", name), ("indexes", told)]);
            }
            None => self.add("EnumerateCollectionNode", [("collection", name)]),
        }
    }

    /// Subqueries stand between a node that starts and one that ends them.
    fn expression(&mut self, expr: &Expr) -> Outcome<()> {
        if let Expr::Subquery(query) = expr {
            self.rule("splice-subqueries");
            self.add("SubqueryStartNode", []);
            self.query(query)?;
            self.add("SubqueryEndNode", []);
            return Ok(());
        }
        let mut inner = Ok(());
        walk::children(expr, &mut |child| {
            if inner.is_ok() {
                inner = self.expression(child);
            }
        });
        inner
    }

    fn query(&mut self, query: &Query) -> Outcome<()> {
        let mut served_sort = None;
        for (at, clause) in query.clauses.iter().enumerate() {
            let mut inner = Ok(());
            walk::clause_expressions(clause, &mut |expr| {
                if inner.is_ok() {
                    inner = self.expression(expr);
                }
            });
            inner?;
            match clause {
                Clause::For(for_in) => match &for_in.source {
                    Source::Values(_) => self.add("EnumerateListNode", []),
                    Source::Collection(name) => {
                        let collection = self.collections.get(name).ok_or_else(|| not_found(name))?;
                        let access = plan::choose(query, at, for_in, collection)?;
                        if let Some((sort, _)) = access.sorted {
                            served_sort = Some(sort);
                            self.rule("use-index-for-sort");
                        }
                        self.find(collection, access.index);
                    }
                },
                Clause::Traverse(traverse) => {
                    let graph = match &traverse.edges {
                        Edges::Graph(name) => Value::Str(name.clone()),
                        Edges::Collections(names) => {
                            Value::array(names.iter().map(|(name, _)| Value::Str(name.clone())).collect())
                        }
                    };
                    let kind = if traverse.shortest.is_some() { "ShortestPathNode" } else { "TraversalNode" };
                    self.add(kind, [("graph", graph)]);
                }
                Clause::Filter(_) => self.add("FilterNode", []),
                Clause::Let { value, .. } if !matches!(value, Expr::Subquery(_)) => {
                    self.add("CalculationNode", [])
                }
                Clause::Let { .. } => {}
                Clause::Sort(_) if served_sort == Some(at) => {}
                Clause::Sort(_) => self.add("SortNode", []),
                Clause::Limit { .. } => self.add("LimitNode", []),
                Clause::Collect(_) => self.add("CollectNode", []),
                Clause::Return { distinct, .. } => {
                    if *distinct {
                        self.add("CollectNode", []);
                    }
                    self.add("ReturnNode", []);
                }
                Clause::Modify(modify) => {
                    let kind = match modify.action {
                        Action::Insert(_) => "InsertNode",
                        Action::Update(..) => "UpdateNode",
                        Action::Replace(..) => "ReplaceNode",
                        Action::Remove(_) => "RemoveNode",
                        Action::Upsert { .. } => "UpsertNode",
                    };
                    let name = &modify.collection;
                    let collection = self.collections.get(name).ok_or_else(|| not_found(name))?;
                    if let Action::Upsert { search, .. } = &modify.action {
                        self.add("SubqueryStartNode", []);
                        self.find(collection, plan::choose_for_example(search, collection));
                        self.add("LimitNode", []);
                        self.add("SubqueryEndNode", []);
                    }
                    self.add(kind, [("collection", Value::Str(modify.collection.clone()))]);
                }
            }
        }
        Ok(())
    }
}

/// An index as the interface tells it.
pub(crate) fn describe(collection: &Collection, index: &Index) -> Value {
    let fields = index.field_names().into_iter().map(Value::from).collect();
    let mut told = vec![
        ("id", Value::from(format!("{}/{}", collection.name, index.id))),
        ("type", Value::str(index.kind.name())),
        ("name", Value::Str(index.name.clone())),
        ("fields", Value::array(fields)),
        ("unique", Value::Bool(index.unique)),
        ("sparse", Value::Bool(index.sparse)),
        ("selectivityEstimate", Value::Int(1)),
    ];
    if index.is_made() {
        told.extend([
            ("deduplicate", Value::Bool(index.deduplicate)),
            ("estimates", Value::Bool(index.estimates)),
            ("cacheEnabled", Value::Bool(index.cache_enabled)),
        ]);
        if !index.stored_values.is_empty() {
            told.push(("storedValues", Value::array(index.stored_values.clone())));
        }
    }
    Value::object(told)
}
