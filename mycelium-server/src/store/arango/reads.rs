//! What is read of the database: each call is one request, whatever the number of its keys.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::ids::{FailureId, FlowId, JobId, SubmissionId};
use mycelium_core::image::{FlowRecord, LiveJob, SubmissionRecord};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ArangoStore;
use super::documents::elves::{ElfDocument, RevisionDocument, revision_key};
use super::documents::failures::{FailureDocument, OccurrenceDocument};
use super::documents::flows::FlowDocument;
use super::documents::jobs::JobDocument;
use super::documents::records::{
    CHECKPOINT, CheckpointDocument, SUBMISSION, SubmissionDocument, USE, record_key, use_key, use_of_key,
};
use super::documents::row::Row;
use super::documents::text::Text;
use super::documents::values::{StoredResult, read_outputs};
use super::documents::{count, key};
use super::statements::{
    BLOB_USES, CHECKPOINTS, CHECKPOINTS_LISTED, DEPENDENTS, ELVES, ELVES_LISTED, FAILURES, FAILURES_LISTED,
    FINISHED, FLOWS, OCCURRENCES_IN, OCCURRENCES_LISTED, OCCURRENCES_OF, OUTLINES, OUTPUTS, REVISIONS,
    REVISIONS_LISTED, SPECS, SUBMISSIONS, SUBMISSIONS_LISTED, Statement, UNFINISHED,
};
use crate::store::{
    Answer, BlobDigest, BlobUse, CheckpointRecord, Edge, ElfRecord, Error, FailureCursor, FailureRecord,
    FinishedPage, FinishedQuery, FinishedRecord, FlowPage, FlowQuery, Listed, OccurrenceRecord, Outline,
    Reads, RevisionCursor, RevisionKey, RevisionRecord, SpecRecord,
};

/// Sorts behind every digit of an id, and ends a range of keys.
pub(super) const BEHIND_DIGITS: &str = "g";

/// Numbers of occurrences are less: counts are exact so far.
const NUMBERS_END: u64 = 1 << 53;

#[derive(Serialize)]
struct Keys<'a> {
    keys: &'a [String],
}

/// A range of keys: those between these two.
#[derive(Serialize)]
struct Range {
    after: String,
    end: String,
}

#[derive(Serialize)]
struct Ranges {
    ranges: Vec<Range>,
    limit: usize,
}

/// A limit, as a server takes it.
pub(super) fn limited(limit: usize) -> usize {
    limit.min(i32::MAX as usize)
}

/// Ranges of the keys that begin with each of `keys`, in their order; of what comes after the key of `after`, if that is
/// given, which begins with its first part.
fn ranges<K: Copy + Ord>(keys: &[K], begin: impl Fn(K) -> String, after: Option<&(K, String)>) -> Vec<Range> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let left = keys.into_iter().filter(|key| after.is_none_or(|(first, _)| key >= first));
    let range = |key| {
        let begin = begin(key);
        let end = format!("{begin}{BEHIND_DIGITS}");
        let after = after.filter(|(first, _)| *first == key).map(|(_, after)| after.clone());
        Range { after: after.unwrap_or(begin), end }
    };
    left.map(range).collect()
}

/// What a job returned, as it is read.
#[derive(Deserialize)]
struct Returned {
    outputs: Option<Vec<String>>,
    results: Vec<StoredResult>,
}

impl ArangoStore {
    /// Runs a statement that reads, unless the mycelium may be another's by now: what is stored then is not what this
    /// broker may answer with.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
    ) -> Result<Vec<T>, Error> {
        self.lease.check()?;
        Ok(self.database.run(statement, variables).await?.rows)
    }

    /// Reads the documents of keys. What is too much for one answer is read in several.
    async fn rows(&self, statement: &Statement, keys: &[String]) -> Result<Vec<Row>, Error> {
        self.lease.check()?;
        let (mut rows, mut parts) = (Vec::with_capacity(keys.len()), vec![keys]);
        while let Some(part) = parts.pop() {
            match self.database.run::<Row>(statement, &Keys { keys: part }).await {
                Ok(ran) => rows.extend(ran.rows),
                Err(failure) if part.len() > 1 && failure.is_too_large() => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first, second]);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(rows)
    }

    /// What there is of each key, as `read` reads it.
    fn each_by<'a, R: Send + 'static>(
        &'a self,
        statement: &'static Statement,
        keys: Vec<String>,
        read: impl Fn(&Row) -> Result<R, Error> + Send + 'a,
    ) -> Answer<'a, Vec<Option<R>>> {
        if keys.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        Answer::coming(async move {
            let rows = self.rows(statement, &keys).await?;
            let found: HashMap<&str, &Row> = rows.iter().map(|row| (row.key.as_str(), row)).collect();
            keys.iter().map(|key| found.get(key.as_str()).map(|row| read(row)).transpose()).collect()
        })
    }

    /// What there is of each key.
    fn each<'a, D, R>(
        &'a self,
        statement: &'static Statement,
        collection: &'static str,
        keys: Vec<String>,
    ) -> Answer<'a, Vec<Option<R>>>
    where
        D: DeserializeOwned,
        R: TryFrom<D, Error: Display> + Send + 'static,
    {
        self.each_by(statement, keys, move |row| row.read::<D, R>(collection))
    }

    /// What there is of each job.
    fn each_job<'a, R: Send + 'static>(
        &'a self,
        statement: &'static Statement,
        ids: &[JobId],
        record: fn(JobDocument) -> Result<R, Error>,
    ) -> Answer<'a, Vec<Option<R>>> {
        self.each_by(statement, texts(ids), move |row| record(row.read::<JobDocument, JobDocument>("Jobs")?))
    }

    /// What there is of each job: what is known already, and else what is read.
    fn or_recent<'a, R: Send + 'static>(
        &'a self,
        ids: &[JobId],
        mut known: Vec<Option<R>>,
        read: impl FnOnce(&[JobId]) -> Answer<'a, Vec<Option<R>>>,
    ) -> Answer<'a, Vec<Option<R>>> {
        let unknown = |(id, known): (&JobId, &Option<R>)| known.is_none().then_some(*id);
        let ids: Vec<JobId> = ids.iter().zip(&known).filter_map(unknown).collect();
        if ids.is_empty() {
            return Answer::ready(self.lease.check().map(|()| known));
        }
        let read = read(&ids);
        Answer::coming(async move {
            let places = known.iter_mut().filter(|known| known.is_none());
            for (place, read) in places.zip(read.await?) {
                *place = read;
            }
            Ok(known)
        })
    }

    /// Reads a page of a list.
    fn page<'a, R: Send + 'static>(
        &'a self,
        statement: &'static Statement,
        variables: serde_json::Value,
        read: impl Fn(&Row) -> Result<R, Error> + Send + 'a,
    ) -> Answer<'a, Vec<R>> {
        Answer::coming(async move {
            let rows = self.read::<Row>(statement, &variables).await?;
            rows.iter().map(read).collect()
        })
    }

    /// Reads keys in ranges.
    fn keys_in<'a, R: Send + 'static>(
        &'a self,
        statement: &'static Statement,
        ranges: Vec<Range>,
        limit: usize,
        read: impl Fn(&str) -> Result<R, Error> + Send + 'a,
    ) -> Answer<'a, Vec<R>> {
        if ranges.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        let variables = Ranges { ranges, limit: limited(limit) };
        Answer::coming(async move {
            let keys = self.read::<String>(statement, &variables).await?;
            keys.iter().map(|key| read(key)).collect()
        })
    }
}

fn texts(ids: &[impl Display]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn returned(row: &Row) -> Result<Bytes, Error> {
    let Returned { outputs, results } = row.read::<Returned, Returned>("Jobs")?;
    let job = row.key.parse().map_err(|error| row.damaged("Jobs", &error))?;
    read_outputs(job, outputs.as_deref(), results)
}

fn edge_of(key: &str) -> Result<Edge, Error> {
    let ends = key.split_once('.').and_then(|(job, dependent)| {
        Some(Edge { job: job.parse().ok()?, dependent: dependent.parse().ok()? })
    });
    ends.ok_or_else(|| Error::Damaged { what: format!("document JobToJob/{key}: the key has no two ids") })
}

fn use_of(key: &str) -> Result<BlobUse, Error> {
    use_of_key(key).ok_or_else(|| Error::Damaged {
        what: format!("document BrokerRecords/{key}: the key is not that of a use of a blob"),
    })
}

/// The bytes of a place in a list.
pub(super) fn place(row: &Row, collection: &str) -> Result<Vec<u8>, Error> {
    key::from_hex(&row.at).ok_or_else(|| row.damaged(collection, &"its place is not in hexadecimal digits"))
}

fn occurrence(row: &Row) -> Result<(u64, OccurrenceRecord), Error> {
    row.read::<OccurrenceDocument, (u64, OccurrenceRecord)>("JobFailures")
}

impl Reads for ArangoStore {
    fn specs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<SpecRecord>>> {
        self.or_recent(ids, self.recent.specs(ids), |ids| self.each_job(&SPECS, ids, JobDocument::spec))
    }

    fn outlines<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Outline>>> {
        self.each_job(&OUTLINES, ids, JobDocument::outline)
    }

    fn unfinished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<LiveJob>>> {
        self.each_job(&UNFINISHED, ids, JobDocument::live)
    }

    fn finished<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<FinishedRecord>>> {
        self.each_job(&FINISHED, ids, JobDocument::finished)
    }

    fn outputs<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.or_recent(ids, self.recent.outputs(ids), |ids| self.each_by(&OUTPUTS, texts(ids), returned))
    }

    fn list_finished<'a>(&'a self, query: &'a FinishedQuery) -> Answer<'a, FinishedPage> {
        Answer::coming(self.finished_page(query))
    }

    fn dependents<'a>(
        &'a self,
        jobs: &'a [JobId],
        after: Option<Edge>,
        limit: usize,
    ) -> Answer<'a, Vec<Edge>> {
        let after = after.map(|after| (after.job, key::join(&[&after.job, &after.dependent])));
        let ranges = ranges(jobs, |job| format!("{job}."), after.as_ref());
        self.keys_in(&DEPENDENTS, ranges, limit, edge_of)
    }

    fn flows<'a>(&'a self, ids: &'a [FlowId]) -> Answer<'a, Vec<Option<FlowRecord>>> {
        self.each::<FlowDocument, _>(&FLOWS, "Flows", texts(ids))
    }

    fn flow_named<'a>(&'a self, name: &'a str) -> Answer<'a, Option<FlowRecord>> {
        Answer::coming(self.newest_flow_named(name))
    }

    fn list_flows<'a>(&'a self, query: &'a FlowQuery) -> Answer<'a, FlowPage> {
        Answer::coming(self.flow_page(query))
    }

    fn submissions<'a>(&'a self, ids: &'a [SubmissionId]) -> Answer<'a, Vec<Option<SubmissionRecord>>> {
        let keys = ids.iter().map(|id| record_key(SUBMISSION, id)).collect();
        self.each::<SubmissionDocument, _>(&SUBMISSIONS, "BrokerRecords", keys)
    }

    fn list_submissions(
        &self,
        after: Option<SubmissionId>,
        limit: usize,
    ) -> Answer<'_, Vec<SubmissionRecord>> {
        let after = after.map_or_else(|| format!("{SUBMISSION}."), |after| record_key(SUBMISSION, &after));
        let end = format!("{SUBMISSION}.{BEHIND_DIGITS}");
        let variables = json!({ "after": after, "end": end, "limit": limited(limit) });
        self.page(&SUBMISSIONS_LISTED, variables, |row| {
            row.read::<SubmissionDocument, SubmissionRecord>("BrokerRecords")
        })
    }

    fn elves<'a>(&'a self, names: &'a [Arc<str>]) -> Answer<'a, Vec<Option<ElfRecord>>> {
        let keys = names.iter().map(|name| key::of_name(name)).collect();
        self.each::<ElfDocument, _>(&ELVES, "MachineElves", keys)
    }

    fn list_elves<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<ElfRecord>> {
        let after = after.map(|name| key::hex(name.as_bytes())).unwrap_or_default();
        self.page(&ELVES_LISTED, json!({ "after": after, "limit": limited(limit) }), |row| {
            row.read::<ElfDocument, ElfRecord>("MachineElves")
        })
    }

    fn revisions<'a>(&'a self, named: &'a [RevisionKey]) -> Answer<'a, Vec<Option<RevisionRecord>>> {
        let keys = named.iter().map(|(elf, task, revision)| revision_key(elf, task, *revision)).collect();
        self.each::<RevisionDocument, _>(&REVISIONS, "MachineElvesRevisions", keys)
    }

    fn list_revisions<'a>(
        &'a self,
        elf: &'a str,
        after: Option<&'a RevisionCursor>,
        limit: usize,
    ) -> Answer<'a, Vec<(RevisionCursor, RevisionRecord)>> {
        const COLLECTION: &str = "MachineElvesRevisions";
        let after = after.map(|RevisionCursor(place)| key::hex(place)).unwrap_or_default();
        let elf = key::hex(elf.as_bytes());
        let variables = json!({ "elf": elf, "after": after, "limit": limited(limit) });
        self.page(&REVISIONS_LISTED, variables, |row| {
            let record = row.read::<RevisionDocument, RevisionRecord>(COLLECTION)?;
            Ok((RevisionCursor(place(row, COLLECTION)?), record))
        })
    }

    fn failures<'a>(&'a self, ids: &'a [FailureId]) -> Answer<'a, Vec<Option<FailureRecord>>> {
        self.each::<FailureDocument, _>(&FAILURES, "Failures", texts(ids))
    }

    fn list_failures<'a>(
        &'a self,
        after: Option<&'a FailureCursor>,
        limit: usize,
    ) -> Answer<'a, Listed<(FailureCursor, FailureRecord)>> {
        let after = after.map(|FailureCursor(place)| key::hex(place)).unwrap_or_default();
        let variables = |after: &str, limit| json!({ "after": after, "limit": limit });
        let read = |row: &Row| {
            let record = row.read::<FailureDocument, FailureRecord>("Failures")?;
            Ok((FailureCursor(place(row, "Failures")?), record))
        };
        Answer::coming(self.listed(&FAILURES_LISTED, after, limit, variables, read))
    }

    fn occurrences_of<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
    ) -> Answer<'a, Vec<Option<OccurrenceRecord>>> {
        if of.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        let pairs = of
            .iter()
            .map(|(failure, job)| json!({ "job": format!("Jobs/{job}"), "failure": failure.to_string() }));
        let variables = json!({ "pairs": pairs.collect::<Vec<_>>() });
        Answer::coming(async move {
            let rows = self.read::<Option<Row>>(&OCCURRENCES_OF, &variables).await?;
            let record = |row: &Option<Row>| row.as_ref().map(|row| Ok(occurrence(row)?.1)).transpose();
            rows.iter().map(record).collect()
        })
    }

    fn occurrences_in<'a>(
        &'a self,
        of: &'a [(FailureId, JobId)],
        limit: usize,
    ) -> Answer<'a, Vec<(FailureId, JobId, u64)>> {
        #[derive(serde::Deserialize)]
        struct Named {
            failure: Text<FailureId>,
            job: Text<JobId>,
            #[serde(with = "count")]
            number: u64,
        }
        if of.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        let pairs = of
            .iter()
            .map(|(failure, job)| json!({ "job": format!("Jobs/{job}"), "failure": failure.to_string() }));
        let variables = json!({ "pairs": pairs.collect::<Vec<_>>(), "limit": limited(limit) });
        Answer::coming(async move {
            let rows = self.read::<Named>(&OCCURRENCES_IN, &variables).await?;
            Ok(rows.into_iter().map(|row| (row.failure.0, row.job.0, row.number)).collect())
        })
    }

    fn list_occurrences(
        &self,
        id: FailureId,
        after: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<(u64, OccurrenceRecord)>> {
        let before = after.unwrap_or(NUMBERS_END).min(NUMBERS_END);
        let failure = format!("Failures/{id}");
        let variables = json!({ "failure": failure, "before": before, "limit": limited(limit) });
        self.page(&OCCURRENCES_LISTED, variables, occurrence)
    }

    fn blob_uses<'a>(
        &'a self,
        blobs: &'a [BlobDigest],
        after: Option<BlobUse>,
        limit: usize,
    ) -> Answer<'a, Vec<BlobUse>> {
        let after = after.map(|after| (after.blob, use_key(&after)));
        let ranges = ranges(blobs, |blob| format!("{USE}.{blob}."), after.as_ref());
        self.keys_in(&BLOB_USES, ranges, limit, use_of)
    }

    fn list_blob_uses(&self, after: Option<BlobUse>, limit: usize) -> Answer<'_, Vec<BlobUse>> {
        let after = after.map_or_else(|| format!("{USE}."), |after| use_key(&after));
        let all = Range { after, end: format!("{USE}.{BEHIND_DIGITS}") };
        self.keys_in(&BLOB_USES, vec![all], limit, use_of)
    }

    fn checkpoints<'a>(&'a self, jobs: &'a [JobId]) -> Answer<'a, Vec<Option<CheckpointRecord>>> {
        let keys = jobs.iter().map(|job| record_key(CHECKPOINT, job)).collect();
        self.each::<CheckpointDocument, _>(&CHECKPOINTS, "BrokerRecords", keys)
    }

    fn list_checkpoints(&self, after: Option<JobId>, limit: usize) -> Answer<'_, Vec<JobId>> {
        let after = after.map_or_else(|| format!("{CHECKPOINT}."), |after| record_key(CHECKPOINT, &after));
        let end = format!("{CHECKPOINT}.{BEHIND_DIGITS}");
        let variables = json!({ "after": after, "end": end, "limit": limited(limit) });
        Answer::coming(async move {
            let keys = self.read::<String>(&CHECKPOINTS_LISTED, &variables).await?;
            let job = |key: &String| key.split_once('.').and_then(|(_, job)| job.parse().ok());
            let damaged = |key: &String| Error::Damaged {
                what: format!("document BrokerRecords/{key}: the key is not that of a checkpoint"),
            };
            keys.iter().map(|key| job(key).ok_or_else(|| damaged(key))).collect()
        })
    }
}
