//! The jobs that one with a list is expanded into.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use mycelium_core::ids::{ContentDigest, JobId};
use mycelium_proto::v1::{self, payload, value_node};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::blobs::Blob;

/// The most bytes that the specifications of all jobs of one list may come to, but for the elements themselves.
const SPECS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The id of the job for an element, as the contract has it (`ForEach`).
pub(crate) fn element_id(list: JobId, index: u32) -> JobId {
    let mut id = [0; 16];
    id.copy_from_slice(&element_hash(b"mycelium element id", list.as_bytes(), index)[..16]);
    JobId::new(id)
}

/// Tells the job for an element from one that happens to have its id: what it is follows from the job that has the list.
pub(crate) fn element_digest(list: ContentDigest, index: u32) -> ContentDigest {
    let mut digest = [0; 8];
    digest.copy_from_slice(&element_hash(b"mycelium element digest", &list.0.to_le_bytes(), index)[..8]);
    ContentDigest(u64::from_le_bytes(digest))
}

fn element_hash(tag: &[u8], of: &[u8], index: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(of);
    hash.update(index.to_be_bytes());
    hash.finalize().into()
}

/// The nodes below `roots`, those included, each once.
pub(super) fn below(nodes: &[v1::ValueNode], roots: Vec<u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut stack = roots;
    while let Some(index) = stack.pop() {
        if !found.insert(index) {
            continue;
        }
        match nodes.get(index as usize).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::List(list)) => stack.extend(&list.items),
            Some(value_node::Kind::Map(map)) => stack.extend(map.entries.iter().map(|entry| entry.node)),
            // What a body takes from outside is an operand of its operation.
            Some(value_node::Kind::Operation(operation)) => stack.extend(&operation.inputs),
            Some(
                value_node::Kind::Literal(_) | value_node::Kind::Output(_) | value_node::Kind::BodyInput(_),
            )
            | None => {}
        }
    }
    found
}

/// The specifications of the jobs for all elements are too large together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the jobs for the {elements} elements of the list would come to {bytes} bytes, and the most is {SPECS_BYTES_MAX}"
)]
pub(crate) struct ElementsTooLarge {
    elements: usize,
    bytes: usize,
}

/// What the jobs of all elements have in common.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    list: JobId,
    spec: v1::JobSpec,
    /// Where the element stands in the table, and where its index.
    inputs: [Option<usize>; 2],
    /// The jobs that the jobs of the elements depend on.
    depends_on: Vec<JobId>,
}

impl Template {
    /// Takes from the specification of a job with a list what is there for its elements: not the list, nor the condition,
    /// nor what only they need.
    pub(crate) fn new(list: JobId, mut spec: v1::JobSpec) -> Self {
        let roots = spec.arguments.iter().map(|argument| argument.node).collect();
        let kept = below(&spec.nodes, roots);
        let mut inputs = [None; 2];
        let mut places: HashMap<u32, u32> = HashMap::with_capacity(kept.len());
        let mut nodes: Vec<v1::ValueNode> = Vec::with_capacity(kept.len());
        let mut depends_on = BTreeSet::new();
        let mut has_operations = false;
        for (index, mut node) in (0_u32..).zip(std::mem::take(&mut spec.nodes)) {
            if !kept.contains(&index) {
                continue;
            }
            // A node refers to earlier ones only, and what it refers to is kept.
            let place_of = |inner: &mut u32| *inner = places.get(inner).copied().unwrap_or(u32::MAX);
            match &mut node.kind {
                Some(value_node::Kind::List(list)) => list.items.iter_mut().for_each(place_of),
                Some(value_node::Kind::Map(map)) => {
                    map.entries.iter_mut().map(|entry| &mut entry.node).for_each(place_of);
                }
                Some(value_node::Kind::Operation(operation)) => {
                    operation.inputs.iter_mut().for_each(place_of);
                    has_operations = true;
                }
                Some(value_node::Kind::BodyInput(input)) => {
                    // All nodes that stand for the element become one, so that it is there once.
                    if let Some(place) = inputs.get_mut(*input as usize) {
                        let place = *place.get_or_insert(nodes.len());
                        if place < nodes.len() {
                            places.insert(index, u32::try_from(place).unwrap_or(u32::MAX));
                            continue;
                        }
                    }
                }
                Some(value_node::Kind::Output(output)) => {
                    depends_on.extend(JobId::from_slice(&output.job_id))
                }
                Some(value_node::Kind::Literal(_)) | None => {}
            }
            places.insert(index, u32::try_from(nodes.len()).unwrap_or(u32::MAX));
            nodes.push(node);
        }
        let mut arguments = std::mem::take(&mut spec.arguments);
        for argument in &mut arguments {
            argument.node = places.get(&argument.node).copied().unwrap_or(u32::MAX);
        }
        let operations_version = if has_operations { spec.operations_version } else { 0 };
        let spec = v1::JobSpec {
            job_id: Bytes::new(),
            arguments,
            nodes,
            after: Vec::new(),
            run_if: None,
            for_each: None,
            element_of: None,
            operations_version,
            ..spec
        };
        Self { list, spec, inputs, depends_on: depends_on.into_iter().collect() }
    }

    /// What the specifications of all of them have in common.
    pub(crate) fn message(&self) -> &v1::JobSpec {
        &self.spec
    }

    /// The jobs that the jobs of the elements depend on, in the order of their ids.
    pub(crate) fn depends_on(&self) -> &[JobId] {
        &self.depends_on
    }

    /// Checks what the specifications for so many elements come to.
    ///
    /// # Errors
    /// If that is too much.
    pub(crate) fn check_size(&self, elements: usize) -> Result<(), ElementsTooLarge> {
        let bytes = self.spec.encoded_len().saturating_mul(elements);
        if bytes > SPECS_BYTES_MAX {
            return Err(ElementsTooLarge { elements, bytes });
        }
        Ok(())
    }

    /// The specification of the job for an element.
    pub(crate) fn spec(&self, index: u32, element: v1::Payload) -> v1::JobSpec {
        let mut spec = self.spec.clone();
        spec.job_id = Bytes::copy_from_slice(element_id(self.list, index).as_bytes());
        let job_id = Bytes::copy_from_slice(self.list.as_bytes());
        spec.element_of = Some(v1::ElementOf { job_id, index });
        let literals = [element, inline(Bytes::from(index.to_string()))];
        for (place, literal) in self.inputs.iter().zip(literals) {
            let node = place.and_then(|place| spec.nodes.get_mut(place));
            if let Some(node) = node {
                node.kind = Some(value_node::Kind::Literal(literal));
            }
        }
        spec
    }

    /// The blobs that the literals name which the jobs of all elements have in common.
    pub(crate) fn blobs(&self) -> Vec<Blob> {
        let named = self.spec.nodes.iter().filter_map(|node| match &node.kind {
            Some(value_node::Kind::Literal(v1::Payload {
                content: Some(payload::Content::Blob(blob)),
                ..
            })) => Blob::from_message(blob).ok(),
            Some(_) | None => None,
        });
        named.collect()
    }
}

fn inline(json: Bytes) -> v1::Payload {
    v1::Payload { encoding: String::new(), content: Some(payload::Content::Inline(json)) }
}

#[cfg(test)]
mod tests;
