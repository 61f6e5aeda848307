//! A job as it was submitted.

use bytes::Bytes;
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use prost::Message as _;

use super::{Undecodable, blob_of, decode};
use crate::store::BlobDigest;

/// Where a value flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// Destination the argument for this parameter.
    Parameter(&'a str),
    /// Destination the condition.
    Condition,
    /// Destination the list that the job is run over.
    List,
}

/// The specification of a job. That of a job that is not known is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec(v1::JobSpec);

impl Spec {
    /// Decodes that of `job`.
    ///
    /// # Errors
    /// If it is damaged.
    pub(crate) fn decode(job: JobId, encoded: Bytes) -> Result<Self, Undecodable> {
        decode(encoded, || format!("the specification of job {job}")).map(Self)
    }

    /// Whether the job is run over a list.
    pub(crate) fn has_list(&self) -> bool {
        self.0.for_each.is_some()
    }

    /// If the job is that of an element of a list: the job that has the list.
    pub(crate) fn element_of(&self) -> Option<JobId> {
        JobId::from_slice(&self.0.element_of.as_ref()?.job_id)
    }

    /// What flows into the job, each with its node: the arguments in their order, the condition, and the list.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (Destination<'_>, u32)> {
        let arguments = self.0.arguments.iter();
        let arguments =
            arguments.map(|argument| (Destination::Parameter(&argument.parameter), argument.node));
        let condition = self.0.run_if.map(|node| (Destination::Condition, node));
        let list = self.0.for_each.as_ref().map(|each| (Destination::List, each.list));
        arguments.chain(condition).chain(list)
    }

    pub(crate) fn into_nodes(self) -> Nodes {
        Nodes(self.0.nodes)
    }

    /// The message, for those who compute with it.
    pub(crate) fn message(&self) -> &v1::JobSpec {
        &self.0
    }

    pub(crate) fn message_mut(&mut self) -> &mut v1::JobSpec {
        &mut self.0
    }

    /// Leaves out what takes most, until it fits into so many bytes. How many it took, if that was needed, and else 0.
    pub(crate) fn cut(&mut self, bytes_max: usize) -> u64 {
        let Self(spec) = self;
        let bytes = spec.encoded_len();
        let leave_out: [fn(&mut v1::JobSpec); 2] = [
            |spec| leave_out_literals(&mut spec.nodes),
            |spec| (spec.nodes, spec.after) = Default::default(),
        ];
        for leave_out in leave_out {
            if spec.encoded_len() <= bytes_max {
                break;
            }
            leave_out(spec);
        }
        if spec.encoded_len() < bytes { bytes as u64 } else { 0 }
    }
}

impl Spec {
    /// The blobs that its literals stand in.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobDigest> {
        let mut blobs = Vec::new();
        each_literal(&self.0.nodes, &mut |literal| blobs.extend(blob_of(literal)));
        blobs.into_iter()
    }

    /// Encoded without the values that stand in it: what is left says how the job was computed, and not from what.
    pub(crate) fn without_values(mut self) -> Vec<u8> {
        leave_out_literals_over(&mut self.0.nodes, None);
        self.0.encode_to_vec()
    }
}

/// Goes through the literals, in bodies too. Their depth was checked when they were submitted.
fn each_literal(nodes: &[v1::ValueNode], see: &mut impl FnMut(&v1::Payload)) {
    for node in nodes {
        match &node.kind {
            Some(value_node::Kind::Literal(literal)) => see(literal),
            Some(value_node::Kind::Operation(v1::Operation { body: Some(body), .. })) => {
                each_literal(&body.nodes, see);
            }
            Some(_) | None => {}
        }
    }
}

/// Leaves the larger literals without content.
fn leave_out_literals(nodes: &mut [v1::ValueNode]) {
    leave_out_literals_over(nodes, Some(limits::VALUE_PREVIEW_BYTES_MAX));
}

/// Leaves literals of more bytes without content, or all, in bodies too. Their depth was checked when they were submitted.
fn leave_out_literals_over(nodes: &mut [v1::ValueNode], bytes_max: Option<usize>) {
    for node in nodes {
        match &mut node.kind {
            Some(value_node::Kind::Literal(literal)) => {
                let is_kept = match (&literal.content, bytes_max) {
                    (Some(payload::Content::Inline(bytes)), Some(max)) => bytes.len() <= max,
                    (Some(payload::Content::Blob(_)), Some(_)) => true,
                    (_, None) | (None, _) => false,
                };
                if !is_kept {
                    literal.content = None;
                }
            }
            Some(value_node::Kind::Operation(v1::Operation { body: Some(body), .. })) => {
                leave_out_literals_over(&mut body.nodes, bytes_max);
            }
            Some(_) | None => {}
        }
    }
}

impl From<v1::JobSpec> for Spec {
    fn from(message: v1::JobSpec) -> Self {
        Self(message)
    }
}

impl From<Spec> for v1::JobSpec {
    fn from(Spec(message): Spec) -> Self {
        message
    }
}

/// The table of a value graph.
#[derive(Debug, Default)]
pub(crate) struct Nodes(Vec<v1::ValueNode>);

impl Nodes {
    /// How many bytes it takes as a field of a message, with the tags and lengths of its nodes.
    pub(crate) fn encoded_len(&self) -> usize {
        let lens = self.0.iter().map(v1::ValueNode::encoded_len);
        lens.map(|len| 1 + prost::length_delimiter_len(len) + len).sum()
    }
}

impl From<Nodes> for Vec<v1::ValueNode> {
    fn from(Nodes(nodes): Nodes) -> Self {
        nodes
    }
}
