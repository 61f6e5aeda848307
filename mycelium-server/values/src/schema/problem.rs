//! How a value does not fit, as text that does not quote the value.

use std::fmt::Write as _;

use super::{Bound, Counts, Kinds, Rule, Sized};

/// The longest place that is written out, in bytes.
const PLACE_BYTES_MAX: usize = 256;

/// What does not fit. Cheap to make: alternatives make many that nobody reads.
#[derive(Debug)]
pub(super) struct Problem<'s> {
    /// The way to it, innermost first.
    pub(super) path: Vec<Step<'s>>,
    pub(super) what: What<'s>,
    found: Kinds,
}

/// A step into a value. Names are those that the schema has; others are part of the value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'s> {
    Name(&'s str),
    Element(usize),
    /// An entry whose name the schema does not tell, by its place.
    Entry(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What<'s> {
    Types(Kinds),
    Rule(&'s Rule),
    Missing(&'s str),
    /// An entry that the schema neither names nor allows.
    Unnamed,
    /// None of so many alternatives.
    Alternatives(usize),
    /// So many of the alternatives that exclude each other.
    Several(usize),
}

impl<'s> Problem<'s> {
    pub(super) fn new(what: What<'s>, found: Kinds) -> Self {
        Self { path: Vec::new(), what, found }
    }

    pub(super) fn below(mut self, step: Step<'s>) -> Self {
        self.path.push(step);
        self
    }

    /// The one to tell of those that alternatives have: what got furthest into the value was most likely meant.
    pub(super) fn of_alternatives(problems: Vec<Self>, found: Kinds) -> Self {
        let all = What::Alternatives(problems.len());
        let types =
            problems.iter().filter(|problem| problem.path.is_empty()).map(|problem| match problem.what {
                What::Types(kinds) => Some(kinds),
                _ => None,
            });
        let union = types.clone().flatten().fold(Kinds::default(), |all, kinds| Kinds(all.0 | kinds.0));
        let others = types.filter(Option::is_none).count();
        let deepest = problems.iter().map(|problem| problem.path.len()).max().unwrap_or(0);
        let told = if deepest > 0 {
            problems.into_iter().find(|problem| problem.path.len() == deepest)
        } else if others == 1 {
            problems.into_iter().find(|problem| !matches!(problem.what, What::Types(_)))
        } else {
            None
        };
        told.unwrap_or_else(|| Self::new(if others == 0 { What::Types(union) } else { all }, found))
    }

    /// Place, what is expected, and what is found.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push_str("at `");
            write_place(&mut text, &self.path);
            text.push_str("`: ");
        }
        let types = || names(self.found);
        let (expected, found) = match self.what {
            What::Types(kinds) => (names(kinds), types()),
            What::Rule(rule) => of_rule(rule, types()),
            What::Missing(name) => (format!("an entry `{}`", crate::value::shorten(name)), "none".to_owned()),
            What::Unnamed => ("no entry but those that the schema names".to_owned(), "another".to_owned()),
            What::Alternatives(n) => {
                (format!("one of {n} alternatives"), format!("{} that is none", types()))
            }
            What::Several(n) => ("one alternative alone to fit".to_owned(), format!("{n} that do")),
        };
        // Text is written to a string, which takes all of it.
        let _written = write!(text, "expected {expected}, found {found}");
        text
    }
}

fn names(kinds: Kinds) -> String {
    let names: Vec<&str> = kinds.names().collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [names @ .., last] if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        _ => names.concat(),
    }
}

fn of_rule(rule: &Rule, found: String) -> (String, String) {
    match rule {
        Rule::Enum(values) if values.len() == 1 => {
            ("the one value that the schema allows".to_owned(), format!("another {found}"))
        }
        Rule::Enum(values) => {
            (format!("one of the {} values that the schema lists", values.len()), format!("another {found}"))
        }
        Rule::Bound(bound, limit) => {
            let limit = crate::value::shorten(limit);
            match bound {
                Bound::Minimum => (format!("a number of at least {limit}"), "a lesser one".to_owned()),
                Bound::Above => (format!("a number above {limit}"), "one that is not".to_owned()),
                Bound::Maximum => (format!("a number of at most {limit}"), "a greater one".to_owned()),
                Bound::Below => (format!("a number below {limit}"), "one that is not".to_owned()),
            }
        }
        Rule::MultipleOf(of) => (format!("a multiple of {}", crate::value::shorten(of)), "none".to_owned()),
        Rule::Length(sized, counts) => {
            let (what, parts) = match sized {
                Sized::Text => ("string", "characters"),
                Sized::List => ("array", "elements"),
                Sized::Map => ("object", "entries"),
            };
            (format!("{what} of {} {parts}", range(*counts)), format!("another number of {parts}"))
        }
        Rule::Pattern(..) => ("a string of the schema's pattern".to_owned(), "another string".to_owned()),
        Rule::Unique => ("elements that all differ".to_owned(), "two that are equal".to_owned()),
        Rule::Contains(_, counts) => {
            (format!("{} elements of a certain kind", range(*counts)), "another number of them".to_owned())
        }
        Rule::Not(_) => ("what the schema does not exclude".to_owned(), format!("{found} that it does")),
        Rule::Never => ("nothing".to_owned(), found),
        // Those within which another rule is broken.
        Rule::Types(_)
        | Rule::Prefix(_)
        | Rule::Items(..)
        | Rule::Properties(_)
        | Rule::PropertyNames(_)
        | Rule::Required(_)
        | Rule::DependentRequired(..)
        | Rule::DependentSchema(..)
        | Rule::All(_)
        | Rule::Any(_)
        | Rule::One(_)
        | Rule::If(..)
        | Rule::Reference(_) => ("what the schema says".to_owned(), format!("another {found}")),
    }
}

fn range(Counts { min, max }: Counts) -> String {
    match (min, max) {
        (min, u64::MAX) => format!("at least {min}"),
        (0, max) => format!("at most {max}"),
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min} to {max}"),
    }
}

fn write_place(text: &mut String, path: &[Step<'_>]) {
    let begin = text.len();
    for (written, step) in path.iter().rev().enumerate() {
        if text.len() - begin > PLACE_BYTES_MAX {
            let _written = write!(text, "/… ({} steps more)", path.len() - written);
            return;
        }
        let _written = match step {
            Step::Name(name) => write!(text, "/{}", crate::value::shorten(name)),
            Step::Element(index) => write!(text, "/{index}"),
            Step::Entry(index) => write!(text, "/(entry {index})"),
        };
    }
}
