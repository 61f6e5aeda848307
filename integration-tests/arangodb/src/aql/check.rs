//! What a statement must not do, whatever the data: collections and graphs that are not there, and the order of reads
//! and writes that the server demands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::aql::ast::{Clause, Edges, Expr, Query, Source, Statement};
use crate::aql::walk;
use crate::error::{Failure, Outcome};
use crate::store::Graph;

/// What a statement does to collections.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) reads: BTreeSet<Arc<str>>,
    pub(crate) writes: BTreeSet<Arc<str>>,
    /// Those that it writes exclusively.
    pub(crate) exclusive: BTreeSet<Arc<str>>,
    /// A modification wants the commit to be synced.
    pub(crate) wait_for_sync: bool,
    /// Outermost depth at which each collection is read.
    pub(crate) read_at: BTreeMap<Arc<str>, usize>,
}

/// Checks a statement and tells what it uses. `in_cluster`: walks over edges of no graph need their collections named.
pub(crate) fn check(
    statement: &Statement,
    graphs: &BTreeMap<Arc<str>, Graph>,
    in_cluster: bool,
) -> Outcome<Uses> {
    let mut uses = Uses::default();
    uses.reads.extend(statement.declared.iter().cloned());
    let undeclared = in_cluster && statement.declared.is_empty();
    Check { uses: &mut uses, graphs, undeclared }.query(&statement.query, 0)?;
    Ok(uses)
}

struct Check<'a> {
    uses: &'a mut Uses,
    graphs: &'a BTreeMap<Arc<str>, Graph>,
    /// Nobody said which collections walks come to, in a cluster.
    undeclared: bool,
}

impl Check<'_> {
    fn query(&mut self, query: &Query, depth: usize) -> Outcome<()> {
        for clause in &query.clauses {
            let mut inner = Ok(());
            walk::clause_expressions(clause, &mut |expr| {
                if inner.is_ok() {
                    inner = self.expression(expr, depth);
                }
            });
            inner?;
            match clause {
                Clause::For(for_in) => {
                    if let Source::Collection(name) = &for_in.source {
                        self.read(name, depth)?;
                    }
                }
                Clause::Traverse(traverse) => {
                    self.no_write_before("traversal")?;
                    self.edges(&traverse.edges)?;
                }
                Clause::Modify(modify) => {
                    let name = &modify.collection;
                    // A write that lies deeper than a read would run between two reads.
                    let deeper = self.uses.read_at.get(name).is_some_and(|read| *read < depth);
                    if deeper || self.uses.writes.contains(name) {
                        return Err(after_modification(name));
                    }
                    self.uses.writes.insert(name.clone());
                    self.uses.wait_for_sync |= modify.options.wait_for_sync;
                    if modify.options.exclusive {
                        self.uses.exclusive.insert(name.clone());
                    }
                }
                Clause::Filter(_)
                | Clause::Let { .. }
                | Clause::Sort(_)
                | Clause::Limit { .. }
                | Clause::Collect(_)
                | Clause::Return { .. } => {}
            }
        }
        Ok(())
    }

    fn expression(&mut self, expr: &Expr, depth: usize) -> Outcome<()> {
        match expr {
            Expr::Subquery(query) => return self.query(query, depth + 1),
            Expr::Collection(name) => self.read(name, depth)?,
            Expr::Call(function, _) if function.reads => self.no_write_before("function")?,
            _ => {}
        }
        let mut inner = Ok(());
        walk::children(expr, &mut |child| {
            if inner.is_ok() {
                inner = self.expression(child, depth);
            }
        });
        inner
    }

    fn read(&mut self, name: &Arc<str>, depth: usize) -> Outcome<()> {
        if self.uses.writes.contains(name) {
            return Err(after_modification(name));
        }
        self.uses.reads.insert(name.clone());
        let at = self.uses.read_at.entry(name.clone()).or_insert(depth);
        *at = depth.min(*at);
        Ok(())
    }

    fn no_write_before(&self, by: &str) -> Outcome<()> {
        if self.uses.writes.is_empty() { Ok(()) } else { Err(after_modification(by)) }
    }

    fn edges(&mut self, edges: &Edges) -> Outcome<()> {
        match edges {
            Edges::Graph(name) => {
                let missing = || Failure::new(1924, format!("AQL: graph '{name}' not found"));
                let graph = self.graphs.get(name).ok_or_else(missing)?;
                self.uses.reads.extend(graph.collections());
            }
            Edges::Collections(names) if self.undeclared => {
                let name = names.first().map(|(name, _)| name.clone()).unwrap_or_default();
                let message = format!(
                    "AQL: collection not known to traversal along '{name}': add 'WITH' and its collections"
                );
                return Err(Failure::new(1521, message));
            }
            Edges::Collections(names) => self.uses.reads.extend(names.iter().map(|(name, _)| name.clone())),
        }
        Ok(())
    }
}

fn after_modification(what: &str) -> Failure {
    Failure::new(1579, format!("AQL: access after data-modification by {what}"))
}
