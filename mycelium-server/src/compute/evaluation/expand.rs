//! Submits the jobs for the elements of a list.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::command::Begins;
use mycelium_core::command::{Elements, NewFlow};
use mycelium_core::effects::{Evaluation, Refusal};
use mycelium_core::ids::{ContentDigest, FlowId, JobId};
use mycelium_core::image::JobHead;
use mycelium_core::policy::Policy;
use mycelium_core::signature::Judged;
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload};
use mycelium_values::Value;
use prost::Message as _;

use super::super::failed::Failed;
use super::{AGAIN_PAUSE, Answer};
use crate::blobs::{Blob, BlobError, Blobs, Piece};
use crate::broker::{CallError, FailureBody, Handle, PreparedJob, Submission};
use crate::documents::policy;
use crate::report::Report;
use crate::store::{BlobDigest, SpecRecord};
use crate::values::{ElementsTooLarge, Template, element_digest, element_id};

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
    /// That of the job with the list.
    head: JobHead,
    digest: ContentDigest,
    /// How the values are judged that stand in the job with the list, and so in each.
    judged: Judged,
    /// The policy of each, if they have one of their own.
    policy: Option<Arc<Policy>>,
    /// When each may begin.
    begins: Begins,
    template: Arc<Template>,
    elements: Arc<[Value]>,
    /// The elements too large to travel inline, by index.
    large: BTreeMap<u32, Blob>,
}

impl Expansion {
    /// `spec` is that of the job with the list, and so is `record`.
    ///
    /// # Errors
    /// If there would be too much to submit.
    pub(super) fn new(
        list: JobId,
        record: &SpecRecord,
        spec: v1::JobSpec,
        elements: Vec<Value>,
    ) -> Result<Self, ElementsTooLarge> {
        // It was checked when the job with the list was submitted.
        let policy = policy::of_job(&spec).ok().flatten();
        let begins = policy::begins(&spec).unwrap_or_default();
        let template = Template::new(list, spec);
        template.check_size(elements.len())?;
        Ok(Self {
            list,
            flow: record.head.flow,
            head: record.head.clone(),
            digest: record.digest,
            judged: Judged::NOT,
            policy,
            begins,
            template: Arc::new(template),
            elements: Arc::from(elements),
            large: BTreeMap::new(),
        })
    }

    /// Submits the jobs, in order. Those that are there already, from an earlier try or before a restart, stay as they
    /// are.
    pub(super) async fn submit(self: Box<Self>, handle: &Handle, evaluation: Evaluation) -> Answer {
        let mut this = *self;
        let standing = handle.registry().standing(&this.head.elf);
        this.judged = standing.judge(this.template.message(), Judged::NOT).0;
        this.policy = standing.policy_of(&this.head.task, this.policy.take());
        if let Err(error) = this.write_large(handle.blobs()).await {
            tracing::error!(job = %this.list, error = %Report(&error), "cannot write the elements of a list");
            return Answer::Again;
        }
        let this = Arc::new(this);
        let mut first = 0;
        while first < this.elements.len() {
            let asked = Arc::clone(&this);
            let prepared = handle.aside(move || Ok(asked.prepare(first))).await;
            let jobs = match prepared {
                Ok(jobs) => jobs,
                Err(CallError::Defect(defect)) => return Answer::underivable(defect.to_string()),
                Err(_) => return Answer::Again,
            };
            let elements = Elements { of: this.list, number: evaluation.number, first: index(first) };
            first += jobs.len();
            if let Err(answer) = this.submit_some(handle, elements, jobs).await {
                return answer;
            }
        }
        Answer::Expanded { elements: index(this.elements.len()) }
    }

    /// Writes the elements that are too large to travel inline, or finds them written before. All blobs that the jobs
    /// name stay, and are named within the hour.
    async fn write_large(&mut self, blobs: &Blobs) -> Result<(), BlobError> {
        for (element, place) in self.elements.iter().zip(0..) {
            if element.encoded_len() > limits::PAYLOAD_BYTES_MAX {
                let mut upload = blobs.begin_unnamed().await?;
                upload.add(Piece::Bytes(element.to_json())).await?;
                self.large.insert(place, upload.finish().await?);
            }
        }
        Ok(())
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
                new_flow: NewFlow::default(),
                part: None,
                elements: Some(elements),
                jobs: jobs.clone(),
            };
            match handle.submit(None, submission).await {
                Ok(_) => return Ok(()),
                Err(CallError::Refused(Refusal::BacklogFull { .. }) | CallError::Busy) => {
                    tokio::time::sleep(AGAIN_PAUSE).await;
                }
                Err(CallError::Refused(Refusal::ContentDiffers(id))) => {
                    return Err(Answer::underivable(format!(
                        "the id of the job for an element of the list, {id}, is that of another job"
                    )));
                }
                Err(CallError::StoreRefuses) => return Err(Answer::Failed(FailureBody::store_refused())),
                // A defect of the commit is not one of this list, and blobs that are missing are written with the next try.
                Err(error @ (CallError::Defect(_) | CallError::Blob(_))) => return Err(self.later(&error)),
                Err(error) => match Failed::from(error) {
                    Failed::Permanent(failure) => return Err(Answer::Failed(failure)),
                    Failed::Transient(error) => return Err(self.later(&error)),
                },
            }
        }
        Err(Answer::Again)
    }

    fn later(&self, error: &CallError) -> Answer {
        tracing::debug!(job = %self.list, error = %Report(error), "a list is expanded later");
        Answer::Again
    }

    /// The jobs for the elements from `first` on, as many as are submitted at once.
    fn prepare(&self, first: usize) -> Vec<PreparedJob> {
        let common: Vec<BlobDigest> = self.template.blobs().iter().map(|blob| blob.digest).collect();
        let mut jobs = Vec::new();
        let mut bytes = 0;
        for (place, element) in self.elements.iter().enumerate().skip(first).take(CHUNK) {
            if bytes > CHUNK_BYTES_TARGET {
                break;
            }
            let place = index(place);
            let large = self.large.get(&place);
            let content = match large {
                Some(blob) => payload::Content::Blob(blob.to_message()),
                None => payload::Content::Inline(element.to_json()),
            };
            let element = v1::Payload { encoding: String::new(), content: Some(content) };
            let body = Bytes::from(self.template.spec(place, element).encode_to_vec());
            bytes += body.len();
            jobs.push(PreparedJob {
                head: JobHead { id: element_id(self.list, place), ..self.head.clone() },
                depends_on: self.template.depends_on().to_vec(),
                evaluate: false,
                body,
                digest: element_digest(self.digest, place),
                judged: self.judged.clone(),
                policy: self.policy.clone(),
                begins: self.begins,
                blobs: common.iter().copied().chain(large.map(|blob| blob.digest)).collect(),
            });
        }
        jobs
    }
}

/// Lists are limited to far fewer than 2^32 elements.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
