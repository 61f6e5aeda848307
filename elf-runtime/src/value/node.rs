//! One node of a value graph while it is being recorded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use serde_json::value::RawValue;

use super::body::Body;
use super::entries::{DuplicateKey, Entries};
use super::payload::Payload;
use super::scopes::{Scope, Scopes};
use crate::recorded::RecordedJob;

/// A node of a value graph: how a value is computed. Shared, and never changed while it is.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    kind: NodeKind,
    /// How deep lists and maps are nested here, this one included. How deep the result of an operation is nested
    /// is known to the broker that computes it.
    depth: u32,
    /// The closures whose elements it uses.
    scopes: Scopes,
}

/// What a node is.
pub(crate) enum NodeKind {
    /// A value that was known when it was recorded.
    Literal(Payload),
    /// An output of a job; an empty name stands for the whole of what the job returned.
    Output { job: Arc<RecordedJob>, name: Cow<'static, str> },
    /// A list.
    List(Vec<Node>),
    /// A map, its entries in order.
    Map(Entries<Node>),
    /// An operation. The operands that its body has captured come last.
    Operation { name: Cow<'static, str>, inputs: Vec<Node>, body: Option<Box<Body<Node>>> },
    /// What a closure is given while it is recorded.
    BodyInput {
        /// The call of the closure.
        scope: Scope,
        /// Its place among what the closure is given, from 0.
        index: u32,
    },
    /// A mistake that is reported when the flow is submitted, because values are made where no error can be returned.
    Invalid(String),
}

impl Node {
    pub(super) fn new(kind: NodeKind) -> Self {
        let mut inner = Inner { kind, depth: 0, scopes: Scopes::default() };
        if let NodeKind::BodyInput { scope, .. } = &inner.kind {
            inner.scopes = Scopes::of(*scope);
        }
        let mut deepest = 0;
        for child in inner.kind.children() {
            deepest = deepest.max(child.depth());
            inner.scopes.merge(child.scopes());
        }
        if inner.kind.nests() {
            inner.depth = deepest.saturating_add(1);
        }
        Self(Arc::new(inner))
    }

    pub(crate) fn literal<T: Serialize + ?Sized>(value: &T) -> Self {
        match Payload::json(value) {
            Ok(payload) => Self::new(match payload.check_size() {
                Ok(()) => NodeKind::Literal(payload),
                // The bytes are let go here, so that what cannot be sent is not kept either.
                Err(error) => NodeKind::Invalid(error.to_string()),
            }),
            Err(error) => Self::invalid(error.to_string()),
        }
    }

    pub(crate) fn output(job: Arc<RecordedJob>, name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(NodeKind::Output { job, name: name.into() })
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::new(NodeKind::List(items))
    }

    /// What the closure of this scope is given in this place, from 0.
    pub(crate) fn body_input(scope: Scope, index: u32) -> Self {
        Self::new(NodeKind::BodyInput { scope, index })
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(NodeKind::Invalid(message))
    }

    pub(super) fn operation(name: impl Into<Cow<'static, str>>, inputs: Vec<Self>) -> Self {
        Self::new(NodeKind::Operation { name: name.into(), inputs, body: None })
    }

    /// A node that stands where another one was taken away. Made once.
    pub(super) fn placeholder() -> Self {
        static PLACEHOLDER: LazyLock<Node> = LazyLock::new(|| Node::invalid("it was taken away".to_owned()));
        PLACEHOLDER.clone()
    }

    /// A map of these entries. A duplicate key is a mistake.
    #[doc(hidden)]
    #[must_use]
    pub fn map(entries: Vec<(Cow<'static, str>, Self)>) -> Self {
        match Entries::new(entries) {
            Ok(entries) => Self::new(NodeKind::Map(entries)),
            Err(DuplicateKey(key)) => Self::invalid(format!("the key `{key}` is in the map twice")),
        }
    }

    /// The field of a struct, for the companions that `#[derive(Output)]` writes.
    #[doc(hidden)]
    #[must_use]
    pub fn field(&self, name: &'static str) -> Self {
        match self.kind() {
            // Each field of a derived struct is an output of the task that returns it.
            NodeKind::Output { job, name: whole } if whole.is_empty() => {
                Self::output(Arc::clone(job), Cow::Borrowed(name))
            }
            NodeKind::Output { .. } | NodeKind::Operation { .. } | NodeKind::BodyInput { .. } => {
                Self::operation("get", vec![self.clone(), Self::literal(name)])
            }
            NodeKind::Map(entries) => match entries.get(name) {
                Some(node) => node.clone(),
                None => Self::invalid(format!("there is no field `{name}` in the map")),
            },
            NodeKind::Literal(payload) => {
                match payload.read::<HashMap<String, Box<RawValue>>>().map(|mut fields| fields.remove(name)) {
                    Ok(Some(field)) => Self::literal(&field),
                    Ok(None) => Self::invalid(format!("there is no field `{name}` in the literal")),
                    Err(error) => Self::invalid(format!("the field `{name}` cannot be read: {error}")),
                }
            }
            NodeKind::List(_) => Self::invalid(format!("a list has no field `{name}`")),
            NodeKind::Invalid(_) => self.clone(),
        }
    }

    pub(crate) fn kind(&self) -> &NodeKind {
        &self.0.kind
    }

    pub(crate) fn depth(&self) -> u32 {
        self.0.depth
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Whether it uses what a closure is given.
    pub(crate) fn uses_elements(&self) -> bool {
        !self.0.scopes.is_empty()
    }

    /// Tells shared nodes from equal ones.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Changes the node, if nobody else holds it: `change` adds children, which it returns, or does nothing and
    /// returns none. Tells whether it did something.
    pub(super) fn grow(&mut self, change: impl FnOnce(&mut NodeKind) -> Option<Added>) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return false };
        let Some(added) = change(&mut inner.kind) else { return false };
        if inner.kind.nests() {
            inner.depth = inner.depth.max(added.depth.saturating_add(1));
        }
        inner.scopes.merge(&added.scopes);
        true
    }
}

/// What matters of the children that a node was given, to the nodes above.
pub(super) struct Added {
    depth: u32,
    scopes: Scopes,
}

impl Added {
    pub(super) fn of(node: &Node) -> Self {
        Self { depth: node.depth(), scopes: node.scopes().clone() }
    }
}

/// Drops the nodes below in a loop: dropped one inside of the other, a long chain would overflow the stack.
impl Drop for Inner {
    fn drop(&mut self) {
        let mut below = Vec::new();
        self.kind.take_nodes(&mut below);
        while let Some(node) = below.pop() {
            if let Some(mut inner) = Arc::into_inner(node.0) {
                inner.kind.take_nodes(&mut below);
            }
        }
    }
}

impl NodeKind {
    /// Whether its value is a list or a map of what stands below.
    fn nests(&self) -> bool {
        match self {
            Self::List(_) | Self::Map(_) => true,
            Self::Literal(_)
            | Self::Output { .. }
            | Self::Operation { .. }
            | Self::BodyInput { .. }
            | Self::Invalid(_) => false,
        }
    }

    pub(super) fn child_count(&self) -> usize {
        match self {
            Self::Literal(_) | Self::Output { .. } | Self::BodyInput { .. } | Self::Invalid(_) => 0,
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Operation { inputs, .. } => inputs.len(),
        }
    }

    pub(super) fn child(&self, index: usize) -> Option<&Node> {
        match self {
            Self::Literal(_) | Self::Output { .. } | Self::BodyInput { .. } | Self::Invalid(_) => None,
            Self::List(items) => items.get(index),
            Self::Map(entries) => entries.at(index).map(|(_, node)| node),
            Self::Operation { inputs, .. } => inputs.get(index),
        }
    }

    fn children(&self) -> impl Iterator<Item = &Node> {
        (0..self.child_count()).filter_map(|index| self.child(index))
    }

    fn take_nodes(&mut self, into: &mut Vec<Node>) {
        match self {
            Self::Literal(_) | Self::Output { .. } | Self::BodyInput { .. } | Self::Invalid(_) => {}
            Self::List(items) => into.append(items),
            Self::Map(entries) => entries.take_nodes(into),
            Self::Operation { inputs, body, .. } => {
                into.append(inputs);
                into.extend(body.take().map(|body| body.result));
            }
        }
    }
}
