//! Tables whose entries are known by a small number, which is of a type of its own for each kind of table.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// What an index can be of. Types without values, so that entries may hold each other's indexes without knowing each
/// other.
pub(crate) mod of {
    /// Unfinished jobs.
    #[derive(Debug)]
    pub(crate) enum Job {}
    /// Flows in memory.
    #[derive(Debug)]
    pub(crate) enum Flow {}
    /// Elves.
    #[derive(Debug)]
    pub(crate) enum Elf {}
    /// Tasks of elves.
    #[derive(Debug)]
    pub(crate) enum Task {}
    /// Sets of labels and policies that jobs have.
    #[derive(Debug)]
    pub(crate) enum Traits {}
    /// Sessions that are alive.
    #[derive(Debug)]
    pub(crate) enum Session {}
    /// Submissions in several parts.
    #[derive(Debug)]
    pub(crate) enum Submission {}
}

/// The index of an unfinished job.
pub(crate) type Slot = Idx<of::Job>;
/// The index of a flow.
pub(crate) type FlowIdx = Idx<of::Flow>;
/// The index of an elf.
pub(crate) type ElfIdx = Idx<of::Elf>;
/// The index of a task of an elf.
pub(crate) type TaskIdx = Idx<of::Task>;
/// The index of the labels and the policy of a job.
pub(crate) type TraitsIdx = Idx<of::Traits>;
/// The index of a session.
pub(crate) type SessionIdx = Idx<of::Session>;
/// The index of a submission.
pub(crate) type SubmissionIdx = Idx<of::Submission>;

/// The index of an entry in a table of this kind.
pub(crate) struct Idx<K> {
    number: u32,
    kind: PhantomData<fn() -> K>,
}

impl<K> Idx<K> {
    /// Below or equal to every other.
    pub(crate) const MIN: Self = Self { number: u32::MIN, kind: PhantomData };
    /// Above or equal to every other.
    pub(crate) const MAX: Self = Self { number: u32::MAX, kind: PhantomData };

    /// # Panics
    ///
    /// If there are 2^32 entries or more, which do not fit into memory.
    pub(crate) fn new(number: usize) -> Self {
        let number = u32::try_from(number).expect("fewer than 2^32 entries fit into memory");
        Self { number, kind: PhantomData }
    }

    pub(crate) fn get(self) -> usize {
        self.number as usize
    }
}

// Derived, these would ask the same of the kind.
impl<K> Clone for Idx<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Idx<K> {}

impl<K> PartialEq for Idx<K> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<K> Eq for Idx<K> {}

impl<K> PartialOrd for Idx<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Idx<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl<K> Hash for Idx<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<K> fmt::Debug for Idx<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)
    }
}

/// Entries by index; indexes of removed entries are used again.
#[derive(Debug)]
pub(crate) struct Arena<K, T> {
    entries: Vec<Option<T>>,
    free: Vec<Idx<K>>,
}

impl<K, T> Arena<K, T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Idx<K> {
        if let Some(index) = self.free.pop() {
            self.entries[index.get()] = Some(value);
            return index;
        }
        let index = Idx::new(self.entries.len());
        self.entries.push(Some(value));
        index
    }

    pub(crate) fn remove(&mut self, index: Idx<K>) -> Option<T> {
        let value = self.entries.get_mut(index.get())?.take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }

    pub(crate) fn get(&self, index: Idx<K>) -> Option<&T> {
        self.entries.get(index.get())?.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Idx<K>, &T)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(number, entry)| entry.as_ref().map(|value| (Idx::new(number), value)))
    }
}

/// For indexes that the core itself keeps: one that is gone is an error of its bookkeeping.
impl<K, T> std::ops::Index<Idx<K>> for Arena<K, T> {
    type Output = T;

    fn index(&self, index: Idx<K>) -> &T {
        self.get(index).expect("an index that is kept is in use")
    }
}

impl<K, T> std::ops::IndexMut<Idx<K>> for Arena<K, T> {
    fn index_mut(&mut self, index: Idx<K>) -> &mut T {
        let entry = self.entries.get_mut(index.get()).and_then(Option::as_mut);
        entry.expect("an index that is kept is in use")
    }
}
