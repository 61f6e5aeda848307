//! Removes revisions of elves and tasks that nothing refers to any more, and elves that nobody serves and nobody has jobs of.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mycelium_core::ids::{Revision, SessionId, Timestamp};
use mycelium_proto::v1;
use tokio_util::sync::CancellationToken;

use super::super::handle::Handle;
use super::super::message::{Beside, CallError};
use crate::documents::Declaration;
use crate::report::Report;
use crate::store::{ElfRecord, FinishedQuery, SweptElf, attempts_of};

/// As many elves, or revisions, are read at once. They come to 2 MiB each at the most.
const RECORDS_AT_ONCE: usize = 8;
/// As many jobs are looked at at once.
const JOBS_AT_ONCE: usize = 1_000;
/// As many revisions are looked for at once, and removed.
const REVISIONS_AT_ONCE: usize = 1_000;

/// Revisions that nothing is known to refer to, by task, and when they were first seen.
type Unused = BTreeMap<(Arc<str>, Revision), Timestamp>;

/// What is known of an elf beside its finished jobs.
struct Served {
    /// The revisions that it declares, and those that processes serve.
    revisions: HashSet<Revision>,
    /// Whether it has processes or unfinished jobs.
    is_alive: bool,
}

/// Looks at all elves. What connected after `before`, or was first seen after it, stays.
pub(super) async fn sweep_elves(
    handle: &Handle,
    stop: &CancellationToken,
    before: Timestamp,
) -> Result<(), CallError> {
    let mut after: Option<Arc<str>> = None;
    loop {
        let elves = handle.store().list_elves(after.as_deref(), RECORDS_AT_ONCE).await?;
        let Some(last) = elves.last() else { return Ok(()) };
        after = Some(Arc::clone(&last.name));
        for elf in elves {
            if stop.is_cancelled() {
                return Ok(());
            }
            match sweep_elf(handle, &elf, before).await {
                Err(error) if error.is_damage() => {
                    let error = Report(&error);
                    tracing::error!(elf = &*elf.name, %error, "an elf stays of which not all can be read");
                }
                swept => swept?,
            }
        }
    }
}

async fn sweep_elf(handle: &Handle, elf: &ElfRecord, before: Timestamp) -> Result<(), CallError> {
    // First: whoever comes after this changes the record, and whoever was there declares what its attempts were of.
    let Some(Served { revisions: served, is_alive }) = served(handle, elf).await? else { return Ok(()) };
    let of_elf = FinishedQuery { elf: Some(elf.name.to_string()), limit: 1, ..FinishedQuery::default() };
    let has_jobs = is_alive || {
        let page = handle.store().list_finished(&of_elf).await?;
        !page.jobs.is_empty() || !page.damaged.is_empty()
    };
    let whole = !has_jobs && elf.last_seen <= before;
    let (mut unused, mut after) = (BTreeMap::new(), None);
    loop {
        let page = handle.store().list_revisions(&elf.name, after.as_ref(), RECORDS_AT_ONCE).await?;
        let is_last = page.len() < RECORDS_AT_ONCE;
        for (place, record) in page {
            if whole || (record.first_seen <= before && !served.contains(&record.revision)) {
                unused.insert((record.task, record.revision), record.first_seen);
            }
            after = Some(place);
        }
        if is_last || unused.len() >= REVISIONS_AT_ONCE {
            let mut unused = std::mem::take(&mut unused);
            if has_jobs && !unused.is_empty() {
                keep_tried(handle, &mut unused).await?;
                keep_what_finished_jobs_name(handle, &of_elf, &mut unused).await?;
                // A finished job that was retried meanwhile may have been in neither place.
                keep_tried(handle, &mut unused).await?;
            }
            remove(handle, elf, unused, whole && is_last).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Removes revisions of an elf, and itself with the last of them.
async fn remove(handle: &Handle, elf: &ElfRecord, unused: Unused, whole: bool) -> Result<(), CallError> {
    if unused.is_empty() && !whole {
        return Ok(());
    }
    let revisions: Vec<_> =
        unused.into_iter().map(|((task, revision), first_seen)| (task, revision, first_seen)).collect();
    let n_revisions = revisions.len();
    let swept = SweptElf { name: Arc::clone(&elf.name), last_seen: elf.last_seen, revisions, whole };
    handle.put_aside(Beside { elves_swept: vec![swept], ..Beside::default() }).await?;
    if whole && handle.store().elves(&[Arc::clone(&elf.name)]).await?.iter().all(Option::is_none) {
        handle.registry().forget(&elf.name);
        handle.processes().forget(&elf.name);
    }
    let elf = &*elf.name;
    tracing::info!(
        elf,
        revisions = n_revisions,
        whole,
        "what nothing refers to any more of an elf is deleted"
    );
    Ok(())
}

/// What is declared of an elf, and by whom it is served; `None` if that is not known now.
async fn served(handle: &Handle, elf: &ElfRecord) -> Result<Option<Served>, CallError> {
    let declared = v1::ElfDeclaration::from(Declaration::decode(&elf.name, elf.body.clone())?);
    let of_tasks = declared.tasks.iter().map(|task| &task.revision);
    let mut revisions: HashSet<Revision> =
        of_tasks.chain([&declared.revision]).filter_map(|digest| Revision::from_slice(digest)).collect();
    let name = Arc::clone(&elf.name);
    let view = handle.query(move |core, _| core.elf(&name)).await?;
    let is_alive = view.is_some();
    let sessions: Vec<SessionId> =
        view.into_iter().flat_map(|view| view.instances).map(|instance| instance.session).collect();
    // Of sessions from before the broker began nobody knows what they serve until they are heard.
    if handle.registry().standing(&elf.name).may_be_others() {
        return Ok(None);
    }
    for session in sessions {
        let process = handle.processes().get(session);
        let Some(version) = process.as_ref().and_then(|process| process.elves.get(&elf.name)) else {
            return Ok(None);
        };
        revisions.insert(version.revision);
        revisions.extend(version.tasks.values().map(|(revision, _)| *revision));
    }
    Ok(Some(Served { revisions, is_alive }))
}

/// Takes out what attempts of unfinished jobs were of.
async fn keep_tried(handle: &Handle, unused: &mut Unused) -> Result<(), CallError> {
    let mut after = None;
    while !unused.is_empty() {
        let (tried, next) = handle.query(move |core, _| core.revisions_tried(after, JOBS_AT_ONCE)).await?;
        unused.retain(|(_, revision), _| !tried.contains(revision));
        match next {
            None => break,
            next => after = next,
        }
    }
    Ok(())
}

/// Takes out what attempts of finished jobs were of; all, if some of these cannot be read.
async fn keep_what_finished_jobs_name(
    handle: &Handle,
    of_elf: &FinishedQuery,
    unused: &mut Unused,
) -> Result<(), CallError> {
    let mut query = FinishedQuery { limit: JOBS_AT_ONCE, ..of_elf.clone() };
    while !unused.is_empty() {
        let page = handle.store().list_finished(&query).await?;
        if !page.damaged.is_empty() {
            unused.clear();
        }
        let attempts = page.jobs.iter().flat_map(attempts_of);
        let named: HashSet<Revision> = attempts.map(|attempt| attempt.held.revision).collect();
        unused.retain(|(_, revision), _| !named.contains(revision));
        match page.next {
            None => break,
            next => query.after = next,
        }
    }
    Ok(())
}
