//! What is deleted is removed at once, by statements of its own before that of its batch: a commit cannot write a collection
//! twice, and that a job is deleted need not be stored with anything else.

use std::sync::Arc;

use serde::Serialize;

use super::client::{Database, Ran};
use super::documents::elves::revision_key;
use super::documents::jobs::StubUpdate;
use super::documents::key;
use super::documents::records::label_keys;
use super::documents::text::Text;
use super::documents::time::Date;
use super::statements::{ERASE, STUB, Statement};
use crate::store::{Batch, Error, SweptElf};
use mycelium_core::ids::{FailureId, FlowId, JobId, Revision, Timestamp};

#[derive(Serialize)]
struct Erase {
    epoch: u64,
    jobs: Vec<Text<JobId>>,
    flows: Vec<Text<FlowId>>,
    /// What leads to the flows.
    records: Vec<String>,
    /// The keys of occurrences.
    occurrences: Vec<String>,
    failures: Vec<Over>,
    elves: Vec<Swept>,
    revisions: Vec<SweptRevision>,
}

/// An elf of which something goes, if it was last seen then.
#[derive(Serialize)]
struct Swept {
    key: String,
    seen: Date,
    whole: bool,
}

/// A revision of an elf, with the key of that.
#[derive(Serialize)]
struct SweptRevision {
    key: String,
    elf: String,
}

/// A failure of which no occurrence is left.
#[derive(Serialize)]
struct Over {
    key: Text<FailureId>,
    /// How often it was seen.
    n: u64,
}

#[derive(Serialize)]
struct Stub<'a> {
    epoch: u64,
    stubs: Vec<StubUpdate<'a>>,
}

/// Removes what a batch deletes, and says whether that was anything. May be done twice.
///
/// # Errors
/// [`Error::Fenced`] if the mycelium is no longer that of `epoch`; [`Error::Unavailable`], not certain of anything.
pub(super) async fn erase(database: &Database, epoch: u64, batch: &Batch) -> Result<bool, Error> {
    let stubs: Vec<StubUpdate<'_>> = batch.erased.iter().filter_map(StubUpdate::of).collect();
    let are_stubs = !stubs.is_empty();
    if are_stubs {
        run(database, epoch, &STUB, &Stub { epoch, stubs }).await?;
    }
    let whole = batch.erased.iter().filter(|erased| erased.stub.is_none());
    let jobs: Vec<Text<JobId>> = whole.map(|erased| Text(erased.head.id)).collect();
    let removed = &batch.records.flows_removed;
    let occurrences = &batch.occurrences_removed;
    let occurrences: Vec<String> =
        occurrences.iter().map(|(failure, _, number)| format!("{failure}.{number}")).collect();
    let failures = batch.failures_removed.iter();
    let failures: Vec<Over> = failures.map(|(failure, n)| Over { key: Text(*failure), n: *n }).collect();
    // One that connects with this batch is back.
    let is_back = |name: &str| batch.elves.iter().any(|elf| &*elf.name == name);
    let swept = || batch.elves_swept.iter().filter(|swept| !is_back(&swept.name));
    let elves: Vec<Swept> = swept().map(Swept::of).collect();
    if jobs.is_empty()
        && removed.is_empty()
        && occurrences.is_empty()
        && failures.is_empty()
        && elves.is_empty()
    {
        return Ok(are_stubs);
    }
    let revisions = swept().flat_map(SweptRevision::all_of).collect();
    let flows = removed.iter().map(|flow| Text(flow.id)).collect();
    let records = removed.iter().flat_map(label_keys).collect();
    run(
        database,
        epoch,
        &ERASE,
        &Erase { epoch, jobs, flows, records, occurrences, failures, elves, revisions },
    )
    .await?;
    Ok(true)
}

impl Swept {
    fn of(swept: &SweptElf) -> Self {
        Self { key: key::of_name(&swept.name), seen: Date(swept.last_seen), whole: swept.whole }
    }
}

impl SweptRevision {
    fn all_of(swept: &SweptElf) -> impl Iterator<Item = Self> {
        let of = |(task, revision, _): &(Arc<str>, Revision, Timestamp)| Self {
            key: revision_key(&swept.name, task, *revision),
            elf: key::of_name(&swept.name),
        };
        swept.revisions.iter().map(of)
    }
}

async fn run(
    database: &Database,
    epoch: u64,
    statement: &Statement,
    variables: &impl Serialize,
) -> Result<(), Error> {
    match database.run::<bool>(statement, variables).await {
        Ok(Ran { rows, .. }) if rows.first() == Some(&true) => Ok(()),
        Ok(_) => Err(Error::Fenced {
            what: format!("the database {} has a newer lease than {epoch}", database.name()),
        }),
        Err(failure) => Err(uncertain(failure.into())),
    }
}

/// The error, not certain of anything: something may have been removed.
pub(super) fn uncertain(error: Error) -> Error {
    match error {
        Error::Unavailable { what, source, .. } => {
            Error::Unavailable { what, certainly_not_applied: false, source }
        }
        other => other,
    }
}
