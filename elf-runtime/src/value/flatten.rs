//! From shared nodes to the one table of nodes that a job carries, or a body.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use v1::payload::Content;
use v1::value_node::Kind as WireKind;

use super::node::{Node, NodeKind};
use super::payload::choose_large;
use super::scopes::Scope;
use crate::problem::ProblemKind;
use crate::recorded::RecordedJob;

/// The value graph of one job as it travels.
#[derive(Debug, Default)]
pub(crate) struct Flattened {
    pub(crate) arguments: Vec<v1::Argument>,
    pub(crate) nodes: Vec<v1::ValueNode>,
    /// Literals that travel as blobs: the index of each in `nodes`, where it still lacks its name, and its bytes.
    pub(crate) large: Vec<(u32, Bytes)>,
    /// The version of the operations that it uses; 0 if it uses none.
    pub(crate) operations_version: u32,
}

/// Writes the arguments of a job as one table of nodes in which every node comes after those it refers to. A node
/// that several others share stands in it once. Works in a loop, not by recursion.
///
/// `origin` is called with every job that a value comes from. `element` is the closure of a `for_each` that the job is
/// recorded in: what that was given may stand in the arguments.
///
/// # Errors
/// The first mistake, with its parameter.
pub(crate) fn flatten(
    arguments: &[(Cow<'static, str>, Node)],
    element: Option<Scope>,
    origin: impl FnMut(&Arc<RecordedJob>),
) -> Result<Flattened, (Option<String>, ProblemKind)> {
    if arguments.len() > limits::PARAMETERS_MAX {
        return Err((None, ProblemKind::TooManyArguments { count: arguments.len() }));
    }
    let mut table = Table::new(OfJob { origin, element });
    let mut flattened = Vec::with_capacity(arguments.len());
    for (parameter, root) in arguments {
        let in_parameter = |problem| (Some(parameter.to_string()), problem);
        if parameter.is_empty() || parameter.len() > limits::NAME_BYTES_MAX {
            return Err(in_parameter(ProblemKind::InvalidName {
                what: "parameter",
                name: parameter.to_string(),
            }));
        }
        if flattened.iter().any(|other: &v1::Argument| other.parameter == *parameter) {
            return Err(in_parameter(ProblemKind::GivenTwice));
        }
        if root.depth() as usize > limits::VALUE_DEPTH_MAX {
            return Err(in_parameter(ProblemKind::TooDeep { depth: root.depth() }));
        }
        let node = table.add(root).map_err(in_parameter)?;
        flattened.push(v1::Argument { parameter: parameter.to_string(), node });
    }
    table.make_large().map_err(|problem| (None, problem))?;
    Ok(Flattened {
        arguments: flattened,
        operations_version: table.operations_version,
        nodes: table.nodes,
        large: table.large,
    })
}

/// Where a table of nodes belongs, which decides what may stand in it.
pub(super) trait Place {
    /// What stands in the table for a node that is computed elsewhere; none if it is computed here.
    fn elsewhere(&mut self, node: &Node) -> Option<WireKind>;

    /// A value of this job stands in the table.
    ///
    /// # Errors
    /// The job has no such value.
    fn origin(&mut self, job: &Arc<RecordedJob>) -> Result<(), ProblemKind>;

    /// # Errors
    /// The element is none of this table.
    fn body_input(&mut self, scope: Scope, index: u32) -> Result<WireKind, ProblemKind>;
}

/// The table of a job, and the callback for the jobs that its values come from.
struct OfJob<F> {
    origin: F,
    /// The closure of the `for_each` that the job is recorded in.
    element: Option<Scope>,
}

impl<F: FnMut(&Arc<RecordedJob>)> Place for OfJob<F> {
    fn elsewhere(&mut self, _node: &Node) -> Option<WireKind> {
        None
    }

    fn origin(&mut self, job: &Arc<RecordedJob>) -> Result<(), ProblemKind> {
        if job.is_template() {
            return Err(ProblemKind::InvalidValue(
                "it uses what the job of a `for_each` returns for one element: only the list of all that `for_each` \
                 returns can be used"
                    .to_owned(),
            ));
        }
        (self.origin)(job);
        Ok(())
    }

    fn body_input(&mut self, scope: Scope, index: u32) -> Result<WireKind, ProblemKind> {
        if self.element == Some(scope) { Ok(WireKind::BodyInput(index)) } else { Err(escaped()) }
    }
}

/// What is wrong with the element of a closure outside of that closure.
pub(super) fn escaped() -> ProblemKind {
    ProblemKind::InvalidValue(
        "it uses what a closure was given (an element of a list, say) outside of that closure: only what the closure \
         returns can be used there"
            .to_owned(),
    )
}

/// A table of nodes while it is made.
pub(super) struct Table<P> {
    pub(super) nodes: Vec<v1::ValueNode>,
    pub(super) place: P,
    /// Where each shared node stands in the table, by its address. The nodes live as long as the table is made.
    placed: HashMap<usize, u32>,
    /// The version of the operations that the table uses; 0 if it uses none.
    pub(super) operations_version: u32,
    /// How many nodes there are, with those of the bodies.
    pub(super) node_count: usize,
    /// How many bytes the literals take that travel inline, those in bodies included.
    pub(super) literal_bytes: usize,
    large: Vec<(u32, Bytes)>,
    /// How deep bodies are nested here.
    pub(super) bodies_nested: u32,
}

impl<P: Place> Table<P> {
    pub(super) fn new(place: P) -> Self {
        Self {
            nodes: Vec::new(),
            place,
            placed: HashMap::new(),
            operations_version: 0,
            node_count: 0,
            literal_bytes: 0,
            large: Vec::new(),
            bodies_nested: 0,
        }
    }

    /// Adds a node with all that it refers to.
    ///
    /// # Errors
    /// The first mistake.
    pub(super) fn add(&mut self, root: &Node) -> Result<u32, ProblemKind> {
        // Each level is a node whose children are being placed, with the places of those that are.
        let mut levels: Vec<(&Node, Vec<u32>)> = Vec::new();
        let mut next = root;
        loop {
            // Down to a node that is placed or has no (more) children...
            let mut place = match self.placed_or_leaf(next)? {
                Some(place) => place,
                None => {
                    levels.push((next, Vec::with_capacity(next.kind().child_count())));
                    match next.kind().child(0) {
                        Some(first) => {
                            next = first;
                            continue;
                        }
                        None => self.close(&mut levels)?,
                    }
                }
            };
            // ... and up until there is one with a child left.
            loop {
                let Some((parent, places)) = levels.last_mut() else { return Ok(place) };
                places.push(place);
                if let Some(sibling) = parent.kind().child(places.len()) {
                    next = sibling;
                    break;
                }
                place = self.close(&mut levels)?;
            }
        }
    }

    /// Places a node that refers to no others, or finds one that is placed. `None` for one that has to wait for its
    /// children.
    fn placed_or_leaf(&mut self, node: &Node) -> Result<Option<u32>, ProblemKind> {
        if node.is_shared()
            && let Some(place) = self.placed.get(&node.address())
        {
            return Ok(Some(*place));
        }
        if let NodeKind::Invalid(message) = node.kind() {
            return Err(ProblemKind::InvalidValue(message.clone()));
        }
        if let Some(kind) = self.place.elsewhere(node) {
            return self.put(node, kind).map(Some);
        }
        let kind = match node.kind() {
            NodeKind::List(_) | NodeKind::Map(_) | NodeKind::Operation { .. } => return Ok(None),
            NodeKind::Invalid(message) => return Err(ProblemKind::InvalidValue(message.clone())),
            NodeKind::Literal(payload) => {
                self.literal_bytes += payload.bytes().len();
                WireKind::Literal(payload.clone().into_inline())
            }
            NodeKind::Output { job, name } => {
                if name.len() > limits::NAME_BYTES_MAX {
                    return Err(ProblemKind::InvalidName { what: "output", name: name.to_string() });
                }
                self.place.origin(job)?;
                WireKind::Output(v1::OutputRef { job_id: job.id().to_wire(), name: name.to_string() })
            }
            NodeKind::BodyInput { scope, index } => self.place.body_input(*scope, *index)?,
        };
        self.put(node, kind).map(Some)
    }

    /// Places the node of the last level, whose children are all placed.
    fn close(&mut self, levels: &mut Vec<(&Node, Vec<u32>)>) -> Result<u32, ProblemKind> {
        let (node, places) = levels.pop().unwrap_or_else(|| unreachable!("closed without an open node"));
        // The root's depth says nothing of what stands below an operation.
        if node.depth() as usize > limits::VALUE_DEPTH_MAX {
            return Err(ProblemKind::TooDeep { depth: node.depth() });
        }
        let kind = match node.kind() {
            NodeKind::List(_) => WireKind::List(v1::ListNode { items: places }),
            NodeKind::Map(entries) => {
                let entries = entries.iter().zip(places);
                WireKind::Map(v1::MapNode {
                    entries: entries
                        .map(|((key, _), node)| v1::MapEntry { key: key.to_string(), node })
                        .collect(),
                })
            }
            NodeKind::Operation { name, body, .. } => {
                if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
                    return Err(ProblemKind::InvalidName { what: "operation", name: name.to_string() });
                }
                self.operations_version = self.operations_version.max(version_of(name));
                if let Some(body) = body {
                    self.operations_version = self.operations_version.max(body.operations_version);
                    self.node_count += body.node_count;
                    self.bodies_nested = self.bodies_nested.max(body.nested);
                    self.literal_bytes += body.literal_bytes;
                }
                WireKind::Operation(v1::Operation {
                    name: name.to_string(),
                    inputs: places,
                    body: body.as_ref().map(|body| body.wire.clone()),
                })
            }
            NodeKind::Literal(_)
            | NodeKind::Output { .. }
            | NodeKind::BodyInput { .. }
            | NodeKind::Invalid(_) => {
                unreachable!("only nodes with children are kept open")
            }
        };
        self.put(node, kind)
    }

    /// Turns literals into blobs: those that are too large to travel inline, and the largest of the others until the
    /// rest fits into one job. Their names are found when they are written.
    ///
    /// # Errors
    /// What stands in bodies, which never is a blob, is too much by itself.
    pub(super) fn make_large(&mut self) -> Result<(), ProblemKind> {
        let mut literals = Vec::new();
        let mut inline_bytes_max = limits::SPEC_BYTES_MAX;
        if self.literal_bytes > limits::PAYLOAD_BYTES_MAX {
            let in_bodies =
                self.literal_bytes - self.nodes.iter().filter_map(inline).map(Bytes::len).sum::<usize>();
            inline_bytes_max = inline_bytes_max
                .checked_sub(in_bodies)
                .ok_or(ProblemKind::ArgumentsTooLarge { bytes: in_bodies })?;
            literals.extend(
                (0_u32..).zip(&self.nodes).filter(|(_, node)| inline(node).is_some()).map(|(place, _)| place),
            );
        }
        let bytes_of = |place: &u32| self.nodes.get(*place as usize).and_then(inline).map_or(0, Bytes::len);
        let sizes: Vec<usize> = literals.iter().map(bytes_of).collect();
        for index in choose_large(&sizes, inline_bytes_max) {
            let place = literals[index];
            if let Some(WireKind::Literal(v1::Payload { content: Some(content), .. })) =
                self.nodes.get_mut(place as usize).and_then(|node| node.kind.as_mut())
                && let Content::Inline(bytes) = content
            {
                let bytes = std::mem::take(bytes);
                *content = Content::Blob(v1::BlobRef {
                    digest: Bytes::from_static(&[0; 32]),
                    size: bytes.len() as u64,
                });
                self.literal_bytes -= bytes.len();
                self.large.push((place, bytes));
            }
        }
        Ok(())
    }

    fn put(&mut self, node: &Node, kind: WireKind) -> Result<u32, ProblemKind> {
        self.node_count += 1;
        if self.node_count > limits::VALUE_NODES_MAX {
            return Err(ProblemKind::TooManyNodes);
        }
        let place = u32::try_from(self.nodes.len()).map_err(|_| ProblemKind::TooManyNodes)?;
        self.nodes.push(v1::ValueNode { kind: Some(kind) });
        if node.is_shared() {
            self.placed.insert(node.address(), place);
        }
        Ok(place)
    }
}

/// The version of the operations that has this one, so that a broker of an earlier version refuses only what it does not
/// know, and says so. Of one that is recorded by its name it is the first: the broker knows whether it has it.
pub(crate) fn version_of(operation: &str) -> u32 {
    if operation.starts_with("strict.") { 2 } else { 1 }
}

/// The bytes of a literal that travels inline.
fn inline(node: &v1::ValueNode) -> Option<&Bytes> {
    let Some(WireKind::Literal(payload)) = &node.kind else { return None };
    let Some(Content::Inline(bytes)) = &payload.content else { return None };
    Some(bytes)
}
