//! The entries of a map while it is being recorded.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Node;

/// The entries of a map, in order; keys are distinct.
#[derive(Default)]
pub(crate) struct Entries {
    list: Vec<(Cow<'static, str>, Node)>,
    /// Where each key stands, once there are many and they are looked up to be changed.
    places: Option<HashMap<Cow<'static, str>, usize>>,
}

/// Up to so many entries are looked through one by one.
const FEW: usize = 16;

impl Entries {
    /// # Errors
    /// A key that is there twice.
    pub(super) fn new(list: Vec<(Cow<'static, str>, Node)>) -> Result<Self, String> {
        let mut keys: Vec<&str> = list.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(pair[0].to_owned()),
            None => Ok(Self { list, places: None }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<&(Cow<'static, str>, Node)> {
        self.list.get(index)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.list.iter().find(|(other, _)| other == key).map(|(_, node)| node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Cow<'static, str>, Node)> {
        self.list.iter()
    }

    /// Adds an entry at the end, or changes the one of this key, which keeps its place.
    pub(super) fn set(&mut self, key: Cow<'static, str>, node: Node) {
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

    pub(super) fn take_nodes(&mut self, into: &mut Vec<Node>) {
        into.extend(self.list.drain(..).map(|(_, node)| node));
    }
}
