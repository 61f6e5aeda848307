//! What a value of a job is made of and comes to, for those who look at the job.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use mycelium_core::ids::JobId;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::Failure;

use super::derive::DerivationError;
use super::{DerivedValue, OutputsByJob, ReadBlob, derive_arguments, has_operations};
use crate::blobs::Piece;
use crate::defect::{self, Defect};
use crate::documents::Spec;

/// The beginning of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    pub(crate) encoding: String,
    /// At most [`limits::VALUE_PREVIEW_BYTES_MAX`]; of text never half a character.
    pub(crate) begin: Bytes,
    /// How many bytes it has in all.
    pub(crate) size: u64,
}

/// What a value is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MadeOf {
    /// The jobs whose outputs it takes, each once, in the order in which the value reads.
    pub(crate) jobs: Vec<JobId>,
    /// Whether it takes the element that the job is run for, or its index.
    pub(crate) element: bool,
}

/// Finds what the values of one job are made of. One after the other: a table may have a million nodes, and each of
/// many arguments may reach all of them.
#[derive(Debug)]
pub(crate) struct Tracer<'a> {
    nodes: &'a [v1::ValueNode],
    /// For each node the round in which it was met last.
    met: Vec<u32>,
    round: u32,
}

impl<'a> Tracer<'a> {
    fn new(nodes: &'a [v1::ValueNode]) -> Self {
        Self { nodes, met: vec![0; nodes.len()], round: 0 }
    }

    /// What the value of a node is made of.
    pub(crate) fn made_of(&mut self, root: u32) -> MadeOf {
        self.round += 1;
        let mut made_of = MadeOf::default();
        let mut jobs = HashSet::new();
        let mut stack = vec![root];
        while let Some(index) = stack.pop() {
            match self.met.get_mut(index as usize) {
                Some(met) if *met != self.round => *met = self.round,
                Some(_) | None => continue,
            }
            match self.nodes.get(index as usize).and_then(|node| node.kind.as_ref()) {
                Some(value_node::Kind::Output(output)) => {
                    if let Some(job) = JobId::from_slice(&output.job_id)
                        && jobs.insert(job)
                    {
                        made_of.jobs.push(job);
                    }
                }
                Some(value_node::Kind::List(list)) => stack.extend(list.items.iter().rev()),
                Some(value_node::Kind::Map(map)) => {
                    stack.extend(map.entries.iter().rev().map(|entry| entry.node));
                }
                // What a body takes from outside is an operand of its operation.
                Some(value_node::Kind::Operation(operation)) => stack.extend(operation.inputs.iter().rev()),
                Some(value_node::Kind::BodyInput(_)) => made_of.element = true,
                Some(value_node::Kind::Literal(_)) | None => {}
            }
        }
        made_of
    }
}

/// Why a value cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PreviewError {
    #[error(transparent)]
    Derivation(#[from] DerivationError),
    /// What it is made of cannot be read.
    #[error(transparent)]
    Part(#[from] Failure),
    #[error(transparent)]
    Defect(#[from] Defect),
}

impl Spec {
    /// Whether the job's values take more to compute than assembling bytes.
    pub(crate) fn has_operations(&self) -> bool {
        has_operations(self.message())
    }

    /// Finds what the job's values are made of.
    pub(crate) fn tracer(&self) -> Tracer<'_> {
        Tracer::new(&self.message().nodes)
    }

    /// Computes the value of a node as it is computed when the job is dispatched. Its parameter is named in errors. Leaves
    /// the specification as it was.
    pub(crate) fn preview(
        &mut self,
        outputs: &OutputsByJob,
        parameter: &str,
        node: u32,
        blobs: &dyn ReadBlob,
    ) -> Result<Preview, PreviewError> {
        let spec = self.message_mut();
        let only = vec![v1::Argument { parameter: parameter.to_owned(), node }];
        let arguments = std::mem::replace(&mut spec.arguments, only);
        // A defect must not hide the other values of the job.
        let derived = defect::catch("a value that is shown", || derive_arguments(spec, outputs, blobs));
        spec.arguments = arguments;
        let derived = match derived {
            Ok(derived) => derived?,
            Err(defect) => return Err(defect.into()),
        };
        let value = derived.into_iter().next().map(|argument| argument.value);
        match value.ok_or_else(|| Failure::invalid("the value graph is malformed"))? {
            DerivedValue::Payload(payload) => beginning(payload, blobs),
            DerivedValue::Spliced { pieces, bytes } => beginning_of(pieces, bytes, blobs),
        }
    }
}

fn beginning_of(pieces: Vec<Piece>, bytes: u64, blobs: &dyn ReadBlob) -> Result<Preview, PreviewError> {
    let mut begin = BytesMut::new();
    for piece in pieces {
        let missing = limits::VALUE_PREVIEW_BYTES_MAX.saturating_sub(begin.len());
        match piece {
            _ if missing == 0 => break,
            Piece::Bytes(part) => begin.extend_from_slice(&part[..part.len().min(missing)]),
            Piece::Blob(blob) => begin.extend_from_slice(&blobs.begin(&blob.to_message(), missing)?),
        }
    }
    let begin = begin.freeze();
    Ok(Preview { encoding: String::new(), begin: begin.slice(..cut(&begin, bytes)), size: bytes })
}

fn beginning(payload: v1::Payload, blobs: &dyn ReadBlob) -> Result<Preview, PreviewError> {
    let v1::Payload { encoding, content } = payload;
    match content {
        Some(payload::Content::Inline(bytes)) => {
            let size = bytes.len() as u64;
            // A copy: a slice would keep all of the value in memory.
            let begin = Bytes::copy_from_slice(&bytes[..cut(&bytes, size)]);
            Ok(Preview { encoding, begin, size })
        }
        Some(payload::Content::Blob(blob)) => {
            let begin = blobs.begin(&blob, limits::VALUE_PREVIEW_BYTES_MAX)?;
            Ok(Preview { encoding, begin: begin.slice(..cut(&begin, blob.size)), size: blob.size })
        }
        None => Ok(Preview { encoding, begin: Bytes::new(), size: 0 }),
    }
}

/// How many bytes are shown of a value of `size` bytes that begins with these.
fn cut(bytes: &[u8], size: u64) -> usize {
    let max = limits::VALUE_PREVIEW_BYTES_MAX;
    let begin = match bytes.get(..max) {
        Some(begin) if size > max as u64 => begin,
        Some(_) | None => return bytes.len(),
    };
    match std::str::from_utf8(begin) {
        // The end is within a character. Without a length it is no text at all, and cut anywhere.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoBlobs;

    impl ReadBlob for NoBlobs {
        fn read(&self, _blob: &v1::BlobRef) -> Result<Bytes, Failure> {
            Err(Failure::invalid("there is none"))
        }

        fn begin(&self, _blob: &v1::BlobRef, max: usize) -> Result<Bytes, Failure> {
            Ok(Bytes::from(vec![b'7'; max]))
        }
    }

    #[test]
    fn the_beginning_of_a_blob_is_shown_and_of_what_it_is_part_of() {
        let blob = v1::BlobRef { digest: Bytes::from(vec![1; 32]), size: 1 << 30 };
        let content = Some(payload::Content::Blob(blob));
        let literal = node(value_node::Kind::Literal(v1::Payload { encoding: String::new(), content }));
        let list = node(value_node::Kind::List(v1::ListNode { items: vec![0, 0] }));
        let mut spec = spec(vec![literal, list]);
        let mut shown = |node| spec.preview(&OutputsByJob::new(), "x", node, &NoBlobs).unwrap();
        let max = limits::VALUE_PREVIEW_BYTES_MAX;
        let whole = shown(0);
        assert_eq!((whole.begin, whole.size), (Bytes::from(vec![b'7'; max]), 1 << 30));
        let part = shown(1);
        assert_eq!((part.begin.len(), part.begin.starts_with(b"[7"), part.size), (max, true, (2 << 30) + 3));
    }

    fn spec(nodes: Vec<v1::ValueNode>) -> Spec {
        v1::JobSpec { nodes, ..v1::JobSpec::default() }.into()
    }

    fn node(kind: value_node::Kind) -> v1::ValueNode {
        v1::ValueNode { kind: Some(kind) }
    }

    fn output(job: u8) -> v1::ValueNode {
        let job_id = Bytes::copy_from_slice(&[job; 16]);
        node(value_node::Kind::Output(v1::OutputRef { job_id, name: "value".to_owned() }))
    }

    fn literal(json: &[u8]) -> v1::ValueNode {
        let content = Some(payload::Content::Inline(Bytes::copy_from_slice(json)));
        node(value_node::Kind::Literal(v1::Payload { encoding: String::new(), content }))
    }

    fn operation(name: &str, inputs: &[u32]) -> v1::ValueNode {
        let inputs = inputs.to_vec();
        node(value_node::Kind::Operation(v1::Operation { name: name.to_owned(), inputs, body: None }))
    }

    #[test]
    fn what_a_value_is_made_of_is_told_in_order_and_once() {
        let list = |items: &[u32]| node(value_node::Kind::List(v1::ListNode { items: items.to_vec() }));
        let nodes = [
            output(3),
            output(1),
            output(2),
            list(&[1, 0, 1]),
            node(value_node::Kind::BodyInput(0)),
            operation("list.append", &[3, 4]),
        ];
        let mut tracer = Tracer::new(&nodes);
        let jobs = |ids: &[u8]| ids.iter().map(|id| JobId::new([*id; 16])).collect::<Vec<_>>();
        assert_eq!(tracer.made_of(3), MadeOf { jobs: jobs(&[1, 3]), element: false });
        assert_eq!(tracer.made_of(5), MadeOf { jobs: jobs(&[1, 3]), element: true });
        assert_eq!(tracer.made_of(2), MadeOf { jobs: jobs(&[2]), element: false });
        assert_eq!(tracer.made_of(99), MadeOf::default());
    }

    #[test]
    fn one_value_is_computed_whatever_becomes_of_the_others() {
        let nodes = vec![
            literal(b"20"),
            literal(b"1"),
            operation("add", &[0, 1]),
            literal(b"0"),
            operation("divide", &[0, 3]),
        ];
        let arguments = vec![
            v1::Argument { parameter: "sum".to_owned(), node: 2 },
            v1::Argument { parameter: "ratio".to_owned(), node: 4 },
        ];
        let before = v1::JobSpec { nodes, arguments, operations_version: 1, ..v1::JobSpec::default() };
        let mut spec = Spec::from(before.clone());
        let sum = spec.preview(&OutputsByJob::new(), "sum", 2, &NoBlobs).unwrap();
        assert_eq!((sum.begin.as_ref(), sum.size), (&b"21"[..], 2));
        let ratio = spec.preview(&OutputsByJob::new(), "ratio", 4, &NoBlobs).unwrap_err();
        assert!(ratio.to_string().contains("divide"), "{ratio}");
        assert_eq!(*spec.message(), before);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let max = limits::VALUE_PREVIEW_BYTES_MAX;
        let text = format!("\"{}\"", "\u{e4}".repeat(max));
        let mut spec = spec(vec![literal(text.as_bytes())]);
        let shown = spec.preview(&OutputsByJob::new(), "text", 0, &NoBlobs).unwrap();
        assert_eq!((shown.begin.len(), shown.size), (max - 1, text.len() as u64));
        assert_eq!(std::str::from_utf8(&shown.begin), Ok(&text[..max - 1]));
        assert_eq!(cut(&[0xff; 4096], 4096), max, "what is no text is cut anywhere");
        assert_eq!(cut(b"[1]", 3), 3);
    }
}
