//! Adding a value to the table of nodes of a job that is recorded already: its condition, the list it is run over.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use prost::Message as _;
use v1::value_node::Kind as WireKind;

use super::flatten::flatten;
use super::node::Node;
use crate::problem::ProblemKind;
use crate::recorded::RecordedJob;

/// Literals over this size are not looked for in the table: they would only be copied to be compared.
const COMPARED_BYTES_MAX: usize = 1024;

/// A value that was added to the table of a job.
#[derive(Debug)]
pub(crate) struct Appended {
    /// Where it stands.
    pub(crate) node: u32,
    /// Literals that were added and travel as blobs, with their nodes.
    pub(crate) large: Vec<(u32, Bytes)>,
}

/// Adds a value to the table of a job, and returns where it stands. What stands in the table already is not added
/// again. After an error the table is as it was.
///
/// `origin` is called with every job that the value comes from.
///
/// # Errors
/// The first mistake.
pub(crate) fn append(
    spec: &mut v1::JobSpec,
    root: &Node,
    origin: impl FnMut(&Arc<RecordedJob>),
) -> Result<Appended, ProblemKind> {
    let alone = [(Cow::Borrowed("value"), root.clone())];
    let added = flatten(&alone, None, origin).map_err(|(_, problem)| problem)?;

    let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
    for (place, node) in (0..).zip(&spec.nodes) {
        if is_compared(node) {
            known.entry(node.encode_to_vec()).or_insert(place);
        }
    }
    let known_count = spec.nodes.len();
    // Where each of the added nodes stands in the table of the job.
    let mut places = Vec::with_capacity(added.nodes.len());
    // Their nodes hold nothing yet by which they could be told apart.
    let is_large: HashSet<u32> = added.large.iter().map(|(node, _)| *node).collect();
    for (index, mut node) in (0..).zip(added.nodes) {
        refer(&mut node, &places);
        let place = u32::try_from(spec.nodes.len()).map_err(|_| ProblemKind::TooManyNodes)?;
        let found = if is_compared(&node) && !is_large.contains(&index) {
            Some(known.entry(node.encode_to_vec()))
        } else {
            None
        };
        let found = found.map_or(place, |entry| *entry.or_insert(place));
        if found == place {
            spec.nodes.push(node);
        }
        places.push(found);
    }
    // The root is not always the last: what it is made of may have been placed before.
    let root = added.arguments.first().and_then(|argument| places.get(argument.node as usize));
    let fits = node_count(&spec.nodes) <= limits::VALUE_NODES_MAX;
    match root {
        Some(root) if fits => {
            spec.operations_version = spec.operations_version.max(added.operations_version);
            let large = added.large.into_iter();
            let large = large.filter_map(|(node, bytes)| Some((*places.get(node as usize)?, bytes)));
            Ok(Appended { node: *root, large: large.collect() })
        }
        Some(_) | None => {
            spec.nodes.truncate(known_count);
            Err(ProblemKind::TooManyNodes)
        }
    }
}

fn is_compared(node: &v1::ValueNode) -> bool {
    match &node.kind {
        Some(WireKind::Literal(payload)) => payload.encoded_len() <= COMPARED_BYTES_MAX,
        Some(_) | None => true,
    }
}

/// Makes a node refer to the places where those it refers to stand now.
fn refer(node: &mut v1::ValueNode, places: &[u32]) {
    let refer = |index: &mut u32| {
        // Nodes refer to earlier ones only, and those are placed.
        if let Some(place) = places.get(*index as usize) {
            *index = *place;
        }
    };
    match &mut node.kind {
        Some(WireKind::List(list)) => list.items.iter_mut().for_each(refer),
        Some(WireKind::Map(map)) => map.entries.iter_mut().map(|entry| &mut entry.node).for_each(refer),
        Some(WireKind::Operation(operation)) => operation.inputs.iter_mut().for_each(refer),
        Some(WireKind::Literal(_) | WireKind::Output(_) | WireKind::BodyInput(_)) | None => {}
    }
}

/// How many nodes there are, with those of the bodies.
pub(crate) fn node_count(nodes: &[v1::ValueNode]) -> usize {
    let mut count = 0;
    let mut tables = vec![nodes];
    while let Some(nodes) = tables.pop() {
        count += nodes.len();
        for node in nodes {
            if let Some(WireKind::Operation(v1::Operation { body: Some(body), .. })) = &node.kind {
                tables.push(&body.nodes);
            }
        }
    }
    count
}
