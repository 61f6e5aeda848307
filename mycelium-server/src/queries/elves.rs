//! Elves and their revisions, one by one and in pages.

use std::sync::Arc;

use mycelium_core::ids::{Revision, Timestamp};
use mycelium_core::image::{PauseRecord, PauseTarget};
use mycelium_core::{ElfView, InstanceView};
use mycelium_proto::limits::{self, PAGE_BYTES_MAX};

use super::page::{self, Filled, Page, PageOf, Weigh, invalid_token};
use crate::broker::{CallError, Handle, Process};
use crate::documents::{Declaration, RevisionDocument};
use crate::error::Error;
use crate::store::{ElfRecord, RevisionCursor, RevisionRecord};

/// The most bytes of one elf in a list, and of a page of them with their instances.
const LISTED_BYTES_MAX: usize = PAGE_BYTES_MAX;
/// The most bytes of the declaration of one elf by itself. One that is taken now is smaller.
const SHOWN_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How many elves, or revisions, are read at once. They come to 2 MiB each at the most.
const LISTED_AT_ONCE: usize = 8;
/// The most instances that are shown of one elf in a list, and of one by itself.
const INSTANCES_LISTED_MAX: usize = 100;
const INSTANCES_SHOWN_MAX: usize = 1_000;
/// The most that an elf takes in an answer beside its declaration and its instances, and an instance beside its host.
const ELF_BYTES: usize = 108;
const INSTANCE_BYTES: usize = 98;
/// The most pauses that are shown of an elf, and what one takes at most beside who said it and why.
const PAUSES_SHOWN_MAX: usize = 100;
const PAUSE_BYTES: usize = 2 * limits::NAME_BYTES_MAX + 64;
/// The kinds of the tokens of pages: of elves, and of revisions.
const ELVES: char = 'e';
const REVISIONS: char = 'r';

/// An elf as it described itself, and what is known of it now.
#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) declaration: Declaration,
    /// Whether something was left out of the declaration because it takes too many bytes.
    pub(crate) truncated: bool,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    pub(crate) jobs_ready: u64,
    pub(crate) jobs_assigned: u64,
    pub(crate) jobs_running: u64,
    /// The first of the sessions that serve it.
    pub(crate) instances: Vec<Instance>,
    pub(crate) instances_total: usize,
    /// What keeps jobs of it from being assigned, the widest first.
    pub(crate) pauses: Vec<PauseRecord>,
}

/// A session that serves an elf.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) view: InstanceView,
    /// Its process, if that is known.
    pub(crate) process: Option<Process>,
    /// The revision of the elf that it serves, if that is known.
    pub(crate) revision: Option<Revision>,
    /// How that differs from what was declared last, for people.
    pub(crate) differences: Vec<String>,
}

impl Weigh for Instance {
    fn bytes(&self) -> usize {
        let host = self.process.as_ref().map_or(0, |process| process.host.len() + process.build.len() + 3);
        INSTANCE_BYTES + host + self.differences.iter().map(|text| text.len() + 3).sum::<usize>()
    }
}

impl Weigh for Elf {
    fn bytes(&self) -> usize {
        let instances = self.instances.iter().map(Weigh::bytes);
        let pauses = self.pauses.iter().map(|pause| PAUSE_BYTES + pause.by.len() + pause.reason.len());
        ELF_BYTES + self.declaration.encoded_len() + instances.sum::<usize>() + pauses.sum::<usize>()
    }
}

/// A revision of an elf or a task.
#[derive(Debug)]
pub(crate) struct RevisionView {
    /// Its documentation, signature and source.
    pub(crate) document: RevisionDocument,
    pub(crate) first_seen: Timestamp,
}

impl Weigh for RevisionView {
    fn bytes(&self) -> usize {
        self.document.encoded_len() + 24
    }
}

/// A page of the elves, by name, without their sources.
pub(crate) async fn elves(handle: &Handle, page: &PageOf) -> Result<Page<Elf>, Error> {
    let after = match page::read(&page.token, &[ELVES])? {
        None => None,
        Some((_, bytes)) => Some(String::from_utf8(bytes).map_err(|_| invalid_token())?),
    };
    let read = |after: Option<Arc<str>>, n| async move {
        let records = handle.store().list_elves(after.as_deref(), n).await?;
        let placed = records.into_iter().map(|record| (Arc::clone(&record.name), record));
        Ok(placed.collect::<Vec<_>>().into())
    };
    let entry = |record: ElfRecord| {
        let mut declaration = declaration_of(&record)?;
        declaration.leave_out_sources();
        Ok(elf_of(&record, declaration, LISTED_BYTES_MAX))
    };
    let after = after.map(Arc::from);
    let Filled { entries: mut elves, mut next, .. } =
        page::fill(page.limit(), LISTED_AT_ONCE, after, read, entry).await?;
    add_instances(handle, &mut elves, INSTANCES_LISTED_MAX).await?;
    let n_fit = page::fitting(&elves, LISTED_BYTES_MAX);
    if n_fit < elves.len() {
        elves.truncate(n_fit);
        next = elves.last().map(|last| Arc::from(last.declaration.name()));
    }
    let next = next.map(|last| page::token(ELVES, last.as_bytes())).unwrap_or_default();
    Ok(Page { entries: elves, next, unreadable: 0 })
}

/// An elf.
pub(crate) async fn elf(handle: &Handle, name: String) -> Result<Elf, CallError> {
    let record = handle.store().elves(&[Arc::from(name.as_str())]).await?.pop().flatten();
    let record = record.ok_or(CallError::ElfNotFound(name))?;
    let mut elf = elf_of(&record, declaration_of(&record)?, SHOWN_BYTES_MAX);
    add_instances(handle, std::slice::from_mut(&mut elf), INSTANCES_SHOWN_MAX).await?;
    Ok(elf)
}

fn declaration_of(record: &ElfRecord) -> Result<Declaration, CallError> {
    Ok(Declaration::decode(&record.name, record.body.clone())?)
}

/// An elf as it described itself, in at most so many bytes.
fn elf_of(record: &ElfRecord, mut declaration: Declaration, bytes_max: usize) -> Elf {
    let truncated = declaration.cut(bytes_max);
    Elf {
        declaration,
        truncated,
        first_seen: record.first_seen,
        last_seen: record.last_seen,
        jobs_ready: 0,
        jobs_assigned: 0,
        jobs_running: 0,
        instances: Vec::new(),
        instances_total: 0,
        pauses: Vec::new(),
    }
}

/// Adds to each elf what the core knows of it, with at most so many instances.
async fn add_instances(handle: &Handle, elves: &mut [Elf], max: usize) -> Result<(), CallError> {
    let names: Vec<String> = elves.iter().map(|elf| elf.declaration.name().to_owned()).collect();
    let views = handle.query(move |core, _| {
        let cut = |mut view: ElfView| {
            let total = view.instances.len();
            view.instances.truncate(max);
            (view, total)
        };
        let pauses = core.pauses();
        let of = |name: &String| {
            let keeps = |pause: &&PauseRecord| match &pause.target {
                PauseTarget::Mycelium => true,
                PauseTarget::Elf(elf) | PauseTarget::Task { elf, .. } => **elf == **name,
                PauseTarget::Flow(_) => false,
            };
            let pauses: Vec<PauseRecord> =
                pauses.iter().filter(keeps).take(PAUSES_SHOWN_MAX).cloned().collect();
            (core.elf(name).map(cut), pauses)
        };
        names.iter().map(of).collect::<Vec<_>>()
    });
    for (elf, (view, pauses)) in elves.iter_mut().zip(views.await?) {
        elf.pauses = pauses;
        let Some((view, total)) = view else { continue };
        elf.jobs_ready = view.ready;
        elf.jobs_assigned = view.assigned;
        elf.jobs_running = view.running;
        elf.instances_total = total;
        let newest = handle.processes().newest(elf.declaration.name());
        let name = elf.declaration.name();
        let instances = view.instances.into_iter().map(|view| {
            let process = handle.processes().get(view.session);
            let version = process.as_ref().and_then(|process| process.elves.get(name));
            let differences = version.zip(newest.as_ref()).map(|(own, newest)| own.differences(newest));
            let (revision, differences) =
                (version.map(|version| version.revision), differences.unwrap_or_default());
            Instance { view, process, revision, differences }
        });
        elf.instances = instances.collect();
    }
    Ok(())
}

/// A page of the revisions of an elf and its tasks, without sources and documentation.
pub(crate) async fn revisions(
    handle: &Handle,
    elf: String,
    page: &PageOf,
) -> Result<Page<RevisionView>, Error> {
    let after = page::read(&page.token, &[REVISIONS])?.map(|(_, bytes)| RevisionCursor(bytes));
    if handle.store().elves(&[Arc::from(elf.as_str())]).await?.pop().flatten().is_none() {
        return Err(CallError::ElfNotFound(elf).into());
    }
    let elf = &*elf;
    let read = |after: Option<RevisionCursor>, n| async move {
        Ok(handle.store().list_revisions(elf, after.as_ref(), n).await?.into())
    };
    let entry = |record: RevisionRecord| {
        let mut revision = revision_of(&record)?;
        revision.document.leave_out_texts();
        Ok(revision)
    };
    let Filled { entries, next, .. } = page::fill(page.limit(), LISTED_AT_ONCE, after, read, entry).await?;
    let next = next.map(|next| page::token(REVISIONS, &next.0)).unwrap_or_default();
    Ok(Page { entries, next, unreadable: 0 })
}

/// A revision of an elf, or of a task of it.
pub(crate) async fn revision(
    handle: &Handle,
    elf: String,
    task: String,
    revision: Revision,
) -> Result<RevisionView, CallError> {
    let named = (Arc::from(elf), Arc::from(task), revision);
    let record = handle.store().revisions(&[named]).await?.pop().flatten();
    revision_of(&record.ok_or(CallError::RevisionNotFound)?)
}

fn revision_of(record: &RevisionRecord) -> Result<RevisionView, CallError> {
    let document = RevisionDocument::decode(&record.elf, record.body.clone())?;
    Ok(RevisionView { document, first_seen: record.first_seen })
}
