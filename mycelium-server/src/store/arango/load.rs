//! What a scheduler is rebuilt from: the unfinished jobs, page by page, and what goes with them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use mycelium_core::ids::{Commit, FlowId, SubmissionId};
use mycelium_core::image::{
    ActionRecord, Counters, DeletionRecord, Image, LiveJob, PauseRecord, PropagationRecord, SessionRecord,
};
use mycelium_core::policy::PolicyRecord;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ArangoStore;
use super::client::Ran;
use super::documents::jobs::JobDocument;
use super::documents::operators::{ActionDocument, PauseDocument};
use super::documents::records::{
    CountersDocument, DeletionDocument, PolicyDocument, PropagationDocument, SessionDocument,
};
use super::statements::{COUNTERS, LOAD_JOBS, LOAD_RECORDS};
use crate::store::names::Names;
use crate::store::{Error, Reads as _};

/// As many jobs are read at once.
const PAGE: usize = 1_000;
/// As many flows or submissions are read at once.
const KEYS: usize = 1_000;

#[derive(Serialize)]
struct Page<'a> {
    after: &'a str,
    n: usize,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "_key")]
    key: &'a str,
    kind: &'a str,
}

#[derive(Deserialize)]
struct Place {
    ord: String,
}

#[derive(Serialize)]
struct Nothing {}

impl ArangoStore {
    /// Reads all that [`Log::load`](crate::store::Log::load) has to, of a mycelium that is ours.
    pub(super) async fn read_image(&self, each: &mut (dyn FnMut(LiveJob) + Send)) -> Result<Image, Error> {
        let mut image = Image { counters: self.read_counters().await?, ..Image::default() };
        let (flows, submissions) = self.read_jobs(each).await?;
        self.read_records(&mut image).await?;
        for ids in flows.into_iter().collect::<Vec<_>>().chunks(KEYS) {
            for (id, flow) in ids.iter().zip(self.flows(ids).await?) {
                let missing = || Error::Damaged { what: format!("document Flows/{id} is missing") };
                image.flows.push(flow.ok_or_else(missing)?);
            }
        }
        for ids in submissions.into_iter().collect::<Vec<_>>().chunks(KEYS) {
            // One that is not there was being dropped.
            image.submissions.extend(self.submissions(ids).await?.into_iter().flatten());
        }
        Ok(image)
    }

    /// The numbers that only rise. They were stored by the newest commit, if there was any.
    async fn read_counters(&self) -> Result<Counters, Error> {
        let newest = Commit(self.newest.load(Ordering::Acquire));
        let Ran { mut rows, .. } = self.database.run::<Box<RawValue>>(&COUNTERS, &Nothing {}).await?;
        let damaged = |why: &dyn std::fmt::Display| Error::Damaged {
            what: format!("document BrokerRecords/counters: {why}"),
        };
        let counters: Counters = match rows.pop() {
            // None was written yet.
            Some(_) | None if newest == Commit(0) => return Ok(Counters::default()),
            Some(row) => {
                serde_json::from_str::<CountersDocument>(row.get()).map_err(|error| damaged(&error))?.into()
            }
            None => Counters::default(),
        };
        if counters.commit != newest {
            let why = format!("it is of commit {}, and the newest is {newest}", counters.commit);
            return Err(damaged(&why));
        }
        Ok(counters)
    }

    async fn read_jobs(
        &self,
        each: &mut (dyn FnMut(LiveJob) + Send),
    ) -> Result<(BTreeSet<FlowId>, BTreeSet<SubmissionId>), Error> {
        let (mut flows, mut submissions) = (BTreeSet::new(), BTreeSet::new());
        let mut names = Names::default();
        let (mut after, mut n) = (String::new(), PAGE);
        loop {
            let page = Page { after: &after, n };
            let rows = match self.database.scan::<Box<RawValue>>(&LOAD_JOBS, &page).await {
                Ok(Ran { rows, .. }) => rows,
                // Jobs can wait for many others.
                Err(failure) if failure.is_too_large() && n > 1 => {
                    n /= 4;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            let is_last = rows.len() < n;
            for row in rows {
                let damaged =
                    |error| Error::Damaged { what: format!("a document of Jobs cannot be read: {error}") };
                let document: JobDocument = serde_json::from_str(row.get()).map_err(damaged)?;
                let Place { ord } = serde_json::from_str(row.get()).map_err(damaged)?;
                after = ord;
                let mut job = document.live()?;
                names.share(&mut job.head.elf);
                names.share(&mut job.head.task);
                flows.insert(job.head.flow);
                submissions.extend(job.submission);
                each(job);
            }
            if is_last {
                return Ok((flows, submissions));
            }
        }
    }

    async fn read_records(&self, image: &mut Image) -> Result<(), Error> {
        let Ran { rows, .. } = self.database.scan::<Box<RawValue>>(&LOAD_RECORDS, &Nothing {}).await?;
        for row in rows {
            let unreadable = |error| Error::Damaged {
                what: format!("a document of BrokerRecords cannot be read: {error}"),
            };
            let Kind { key, kind } = serde_json::from_str(row.get()).map_err(unreadable)?;
            let damaged = |why: &dyn std::fmt::Display| Error::Damaged {
                what: format!("document BrokerRecords/{key}: {why}"),
            };
            match kind {
                "session" => {
                    let document: SessionDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.sessions.push(SessionRecord::try_from(document).map_err(|why| damaged(&why))?);
                }
                "propagation" => {
                    let document: PropagationDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.propagations.push(PropagationRecord::from(document));
                }
                "policy" => {
                    let document: PolicyDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.policies.push(PolicyRecord::from(document));
                }
                "deletion" => {
                    let document: DeletionDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.deletions.push(DeletionRecord::from(document));
                }
                "action" => {
                    let document: ActionDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.actions.push(ActionRecord::try_from(document).map_err(|why| damaged(&why))?);
                }
                "pause" => {
                    let document: PauseDocument =
                        serde_json::from_str(row.get()).map_err(|error| damaged(&error))?;
                    image.pauses.push(PauseRecord::try_from(document).map_err(|why| damaged(&why))?);
                }
                kind => return Err(damaged(&format!("a start knows nothing of the kind `{kind}`"))),
            }
        }
        Ok(())
    }
}
