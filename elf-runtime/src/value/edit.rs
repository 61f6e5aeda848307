//! Lists and maps that change: the handle then stands for the changed value, and clones of it keep theirs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::entries::Entries;
use super::handle::Value;
use super::into::IntoValue;
use super::node::{Added, Node, NodeKind};
use super::operation::{chain, operand, record};
use crate::output::Output;

/// Changing lists. The handle then stands for the changed list; clones of it, and what was recorded with it, keep
/// what they had.
///
/// ```
/// # use elf_runtime::{list, Value};
/// let mut weights: Value<Vec<i64>> = list![1, 2];
/// let before = weights.clone();
/// weights.push(3);
/// assert_eq!(weights.to_string(), "[1, 2].append(3)");
/// assert_eq!(before.to_string(), "[1, 2]");
/// ```
impl<T: Output> Value<Vec<T>> {
    /// Adds an element at the end. A long chain of these is recorded as one operation.
    pub fn push(&mut self, item: impl IntoValue<T>) {
        let list = self.take_node();
        self.rebind(push(list, operand::<T>(item)));
    }

    /// Adds the elements of another list at the end.
    pub fn extend(&mut self, other: impl IntoValue<Vec<T>>) {
        let list = self.take_node();
        self.rebind(extend(list, operand::<Vec<T>>(other)));
    }

    /// Adds an element before the one at a position, or at the end that is nearest to it.
    pub fn insert(&mut self, index: impl IntoValue<i64>, item: impl IntoValue<T>) {
        let list = self.take_node();
        self.rebind(Node::operation("list.insert", vec![list, operand(index), operand::<T>(item)]));
    }

    /// Puts another element at a position. The job that takes the list fails with `bad_index` if there is none.
    pub fn set(&mut self, index: impl IntoValue<i64>, item: impl IntoValue<T>) {
        let list = self.take_node();
        self.rebind(Node::operation("list.set", vec![list, operand(index), operand::<T>(item)]));
    }

    /// Takes the last element out and returns it. The jobs that take the list or the element fail (`bad_index`, `empty`) if
    /// there is none.
    pub fn pop(&mut self) -> Value<T> {
        let list = self.take_node();
        let last = record("list.pop", vec![list.clone()]);
        self.rebind(Node::operation("list.delete", vec![list, Node::literal(&-1)]));
        last
    }

    /// Takes the element at a position out and returns it. The jobs that take the list or the element fail with
    /// `bad_index` if there is none.
    pub fn pop_at(&mut self, index: impl IntoValue<i64>) -> Value<T> {
        let (list, index) = (self.take_node(), operand(index));
        let element = record("list.pop", vec![list.clone(), index.clone()]);
        self.rebind(Node::operation("list.delete", vec![list, index]));
        element
    }

    /// Takes the first element out that is equal to this. The job that takes the list fails with `not_found` if there
    /// is none.
    pub fn remove(&mut self, item: impl IntoValue<T>) {
        let list = self.take_node();
        self.rebind(Node::operation("list.remove", vec![list, operand::<T>(item)]));
    }

    /// Takes the element at a position out. The job that takes the list fails with `bad_index` if there is none.
    pub fn delete(&mut self, index: impl IntoValue<i64>) {
        let list = self.take_node();
        self.rebind(Node::operation("list.delete", vec![list, operand(index)]));
    }
}

/// A list with an element more. Lists that were recorded element by element, and the elements that were pushed onto
/// another list, grow in place if nobody else holds them.
fn push(mut list: Node, item: Node) -> Node {
    let mut item = Some(item);
    let mut add = |items: &mut Vec<Node>| {
        let item = item.take()?;
        let added = Added::of(&item);
        items.push(item);
        Some(added)
    };
    list.grow(|kind| match kind {
        NodeKind::List(items) => add(items),
        NodeKind::Operation { name, inputs, body: None } if name == "list.extend" => {
            let [_, pushed] = inputs.as_mut_slice() else { return None };
            let has_grown = pushed.grow(|kind| match kind {
                NodeKind::List(items) => add(items),
                _ => None,
            });
            has_grown.then(|| Added::of(pushed))
        }
        // The second of a chain: from here on they are pushed onto a list of their own.
        NodeKind::Operation { name, inputs, body: None } if name == "list.append" => {
            let [_, last] = inputs.as_mut_slice() else { return None };
            let mut pushed = vec![last.clone()];
            add(&mut pushed)?;
            *last = Node::list(pushed);
            *name = Cow::Borrowed("list.extend");
            Some(Added::of(last))
        }
        _ => None,
    });
    match item {
        Some(item) => Node::operation("list.append", vec![list, item]),
        None => list,
    }
}

/// A list with the elements of another one after its own.
fn extend(list: Node, other: Node) -> Node {
    match other.kind() {
        // What is known element by element is pushed, so that it joins what was pushed before.
        NodeKind::List(items) => items.iter().cloned().fold(list, push),
        _ => Node::operation("list.extend", vec![list, other]),
    }
}

/// A map with an entry changed or added. Maps that were recorded entry by entry, and the entries that were set in
/// another map, grow in place if nobody else holds them.
fn set(mut map: Node, key: Node, item: Node) -> Node {
    let Some(known) = known_text(&key) else {
        return Node::operation("map.set", vec![map, key, item]);
    };
    let mut entry = Some((Cow::Owned(known), item));
    let mut put = |entries: &mut Entries<Node>| {
        let (key, item) = entry.take()?;
        let added = Added::of(&item);
        entries.set(key, item);
        Some(added)
    };
    map.grow(|kind| match kind {
        NodeKind::Map(entries) => put(entries),
        NodeKind::Operation { name, inputs, body: None } if name == "map.merge" => {
            let [_, others @ ..] = inputs.as_mut_slice() else { return None };
            let last = others.last_mut()?;
            let has_grown = last.grow(|kind| match kind {
                NodeKind::Map(entries) => put(entries),
                _ => None,
            });
            has_grown.then(|| Added::of(last))
        }
        // The second of a chain: from here on they are set in a map of their own.
        NodeKind::Operation { name, inputs, body: None } if name == "map.set" => {
            let [_, first_key, first] = inputs.as_slice() else { return None };
            let mut entries = Entries::default();
            entries.set(Cow::Owned(known_text(first_key)?), first.clone());
            put(&mut entries)?;
            let entries = Node::new(NodeKind::Map(entries));
            let added = Added::of(&entries);
            inputs.truncate(1);
            inputs.push(entries);
            *name = Cow::Borrowed("map.merge");
            Some(added)
        }
        _ => None,
    });
    match entry {
        Some((_, item)) => Node::operation("map.set", vec![map, key, item]),
        None => map,
    }
}

/// The text of a literal that is one.
fn known_text(node: &Node) -> Option<String> {
    match node.kind() {
        NodeKind::Literal(payload) => payload.read().ok(),
        _ => None,
    }
}

macro_rules! maps {
    ($($map:ident),*) => {
        $(/// Changing maps. The handle then stands for the changed map; clones of it, and what was recorded with it,
        /// keep what they had.
        impl<T: Output> Value<$map<String, T>> {
            /// Puts a value under a key. A new key goes last, one that is there keeps its place. A long chain of
            /// these is recorded as one operation.
            pub fn insert(&mut self, key: impl IntoValue<String>, item: impl IntoValue<T>) {
                let map = self.take_node();
                self.rebind(set(map, operand(key), operand::<T>(item)));
            }

            /// Takes a key out and returns its value. The jobs that take the map or the value fail with `missing_key`
            /// if it is not there.
            pub fn remove(&mut self, key: impl IntoValue<String>) -> Value<T> {
                let (map, key) = (self.take_node(), operand(key));
                let item = record("get", vec![map.clone(), key.clone()]);
                self.rebind(Node::operation("map.remove", vec![map, key]));
                item
            }

            /// Puts all entries of another map into this one.
            pub fn merge(&mut self, other: impl IntoValue<$map<String, T>>) {
                let map = self.take_node();
                *self = chain("map.merge", map, operand::<$map<String, T>>(other));
            }
        })*
    };
}
maps!(BTreeMap, HashMap);
