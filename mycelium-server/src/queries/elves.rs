//! Elves and their revisions, one by one and in pages.

use std::sync::Arc;

use mycelium_core::ElfView;
use mycelium_core::ids::Revision;
use mycelium_proto::limits::PAGE_BYTES_MAX;
use mycelium_proto::v1;
use prost::Message as _;

use super::page;
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::grpc::convert;
use crate::store::{ElfRecord, RevisionCursor, RevisionRecord, Store};

/// The most bytes of one elf in a list, and of a page of them with their instances.
const LISTED_BYTES_MAX: usize = PAGE_BYTES_MAX;
/// The most bytes of the declaration of one elf by itself. One that is taken now is smaller.
const SHOWN_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most instances that are shown of one elf in a list, and of one by itself.
const INSTANCES_LISTED_MAX: usize = 100;
const INSTANCES_SHOWN_MAX: usize = 1_000;

pub(crate) async fn list_elves(
    handle: &Handle,
    request: v1::ListElvesRequest,
) -> Result<v1::ListElvesResponse, Error> {
    const KIND: char = 'e';
    let after = match page::read(&request.page_token, &[KIND])? {
        None => None,
        Some((_, bytes)) => {
            Some(String::from_utf8(bytes).map_err(|_| Error::field("page_token", "is not a token"))?)
        }
    };
    let limit = page::size(request.page_size);
    let read = move |store: &dyn Store| {
        let read = |after: Option<&Arc<str>>, n| {
            let records = store.list_elves(after.map(|name| &**name), n)?;
            Ok(records.into_iter().map(|record| (Arc::clone(&record.name), record)).collect())
        };
        page::fill(limit, 1, after.map(Arc::from), read, |record: ElfRecord| {
            let mut declaration = declaration_of(&record)?;
            declaration.source.clear();
            declaration.tasks.iter_mut().for_each(|task| task.source.clear());
            Ok(elf_message(&record, declaration, LISTED_BYTES_MAX))
        })
    };
    let (mut elves, mut next) = handle.read(read).await?;
    add_instances(handle, &mut elves, INSTANCES_LISTED_MAX).await?;
    let mut bytes = 0;
    let fit = elves.iter().take_while(|elf| {
        bytes += page::encoded_len_in_list(*elf);
        bytes <= LISTED_BYTES_MAX
    });
    let n_fit = fit.count().max(1);
    if n_fit < elves.len() {
        elves.truncate(n_fit);
        next = elves.last().map(|last| Arc::from(name_of(last)));
    }
    let next_page_token = next.map(|last| page::token(KIND, last.as_bytes())).unwrap_or_default();
    Ok(v1::ListElvesResponse { elves, next_page_token })
}

pub(crate) async fn get_elf(
    handle: &Handle,
    request: v1::GetElfRequest,
) -> Result<v1::GetElfResponse, Error> {
    let name = request.name.clone();
    let record = handle.read(move |store| Ok(store.elf(&name)?)).await?;
    let record = record.ok_or(CallError::ElfNotFound(request.name))?;
    let mut elves = vec![elf_message(&record, declaration_of(&record)?, SHOWN_BYTES_MAX)];
    add_instances(handle, &mut elves, INSTANCES_SHOWN_MAX).await?;
    Ok(v1::GetElfResponse { elf: elves.pop() })
}

fn name_of(elf: &v1::Elf) -> &str {
    elf.declaration.as_ref().map_or("", |declaration| &declaration.name)
}

fn declaration_of(record: &ElfRecord) -> Result<v1::ElfDeclaration, CallError> {
    v1::ElfDeclaration::decode(record.body.clone())
        .map_err(|error| CallError::Unreadable(format!("the declaration of elf `{}`: {error}", record.name)))
}

/// An elf as it described itself, in at most so many bytes.
fn elf_message(record: &ElfRecord, mut declaration: v1::ElfDeclaration, bytes_max: usize) -> v1::Elf {
    let truncated = cut_declaration(&mut declaration, bytes_max);
    v1::Elf {
        declaration: Some(declaration),
        first_seen: Some(convert::timestamp(record.first_seen)),
        last_seen: Some(convert::timestamp(record.last_seen)),
        truncated,
        ..v1::Elf::default()
    }
}

/// Leaves texts out of a declaration that an earlier version has taken, until it is small enough: those first that can be
/// had from its revisions. Whether that was needed.
fn cut_declaration(declaration: &mut v1::ElfDeclaration, bytes_max: usize) -> bool {
    let leave_out: [fn(&mut v1::ElfDeclaration); 5] = [
        |elf| elf.tasks.iter_mut().for_each(|task| task.source.clear()),
        |elf| elf.source.clear(),
        |elf| elf.tasks.iter_mut().for_each(|task| task.docs.clear()),
        |elf| {
            elf.docs.clear();
            elf.tasks.iter_mut().for_each(|task| task.signature.clear());
        },
        |elf| {
            for task in &mut elf.tasks {
                task.parameters.iter_mut().for_each(|parameter| parameter.schema.clear());
                task.outputs.iter_mut().for_each(|output| output.schema.clear());
            }
        },
    ];
    let mut is_cut = false;
    for leave_out in leave_out {
        if declaration.encoded_len() <= bytes_max {
            return is_cut;
        }
        leave_out(declaration);
        is_cut = true;
    }
    while declaration.encoded_len() > bytes_max && !declaration.tasks.is_empty() {
        declaration.tasks.truncate(declaration.tasks.len() / 2);
    }
    is_cut
}

/// Adds to each elf what the core knows of it, with at most so many instances.
async fn add_instances(handle: &Handle, elves: &mut [v1::Elf], max: usize) -> Result<(), CallError> {
    let names: Vec<String> = elves.iter().map(|elf| name_of(elf).to_owned()).collect();
    let views = handle.query(move |core, _| {
        let cut = |mut view: ElfView| {
            let total = view.instances.len();
            view.instances.truncate(max);
            (view, total)
        };
        names.iter().map(|name| core.elf(name).map(cut)).collect::<Vec<_>>()
    });
    for (elf, view) in elves.iter_mut().zip(views.await?) {
        let Some((view, total)) = view else { continue };
        elf.jobs_ready = view.ready;
        elf.jobs_running = view.running;
        elf.instances_total = total as u64;
        elf.instances = instances(handle, view);
    }
    Ok(())
}

fn instances(handle: &Handle, view: ElfView) -> Vec<v1::ElfInstance> {
    let instances = view.instances.into_iter().map(|instance| {
        let process = handle.processes().get(instance.session);
        v1::ElfInstance {
            instance_id: convert::id(instance.instance.as_bytes()),
            session: instance.session.0,
            connected: instance.connected,
            window: instance.window,
            held: instance.held,
            process_id: process.as_ref().map_or(0, |process| process.id),
            host: process.map(|process| process.host).unwrap_or_default(),
        }
    });
    instances.collect()
}

pub(crate) async fn list_revisions(
    handle: &Handle,
    request: v1::ListRevisionsRequest,
) -> Result<v1::ListRevisionsResponse, Error> {
    const KIND: char = 'r';
    let after = page::read(&request.page_token, &[KIND])?.map(|(_, bytes)| RevisionCursor(bytes));
    let limit = page::size(request.page_size);
    let elf = request.elf.clone();
    let read = move |store: &dyn Store| {
        if store.elf(&elf)?.is_none() {
            return Err(CallError::ElfNotFound(elf));
        }
        let read = |after: Option<&RevisionCursor>, n| Ok(store.list_revisions(&elf, after, n)?);
        page::fill(limit, 1, after, read, |record: RevisionRecord| {
            let mut revision = revision_message(&record)?;
            revision.source.clear();
            revision.docs.clear();
            Ok(revision)
        })
    };
    let (revisions, next) = handle.read(read).await?;
    let next_page_token = next.map(|next| page::token(KIND, &next.0)).unwrap_or_default();
    Ok(v1::ListRevisionsResponse { revisions, next_page_token })
}

pub(crate) async fn get_revision(
    handle: &Handle,
    request: v1::GetRevisionRequest,
) -> Result<v1::GetRevisionResponse, Error> {
    let revision = Revision::from_slice(&request.revision)
        .ok_or_else(|| Error::field("revision", "must be 32 bytes"))?;
    let record = handle.read(move |store| Ok(store.revision(&request.elf, &request.task, revision)?)).await?;
    let record = record.ok_or(CallError::RevisionNotFound)?;
    Ok(v1::GetRevisionResponse { revision: Some(revision_message(&record)?) })
}

fn revision_message(record: &RevisionRecord) -> Result<v1::Revision, CallError> {
    let mut revision = v1::Revision::decode(record.body.clone())
        .map_err(|error| CallError::Unreadable(format!("a revision of elf `{}`: {error}", record.elf)))?;
    revision.first_seen = Some(convert::timestamp(record.first_seen));
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An elf as an earlier version took it: each text at its limit, and all together far beyond.
    fn huge(tasks: usize, text: usize) -> v1::ElfDeclaration {
        let text = "x".repeat(text);
        let task = |number: usize| v1::TaskDeclaration {
            name: format!("task_{number}"),
            docs: text.clone(),
            signature: text.clone(),
            source: text.clone(),
            parameters: vec![v1::ParameterDeclaration {
                name: "a".to_owned(),
                schema: text.clone(),
                optional: false,
            }],
            outputs: vec![v1::OutputDeclaration { name: "b".to_owned(), schema: text.clone() }],
            ..v1::TaskDeclaration::default()
        };
        v1::ElfDeclaration {
            name: "elf".to_owned(),
            docs: text.clone(),
            source: text.clone(),
            tasks: (0..tasks).map(task).collect(),
            ..v1::ElfDeclaration::default()
        }
    }

    #[test]
    fn what_an_earlier_version_took_is_cut_as_far_as_needed_and_says_so() {
        let mut small = huge(2, 10);
        assert!(!cut_declaration(&mut small, 1_000) && small == huge(2, 10), "what is small stays as it is");
        for (tasks, text) in [(3, 1_000_000), (10, 200_000), (1_000, 3_000)] {
            let mut elf = huge(tasks, text);
            assert!(cut_declaration(&mut elf, SHOWN_BYTES_MAX));
            assert!(elf.encoded_len() <= SHOWN_BYTES_MAX, "{} bytes", elf.encoded_len());
            assert_eq!(elf.tasks.len(), tasks, "every task is named");
            assert!(elf.tasks.iter().all(|task| task.source.is_empty()), "sources go first");
        }
        let mut names = huge(100_000, 0);
        assert!(cut_declaration(&mut names, 1_000_000) && names.encoded_len() <= 1_000_000);
    }
}
