//! One node of a value graph while it is being recorded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::payload::Payload;
use crate::flow::RecordedJob;

/// A node of a value graph: how a value is computed. Shared and never changed.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    kind: NodeKind,
    /// How many lists and maps stand in each other here, this one included.
    depth: u32,
}

/// What a node is. Operations on values take their place here, with the nodes they work on.
pub(crate) enum NodeKind {
    /// A value that was known when it was recorded.
    Literal(Payload),
    /// An output of a job; an empty name stands for the whole of what the job returned.
    Output { job: Arc<RecordedJob>, name: Cow<'static, str> },
    /// A list.
    List(Vec<Node>),
    /// A map, its entries in order.
    Map(Vec<(Cow<'static, str>, Node)>),
    /// A mistake that the flow tells of when it is submitted, because values are made where no error can be returned.
    Invalid(String),
}

impl Node {
    fn new(kind: NodeKind) -> Self {
        let depth = match &kind {
            NodeKind::Literal(_) | NodeKind::Output { .. } | NodeKind::Invalid(_) => 0,
            NodeKind::List(items) => 1 + deepest(items.iter()),
            NodeKind::Map(entries) => 1 + deepest(entries.iter().map(|(_, node)| node)),
        };
        Self(Arc::new(Inner { kind, depth }))
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

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(NodeKind::Invalid(message))
    }

    /// A map of these entries. A key that is there twice is a mistake.
    #[doc(hidden)]
    #[must_use]
    pub fn map(entries: Vec<(Cow<'static, str>, Self)>) -> Self {
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Self::invalid(format!("the key `{}` is in the map twice", pair[0]));
        }
        Self::new(NodeKind::Map(entries))
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
            NodeKind::Output { name: output, .. } => Self::invalid(format!(
                "the field `{name}` of the output `{output}` cannot be taken apart before it is there: pass the \
                 whole output"
            )),
            NodeKind::Map(entries) => match entries.iter().find(|(key, _)| key == name) {
                Some((_, node)) => node.clone(),
                None => Self::invalid(format!("there is no field `{name}` in {self}")),
            },
            NodeKind::Literal(payload) => {
                match payload.read::<HashMap<String, Box<RawValue>>>().map(|mut fields| fields.remove(name)) {
                    Ok(Some(field)) => Self::literal(&field),
                    Ok(None) => Self::invalid(format!("there is no field `{name}` in {self}")),
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

    /// Tells shared nodes from equal ones.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

fn deepest<'a>(nodes: impl Iterator<Item = &'a Node>) -> u32 {
    nodes.map(Node::depth).max().unwrap_or(0)
}

/// Drops the nodes below in a loop: dropped one inside of the other, a long chain would overflow the stack.
impl Drop for Inner {
    fn drop(&mut self) {
        let mut doomed = Vec::new();
        self.kind.take_nodes(&mut doomed);
        while let Some(node) = doomed.pop() {
            if let Some(mut inner) = Arc::into_inner(node.0) {
                inner.kind.take_nodes(&mut doomed);
            }
        }
    }
}

impl NodeKind {
    fn take_nodes(&mut self, into: &mut Vec<Node>) {
        match self {
            Self::Literal(_) | Self::Output { .. } | Self::Invalid(_) => {}
            Self::List(items) => into.append(items),
            Self::Map(entries) => into.extend(entries.drain(..).map(|(_, node)| node)),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LEVELS_MAX: usize = 4;
        self.show(f, LEVELS_MAX)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

impl Node {
    fn show(&self, f: &mut fmt::Formatter<'_>, levels: usize) -> fmt::Result {
        const ITEMS_MAX: usize = 8;
        match self.kind() {
            NodeKind::Literal(payload) => write!(f, "{payload}"),
            NodeKind::Output { job, name } if name.is_empty() => write!(f, "job {}", job.id()),
            NodeKind::Output { job, name } => write!(f, "job {}/{name}", job.id()),
            NodeKind::Invalid(message) => write!(f, "<{message}>"),
            NodeKind::List(_) | NodeKind::Map(_) if levels == 0 => f.write_str("…"),
            NodeKind::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().take(ITEMS_MAX).enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    item.show(f, levels - 1)?;
                }
                f.write_str(if items.len() > ITEMS_MAX { ", …]" } else { "]" })
            }
            NodeKind::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, node)) in entries.iter().take(ITEMS_MAX).enumerate() {
                    write!(f, "{}{key:?}: ", if index > 0 { ", " } else { "" })?;
                    node.show(f, levels - 1)?;
                }
                f.write_str(if entries.len() > ITEMS_MAX { ", …}" } else { "}" })
            }
        }
    }
}
