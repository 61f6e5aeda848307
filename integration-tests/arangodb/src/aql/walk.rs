//! Walks over statements.

use std::collections::BTreeSet;

use crate::aql::ast::{Action, Clause, Expr, Member, Query, Slot, Source};

/// Gives each expression that stands directly in an expression. Those of a subquery stand directly in it.
pub(crate) fn children<'q>(expr: &'q Expr, give: &mut dyn FnMut(&'q Expr)) {
    match expr {
        Expr::Value(_) | Expr::Slot(_) | Expr::Collection(_) => {}
        Expr::Array(items) | Expr::Call(_, items) => items.iter().for_each(give),
        Expr::Object(attributes) => attributes.iter().for_each(|(name, value)| {
            give(name);
            give(value);
        }),
        Expr::Attribute(inner, _) | Expr::Not(inner) | Expr::Minus(inner) | Expr::Plus(inner) => give(inner),
        Expr::Index(a, b) | Expr::Binary(_, a, b) | Expr::Quantified(_, _, a, b) | Expr::Range(a, b) => {
            give(a);
            give(b);
        }
        Expr::Ternary(condition, then, other) => {
            give(condition);
            then.iter().for_each(|then| give(then));
            give(other);
        }
        Expr::Expand(expand) => {
            give(&expand.base);
            let limit = expand.limit.iter().flat_map(|(skip, count)| [skip, count]);
            [&expand.filter, &expand.project, &expand.rest].into_iter().flatten().chain(limit).for_each(give);
        }
        Expr::Subquery(query) => query.clauses.iter().for_each(|clause| clause_expressions(clause, give)),
    }
}

/// Gives each expression that stands directly in a clause, in the order in which they are evaluated.
pub(crate) fn clause_expressions<'q>(clause: &'q Clause, give: &mut dyn FnMut(&'q Expr)) {
    match clause {
        Clause::For(for_in) => match &for_in.source {
            Source::Collection(_) => {}
            Source::Values(values) => give(values),
        },
        Clause::Traverse(traverse) => {
            give(&traverse.start);
            traverse.shortest.iter().for_each(|shortest| give(&shortest.target));
            traverse.prune.iter().for_each(|(_, condition)| give(condition));
        }
        Clause::Filter(value) | Clause::Let { value, .. } | Clause::Return { value, .. } => give(value),
        Clause::Sort(keys) => keys.iter().for_each(|(key, _)| give(key)),
        Clause::Limit { skip, count } => {
            give(skip);
            give(count);
        }
        Clause::Collect(collect) => {
            collect.groups.iter().for_each(|(_, value)| give(value));
            collect.aggregates.iter().for_each(|(_, _, value)| give(value));
            if let Some(Member::Value(value)) = collect.into.as_ref().map(|into| &into.member) {
                give(value);
            }
        }
        Clause::Modify(modify) => match &modify.action {
            Action::Insert(value) | Action::Remove(value) => give(value),
            Action::Update(target, with) | Action::Replace(target, with) => {
                give(target);
                with.iter().for_each(give);
            }
            Action::Upsert { search, insert, write, .. } => {
                give(search);
                give(insert);
                give(write);
            }
        },
    }
}

/// Gives the expression and all that stand in it.
pub(crate) fn each<'q>(expr: &'q Expr, give: &mut dyn FnMut(&'q Expr)) {
    give(expr);
    children(expr, &mut |child| each(child, give));
}

/// An expression has a subquery that modifies.
pub(crate) fn writes(expr: &Expr) -> bool {
    let mut found = false;
    each(expr, &mut |expr| {
        if let Expr::Subquery(query) = expr {
            found |= query.clauses.iter().any(|clause| matches!(clause, Clause::Modify(_)));
        }
    });
    found
}

/// A statement modifies.
pub(crate) fn query_writes(query: &Query) -> bool {
    query.clauses.iter().any(|clause| {
        let mut found = matches!(clause, Clause::Modify(_));
        clause_expressions(clause, &mut |expr| found |= writes(expr));
        found
    })
}

/// The slots that an expression reads.
pub(crate) fn slots(expr: &Expr) -> BTreeSet<Slot> {
    let mut slots = BTreeSet::new();
    each(expr, &mut |expr| match expr {
        Expr::Slot(slot) => drop(slots.insert(*slot)),
        Expr::Subquery(query) => {
            for clause in &query.clauses {
                if let Clause::Collect(collect) = clause
                    && let Some(Member::Variables(kept)) = collect.into.as_ref().map(|into| &into.member)
                {
                    slots.extend(kept.iter().map(|(_, slot)| *slot));
                }
            }
        }
        _ => {}
    });
    slots
}
