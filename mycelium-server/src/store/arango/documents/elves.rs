//! Elves and their revisions.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mycelium_core::ids::Revision;
use mycelium_proto::v1;
use serde::{Deserialize, Serialize};

use super::text::RevisionText;
use super::time::Date;
use super::{base64, key};
use crate::documents::{Declaration, RevisionDocument as Described};
use crate::store::{ElfRecord, RevisionRecord, cursor};

/// A document of `MachineElves`.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct ElfDocument {
    #[serde(rename = "_key", skip_deserializing)]
    key: String,
    name: String,
    /// The name, by which elves are listed.
    #[serde(skip_deserializing)]
    ord: String,
    #[serde(skip_deserializing)]
    documentation: Option<String>,
    /// The names of its tasks.
    #[serde(skip_deserializing)]
    tasks: Option<Vec<String>>,
    #[serde(skip_deserializing)]
    last_revision: Option<String>,
    #[serde(with = "base64")]
    body: Bytes,
    /// When it was first seen. That of one that is there already stays.
    creation_date: Date,
    #[serde(skip_deserializing)]
    creation_ms: u64,
    last_seen_date: Date,
    #[serde(skip_deserializing)]
    last_seen_ms: u64,
}

impl From<&ElfRecord> for ElfDocument {
    fn from(record: &ElfRecord) -> Self {
        let ElfRecord { name, body, first_seen, last_seen } = record;
        let declared = Declaration::decode(name, body.clone()).ok().map(v1::ElfDeclaration::from);
        let (documentation, tasks, last_revision) = match declared {
            Some(declared) => {
                let tasks = declared.tasks.into_iter().map(|task| task.name).collect();
                let revision = Revision::from_slice(&declared.revision);
                (Some(declared.docs), Some(tasks), revision.map(|revision| revision.to_string()))
            }
            None => (None, None, None),
        };
        let (creation_date, last_seen_date) = (Date(*first_seen), Date(*last_seen));
        Self {
            key: key::of_name(name),
            name: name.to_string(),
            ord: key::hex(name.as_bytes()),
            documentation,
            tasks,
            last_revision,
            body: body.clone(),
            creation_date,
            creation_ms: creation_date.ms(),
            last_seen_date,
            last_seen_ms: last_seen_date.ms(),
        }
    }
}

impl From<ElfDocument> for ElfRecord {
    fn from(document: ElfDocument) -> Self {
        let ElfDocument { name, body, creation_date, last_seen_date, .. } = document;
        Self { name: name.into(), body, first_seen: creation_date.0, last_seen: last_seen_date.0 }
    }
}

/// What a batch writes to `MachineElves`: whole documents of keys that differ. Of one that is there already all is to be
/// updated but for `creation_date` and `creation_ms`; what is null in it is to be removed.
pub(in super::super) fn elves(records: &[ElfRecord]) -> Vec<ElfDocument> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(records.len());
    let mut documents: Vec<ElfDocument> = Vec::with_capacity(records.len());
    for record in records {
        let document = ElfDocument::from(record);
        match places.get(&*record.name) {
            Some(place) => {
                let ElfDocument { creation_date, creation_ms, .. } = documents[*place];
                documents[*place] = ElfDocument { creation_date, creation_ms, ..document };
            }
            None => {
                places.insert(&record.name, documents.len());
                documents.push(document);
            }
        }
    }
    documents
}

/// A document of `MachineElvesRevisions`.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct RevisionDocument {
    #[serde(rename = "_key", skip_deserializing)]
    key: String,
    machine_elf: String,
    /// Empty for the elf as a whole.
    task: String,
    revision: RevisionText,
    /// The name of the elf, as in `ord` of elves: texts that differ may be equal for the database.
    #[serde(skip_deserializing)]
    elf_ord: String,
    /// The place among the revisions of the elf.
    #[serde(skip_deserializing)]
    place: String,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    documentation: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    source_code: Option<String>,
    /// When it was first seen.
    creation_date: Date,
    #[serde(skip_deserializing)]
    creation_ms: u64,
    #[serde(with = "base64")]
    body: Bytes,
}

/// The key of a revision.
pub(in super::super) fn revision_key(elf: &str, task: &str, revision: Revision) -> String {
    match task {
        "" => key::join(&[&key::of_name(elf), &revision]),
        task => key::join(&[&key::of_name(elf), &key::of_name(task), &revision]),
    }
}

impl From<&RevisionRecord> for RevisionDocument {
    fn from(record: &RevisionRecord) -> Self {
        let RevisionRecord { elf, task, revision, first_seen, body } = record;
        let described = Described::decode(elf, body.clone()).ok().map(v1::Revision::from);
        let (documentation, signature, source_code) = match described {
            Some(described) => (Some(described.docs), Some(described.signature), Some(described.source)),
            None => (None, None, None),
        };
        let creation_date = Date(*first_seen);
        Self {
            key: revision_key(elf, task, *revision),
            machine_elf: elf.to_string(),
            task: task.to_string(),
            revision: RevisionText(*revision),
            elf_ord: key::hex(elf.as_bytes()),
            place: key::hex(&cursor::revision(*first_seen, task, *revision).0),
            documentation,
            signature,
            source_code,
            creation_date,
            creation_ms: creation_date.ms(),
            body: body.clone(),
        }
    }
}

impl From<RevisionDocument> for RevisionRecord {
    fn from(document: RevisionDocument) -> Self {
        let RevisionDocument { machine_elf, task, revision, creation_date, body, .. } = document;
        let (elf, task) = (machine_elf.into(), task.into());
        Self { elf, task, revision: revision.0, first_seen: creation_date.0, body }
    }
}

/// What a batch writes to `MachineElvesRevisions`: whole documents of keys that differ. One that is there already stays as
/// it is.
pub(in super::super) fn revisions(records: &[RevisionRecord]) -> Vec<RevisionDocument> {
    let mut met = HashSet::with_capacity(records.len());
    let new = records.iter().filter(|record| met.insert((&record.elf, &record.task, record.revision)));
    new.map(RevisionDocument::from).collect()
}
