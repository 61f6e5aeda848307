//! The values of jobs, for those who look: how they are computed, where they come from, and what they come to.
//!
//! What is not stored is computed anew: the same graph over the same outputs gives the same values. All of it is
//! bounded: bytes of an answer, outputs read for one job, and the time for the values of one answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mycelium_core::ids::JobId;
use tokio::runtime;

use super::graph::EdgeKind;
use super::jobs::{Job, find_readable};
use super::page::{self, Weigh};
use super::specs::{Lists, Run, Runs};
use crate::blobs::Blobs;
use crate::broker::{CallError, Handle, Party};
use crate::compute::Operands;
use crate::documents::{Destination, Nodes, Outputs, Spec};
use crate::store::{Reads, SpecRecord, isolate};
use crate::values::{OutputsByJob, Preview, PreviewError};

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
/// The most bytes of outputs that are read for the values of one job, or of several together.
const OUTPUTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many outputs are read at once, for several jobs if they are made of no more. They come to 1 MiB each at the most.
const OUTPUTS_CHUNK: usize = 64;
/// How long the values of one answer are computed, not counting the last of them.
const COMPUTING_MAX: Duration = Duration::from_secs(2);

/// The values of a job.
#[derive(Debug)]
pub(crate) struct JobValues {
    pub(crate) job: JobId,
    /// The table that they are computed from; empty if it is large.
    pub(crate) nodes: Nodes,
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
        let values: usize = self.values.iter().map(Weigh::bytes).sum();
        let origins: usize = self.origins.iter().map(Weigh::bytes).sum();
        32 + self.nodes.encoded_len() + values + origins
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
    let mut runs = Runs::of(&**handle.store(), jobs, Lists::LeftOut);
    while let Some(run) = runs.next().await? {
        let drafts = |run: Run| {
            let draft = |(job, record)| Draft::of(job, record);
            run.jobs.into_iter().map(draft).collect::<Result<Vec<_>, _>>()
        };
        let drafts = handle.work_on(run.bytes(), move || drafts(run)).await?;
        let mut drafts = drafts.into_iter().peekable();
        while let Some(first) = drafts.next() {
            let mut group = Group { origins: first.origins.iter().copied().collect(), drafts: vec![first] };
            while let Some(next) = drafts.next_if(|next| group.has_room(next)) {
                group.add(next);
            }
            for of_job in group.compute(handle, deadline).await? {
                bytes += of_job.bytes();
                if bytes > VALUES_BYTES_MAX && !values.is_empty() {
                    return Ok(values);
                }
                values.push(of_job);
            }
        }
    }
    Ok(values)
}

/// Jobs for whose values the same is read at once.
struct Group {
    drafts: Vec<Draft>,
    origins: HashSet<JobId>,
}

impl Group {
    /// Whether what one more is made of is not too much.
    fn has_room(&self, draft: &Draft) -> bool {
        let more = draft.origins.iter().filter(|origin| !self.origins.contains(*origin));
        self.origins.len() + more.count() <= OUTPUTS_CHUNK
    }

    fn add(&mut self, draft: Draft) {
        self.origins.extend(&draft.origins);
        self.drafts.push(draft);
    }

    async fn compute(self, handle: &Handle, deadline: Instant) -> Result<Vec<JobValues>, CallError> {
        // In the order in which they are shown.
        let mut seen = HashSet::new();
        let shown = self.drafts.iter().flat_map(|draft| draft.origins.iter().take(ORIGINS_MAX));
        let shown: Vec<JobId> = shown.copied().filter(|origin| seen.insert(*origin)).collect();
        let origins: Vec<JobId> = self.origins.into_iter().collect();
        let outputs = Arc::new(read_outputs(&**handle.store(), &origins, deadline).await?);
        let found = find_readable(handle, shown).await?.into_iter().flatten();
        let found: HashMap<JobId, Job> = found.map(|job| (job.id(), job)).collect();
        let mut computed = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            let stand =
                draft.origins.iter().take(ORIGINS_MAX).filter_map(|origin| found.get(origin).cloned());
            let mut origins: Vec<Job> = stand.collect();
            origins.truncate(page::fitting(&origins, ORIGINS_BYTES_MAX));
            let values = draft.compute(handle, Arc::clone(&outputs), deadline).await?;
            computed.push(JobValues { origins, ..values });
        }
        Ok(computed)
    }
}

/// A job's values before they are computed.
struct Draft {
    job: JobId,
    spec: Spec,
    values: Vec<Part>,
    /// The jobs that they are made of, each once.
    origins: Vec<JobId>,
}

/// One value.
struct Part {
    kind: EdgeKind,
    parameter: String,
    node: u32,
    made_of: Vec<JobId>,
    /// Whether it is computed from what is stored.
    computable: bool,
}

impl Draft {
    /// Of a job that is not known, there are none.
    fn of(job: JobId, record: Option<SpecRecord>) -> Result<Self, CallError> {
        let spec = record.map(|record| Spec::decode(job, record.body)).transpose()?.unwrap_or_default();
        let mut tracer = spec.tracer();
        let values: Vec<Part> = spec
            .inputs()
            .map(|(into, node)| {
                let (kind, parameter) = match into {
                    Destination::Parameter(parameter) => (EdgeKind::Value, parameter),
                    Destination::Condition => (EdgeKind::Condition, ""),
                    Destination::List => (EdgeKind::Element, ""),
                };
                let made_of = tracer.made_of(node);
                let computable = !made_of.element;
                Part { kind, parameter: parameter.to_owned(), node, made_of: made_of.jobs, computable }
            })
            .collect();
        let mut seen = HashSet::new();
        let all = values.iter().flat_map(|part| &part.made_of);
        let origins: Vec<JobId> = all.copied().filter(|origin| seen.insert(*origin)).collect();
        Ok(Self { job, spec, values, origins })
    }

    async fn compute(
        self,
        handle: &Handle,
        outputs: Arc<OutputsByJob>,
        deadline: Instant,
    ) -> Result<JobValues, CallError> {
        let (blobs, runtime) = (handle.blobs().clone(), runtime::Handle::current());
        if self.spec.has_operations() {
            let turn = handle.turn(Party::Readers).await;
            handle.evaluate(turn, move || self.finish(&outputs, deadline, &blobs, &runtime)).await
        } else if self.values.is_empty() {
            Ok(self.finish(&outputs, deadline, &blobs, &runtime))
        } else {
            // It may read the first bytes of blobs.
            handle.aside(move || Ok(self.finish(&outputs, deadline, &blobs, &runtime))).await
        }
    }

    fn finish(
        mut self,
        outputs: &OutputsByJob,
        deadline: Instant,
        blobs: &Blobs,
        runtime: &runtime::Handle,
    ) -> JobValues {
        let operands = Operands::new(blobs, runtime.clone());
        let mut ids_left = ORIGIN_IDS_MAX;
        let mut values = Vec::with_capacity(self.values.len());
        for part in self.values {
            let is_read = part.made_of.iter().all(|origin| outputs.contains_key(origin));
            let known = if part.computable && is_read && Instant::now() < deadline {
                let in_errors = match part.kind {
                    EdgeKind::Condition => "run_if",
                    EdgeKind::Element => "for_each",
                    EdgeKind::Value | EdgeKind::After | EdgeKind::Gather => &part.parameter,
                };
                Some(self.spec.preview(outputs, in_errors, part.node, &operands))
            } else {
                None
            };
            let mut origins = part.made_of;
            origins.truncate(ids_left);
            ids_left -= origins.len();
            let Part { kind: into, parameter, node, .. } = part;
            values.push(JobValue { into, parameter, node, known, origins });
        }
        let nodes = self.spec.into_nodes();
        let nodes = if nodes.encoded_len() <= NODES_BYTES_MAX { nodes } else { Nodes::default() };
        JobValues { job: self.job, nodes, values, origins: Vec::new() }
    }
}

/// The outputs of those of `jobs` that are DONE; of none if they are too many bytes, or it is too late.
async fn read_outputs(
    store: &dyn Reads,
    jobs: &[JobId],
    deadline: Instant,
) -> Result<OutputsByJob, CallError> {
    let mut outputs = HashMap::with_capacity(jobs.len());
    let mut bytes = 0;
    for chunk in jobs.chunks(OUTPUTS_CHUNK) {
        if Instant::now() >= deadline {
            return Ok(HashMap::new());
        }
        for (job, encoded) in chunk.iter().zip(isolate(chunk, |jobs| store.outputs(jobs)).await?) {
            // What is damaged is not known, and the rest is shown.
            let Ok(Some(encoded)) = encoded else { continue };
            bytes += encoded.len();
            if bytes > OUTPUTS_BYTES_MAX {
                return Ok(HashMap::new());
            }
            outputs.insert(*job, Outputs::decode(*job, encoded)?);
        }
    }
    Ok(outputs)
}
