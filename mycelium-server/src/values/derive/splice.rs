//! Lists, maps and whole outputs, assembled from the bytes of their parts.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::json::{is_json_encoding, separators, string_len, write_string};

use super::{Graph, Leaf, NodeError};
use crate::blobs::{Blob, Piece};

/// What is assembled for a job may always come to this, in bytes...
const SPLICED_BYTES_ALWAYS: u64 = 8 * 1024 * 1024;
/// ... and to this many times what its different parts come to: large values may be passed on in lists and maps, and a
/// small graph does not fill the disk by naming one value again and again.
const SPLICED_TIMES_MAX: u64 = 8;
/// Parts of at least this size become pieces of their own, and are not copied.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The size of every node's value as part of a larger one.
pub(super) struct Sizes(Vec<Result<u64, NodeError>>);

impl Sizes {
    pub(super) fn of(&self, node: usize) -> Result<u64, NodeError> {
        self.0.get(node).cloned().unwrap_or(Err(NodeError::Malformed(node)))
    }
}

/// Pieces as they are gathered: small parts in one buffer.
#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    buffer: BytesMut,
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        if !self.buffer.is_empty() {
            self.done.push(Piece::Bytes(self.buffer.split().freeze()));
        }
        self.done.push(piece);
    }

    fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() >= PIECE_BYTES_MIN {
            self.push(Piece::Bytes(bytes.clone()));
        } else {
            self.buffer.put_slice(bytes);
        }
    }

    fn payload(&mut self, payload: &v1::Payload) {
        match &payload.content {
            Some(payload::Content::Inline(bytes)) => self.bytes(bytes),
            // One that names no blob was refused when it came; it has no size either.
            Some(payload::Content::Blob(blob)) => {
                if let Ok(blob) = Blob::from_message(blob) {
                    self.push(Piece::Blob(blob));
                }
            }
            None => self.buffer.put_slice(b"null"),
        }
    }

    fn outputs(&mut self, outputs: &[v1::NamedOutput]) {
        self.buffer.put_u8(b'{');
        for (index, output) in outputs.iter().enumerate() {
            if index > 0 {
                self.buffer.put_u8(b',');
            }
            write_string(&mut self.buffer, &output.name);
            self.buffer.put_u8(b':');
            match &output.payload {
                Some(payload) => self.payload(payload),
                None => self.buffer.put_slice(b"null"),
            }
        }
        self.buffer.put_u8(b'}');
    }

    fn finish(mut self) -> Vec<Piece> {
        if !self.buffer.is_empty() {
            self.done.push(Piece::Bytes(self.buffer.freeze()));
        }
        self.done
    }
}

fn payload_len(payload: &v1::Payload) -> u64 {
    match &payload.content {
        Some(payload::Content::Inline(bytes)) => bytes.len() as u64,
        Some(payload::Content::Blob(blob)) => blob.size,
        None => 4,
    }
}

fn outputs_len(outputs: &[v1::NamedOutput]) -> u64 {
    outputs.iter().fold(separators(outputs.len()) as u64, |sum, output| {
        let value = output.payload.as_ref().map_or(4, payload_len);
        sum.saturating_add(string_len(&output.name) as u64 + 1).saturating_add(value)
    })
}

impl Leaf<'_> {
    /// The pieces of a value by itself.
    pub(super) fn splice(self) -> Vec<Piece> {
        let mut pieces = Pieces::default();
        match self {
            Leaf::Payload(payload) => pieces.payload(payload),
            Leaf::Computed(json) => pieces.bytes(json),
            Leaf::Map(outputs) => pieces.outputs(outputs),
            Leaf::Null => pieces.buffer.put_slice(b"null"),
        }
        pieces.finish()
    }
}

impl Graph<'_> {
    pub(super) fn sizes(&self) -> Sizes {
        let mut sizes = Sizes(Vec::with_capacity(self.nodes.len()));
        for index in 0..self.nodes.len() {
            let size = self.size(index, &sizes);
            sizes.0.push(size);
        }
        sizes
    }

    fn size(&self, index: usize, sizes: &Sizes) -> Result<u64, NodeError> {
        if let Some(leaf) = self.leaf(index) {
            return match leaf? {
                Leaf::Payload(payload) if is_json_encoding(&payload.encoding) => Ok(payload_len(payload)),
                Leaf::Payload(payload) => {
                    Err(NodeError::NotJson { node: index, encoding: payload.encoding.clone() })
                }
                Leaf::Computed(json) => Ok(json.len() as u64),
                Leaf::Null => Ok(4),
                Leaf::Map(outputs) => Ok(outputs_len(outputs)),
            };
        }
        let part = |inner: u32| match sizes.0.get(inner as usize) {
            Some(Ok(size)) => Ok(*size),
            Some(Err(error)) => Err(error.clone()),
            None => Err(NodeError::Malformed(index)),
        };
        match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::List(list)) => {
                list.items.iter().try_fold(separators(list.items.len()) as u64, |sum, item| {
                    Ok(sum.saturating_add(part(*item)?))
                })
            }
            Some(value_node::Kind::Map(map)) => {
                map.entries.iter().try_fold(separators(map.entries.len()) as u64, |sum, entry| {
                    Ok(sum
                        .saturating_add(string_len(&entry.key) as u64 + 1)
                        .saturating_add(part(entry.node)?))
                })
            }
            Some(
                value_node::Kind::Literal(_)
                | value_node::Kind::Output(_)
                | value_node::Kind::Operation(_)
                | value_node::Kind::BodyInput(_),
            )
            | None => Err(NodeError::Malformed(index)),
        }
    }

    /// The most that may be assembled for the job.
    pub(super) fn spliced_bytes_max(&self) -> u64 {
        let mut named = HashSet::new();
        let parts = self.nodes.iter().zip(0..).fold(0u64, |sum, (node, index)| {
            let is_new = match &node.kind {
                Some(value_node::Kind::Output(output)) => {
                    named.insert((&output.job_id, output.name.as_str()))
                }
                Some(_) | None => true,
            };
            let bytes = match self.leaf(index) {
                Some(Ok(Leaf::Payload(payload))) if is_new => payload_len(payload),
                Some(Ok(Leaf::Map(outputs))) if is_new => outputs_len(outputs),
                Some(Ok(Leaf::Computed(json))) => json.len() as u64,
                Some(Ok(Leaf::Payload(_) | Leaf::Map(_) | Leaf::Null) | Err(_)) | None => 0,
            };
            sum.saturating_add(bytes)
        });
        SPLICED_BYTES_ALWAYS.max(parts.saturating_mul(SPLICED_TIMES_MAX)).min(limits::BLOB_BYTES_MAX)
    }

    /// The pieces of a value whose size was computed before. The work is bounded by that size: every list and map writes
    /// at least two bytes.
    pub(super) fn splice(&self, root: usize) -> Vec<Piece> {
        enum Step<'a> {
            Node(usize),
            Byte(u8),
            Key(&'a str),
        }
        let mut pieces = Pieces::default();
        let mut steps = vec![Step::Node(root)];
        while let Some(step) = steps.pop() {
            let index = match step {
                Step::Byte(byte) => {
                    pieces.buffer.put_u8(byte);
                    continue;
                }
                Step::Key(key) => {
                    write_string(&mut pieces.buffer, key);
                    pieces.buffer.put_u8(b':');
                    continue;
                }
                Step::Node(index) => index,
            };
            match self.leaf(index) {
                Some(Ok(Leaf::Payload(payload))) => pieces.payload(payload),
                Some(Ok(Leaf::Computed(json))) => pieces.bytes(json),
                Some(Ok(Leaf::Map(outputs))) => pieces.outputs(outputs),
                // A leaf with an error has no size, so nothing that contains it is written.
                Some(Ok(Leaf::Null) | Err(_)) => pieces.buffer.put_slice(b"null"),
                None => match self.nodes.get(index).and_then(|node| node.kind.as_ref()) {
                    Some(value_node::Kind::List(list)) => {
                        pieces.buffer.put_u8(b'[');
                        steps.push(Step::Byte(b']'));
                        for (position, item) in list.items.iter().enumerate().rev() {
                            steps.push(Step::Node(*item as usize));
                            if position > 0 {
                                steps.push(Step::Byte(b','));
                            }
                        }
                    }
                    Some(value_node::Kind::Map(map)) => {
                        pieces.buffer.put_u8(b'{');
                        steps.push(Step::Byte(b'}'));
                        for (position, entry) in map.entries.iter().enumerate().rev() {
                            steps.push(Step::Node(entry.node as usize));
                            steps.push(Step::Key(&entry.key));
                            if position > 0 {
                                steps.push(Step::Byte(b','));
                            }
                        }
                    }
                    Some(
                        value_node::Kind::Literal(_)
                        | value_node::Kind::Output(_)
                        | value_node::Kind::Operation(_)
                        | value_node::Kind::BodyInput(_),
                    )
                    | None => {}
                },
            }
        }
        pieces.finish()
    }
}

/// What pieces come to, in bytes.
#[cfg(test)]
pub(super) fn pieces_len(pieces: &[Piece]) -> u64 {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Blob(blob) => blob.size,
        })
        .sum()
}
