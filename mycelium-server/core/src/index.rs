//! Tables whose entries are known by a small number, which is of a type of its own for each kind of table.

use std::fmt;
use std::marker::PhantomData;

/// Declares what an index can be of, each with the name of the index. These types have no values, so that entries may hold
/// each other's indexes without knowing each other.
macro_rules! indexes {
    ($($(#[$docs:meta])* $of:ident: $index:ident;)+) => {
        pub(crate) mod of {
            $(
                $(#[$docs])*
                #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
                pub(crate) enum $of {}
            )+
        }
        $(
            $(#[$docs])*
            pub(crate) type $index = Idx<of::$of>;
        )+
    };
}

indexes! {
    /// An unfinished job.
    Job: Slot;
    /// A flow in memory.
    Flow: FlowIdx;
    /// An elf.
    Elf: ElfIdx;
    /// A task of an elf.
    Task: TaskIdx;
    /// Jobs of a task that the same signatures take.
    Queue: QueueIdx;
    /// What an elf is declared to take, by one session or several.
    Declaration: DeclarationIdx;
    /// The labels and the policy of a job.
    Traits: TraitsIdx;
    /// A session that is alive.
    Session: SessionIdx;
    /// A submission of several parts.
    Submission: SubmissionIdx;
}

/// The index of an entry in a table of this kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

// Derived, it would ask the same of what it holds.
impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<K: Copy, T> Arena<K, T> {
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
impl<K: Copy, T> std::ops::Index<Idx<K>> for Arena<K, T> {
    type Output = T;

    fn index(&self, index: Idx<K>) -> &T {
        self.get(index).expect("an index that is kept is in use")
    }
}

impl<K: Copy, T> std::ops::IndexMut<Idx<K>> for Arena<K, T> {
    fn index_mut(&mut self, index: Idx<K>) -> &mut T {
        let entry = self.entries.get_mut(index.get()).and_then(Option::as_mut);
        entry.expect("an index that is kept is in use")
    }
}
