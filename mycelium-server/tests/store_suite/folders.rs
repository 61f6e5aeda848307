//! Stores in folders, of numbered commits with one job each.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mycelium_core::ids::{Commit, JobId};
use mycelium_core::status::FinalStatus::Done;
use mycelium_server::store::{
    Batch, EmbeddedStore, Error, FinishedQuery, FinishedRecord, JobChange, SpecRecord,
};

use super::*;

pub(crate) fn numbered(number: u64) -> JobId {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    JobId::new(id)
}

/// A batch that makes job `number` and ends it, with a body of `size` bytes that do not compress.
pub(crate) fn one_job(number: u64, size: usize) -> Batch {
    let mut state = number | 1;
    let body: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(size)
    .collect();
    let record = FinishedRecord {
        head: JobHead { id: numbered(number), ..finished(1, number, Done).head },
        ..finished(1, number, Done)
    };
    let outputs = Bytes::from(number.to_string());
    let spec = SpecRecord { body: body.into(), ..spec(1, &[]) };
    let change = JobChange {
        id: numbered(number),
        flow: flow(1),
        created: Some(spec),
        revived: None,
        after: finish_with(record, outputs),
    };
    let mut batch = jobs(vec![change]);
    // The flow is new with the first.
    batch.counters = Counters { commit: Commit(number), flow: FlowNumber(1), ..Counters::default() };
    batch
}

/// The newest commit of the store, after a check that all jobs up to there are whole.
pub(crate) fn check_jobs(store: &EmbeddedStore) -> u64 {
    let last = store.load(&mut |job| panic!("{job:?} is unfinished")).wait().unwrap().counters.commit.0;
    let ids: Vec<_> = (1..=last).map(numbered).collect();
    let outputs = store.outputs(&ids).wait().unwrap();
    for (number, outputs) in (1..).zip(outputs) {
        assert_eq!(outputs, Some(Bytes::from(u64::to_string(&number))), "job {number} of {last}");
    }
    assert!(store.finished(&ids).wait().unwrap().iter().all(Option::is_some));
    assert!(store.specs(&ids).wait().unwrap().iter().all(Option::is_some));
    let pages = all_pages(store, &FinishedQuery { limit: 1000, ..FinishedQuery::default() });
    assert_eq!(pages.iter().map(|page| page.jobs.len() as u64).sum::<u64>(), last);
    last
}

/// A store with `commits` jobs, closed.
pub(crate) fn store_with(commits: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    (1..=commits).for_each(|number| store.commit(&one_job(number, 500)).wait().unwrap());
    store.close().wait().unwrap();
    folder
}

/// The one journal of a small store, and how much of it is written.
pub(crate) fn journal(folder: &Path) -> (File, u64) {
    let store = fs::read_dir(folder.join("store")).unwrap();
    let mut paths = store
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == "jnl"));
    let path = paths.next().unwrap();
    assert_eq!(paths.next(), None);
    let written = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    (OpenOptions::new().read(true).write(true).open(path).unwrap(), written)
}

#[track_caller]
pub(crate) fn assert_damaged(folder: &Path, what: &str) {
    // As often as it is tried: a refusal does not make the damage good.
    for _ in 0..2 {
        match EmbeddedStore::open(folder) {
            Err(error @ Error::Damaged { .. }) => {
                assert!(error.to_string().contains(what), "{error}");
                assert!(!error.is_retryable());
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every path in a folder, with what is in the files.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
                found.insert(path, None);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, Some(bytes));
            }
        }
    }
    found
}

/// A folder is as it was.
#[track_caller]
pub(crate) fn assert_untouched(folder: &Path, before: &BTreeMap<PathBuf, Option<Vec<u8>>>) {
    let now = contents(folder);
    assert_eq!(now.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let changed: Vec<_> = now.iter().filter(|(path, bytes)| before.get(*path) != Some(*bytes)).collect();
    assert!(changed.is_empty(), "changed: {:?}", changed.iter().map(|(path, _)| path).collect::<Vec<_>>());
}
