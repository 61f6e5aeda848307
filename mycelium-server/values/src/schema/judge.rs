//! Holds a value against a schema.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::number::Number;
use super::problem::{Problem, Step, What};
use super::{Bound, Counts, Id, Kinds, Misfit, Pattern, Properties, Rule, Schema, Sized};
use crate::json::{Json, check};

/// A judgement may take so many steps, and so many more for each byte of the value: many times what an honest schema
/// takes, and some milliseconds for the largest inline value.
const STEPS: usize = 10_000;
const STEPS_PER_BYTE: usize = 32;
/// How many schemas may be gone into at once: those of a value of the largest depth, with some for each level.
const DEPTH_MAX: usize = 600;

pub(super) fn judge(schema: &Schema, json: &[u8]) -> Result<(), Misfit> {
    if schema.is_any() {
        check(json)?;
        return Ok(());
    }
    let value = if schema.is_shallow { Json::parse_outermost(json) } else { Json::parse(json) }?;
    let steps = STEPS + json.len().saturating_mul(STEPS_PER_BYTE);
    match (Judge { schema, steps, depth: 0 }).node(0, &value) {
        Ok(()) | Err(Stop::Limit) => Ok(()),
        Err(Stop::Problem(problem)) => Err(Misfit::Value(problem.text())),
    }
}

/// Why a judgement ends.
enum Stop<'s> {
    Problem(Problem<'s>),
    /// It took all its steps.
    Limit,
}

impl<'s> Stop<'s> {
    fn below(self, step: Step<'s>) -> Self {
        match self {
            Self::Problem(problem) => Self::Problem(problem.below(step)),
            Self::Limit => Self::Limit,
        }
    }
}

type Judged<'s> = Result<(), Stop<'s>>;

struct Judge<'s> {
    schema: &'s Schema,
    steps: usize,
    depth: usize,
}

impl<'s> Judge<'s> {
    fn take(&mut self, steps: usize) -> Judged<'s> {
        self.steps = self.steps.checked_sub(steps).ok_or(Stop::Limit)?;
        Ok(())
    }

    fn node(&mut self, id: Id, value: &Json<'_>) -> Judged<'s> {
        let schema = self.schema;
        let rules: &[Rule] = schema.nodes.get(id as usize).map_or(&[], |node| &node.rules);
        self.take(1 + rules.len())?;
        if self.depth == DEPTH_MAX {
            return Err(Stop::Limit);
        }
        self.depth += 1;
        let judged = rules.iter().try_for_each(|rule| self.rule(rule, value));
        self.depth -= 1;
        judged
    }

    fn rule(&mut self, rule: &'s Rule, value: &Json<'_>) -> Judged<'s> {
        let fits = match (rule, value) {
            (Rule::Types(kinds), _) => {
                let found = Kinds::of(value);
                if !found.meets(*kinds) {
                    return Err(Stop::Problem(Problem::new(What::Types(*kinds), found)));
                }
                true
            }
            (Rule::Never, _) => false,
            (Rule::Enum(values), _) => self.is_among(value, values)?,
            (Rule::Bound(bound, limit), Json::Number(number)) => within(*bound, number, limit),
            (Rule::MultipleOf(of), Json::Number(number)) => {
                Number::new(number).is_multiple_of(Number::new(of)).unwrap_or(true)
            }
            (Rule::Length(sized, counts), _) => length(*sized, value).is_none_or(|n| counts.allow(n)),
            (Rule::Pattern(pattern), Json::Text(text)) => self.matches(pattern, text)?,
            (Rule::Prefix(ids), Json::List(items)) => return self.elements(ids.iter().copied(), items, 0),
            (Rule::Items(from, id), Json::List(items)) => {
                let rest = items.get(*from..).unwrap_or_default();
                return self.elements(std::iter::repeat_n(*id, rest.len()), rest, *from);
            }
            (Rule::Unique, Json::List(items)) => self.all_differ(items)?,
            (Rule::Contains(id, counts), Json::List(items)) => {
                let mut n = 0;
                for item in items {
                    n += u64::from(self.fits(*id, item)?);
                }
                counts.allow(n)
            }
            (Rule::Properties(properties), Json::Map(entries)) => return self.entries(properties, entries),
            (Rule::PropertyNames(id), Json::Map(entries)) => {
                for (index, (key, _)) in entries.iter().enumerate() {
                    let key = Json::Text(key.as_ref().into());
                    self.node(*id, &key).map_err(|stop| stop.below(Step::Entry(index)))?;
                }
                true
            }
            (Rule::Required(names), Json::Map(entries)) => return self.require(names, entries),
            (Rule::DependentRequired(name, others), Json::Map(entries)) if has(entries, name) => {
                return self.require(others, entries);
            }
            (Rule::DependentSchema(name, id), Json::Map(entries)) if has(entries, name) => {
                return self.node(*id, value);
            }
            (Rule::All(ids), _) => return ids.iter().try_for_each(|id| self.node(*id, value)),
            (Rule::Any(ids), _) => return self.any(ids, value),
            (Rule::One(ids), _) => return self.one(ids, value),
            (Rule::Not(id), _) => !self.fits(*id, value)?,
            (Rule::If(condition, then, otherwise), _) => {
                let branch = if self.fits(*condition, value)? { then } else { otherwise };
                return self.node(*branch, value);
            }
            (Rule::Reference(id), _) => return self.node(*id, value),
            // A rule for values of another type.
            (_, _) => true,
        };
        if fits { Ok(()) } else { Err(Stop::Problem(Problem::new(What::Rule(rule), Kinds::of(value)))) }
    }

    fn fits(&mut self, id: Id, value: &Json<'_>) -> Result<bool, Stop<'s>> {
        match self.node(id, value) {
            Ok(()) => Ok(true),
            Err(Stop::Problem(_)) => Ok(false),
            Err(Stop::Limit) => Err(Stop::Limit),
        }
    }

    fn elements(&mut self, ids: impl Iterator<Item = Id>, items: &[Json<'_>], first: usize) -> Judged<'s> {
        for (index, (id, item)) in ids.zip(items).enumerate() {
            self.node(id, item).map_err(|stop| stop.below(Step::Element(first + index)))?;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        properties: &'s Properties,
        entries: &[(std::borrow::Cow<'_, str>, Json<'_>)],
    ) -> Judged<'s> {
        for (index, (key, value)) in entries.iter().enumerate() {
            self.take(1)?;
            let named = properties.named.binary_search_by(|(name, _)| (**name).cmp(key)).ok();
            if let Some((name, id)) = named.and_then(|at| properties.named.get(at)) {
                self.node(*id, value).map_err(|stop| stop.below(Step::Name(name)))?;
            }
            let mut is_known = named.is_some();
            for (pattern, id) in &properties.patterns {
                match pattern {
                    Some(pattern) => {
                        if self.matches(pattern, key)? {
                            is_known = true;
                            self.node(*id, value).map_err(|stop| stop.below(Step::Entry(index)))?;
                        }
                    }
                    None => is_known = true,
                }
            }
            if let Some(others) = properties.others.filter(|_| !is_known) {
                let rules = self.schema.nodes.get(others as usize).map(|node| &*node.rules);
                if let Some([Rule::Never]) = rules {
                    return Err(Stop::Problem(Problem::new(What::Unnamed, Kinds::of(value))));
                }
                self.node(others, value).map_err(|stop| stop.below(Step::Entry(index)))?;
            }
        }
        Ok(())
    }

    fn require(
        &mut self,
        names: &'s [Box<str>],
        entries: &[(std::borrow::Cow<'_, str>, Json<'_>)],
    ) -> Judged<'s> {
        for name in names {
            self.take(entries.len())?;
            if !has(entries, name) {
                return Err(Stop::Problem(Problem::new(What::Missing(name), Kinds::default())));
            }
        }
        Ok(())
    }

    fn any(&mut self, ids: &'s [Id], value: &Json<'_>) -> Judged<'s> {
        let mut problems = Vec::new();
        for id in ids {
            match self.node(*id, value) {
                Err(Stop::Problem(problem)) => problems.push(problem),
                fits_or_limit => return fits_or_limit,
            }
        }
        Err(Stop::Problem(Problem::of_alternatives(problems, Kinds::of(value))))
    }

    fn one(&mut self, ids: &'s [Id], value: &Json<'_>) -> Judged<'s> {
        let mut problems = Vec::new();
        for id in ids {
            match self.node(*id, value) {
                Ok(()) => {}
                Err(Stop::Problem(problem)) => problems.push(problem),
                Err(Stop::Limit) => return Err(Stop::Limit),
            }
        }
        let found = Kinds::of(value);
        Err(Stop::Problem(match ids.len() - problems.len() {
            1 => return Ok(()),
            0 => Problem::of_alternatives(problems, found),
            several => Problem::new(What::Several(several), found),
        }))
    }

    fn matches(&mut self, pattern: &Pattern, text: &str) -> Result<bool, Stop<'s>> {
        self.take((1 + text.len()).saturating_mul(pattern.cost))?;
        Ok(pattern.regex.is_match(text))
    }

    fn is_among(&mut self, value: &Json<'_>, values: &[Json<'_>]) -> Result<bool, Stop<'s>> {
        for one in values {
            if self.equal(value, one)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether two values are equal. Recurses as deep as they are, which is limited.
    fn equal(&mut self, a: &Json<'_>, b: &Json<'_>) -> Result<bool, Stop<'s>> {
        self.take(1)?;
        Ok(match (a, b) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => {
                self.take((a.len() + b.len()) / 8)?;
                Number::new(a).cmp(Number::new(b)).is_eq()
            }
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::List(a), Json::List(b)) if a.len() == b.len() => {
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Json::Map(a), Json::Map(b)) if a.len() == b.len() => {
                for (key, a) in a {
                    self.take(b.len())?;
                    let same = match b.iter().find(|(other, _)| other == key) {
                        Some((_, b)) => self.equal(a, b)?,
                        None => false,
                    };
                    if !same {
                        return Ok(false);
                    }
                }
                true
            }
            (_, _) => false,
        })
    }

    fn all_differ(&mut self, items: &[Json<'_>]) -> Result<bool, Stop<'s>> {
        let mut hashed = Vec::with_capacity(items.len());
        for item in items {
            hashed.push((self.hash(item)?, item));
        }
        hashed.sort_unstable_by_key(|(hash, _)| *hash);
        for same in hashed.chunk_by(|(a, _), (b, _)| a == b) {
            for (n, (_, item)) in same.iter().enumerate() {
                for (_, earlier) in &same[..n] {
                    if self.equal(item, earlier)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Equal values hash alike. Recurses as deep as the value is, which is limited.
    fn hash(&mut self, value: &Json<'_>) -> Result<u64, Stop<'s>> {
        self.take(1)?;
        let mut state = DefaultHasher::new();
        std::mem::discriminant(value).hash(&mut state);
        match value {
            Json::Null => {}
            Json::Bool(bool) => bool.hash(&mut state),
            Json::Number(number) => Number::new(number).hash(&mut state),
            Json::Text(text) => text.hash(&mut state),
            Json::List(items) => {
                for item in items {
                    self.hash(item)?.hash(&mut state);
                }
            }
            Json::Map(entries) => {
                // Entries have no order.
                let mut sum = 0_u64;
                for (key, value) in entries {
                    let mut entry = DefaultHasher::new();
                    (key, self.hash(value)?).hash(&mut entry);
                    sum = sum.wrapping_add(entry.finish());
                }
                sum.hash(&mut state);
            }
        }
        Ok(state.finish())
    }
}

fn has(entries: &[(std::borrow::Cow<'_, str>, Json<'_>)], name: &str) -> bool {
    entries.iter().any(|(key, _)| key == name)
}

fn within(bound: Bound, number: &str, limit: &str) -> bool {
    let order = Number::new(number).cmp(Number::new(limit));
    match bound {
        Bound::Minimum => order.is_ge(),
        Bound::Above => order.is_gt(),
        Bound::Maximum => order.is_le(),
        Bound::Below => order.is_lt(),
    }
}

/// How long a value is, if it is of that kind.
fn length(sized: Sized, value: &Json<'_>) -> Option<u64> {
    match (sized, value) {
        (Sized::Text, Json::Text(text)) => Some(text.chars().count() as u64),
        (Sized::List, Json::List(items)) => Some(items.len() as u64),
        (Sized::Map, Json::Map(entries)) => Some(entries.len() as u64),
        (Sized::Text | Sized::List | Sized::Map, _) => None,
    }
}

impl Counts {
    fn allow(self, n: u64) -> bool {
        (self.min..=self.max).contains(&n)
    }
}
