//! The values of jobs, for those who look: how they are computed, where they come from, and what they come to.
//!
//! What is not stored is computed anew: the same graph over the same outputs gives the same values. All of it is
//! bounded: bytes of an answer, outputs read for one job, and the time for the values of one answer.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use mycelium_core::ids::JobId;
use mycelium_proto::v1;
use prost::Message as _;
use tokio::runtime;

use super::graph::EdgeKind;
use super::jobs::{Job, decode_outputs, find_readable, read_spec};
use super::page::{self, Weigh};
use crate::blobs::Blobs;
use crate::broker::{CallError, Handle, Party};
use crate::compute::Operands;
use crate::store::{Reads, isolate, wait_for};
use crate::values::{OutputsByJob, Preview, PreviewError, Tracer, has_operations, preview};

/// The most bytes of values in one answer.
const VALUES_BYTES_MAX: usize = 1024 * 1024;
/// A larger table of nodes is left out.
const NODES_BYTES_MAX: usize = 256 * 1024;
/// The most origins of one job that are shown as they stand.
const ORIGINS_MAX: usize = 1_000;
/// The most bytes that these take.
const ORIGINS_BYTES_MAX: usize = 512 * 1024;
/// The most ids of origins in the values of one job, all together.
const ORIGIN_IDS_MAX: usize = 10_000;
/// The most bytes of outputs that are read for the values of one job.
const OUTPUTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many outputs are read before it is judged whether they are too many.
const OUTPUTS_CHUNK: usize = 8;
/// How long the values of one answer are computed, not counting the last of them.
const COMPUTING_MAX: Duration = Duration::from_secs(2);

/// The values of a job.
#[derive(Debug)]
pub(crate) struct JobValues {
    pub(crate) job: JobId,
    /// The table that they are computed from; empty if it is large.
    pub(crate) nodes: Vec<v1::ValueNode>,
    pub(crate) values: Vec<JobValue>,
    /// The jobs that they are made of, as they stand.
    pub(crate) origins: Vec<Job>,
}

/// A value of a job.
#[derive(Debug)]
pub(crate) struct JobValue {
    /// What it flows into: a parameter, the condition, the list.
    pub(crate) into: EdgeKind,
    /// The parameter, if it is an argument.
    pub(crate) parameter: String,
    pub(crate) node: u32,
    /// What it comes to, or why it cannot be computed; `None` if that is not known.
    pub(crate) known: Option<Result<Preview, PreviewError>>,
    /// The jobs that it is made of.
    pub(crate) origins: Vec<JobId>,
}

impl Weigh for JobValues {
    fn bytes(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(|node| node.encoded_len() + 6).sum();
        let values: usize = self.values.iter().map(Weigh::bytes).sum();
        let origins: usize = self.origins.iter().map(Weigh::bytes).sum();
        32 + nodes + values + origins
    }
}

impl Weigh for JobValue {
    fn bytes(&self) -> usize {
        let known = match &self.known {
            Some(Ok(preview)) => preview.encoding.len() + preview.begin.len(),
            Some(Err(error)) => error.to_string().len(),
            None => 0,
        };
        64 + self.parameter.len() + known + 18 * self.origins.len()
    }
}

/// The values of jobs, in their order, as far as 1 MiB goes; at least those of one.
pub(crate) async fn of_jobs(handle: &Handle, jobs: &[JobId]) -> Result<Vec<JobValues>, CallError> {
    let deadline = Instant::now() + COMPUTING_MAX;
    let mut values: Vec<JobValues> = Vec::new();
    let mut bytes = 0;
    for job in jobs {
        let of_job = of_job(handle, *job, deadline).await?;
        bytes += of_job.bytes();
        if bytes > VALUES_BYTES_MAX && !values.is_empty() {
            break;
        }
        values.push(of_job);
    }
    Ok(values)
}

async fn of_job(handle: &Handle, job: JobId, deadline: Instant) -> Result<JobValues, CallError> {
    let draft = handle.read(move |store| Draft::read(store, job, deadline)).await?;
    let Some(draft) = draft else {
        return Ok(JobValues { job, nodes: Vec::new(), values: Vec::new(), origins: Vec::new() });
    };
    let origins: Vec<JobId> = draft.origins.iter().copied().take(ORIGINS_MAX).collect();
    let (blobs, runtime) = (handle.blobs().clone(), runtime::Handle::current());
    let mut values = if has_operations(&draft.spec) {
        handle.evaluate(Party::Readers, move || draft.finish(job, deadline, &blobs, &runtime)).await?
    } else {
        handle.read(move |_| Ok(draft.finish(job, deadline, &blobs, &runtime))).await?
    };
    let found = find_readable(handle, origins).await?;
    values.origins = found.into_iter().flatten().collect();
    values.origins.truncate(page::fitting(&values.origins, ORIGINS_BYTES_MAX));
    Ok(values)
}

/// A job's values before they are computed.
struct Draft {
    spec: v1::JobSpec,
    values: Vec<Part>,
    /// The jobs that they are made of, each once.
    origins: Vec<JobId>,
    outputs: OutputsByJob,
}

/// One value.
struct Part {
    kind: EdgeKind,
    parameter: String,
    node: u32,
    made_of: Vec<JobId>,
    /// Whether all that it is computed from has been read.
    computable: bool,
}

impl Draft {
    /// `None` if the job is not known.
    fn read(store: &dyn Reads, job: JobId, deadline: Instant) -> Result<Option<Self>, CallError> {
        let Some(spec) = read_spec(store, job)? else { return Ok(None) };
        let mut tracer = Tracer::new(&spec.nodes);
        let mut values: Vec<Part> = nodes_of(&spec)
            .map(|(kind, parameter, node)| {
                let made_of = tracer.made_of(node);
                let computable = !made_of.element;
                Part { kind, parameter: parameter.to_owned(), node, made_of: made_of.jobs, computable }
            })
            .collect();
        let mut seen = HashSet::new();
        let all = values.iter().flat_map(|part| &part.made_of);
        let origins: Vec<JobId> = all.copied().filter(|origin| seen.insert(*origin)).collect();
        let outputs = read_outputs(store, &origins, deadline)?;
        for part in &mut values {
            part.computable &= part.made_of.iter().all(|origin| outputs.contains_key(origin));
        }
        Ok(Some(Self { spec, values, origins, outputs }))
    }

    fn finish(
        mut self,
        job: JobId,
        deadline: Instant,
        blobs: &Blobs,
        runtime: &runtime::Handle,
    ) -> JobValues {
        let operands = Operands::new(blobs, runtime.clone());
        let mut ids_left = ORIGIN_IDS_MAX;
        let mut values = Vec::with_capacity(self.values.len());
        for part in self.values {
            let known = if part.computable && Instant::now() < deadline {
                let in_errors = match part.kind {
                    EdgeKind::Condition => "run_if",
                    EdgeKind::Element => "for_each",
                    EdgeKind::Value | EdgeKind::After | EdgeKind::Gather => &part.parameter,
                };
                Some(preview(&mut self.spec, &self.outputs, in_errors, part.node, &operands))
            } else {
                None
            };
            let mut origins = part.made_of;
            origins.truncate(ids_left);
            ids_left -= origins.len();
            let Part { kind: into, parameter, node, .. } = part;
            values.push(JobValue { into, parameter, node, known, origins });
        }
        let nodes_bytes: usize = self.spec.nodes.iter().map(|node| node.encoded_len() + 4).sum();
        let nodes = if nodes_bytes <= NODES_BYTES_MAX { self.spec.nodes } else { Vec::new() };
        JobValues { job, nodes, values, origins: Vec::new() }
    }
}

/// What is computed for a job: what it is for, the parameter if it is an argument, and the node.
fn nodes_of(spec: &v1::JobSpec) -> impl Iterator<Item = (EdgeKind, &str, u32)> {
    let arguments = spec.arguments.iter();
    let arguments = arguments.map(|argument| (EdgeKind::Value, argument.parameter.as_str(), argument.node));
    let condition = spec.run_if.map(|node| (EdgeKind::Condition, "", node));
    let list = spec.for_each.as_ref().map(|each| (EdgeKind::Element, "", each.list));
    arguments.chain(condition).chain(list)
}

/// The outputs of those of `jobs` that are DONE; of none if they are too many bytes, or it is too late.
fn read_outputs(store: &dyn Reads, jobs: &[JobId], deadline: Instant) -> Result<OutputsByJob, CallError> {
    let mut outputs = HashMap::with_capacity(jobs.len());
    let mut bytes = 0;
    for chunk in jobs.chunks(OUTPUTS_CHUNK) {
        if Instant::now() >= deadline {
            return Ok(HashMap::new());
        }
        for (job, encoded) in chunk.iter().zip(wait_for(isolate(chunk, |jobs| store.outputs(jobs)))?) {
            // What is damaged is not known, and the rest is shown.
            let Ok(Some(encoded)) = encoded else { continue };
            bytes += encoded.len();
            if bytes > OUTPUTS_BYTES_MAX {
                return Ok(HashMap::new());
            }
            outputs.insert(*job, v1::Outputs { outputs: decode_outputs(*job, encoded)? });
        }
    }
    Ok(outputs)
}
