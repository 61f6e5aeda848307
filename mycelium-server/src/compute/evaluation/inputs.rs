//! What decides how jobs go on, before it is computed: read for many jobs at once.

use std::collections::{HashMap, HashSet};

use mycelium_core::ids::{JobId, Timestamp};
use mycelium_core::status::FinalStatus;
use mycelium_proto::v1;

use super::super::failed::Failed;
use super::super::operands::{ReadOutputs, read_outputs, spec_of};
use crate::broker::{CallError, FailureBody, Handle};
use crate::store::{Damage, Reads, SpecRecord, isolate};
use crate::trace::Origin;
use crate::values::{jobs_computed, jobs_named};

/// Of how many jobs it is read at once how they ended.
const ENDS_CHUNK: usize = 1_000;

/// A job that is to be decided.
pub(super) struct Subject {
    pub(super) job: JobId,
    pub(super) record: SpecRecord,
    pub(super) spec: v1::JobSpec,
    /// The jobs that its values are made of.
    pub(super) named: HashSet<JobId>,
    /// Those of them that were skipped.
    pub(super) skipped: HashSet<JobId>,
    /// In which trace it was submitted, if it was in one.
    pub(super) origin: Option<Origin>,
}

impl Subject {
    fn new(
        job: JobId,
        record: Result<Option<SpecRecord>, Damage>,
        now: Timestamp,
    ) -> Result<Self, FailureBody> {
        let (record, spec) = spec_of(job, record)?;
        let named = jobs_named(&spec);
        let origin = Origin::of(&spec, record.head.submitted_at, now);
        Ok(Self { job, record, spec, named, skipped: HashSet::new(), origin })
    }

    fn bytes(&self) -> usize {
        self.record.body.len()
    }
}

/// What comes of each of some jobs: the failure of one whose specification, or of whose sources how they ended, is
/// damaged.
pub(super) type Subjects = Vec<Result<Subject, FailureBody>>;

/// Reads the specifications of jobs, and how the jobs ended that they name.
pub(super) async fn subjects(handle: &Handle, jobs: &[JobId]) -> Result<Subjects, CallError> {
    let records = isolate(jobs, |jobs| handle.store().specs(jobs)).await?;
    let bytes = records.iter().flatten().flatten().map(|record| record.body.len()).sum();
    let jobs = jobs.to_vec();
    let now = handle.clock().now().wall;
    let decode = move || {
        let subjects = jobs.into_iter().zip(records).map(|(job, record)| Subject::new(job, record, now));
        Ok(subjects.collect::<Subjects>())
    };
    let mut subjects = handle.work_on(bytes, decode).await?;
    let named: HashSet<JobId> =
        subjects.iter().flatten().flat_map(|subject| &subject.named).copied().collect();
    let ends = Ends::read(&**handle.store(), named.into_iter().collect()).await?;
    for subject in &mut subjects {
        if let Ok(read) = subject
            && let Err(failure) = ends.give(read)
        {
            *subject = Err(failure);
        }
    }
    Ok(subjects)
}

/// How jobs ended, as far as it matters.
#[derive(Default)]
struct Ends {
    skipped: HashSet<JobId>,
    damaged: HashMap<JobId, Damage>,
}

impl Ends {
    async fn read(store: &dyn Reads, jobs: Vec<JobId>) -> Result<Self, CallError> {
        let mut ends = Self::default();
        for jobs in jobs.chunks(ENDS_CHUNK) {
            for (id, finished) in jobs.iter().zip(isolate(jobs, |jobs| store.finished(jobs)).await?) {
                match finished {
                    Ok(Some(finished)) if finished.end.status() == FinalStatus::Skipped => {
                        ends.skipped.insert(*id);
                    }
                    Ok(_) => {}
                    Err(what) => drop(ends.damaged.insert(*id, what)),
                }
            }
        }
        Ok(ends)
    }

    fn give(&self, subject: &mut Subject) -> Result<(), FailureBody> {
        if !self.damaged.is_empty()
            && let Some((id, what)) = subject.named.iter().find_map(|id| Some((id, self.damaged.get(id)?)))
        {
            return Err(FailureBody::record_damaged(format!("how job {id} ended cannot be read: {what}")));
        }
        if !self.skipped.is_empty() {
            subject.skipped = subject.named.intersection(&self.skipped).copied().collect();
        }
        Ok(())
    }
}

/// Jobs that are to be decided, and what other jobs returned from which that is computed.
pub(super) struct Inputs<T> {
    pub(super) subjects: Vec<(T, Subject)>,
    pub(super) outputs: ReadOutputs,
}

/// The values of all these are more than may be held at once; the failure of one that is so by itself.
pub(super) struct TooMuch<T> {
    pub(super) subjects: Vec<(T, Subject)>,
    pub(super) failure: FailureBody,
}

/// Reads what some jobs are decided with, at most `bytes_max` of it.
pub(super) async fn inputs<T: Send + 'static>(
    handle: &Handle,
    subjects: Vec<(T, Subject)>,
    bytes_max: usize,
) -> Result<Result<Inputs<T>, TooMuch<T>>, CallError> {
    let bytes = subjects.iter().map(|(_, subject)| subject.bytes()).sum();
    let trace = move || {
        let computed =
            subjects.iter().flat_map(|(_, subject)| jobs_computed(&subject.spec, &subject.skipped));
        let computed: HashSet<JobId> = computed.collect();
        Ok((subjects, computed))
    };
    let (subjects, computed) = handle.work_on(bytes, trace).await?;
    match read_outputs(&**handle.store(), computed, bytes_max).await {
        Ok(outputs) => Ok(Ok(Inputs { subjects, outputs })),
        Err(Failed::Permanent(failure)) => Ok(Err(TooMuch { subjects, failure })),
        Err(Failed::Transient(error)) => Err(error),
    }
}
