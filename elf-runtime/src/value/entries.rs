//! The entries of a map while it is being recorded.

use std::borrow::Cow;
use std::collections::HashMap;

/// The entries of a map, in order; keys are distinct. Generic in what stands there, which is a node that holds entries.
pub(crate) struct Entries<N> {
    list: Vec<(Cow<'static, str>, N)>,
    /// Where each key stands, once there are many and they are looked up to be changed.
    places: Option<HashMap<Cow<'static, str>, usize>>,
}

/// Up to so many entries are looked through one by one.
const FEW: usize = 16;

/// Two entries have this key.
#[derive(Debug)]
pub(super) struct DuplicateKey(pub(super) String);

impl<N> Default for Entries<N> {
    fn default() -> Self {
        Self { list: Vec::new(), places: None }
    }
}

impl<N> Entries<N> {
    /// # Errors
    /// If two of them have the same key.
    pub(super) fn new(list: Vec<(Cow<'static, str>, N)>) -> Result<Self, DuplicateKey> {
        let mut keys: Vec<&str> = list.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(DuplicateKey(pair[0].to_owned())),
            None => Ok(Self { list, places: None }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<&(Cow<'static, str>, N)> {
        self.list.get(index)
    }

    pub(super) fn get(&self, key: &str) -> Option<&N> {
        self.list.iter().find(|(other, _)| other == key).map(|(_, node)| node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Cow<'static, str>, N)> {
        self.list.iter()
    }

    /// Adds an entry at the end, or changes the one of this key, which keeps its place.
    pub(super) fn set(&mut self, key: Cow<'static, str>, node: N) {
        let place = if self.list.len() <= FEW {
            self.list.iter().position(|(other, _)| *other == key)
        } else {
            let list = &self.list;
            let places = self.places.get_or_insert_with(|| {
                list.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect()
            });
            places.get(&key).copied()
        };
        if let Some(place) = place {
            self.list[place].1 = node;
            return;
        }
        if let Some(places) = &mut self.places {
            places.insert(key.clone(), self.list.len());
        }
        self.list.push((key, node));
    }

    pub(super) fn take_nodes(&mut self, into: &mut Vec<N>) {
        into.extend(self.list.drain(..).map(|(_, node)| node));
    }
}
