//! Submits the jobs for the elements of a list.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::Elements;
use mycelium_core::effects::{Evaluation, Refusal};
use mycelium_core::ids::{ContentDigest, FlowId, JobId};
use mycelium_proto::v1;
use mycelium_values::Value;
use prost::Message as _;

use super::{AGAIN_PAUSE, Answer};
use crate::broker::{CallError, Handle, PreparedJob, Report, Submission};
use crate::store::SpecRecord;
use crate::values::{Template, element_digest, element_id};

/// How many jobs are submitted at once.
const CHUNK: usize = 1_024;
/// How often jobs are submitted for which there is no room, before other lists get their turn.
const TRIES_MAX: usize = 10;
/// About how many bytes of specifications are submitted at once.
const CHUNK_BYTES_TARGET: usize = 8 * 1024 * 1024;

/// A list, and what is to be submitted for each of its elements.
pub(super) struct Expansion {
    list: JobId,
    flow: FlowId,
    elf: Arc<str>,
    task: Arc<str>,
    digest: ContentDigest,
    template: Arc<Template>,
    elements: Arc<[Value]>,
}

impl Expansion {
    /// `spec` is that of the job with the list, and so is `record`.
    ///
    /// # Errors
    /// In words, if there would be too much to submit.
    pub(super) fn new(
        list: JobId,
        record: &SpecRecord,
        spec: v1::JobSpec,
        elements: Vec<Value>,
    ) -> Result<Self, String> {
        let template = Template::new(list, spec);
        template.check_size(elements.len())?;
        Ok(Self {
            list,
            flow: record.flow,
            elf: Arc::clone(&record.elf),
            task: Arc::clone(&record.task),
            digest: record.digest,
            template: Arc::new(template),
            elements: Arc::from(elements),
        })
    }

    /// Submits the jobs, in order. Those that are there already, from an earlier try or before a restart, stay as they
    /// are.
    pub(super) async fn submit(self: Box<Self>, handle: &Handle, evaluation: Evaluation) -> Answer {
        let this = Arc::new(*self);
        let mut first = 0;
        while first < this.elements.len() {
            let asked = Arc::clone(&this);
            let prepared = handle.read(move |_| Ok(asked.prepare(first))).await;
            let jobs = match prepared {
                Ok(Ok(jobs)) => jobs,
                Ok(Err(problem)) => return Answer::Failed(problem),
                Err(_stopping) => return Answer::Again,
            };
            let elements = Elements { of: this.list, number: evaluation.number, first: index(first) };
            first += jobs.len();
            if let Err(answer) = this.submit_some(handle, elements, jobs).await {
                return answer;
            }
        }
        Answer::Expanded { elements: index(this.elements.len()) }
    }

    /// Submits jobs, and waits a while for room. Else: what to answer.
    async fn submit_some(
        &self,
        handle: &Handle,
        elements: Elements,
        jobs: Vec<PreparedJob>,
    ) -> Result<(), Answer> {
        for _ in 0..TRIES_MAX {
            let submission = Submission {
                flow: self.flow,
                // The flow is there.
                flow_name: Arc::from(""),
                part: None,
                elements: Some(elements),
                jobs: jobs.clone(),
            };
            match handle.submit(submission).await {
                Ok(_) => return Ok(()),
                Err(CallError::Refused(Refusal::BacklogFull { .. }) | CallError::Busy) => {
                    tokio::time::sleep(AGAIN_PAUSE).await;
                }
                Err(CallError::Refused(Refusal::ContentDiffers(id))) => {
                    return Err(Answer::Failed(format!(
                        "the id of the job for an element of the list, {id}, is that of another job"
                    )));
                }
                Err(error) => {
                    tracing::debug!(job = %self.list, error = %Report(&error), "a list is expanded later");
                    return Err(Answer::Again);
                }
            }
        }
        Err(Answer::Again)
    }

    /// The jobs for the elements from `first` on, as many as are submitted at once.
    fn prepare(&self, first: usize) -> Result<Vec<PreparedJob>, String> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        for (place, element) in self.elements.iter().enumerate().skip(first).take(CHUNK) {
            if bytes > CHUNK_BYTES_TARGET {
                break;
            }
            let place = index(place);
            let body = Bytes::from(self.template.spec(place, element)?.encode_to_vec());
            bytes += body.len();
            jobs.push(PreparedJob {
                id: element_id(self.list, place),
                elf: Arc::clone(&self.elf),
                task: Arc::clone(&self.task),
                priority: self.template.priority(),
                depends_on: self.template.depends_on().to_vec(),
                evaluate: false,
                body,
                digest: element_digest(self.digest, place),
            });
        }
        Ok(jobs)
    }
}

/// Lists are limited to far fewer than 2^32 elements.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
