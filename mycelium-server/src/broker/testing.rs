//! What tests of other modules share.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::NewFlow;
use mycelium_core::ids::{ContentDigest, FlowId, JobId};
use mycelium_core::image::JobHead;
use mycelium_core::signature::Judged;
use mycelium_proto::v1::{self, value_node};
use prost::Message as _;

use super::registry::ElfSignature;
use super::registry::Registry;
use super::{PreparedJob, Submission, shape_of};
use crate::values::check_spec;

/// The signature of a declaration that is in order.
pub(crate) fn signature(declaration: &v1::ElfDeclaration) -> Arc<ElfSignature> {
    Registry::default().read(declaration).unwrap()
}

/// A job, ready to be submitted.
pub(crate) fn prepared(spec: &v1::JobSpec) -> PreparedJob {
    let checked = check_spec(spec).unwrap();
    PreparedJob {
        head: JobHead {
            id: checked.id,
            elf: Arc::from(&*spec.elf),
            task: Arc::from(&*spec.task),
            labels: spec.labels.clone().into(),
            shape: shape_of(spec),
            ..JobHead::default()
        },
        depends_on: checked.depends_on,
        evaluate: spec.run_if.is_some() || spec.for_each.is_some(),
        body: spec.encode_to_vec().into(),
        digest: ContentDigest::default(),
        judged: Judged::NOT,
        policy: None,
        begins: checked.begins,
        blobs: Vec::new(),
    }
}

/// A job of elf `e` that takes a list of what these return.
pub(crate) fn takes(job: JobId, of: &[JobId], labels: BTreeMap<String, String>) -> PreparedJob {
    let bytes = |id: &JobId| Bytes::copy_from_slice(id.as_bytes());
    let output = |of: &JobId| v1::OutputRef { job_id: bytes(of), name: String::new() };
    let kinds = of.iter().map(|of| value_node::Kind::Output(output(of)));
    let node = u32::try_from(of.len()).unwrap();
    let list = value_node::Kind::List(v1::ListNode { items: (0..node).collect() });
    prepared(&v1::JobSpec {
        job_id: bytes(&job),
        elf: "e".to_owned(),
        task: "task_t".to_owned(),
        labels,
        arguments: vec![v1::Argument { parameter: "x".to_owned(), node }],
        nodes: kinds.chain([list]).map(|kind| v1::ValueNode { kind: Some(kind) }).collect(),
        ..v1::JobSpec::default()
    })
}

/// These jobs, as all of a flow.
pub(crate) fn submission(flow: FlowId, jobs: Vec<PreparedJob>) -> Submission {
    Submission {
        flow,
        new_flow: NewFlow { name: Arc::from("flow"), ..NewFlow::default() },
        part: None,
        elements: None,
        jobs,
    }
}
