//! `SubmitJobs`: checks and encodes the jobs, and hands them to the broker.

mod warnings;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::{Begins, NewFlow, Part};
use mycelium_core::ids::{Attempt, ContentDigest, FlowId, JobId, SubmissionId, Token};
use mycelium_core::image::JobHead;
use mycelium_core::labels::Labels;
use mycelium_core::policy::Policy;
use mycelium_core::signature::{Judged, Shape};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, value_node};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::blobs::Blob;
use crate::broker::{CallError, Handle, Misfit, Peer, PreparedJob, Ruling, Standing, Submission, shape_of};
use crate::defect;
use crate::documents::cut;
use crate::error::Error;
use crate::store::Outline;
use crate::trace;
use crate::values::{check_spec, refuse_labels};
use warnings::Warnings;

/// Above so many jobs, checking and encoding leave the threads that serve connections.
const JOBS_INLINE_MAX: usize = 64;

pub(crate) async fn submit(
    handle: &Handle,
    peer: Peer,
    request: v1::SubmitJobsRequest,
) -> Result<v1::SubmitJobsResponse, Error> {
    let Prepared { submission, blobs, named, mut warnings } = if request.jobs.len() <= JOBS_INLINE_MAX {
        prepare(handle, request)?
    } else {
        let turn = handle.preparation_turn(peer).await;
        let handle = handle.clone();
        let prepare = move || {
            // Held until it is done, even if nobody waits for it any more.
            let _turn = turn;
            defect::catch("the check of a submission", || prepare(&handle, request))
        };
        let prepared = tokio::task::spawn_blocking(prepare).await.map_err(|_stopping| CallError::Stopping)?;
        prepared.map_err(CallError::from)??
    };
    check_named(handle, named, &mut warnings).await?;
    handle.blobs().require(&blobs).await?;
    let submitted = handle.submit(peer, submission).await?;
    Ok(v1::SubmitJobsResponse {
        jobs_created: submitted.created,
        jobs_existing: submitted.existing,
        commit: submitted.commit.0,
        warnings: warnings.into_texts(),
    })
}

/// A submission that was checked as far as it tells by itself.
struct Prepared {
    submission: Submission,
    /// The blobs that it names.
    blobs: Vec<Blob>,
    /// The outputs it names of jobs that were submitted before.
    named: Vec<NamedOutput>,
    warnings: Warnings,
}

/// An output that a value graph names.
struct NamedOutput {
    job: JobId,
    name: String,
    /// Where it is named.
    spec: usize,
    node: usize,
}

impl NamedOutput {
    /// Refuses an output that the job, of this elf and task, does not have.
    fn check(
        &self,
        standing: &Standing,
        elf: &str,
        task: &str,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        match standing.judge_output(task, &self.name) {
            Ruling::Taken => Ok(()),
            Ruling::Doubtful(problem) => {
                warnings.add(elf, standing, &problem);
                Ok(())
            }
            Ruling::Refused(problem) => {
                let violations = vec![(format!("nodes[{}].output.name", self.node), problem)];
                let misfit = Misfit::Arguments { violations };
                Err(Error::Misfit { prefix: format!("jobs[{}]", self.spec), misfit })
            }
        }
    }
}

/// Holds the outputs that are named of jobs submitted before against what their tasks declare. Jobs that are not known
/// are found out by the core.
async fn check_named(handle: &Handle, named: Vec<NamedOutput>, warnings: &mut Warnings) -> Result<(), Error> {
    if named.is_empty() {
        return Ok(());
    }
    let mut jobs: Vec<JobId> = named.iter().map(|named| named.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let outlines = handle.store().outlines(&jobs).await?;
    let mut names = Names::default();
    for named in named {
        let place = jobs.binary_search(&named.job).ok();
        if let Some(Some(Outline { head, .. })) = place.and_then(|place| outlines.get(place)) {
            named.check(names.standing(handle, &head.elf), &head.elf, &head.task, warnings)?;
        }
    }
    Ok(())
}

/// The outputs that a specification names by their names.
fn named_outputs(spec: usize, nodes: &[v1::ValueNode]) -> impl Iterator<Item = NamedOutput> {
    nodes.iter().enumerate().filter_map(move |(node, kind)| match &kind.kind {
        Some(value_node::Kind::Output(output)) if !output.name.is_empty() => Some(NamedOutput {
            job: JobId::from_slice(&output.job_id)?,
            name: output.name.clone(),
            spec,
            node,
        }),
        _ => None,
    })
}

/// Checks and encodes the jobs, and gives what they name.
fn prepare(handle: &Handle, request: v1::SubmitJobsRequest) -> Result<Prepared, Error> {
    let flow =
        FlowId::from_slice(&request.flow_id).ok_or_else(|| Error::field("flow_id", "must be 16 bytes"))?;
    if request.flow_name.len() > limits::NAME_BYTES_MAX {
        let problem = format!("must be at most {} bytes", limits::NAME_BYTES_MAX);
        return Err(Error::field("flow_name", problem));
    }
    if request.flow_name.chars().any(char::is_control) {
        return Err(Error::field("flow_name", "must not contain control characters"));
    }
    if request.jobs.len() > limits::SUBMIT_JOBS_MAX {
        let problem =
            format!("must be at most {}; send a larger submission in parts", limits::SUBMIT_JOBS_MAX);
        return Err(Error::field("jobs", problem));
    }
    if let Some(problem) = refuse_labels(&request.flow_labels) {
        return Err(Error::field("flow_labels", problem));
    }
    let part = part_of(&request)?;
    let on_behalf_of = request.on_behalf_of.as_ref().map(attempt_of).transpose()?;
    let trace = encoded_trace(request.trace)?;

    let mut names = Names::default();
    let mut warnings = Warnings::default();
    let mut seen = HashMap::with_capacity(request.jobs.len());
    let mut named = Vec::new();
    let mut jobs = Vec::with_capacity(request.jobs.len());
    let mut blobs = Vec::new();
    for (index, spec) in request.jobs.iter().enumerate() {
        let prefix = || format!("jobs[{index}]");
        let checked = check_spec(spec).map_err(|error| Error::Spec { prefix: prefix(), error })?;
        if seen.insert(checked.id, index).is_some() {
            return Err(Error::field(format!("jobs[{index}].job_id"), "is given twice"));
        }
        let last = std::mem::take(&mut names.judged);
        let standing = names.standing(handle, &spec.elf);
        let (judged, ruling) = standing.judge(spec, last);
        match ruling {
            Ruling::Taken => {}
            Ruling::Doubtful(misfit) => warnings.add(&spec.elf, standing, &misfit),
            Ruling::Refused(misfit) => return Err(Error::Misfit { prefix: prefix(), misfit }),
        }
        // Those of a template are those of the jobs it is expanded into.
        let (policy, begins) = match spec.for_each {
            None => (standing.policy_of(&spec.task, checked.policy), checked.begins),
            Some(_) => (None, Begins::default()),
        };
        names.judged = judged.clone();
        named.extend(named_outputs(index, &spec.nodes));
        let mut body = spec.encode_to_vec();
        // A job is the same job when it is submitted again in another span.
        let digest = digest(&body);
        body.extend_from_slice(&trace);
        jobs.push(PreparedJob {
            head: JobHead {
                id: checked.id,
                elf: names.shared(&spec.elf),
                task: names.shared(&spec.task),
                priority: spec.priority,
                labels: names.labels(&spec.labels),
                shape: names.shape(spec),
                ..JobHead::default()
            },
            depends_on: checked.depends_on,
            evaluate: spec.run_if.is_some() || spec.for_each.is_some(),
            digest,
            judged,
            policy: names.policy(policy),
            begins,
            body: Bytes::from(body),
            blobs: checked.blobs.iter().map(|blob| blob.digest).collect(),
        });
        blobs.extend(checked.blobs);
    }
    let mut before = Vec::new();
    for named in named {
        match seen.get(&named.job).and_then(|index| request.jobs.get(*index)) {
            Some(own) => {
                named.check(names.standing(handle, &own.elf), &own.elf, &own.task, &mut warnings)?;
            }
            None => before.push(named),
        }
    }
    let mut flow_name = request.flow_name;
    cut(&mut flow_name, limits::NAME_BYTES_MAX);
    let submission = Submission {
        flow,
        new_flow: NewFlow { name: Arc::from(flow_name), labels: request.flow_labels.into(), on_behalf_of },
        part,
        elements: None,
        jobs,
    };
    Ok(Prepared { submission, blobs, named: before, warnings })
}

/// What is put behind the encoded specification of each job, so that it has this trace.
fn encoded_trace(trace: Option<v1::TraceContext>) -> Result<Vec<u8>, Error> {
    let Some(trace) = trace else { return Ok(Vec::new()) };
    trace::check(&trace).map_err(|(field, problem)| Error::field(format!("trace.{field}"), problem))?;
    Ok(v1::JobSpec { trace: Some(trace), ..v1::JobSpec::default() }.encode_to_vec())
}

fn attempt_of(name: &v1::AttemptName) -> Result<Token, Error> {
    let job = JobId::from_slice(&name.job_id)
        .ok_or_else(|| Error::field("on_behalf_of.job_id", "must be 16 bytes"))?;
    Ok(Token { job, attempt: Attempt(name.attempt) })
}

fn part_of(request: &v1::SubmitJobsRequest) -> Result<Option<Part>, Error> {
    if request.submission_id.is_empty() {
        if request.part != 0 || !request.seal {
            let problem =
                "is needed for a submission of several parts: set it, or set `part` to 0 and `seal` to true";
            return Err(Error::field("submission_id", problem));
        }
        return Ok(None);
    }
    let submission = SubmissionId::from_slice(&request.submission_id)
        .ok_or_else(|| Error::field("submission_id", "must be empty or 16 bytes"))?;
    Ok(Some(Part { submission, index: request.part, seal: request.seal }))
}

/// Tells jobs with the same id and other content apart.
fn digest(body: &[u8]) -> ContentDigest {
    let digest = Sha256::digest(body);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    ContentDigest(u64::from_le_bytes(first))
}

/// Names and signatures that one submission has met: most of its jobs name the same few.
#[derive(Default)]
struct Names {
    shared: BTreeMap<String, Arc<str>>,
    standings: BTreeMap<String, Standing>,

    /// Those that were met last: most jobs have the same.
    labels: Labels,
    /// The same of shapes, of how values are judged, and of policies.
    shape: Shape,
    judged: Judged,
    policy: Option<Arc<Policy>>,
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.shared.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(name);
        self.shared.insert(name.to_owned(), Arc::clone(&shared));
        shared
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) -> Labels {
        if !self.labels.are(labels) {
            self.labels = labels.clone().into();
        }
        self.labels.clone()
    }

    fn policy(&mut self, policy: Option<Arc<Policy>>) -> Option<Arc<Policy>> {
        if policy.is_some() && self.policy != policy {
            self.policy.clone_from(&policy);
        }
        policy.and_then(|_| self.policy.clone())
    }

    fn shape(&mut self, spec: &v1::JobSpec) -> Shape {
        let is_same = self.shape.names().is_some_and(|names| {
            names.len() == spec.arguments.len()
                && spec.arguments.iter().all(|argument| {
                    names.binary_search_by(|name| (**name).cmp(argument.parameter.as_str())).is_ok()
                })
        });
        if !is_same {
            self.shape = shape_of(spec);
        }
        self.shape.clone()
    }

    fn standing(&mut self, handle: &Handle, elf: &str) -> &Standing {
        // Looked up twice where it is there: what is borrowed to be returned cannot be left alone again.
        if !self.standings.contains_key(elf) {
            self.standings.insert(elf.to_owned(), handle.registry().standing(elf));
        }
        &self.standings[elf]
    }
}
