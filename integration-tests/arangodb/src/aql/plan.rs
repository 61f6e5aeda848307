//! Which index serves a loop over a collection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::aql::ast::{Binary, Clause, Expr, For, Query, Slot, Source, Target};
use crate::aql::walk;
use crate::error::{Failure, Outcome};
use crate::store::{Collection, Index, IndexKind, Path};

/// How a loop finds its documents.
#[derive(Debug, Default)]
pub(crate) struct Access<'q> {
    /// Place of the index among those of the collection; none to scan all of it.
    pub(crate) index: Option<usize>,
    /// Values that the first fields equal.
    pub(crate) equal: Vec<Equal<'q>>,
    pub(crate) lower: Option<(&'q Expr, bool)>,
    pub(crate) upper: Option<(&'q Expr, bool)>,
    /// The place of a sort that the index makes unnecessary, and whether it goes downwards.
    pub(crate) sorted: Option<(usize, bool)>,
}

/// What a field must equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Equal<'q> {
    pub(crate) value: &'q Expr,
    /// One of the elements of the value.
    pub(crate) any_of: bool,
    /// The value is an id, of which the key is looked up; or the end of an edge.
    pub(crate) attribute: Attribute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Field,
    Id,
    From,
    To,
}

/// A comparison of an attribute of the loop's variable.
struct Condition<'q> {
    path: Vec<Arc<str>>,
    operator: Binary,
    value: &'q Expr,
}

/// Chooses the index for the loop at that place of the query.
pub(crate) fn choose<'q>(
    query: &'q Query,
    at: usize,
    for_in: &'q For,
    collection: &Collection,
) -> Outcome<Access<'q>> {
    let Target::Slot(slot) = for_in.target else { return Ok(Access::default()) };
    if for_in.hint.disable {
        return Ok(Access::default());
    }
    let conditions = conditions(query, at, slot);
    let sort = sort_of(query, at, slot);
    let candidates = collection.indexes.iter().enumerate();
    let mut best: Option<(usize, Access<'q>)> = None;
    let mut hinted: BTreeMap<usize, Access<'q>> = BTreeMap::new();
    for (place, index) in candidates {
        let Some((score, access)) = serve(place, index, &conditions, sort.as_ref()) else { continue };
        if let Some(wish) = for_in.hint.indexes.iter().position(|name| *name == index.name) {
            hinted.insert(wish, access);
        } else if best.as_ref().is_none_or(|(best, _)| score > *best) {
            best = Some((score, access));
        }
    }
    match (hinted.pop_first(), for_in.hint.force && !for_in.hint.indexes.is_empty()) {
        (Some((_, access)), _) => Ok(access),
        (None, true) => Err(Failure::new(
            1577,
            format!("could not use index hint to serve query; {:?}", for_in.hint.indexes),
        )),
        (None, false) => Ok(best.map(|(_, access)| access).unwrap_or_default()),
    }
}

/// The conditions that hold for every document that the loop lets through, and whose other side is known before it.
fn conditions<'q>(query: &'q Query, at: usize, slot: Slot) -> Vec<Condition<'q>> {
    let mut later = BTreeSet::from([slot]);
    let mut conditions = Vec::new();
    for clause in &query.clauses[at + 1..] {
        match clause {
            Clause::Filter(condition) => conjuncts(condition, slot, &later, &mut conditions),
            Clause::Let { slot, writes: false, .. } => drop(later.insert(*slot)),
            Clause::For(inner) => match &inner.target {
                Target::Slot(slot) => drop(later.insert(*slot)),
                Target::Array(whole, slots) => later.extend(slots.iter().chain([whole])),
            },
            Clause::Traverse(traverse) => {
                later.extend([traverse.vertex].into_iter().chain(traverse.edge).chain(traverse.path));
            }
            Clause::Sort(_) => {}
            Clause::Let { writes: true, .. }
            | Clause::Limit { .. }
            | Clause::Collect(_)
            | Clause::Modify(_)
            | Clause::Return { .. } => break,
        }
    }
    conditions
}

fn conjuncts<'q>(expr: &'q Expr, slot: Slot, later: &BTreeSet<Slot>, found: &mut Vec<Condition<'q>>) {
    let Expr::Binary(operator, left, right) = expr else { return };
    if *operator == Binary::And {
        conjuncts(left, slot, later, found);
        conjuncts(right, slot, later, found);
        return;
    }
    let turned = match operator {
        Binary::Equal => Binary::Equal,
        Binary::Less => Binary::Greater,
        Binary::LessEqual => Binary::GreaterEqual,
        Binary::Greater => Binary::Less,
        Binary::GreaterEqual => Binary::LessEqual,
        _ => Binary::Or,
    };
    for (attribute, value, operator) in [(left, right, *operator), (right, left, turned)] {
        let known = || walk::slots(value).is_disjoint(later);
        if let Some(path) = path_on(attribute, slot).filter(|_| known()) {
            found.push(Condition { path, operator, value });
        }
    }
}

/// The path of an attribute of the variable.
fn path_on(expr: &Expr, slot: Slot) -> Option<Vec<Arc<str>>> {
    match expr {
        Expr::Attribute(inner, name) => match &**inner {
            Expr::Slot(found) => (*found == slot).then(|| vec![name.clone()]),
            inner => {
                let mut path = path_on(inner, slot)?;
                path.push(name.clone());
                Some(path)
            }
        },
        _ => None,
    }
}

/// Paths to sort by, whether downwards, and the place of the sort.
type Sort = (Vec<Vec<Arc<str>>>, bool, usize);

/// The sort that an index could serve: of attributes of this variable alone, in one direction, and of its own loop.
fn sort_of(query: &Query, at: usize, slot: Slot) -> Option<Sort> {
    let outermost = !query.clauses[..at].iter().any(|c| matches!(c, Clause::For(_) | Clause::Traverse(_)));
    for (place, clause) in query.clauses.iter().enumerate().skip(at + 1) {
        match clause {
            Clause::Filter(_) | Clause::Let { writes: false, .. } => {}
            Clause::Sort(keys) if outermost => {
                let down = keys.first()?.1;
                let same = keys.iter().all(|(_, other)| *other == down);
                let paths: Option<Vec<_>> = keys.iter().map(|(key, _)| path_on(key, slot)).collect();
                return paths.filter(|_| same).map(|paths| (paths, down, place));
            }
            _ => return None,
        }
    }
    None
}

/// What an index gives for these conditions, and how good that is.
fn serve<'q>(
    place: usize,
    index: &Index,
    conditions: &[Condition<'q>],
    sort: Option<&Sort>,
) -> Option<(usize, Access<'q>)> {
    let equal_to = |path: &[Arc<str>]| {
        let found = conditions.iter().find(|c| c.path == path && c.operator == Binary::Equal);
        found.or_else(|| conditions.iter().find(|c| c.path == path && c.operator == Binary::In))
    };
    let named = |name: &str, attribute| {
        let condition = equal_to(&[Arc::from(name)])?;
        let any_of = condition.operator == Binary::In;
        Some(Equal { value: condition.value, any_of, attribute })
    };
    let one =
        |equal, score| Some((score, Access { index: Some(place), equal: vec![equal], ..Access::default() }));
    match index.kind {
        IndexKind::Primary => {
            if let Some(equal) = named("_key", Attribute::Field).or_else(|| named("_id", Attribute::Id)) {
                return one(equal, 1_000);
            }
        }
        IndexKind::Edge => {
            let equal = named("_from", Attribute::From).or_else(|| named("_to", Attribute::To))?;
            return one(equal, 20);
        }
        IndexKind::Persistent => {}
    }
    let mut access = Access { index: Some(place), ..Access::default() };
    let mut covered = 0;
    let mut excludes_null = true;
    for path in &index.fields {
        let Some(condition) = equal_to(path) else { break };
        let any_of = condition.operator == Binary::In;
        access.equal.push(Equal { value: condition.value, any_of, attribute: Attribute::Field });
        covered += 1;
        excludes_null &= not_null(condition, conditions);
        if any_of {
            break;
        }
    }
    if let Some(path) = index.fields.get(covered).filter(|_| access.equal.iter().all(|equal| !equal.any_of)) {
        let bound = |one, other| {
            let found =
                conditions.iter().find(|c| c.path == *path && (c.operator == one || c.operator == other));
            found.map(|c| (c.value, c.operator == other))
        };
        access.lower = bound(Binary::Greater, Binary::GreaterEqual);
        access.upper = bound(Binary::Less, Binary::LessEqual);
        if access.lower.is_some() || access.upper.is_some() {
            covered += 1;
            excludes_null &= conditions.iter().any(|c| c.path == *path && rules_null_out(c));
        }
    }
    if index.sparse && (covered < index.fields.len() || !excludes_null) {
        return None;
    }
    let fixed = access.equal.iter().filter(|equal| !equal.any_of).count();
    let ordered = access.equal.len() == fixed;
    if let Some((paths, down, at)) = sort.filter(|_| ordered)
        && serves_sort(&index.fields, &access.equal, paths)
    {
        access.sorted = Some((*at, *down));
    }
    let score = access.equal.len() * 20
        + usize::from(access.lower.is_some()) * 5
        + usize::from(access.upper.is_some()) * 5
        + usize::from(access.sorted.is_some()) * 3
        + usize::from(index.unique && fixed == index.fields.len()) * 200;
    (score > 0).then_some((score, access))
}

/// Whether entries come in the order of these paths. Fields that equal a constant may be left out of it, and stand
/// anywhere in it; those that equal something else have to be named in their place.
fn serves_sort(fields: &[Path], equal: &[Equal<'_>], paths: &[Path]) -> bool {
    let is_constant = |equal: &Equal<'_>| matches!(equal.value, Expr::Value(_));
    let constant: Vec<&Path> =
        fields.iter().zip(equal).filter(|(_, equal)| is_constant(equal)).map(|(field, _)| field).collect();
    let mut fields = fields.iter().filter(|field| !constant.contains(field));
    paths.iter().filter(|path| !constant.contains(path)).all(|path| fields.next() == Some(path))
}

/// A value that is known not to be null.
fn is_not_null(value: &Expr) -> bool {
    match value {
        Expr::Value(value) => !value.is_null(),
        Expr::Array(_) | Expr::Object(_) => true,
        _ => false,
    }
}

/// A condition that null does not fulfil.
fn rules_null_out(condition: &Condition<'_>) -> bool {
    match condition.operator {
        // What is not constant is not known not to be null, and of that the optimizer is not sure.
        Binary::Greater => matches!(condition.value, Expr::Value(_)),
        Binary::GreaterEqual | Binary::Equal => is_not_null(condition.value),
        Binary::Unequal => matches!(condition.value, Expr::Value(value) if value.is_null()),
        Binary::In => match condition.value {
            Expr::Value(value) => value.as_array().is_some_and(|values| values.iter().all(|v| !v.is_null())),
            _ => false,
        },
        _ => false,
    }
}

fn not_null(condition: &Condition<'_>, conditions: &[Condition<'_>]) -> bool {
    conditions.iter().any(|other| other.path == condition.path && rules_null_out(other))
}

/// The index by which an `UPSERT` looks for what it may have to write. It compares the attributes of its example.
pub(crate) fn choose_for_example(example: &Expr, collection: &Collection) -> Option<usize> {
    let Expr::Object(attributes) = example else { return None };
    let names: Vec<&str> = attributes
        .iter()
        .filter_map(|(name, _)| match name {
            Expr::Value(name) => name.as_str(),
            _ => None,
        })
        .collect();
    collection.indexes.iter().position(|index| match index.kind {
        IndexKind::Primary => names.contains(&"_key") || names.contains(&"_id"),
        IndexKind::Edge => names.contains(&"_from") || names.contains(&"_to"),
        IndexKind::Persistent => {
            !index.sparse && index.fields.first().is_some_and(|path| names.contains(&&*path.join(".")))
        }
    })
}

/// The collection of a loop.
pub(crate) fn collection_of(for_in: &For) -> Option<&Arc<str>> {
    match &for_in.source {
        Source::Collection(name) => Some(name),
        Source::Values(_) => None,
    }
}
