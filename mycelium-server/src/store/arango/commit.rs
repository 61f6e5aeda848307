//! A batch as one statement.

use std::collections::HashMap;

use bytes::Bytes;
use mycelium_core::effects::{End, SpecRecord as Spec};
use mycelium_core::ids::JobId;
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::documents::elves::{ElfDocument, RevisionDocument, elves, revisions};
use super::documents::failures::{FailureDocument, NewFailures, NewOccurrence, failures};
use super::documents::flows::{FlowDocument, flows};
use super::documents::jobs::{BODY_HERE_BYTES_MAX, JobUpdate};
use super::documents::key;
use super::documents::parameters::{ParameterDocument, origins};
use super::documents::records::{BodyDocument, RecordDocument, records};
use super::documents::values::Returned;
use crate::store::indexed::Inputs;
use crate::store::record::Encoded;
use crate::store::{Batch, Error, JobAfter, JobChange};

/// The most bytes of one statement: far below what a server takes in one request, and beyond what a batch comes to.
const BYTES_MAX: usize = 256 << 20;

/// The variables of the statement that stores a batch, in text.
///
/// # Errors
/// [`Error::Refused`] if they are more than a request can have.
pub(super) fn variables(epoch: u64, batch: &Batch) -> Result<Box<RawValue>, Error> {
    let refused = |what: String| Error::Refused { what };
    let parts = Parts::of(batch);
    let variables = serde_json::value::to_raw_value(&parts.variables(epoch, batch))
        .map_err(|error| refused(format!("the batch cannot be put into JSON: {error}")))?;
    match variables.get().len() {
        bytes if bytes > BYTES_MAX => {
            Err(refused(format!("the batch takes {bytes} bytes, and at most {BYTES_MAX} are sent at once")))
        }
        _ => Ok(variables),
    }
}

/// What of a batch had to be decoded for its documents.
struct Parts<'a> {
    batch: &'a Batch,
    /// What flows into new jobs. One whose body is no specification has no inputs that could be shown.
    inputs: Vec<(JobId, Inputs)>,
    returned: HashMap<JobId, Returned>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Variables<'a> {
    epoch: u64,
    commit: u64,
    jobs: Jobs<'a>,
    job_to_job: JobToJob<'a>,
    parameters: Parameters<'a>,
    job_parameters: JobParameters<'a>,
    parameter_origins: ParameterOrigins<'a>,
    results: Results<'a>,
    job_results: JobResults<'a>,
    failures: Vec<FailureDocument>,
    job_failures: Vec<NewOccurrence>,
    elves: Vec<ElfDocument>,
    revisions: Vec<RevisionDocument>,
    flows: Vec<FlowDocument>,
    records: Vec<RecordDocument>,
}

/// A sequence that is written as it is made.
macro_rules! sequence {
    ($($(#[$meta:meta])* $name:ident: |$parts:ident, $sequence:ident| $write:block)*) => {$(
        $(#[$meta])*
        struct $name<'a>(&'a Parts<'a>);

        impl Serialize for $name<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $parts = self.0;
                let mut $sequence = serializer.serialize_seq(None)?;
                $write
                $sequence.end()
            }
        }
    )*};
}

sequence! {
    Jobs: |parts, sequence| {
        for change in &parts.batch.jobs {
            let names = parts.returned.get(&change.id).and_then(Returned::names);
            if let Some(update) = JobUpdate::of(change, names.as_deref()) {
                sequence.serialize_element(&update)?;
            }
        }
    }
    JobToJob: |parts, sequence| {
        for created in parts.created() {
            let id = created.head.id;
            for dependency in &created.depends_on {
                sequence.serialize_element(&JobEdge::new(*dependency, id, "depends"))?;
            }
            if let Some(list) = created.gathered_by {
                sequence.serialize_element(&JobEdge::new(id, list, "gathers"))?;
            }
        }
    }
    Parameters: |parts, sequence| {
        for (job, inputs) in &parts.inputs {
            for input in inputs.iter() {
                sequence.serialize_element(&ParameterDocument::of(*job, &input))?;
            }
        }
    }
    JobParameters: |parts, sequence| {
        for (job, inputs) in &parts.inputs {
            for input in inputs.iter() {
                let ParameterDocument { key, name, .. } = ParameterDocument::of(*job, &input);
                sequence.serialize_element(&ValueEdge::new(*job, "Parameters", &key, name))?;
            }
        }
    }
    ParameterOrigins: |parts, sequence| {
        for (job, inputs) in &parts.inputs {
            for input in inputs.iter() {
                let parameter = ParameterDocument::of(*job, &input).key;
                for edge in origins(&parameter, &input) {
                    sequence.serialize_element(&edge)?;
                }
            }
        }
    }
    Results: |parts, sequence| {
        for (job, returned) in &parts.returned {
            for document in returned.documents(*job) {
                sequence.serialize_element(&document)?;
            }
        }
    }
    JobResults: |parts, sequence| {
        for (job, returned) in &parts.returned {
            for document in returned.documents(*job) {
                sequence.serialize_element(&ValueEdge::new(*job, "Results", &document.key, document.name))?;
            }
        }
    }
}

/// An edge of JobToJob: from a job to one that waits for it, or that has the list of which it is an element.
#[derive(Serialize)]
struct JobEdge {
    #[serde(rename = "_key")]
    key: String,
    #[serde(rename = "_from")]
    from: String,
    #[serde(rename = "_to")]
    to: String,
    kind: &'static str,
}

impl JobEdge {
    fn new(from: JobId, to: JobId, kind: &'static str) -> Self {
        let key = key::join(&[&from, &to]);
        Self { key, from: format!("Jobs/{from}"), to: format!("Jobs/{to}"), kind }
    }
}

/// An edge from a job to a value of the same key.
#[derive(Serialize)]
struct ValueEdge<'a> {
    #[serde(rename = "_key")]
    key: &'a str,
    #[serde(rename = "_from")]
    from: String,
    #[serde(rename = "_to")]
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> ValueEdge<'a> {
    fn new(job: JobId, collection: &str, key: &'a str, name: Option<&'a str>) -> Self {
        Self { key, from: format!("Jobs/{job}"), to: format!("{collection}/{key}"), name }
    }
}

impl<'a> Parts<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut parts = Self { batch, inputs: Vec::new(), returned: HashMap::new() };
        for created in created(batch) {
            match Inputs::of(created) {
                Ok(inputs) => parts.inputs.push((created.head.id, inputs)),
                // It is stored as it is, and whoever needs it finds out.
                Err(error) => {
                    tracing::debug!(job = %created.head.id, %error, "a job without parameters to show")
                }
            }
        }
        for change in &batch.jobs {
            if let Some(encoded) = outputs(change) {
                parts.returned.insert(change.id, Returned::of(change.id, encoded));
            }
        }
        parts
    }

    fn created(&self) -> impl Iterator<Item = &'a Spec<Encoded>> {
        created(self.batch)
    }

    fn variables(&self, epoch: u64, batch: &Batch) -> Variables<'_> {
        let NewFailures { failures, occurrences } = failures(&batch.failures);
        let mut records = records(batch);
        let large = self.created().filter(|created| created.body.len() > BODY_HERE_BYTES_MAX);
        records.extend(large.map(|created| {
            RecordDocument::Body(BodyDocument { job: created.head.id, body: created.body.clone() })
        }));
        Variables {
            epoch,
            commit: batch.counters.commit.0,
            jobs: Jobs(self),
            job_to_job: JobToJob(self),
            parameters: Parameters(self),
            job_parameters: JobParameters(self),
            parameter_origins: ParameterOrigins(self),
            results: Results(self),
            job_results: JobResults(self),
            failures,
            job_failures: occurrences,
            elves: elves(&batch.elves),
            revisions: revisions(&batch.revisions),
            flows: flows(&batch.records.flows),
            records,
        }
    }
}

/// The jobs that a batch makes and does not drop.
fn created(batch: &Batch) -> impl Iterator<Item = &Spec<Encoded>> {
    let stay = batch.jobs.iter().filter(|change| !matches!(change.after, JobAfter::Dropped));
    stay.filter_map(|change| change.created.as_ref())
}

fn outputs(change: &JobChange) -> Option<&Bytes> {
    match &change.after {
        JobAfter::Finished(finished) => match &finished.end {
            End::Done(outputs) => Some(outputs),
            End::Failed(_) | End::UpstreamFailed(_) | End::Cancelled | End::Expired(_) | End::Skipped => None,
        },
        JobAfter::Live(_) | JobAfter::Evaluate | JobAfter::Dropped => None,
    }
}
