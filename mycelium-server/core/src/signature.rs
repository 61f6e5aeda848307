//! What a task is declared to take, and what a job brings: which jobs go to which processes.

use std::sync::Arc;

use crate::ids::SignatureId;

/// What a declaration says of the parameters of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    id: SignatureId,
    /// In the order of their names.
    parameters: Vec<Parameter>,
}

/// A parameter of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    /// Its name.
    pub name: Arc<str>,
    /// Whether a job must have an argument for it.
    pub is_required: bool,
}

impl Signature {
    /// What takes these. `id` tells it from every other, of the same names with other schemas too.
    pub fn new(id: SignatureId, mut parameters: Vec<Parameter>) -> Self {
        parameters.sort_unstable();
        Self { id, parameters }
    }

    /// What tells it from others.
    pub fn id(&self) -> SignatureId {
        self.id
    }

    /// Whether it takes arguments of these names. What is not known may fit.
    pub fn takes(&self, shape: &Shape) -> bool {
        let Some(names) = shape.names() else { return true };
        let mut names = names.iter().peekable();
        for parameter in &self.parameters {
            if names.next_if(|name| **name == parameter.name).is_none() && parameter.is_required {
                return false;
            }
        }
        // One that is left has no parameter.
        names.next().is_none()
    }
}

/// The names of a job's arguments. Copies share their memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Shape(Option<Arc<[Arc<str>]>>);

impl Shape {
    /// That of a job which was stored before shapes were.
    pub const UNKNOWN: Self = Self(None);

    /// That of a job with arguments of these names.
    pub fn of(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut names: Vec<Arc<str>> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(Some(names.into()))
    }

    /// The names, in order; `None` if they are not known.
    pub fn names(&self) -> Option<&[Arc<str>]> {
        self.0.as_deref()
    }
}

/// How the values of a job's arguments were judged, as far as they stand in its specification: by the signatures of its
/// task that were there when it was submitted, and by those that turned it down later. Copies share their memory. Never
/// stored: whoever is missing here judges when the arguments are put together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Judged(Option<Arc<[(SignatureId, bool)]>>);

impl Judged {
    /// By nobody.
    pub const NOT: Self = Self(None);

    /// How many signatures are remembered for a job.
    pub const MAX: usize = 64;

    /// Judged so by each of these. Of more than [`Judged::MAX`] the rest counts as not asked.
    pub fn by(judged: impl IntoIterator<Item = (SignatureId, bool)>) -> Self {
        let mut all: Vec<(SignatureId, bool)> = judged.into_iter().collect();
        all.sort_unstable();
        all.dedup_by_key(|(id, _)| *id);
        all.truncate(Self::MAX);
        if all.is_empty() { Self::NOT } else { Self(Some(all.into())) }
    }

    /// Whether that signature takes them; `None` if it was not asked.
    pub fn by_signature(&self, id: SignatureId) -> Option<bool> {
        let all = self.0.as_deref()?;
        let place = all.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(all[place].1)
    }

    /// Whether this is what these come to, each once.
    pub fn is(&self, judged: impl IntoIterator<Item = (SignatureId, bool)>) -> bool {
        let mut count = 0;
        let are_in = judged.into_iter().all(|(id, takes)| {
            count += 1;
            self.by_signature(id) == Some(takes)
        });
        are_in && count == self.iter().count()
    }

    /// Each signature that was asked, and whether it takes them.
    pub fn iter(&self) -> impl Iterator<Item = (SignatureId, bool)> {
        self.0.iter().flat_map(|all| all.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(names: &[&str]) -> Shape {
        Shape::of(names.iter().map(|name| Arc::from(*name)))
    }

    fn signature(required: &[&str], optional: &[&str]) -> Signature {
        let of = |names: &[&str], is_required| {
            let parameter = |name: &&str| Parameter { name: Arc::from(*name), is_required };
            names.iter().map(parameter).collect::<Vec<_>>()
        };
        Signature::new(SignatureId::default(), [of(required, true), of(optional, false)].concat())
    }

    #[test]
    fn a_signature_takes_all_it_requires_and_nothing_that_it_does_not_know() {
        let signature = signature(&["b", "d"], &["a", "c"]);
        for taken in [&["b", "d"][..], &["d", "a", "b"], &["a", "b", "c", "d"]] {
            assert!(signature.takes(&shape(taken)), "{taken:?}");
        }
        for refused in [&[][..], &["b"], &["a", "c", "d"], &["b", "d", "e"], &["0", "b", "d"]] {
            assert!(!signature.takes(&shape(refused)), "{refused:?}");
        }
        assert!(signature.takes(&Shape::UNKNOWN));
        assert!(super::tests::signature(&[], &[]).takes(&shape(&[])));
    }

    #[test]
    fn judgements_are_found_by_signature_and_bounded() {
        let id = |number: u8| SignatureId::new([number; 16]);
        let judged = Judged::by([(id(2), false), (id(1), true)]);
        assert_eq!(judged.by_signature(id(1)), Some(true));
        assert_eq!(judged.by_signature(id(2)), Some(false));
        assert_eq!(judged.by_signature(id(3)), None);
        assert_eq!(Judged::by([]), Judged::NOT);
        let many = Judged::by((0..200).map(|number| (id(number), true)));
        assert_eq!(many.iter().count(), Judged::MAX);
    }
}
