//! A journal that is damaged: nothing acknowledged is destroyed by who looks at it, and all that is whole is saved.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{Attempt, Commit, FlowNumber, JobId, JobNumber, SessionId};
use mycelium_core::image::{Counters, JobHead, LiveJob, SessionRecord};
use mycelium_core::status::FinalStatus::Done;
use mycelium_server::Broker;
use mycelium_server::store::embedded::{check, salvage};
use mycelium_server::store::{
    Batch, EmbeddedStore, Error, FinishedRecord, JobAfter, JobChange, Log as _, Reads as _,
};

use store_suite::folders::*;
use store_suite::*;

const COMMITS: u64 = 60;

fn flip(path: &Path, place: u64, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], place).unwrap();
}

/// The places in a journal at which the batch of each commit begins.
fn starts(journal: &[u8]) -> Vec<u64> {
    // A start, with a sequence number, and an item of a table behind it.
    let is_start =
        |at: &&[u8]| at[0] == 1 && at[13] == 2 && at[14] <= 2 && at[15] <= 1 && at[17..24] == [0; 7];
    let all = journal.windows(24).enumerate().filter(|(_, at)| is_start(at)).map(|(place, _)| place as u64);
    // Behind the end of the one before, or at the beginning.
    all.filter(|place| *place == 0 || journal[..*place as usize].ends_with(b"FJL\x03")).collect()
}

/// Where the journal is, what is in it, and where each commit begins; there is one journal, and all is in it.
fn the_journal(folder: &Path) -> (PathBuf, Vec<u8>, Vec<u64>) {
    let path = folder.join("store/0.jnl");
    let mut bytes = fs::read(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(written);
    let starts = starts(&bytes);
    assert_eq!(starts.len() as u64, COMMITS);
    (path, bytes, starts)
}

/// The jobs of a salvaged folder that are whole.
fn jobs_in(data: &Path) -> Vec<u64> {
    let store = EmbeddedStore::open(&data.join("default")).unwrap();
    let ids: Vec<JobId> = (1..=COMMITS).map(numbered).collect();
    let (specs, ends) = (store.specs(&ids).wait().unwrap(), store.finished(&ids).wait().unwrap());
    let outputs = store.outputs(&ids).wait().unwrap();
    let is_whole =
        |index: &usize| specs[*index].is_some() && ends[*index].is_some() && outputs[*index].is_some();
    (0..ids.len()).filter(is_whole).map(|index| index as u64 + 1).collect()
}

#[test]
fn one_flipped_bit_costs_the_commit_that_it_is_in_and_no_other() {
    let clean = store_with(COMMITS);
    let (_, bytes, starts) = the_journal(clean.path());
    let end = bytes.len() as u64;
    for tenth in 0..=10_u64 {
        let place = (end - 1) * tenth / 10;
        let lost = starts.iter().filter(|start| **start <= place).count() as u64;
        let (from, to) = (starts[lost as usize - 1], starts.get(lost as usize).copied().unwrap_or(end));
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("damaged");
        copy(clean.path(), &folder);
        let journal = folder.join("store/0.jnl");
        flip(&journal, place, (tenth % 8) as u8);
        let before = contents(&folder);

        let named = format!("the journal {} cannot be read from byte {from} to byte {to}", journal.display());
        let found = check(&folder).unwrap();
        assert!(found.damage.iter().any(|damage| damage.starts_with(&named)), "{named}: {:?}", found.damage);
        assert_untouched(&folder, &before);
        for _ in 0..2 {
            let error = EmbeddedStore::open(&folder).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            let text = error.to_string();
            for part in [named.as_str(), "can be read", "commits up to 60 were acknowledged"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        // A try to open takes the lock, and that is all.
        assert_untouched(&folder, &before);

        let new = temp.path().join("new");
        let saved = salvage(&folder, &new, "default").unwrap();
        assert_untouched(&folder, &before);
        assert_eq!(saved.acknowledged, Some(COMMITS));
        assert_eq!((saved.commits_lost, saved.journal_gaps), (1, 1), "{saved:?}");
        assert_eq!(saved.journal_gap_bytes, to - from);
        assert_eq!(saved.newest, if lost == COMMITS { COMMITS - 1 } else { COMMITS });
        assert!(saved.damage.iter().any(|damage| damage.starts_with(&named)), "{:?}", saved.damage);
        let kept: Vec<u64> = (1..=COMMITS).filter(|number| *number != lost).collect();
        assert_eq!(jobs_in(&new), kept);
        // What was made on the way is gone.
        let left: Vec<_> =
            fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}

/// A store whose last commit was not acknowledged: the mark is that of the one before.
fn store_with_an_unacknowledged_commit() -> tempfile::TempDir {
    let folder = store_with(COMMITS - 1);
    let mark = folder.path().join("mycelium.mark");
    let before = fs::read(&mark).unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    store.commit(&one_job(COMMITS, 500)).wait().unwrap();
    store.close().wait().unwrap();
    drop(store);
    fs::write(&mark, before).unwrap();
    folder
}

#[test]
fn a_torn_end_that_was_not_acknowledged_is_dropped_whatever_its_length() {
    let clean = store_with_an_unacknowledged_commit();
    let (path, bytes, starts) = the_journal(clean.path());
    let name = path.file_name().unwrap();
    let last = *starts.last().unwrap() as usize;
    let mut torn: Vec<Vec<u8>> = [1, 5, 13, 14, 40, bytes.len() - last - 12, bytes.len() - last - 1]
        .map(|length| bytes[..last + length].to_vec())
        .into();
    // Zeros behind it, as the place of a journal is reserved; and a page that did not arrive among those that did.
    torn.extend(torn.clone().into_iter().map(|mut torn| {
        torn.resize(bytes.len() + 100_000, 0);
        torn
    }));
    let mut hole = bytes.clone();
    hole[last + 100..last + 200].fill(0);
    torn.push(hole);
    for torn in torn {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("torn");
        copy(clean.path(), &folder);
        fs::write(folder.join("store").join(name), &torn).unwrap();
        let before = contents(&folder);
        let found = check(&folder).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        assert_untouched(&folder, &before);
        let store = EmbeddedStore::open(&folder).unwrap();
        assert_eq!(check_jobs(&store), COMMITS - 1);
        store.commit(&one_job(COMMITS, 500)).wait().unwrap();
        drop(store);
        assert_eq!(check_jobs(&EmbeddedStore::open(&folder).unwrap()), COMMITS);
    }
}

#[test]
fn a_torn_end_that_was_acknowledged_is_refused_and_told() {
    let clean = store_with(COMMITS);
    let (path, bytes, starts) = the_journal(clean.path());
    for cut in [starts[COMMITS as usize - 1] + 30, starts[40] + 30, 30] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("torn");
        copy(clean.path(), &folder);
        let journal = folder.join("store").join(path.file_name().unwrap());
        fs::write(&journal, &bytes[..cut as usize]).unwrap();
        let whole = starts.iter().filter(|start| **start < cut).count() as u64 - 1;
        let before = contents(&folder);
        let error = EmbeddedStore::open(&folder).unwrap_err().to_string();
        let from = starts[whole as usize];
        let named = format!("the journal {} cannot be read from byte {from} to byte", journal.display());
        for part in [named.as_str(), "commits up to 60 were acknowledged"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_untouched(&folder, &before);
        let saved = salvage(&folder, &temp.path().join("new"), "default").unwrap();
        assert_eq!((saved.newest, saved.commits_lost), (whole, COMMITS - whole));
        assert_eq!(jobs_in(&temp.path().join("new")), (1..=whole).collect::<Vec<_>>());
        assert_untouched(&folder, &before);
    }
}

#[test]
fn a_wrong_sequence_number_is_named_and_costs_nothing() {
    let clean = store_with(COMMITS);
    let (_, _, starts) = the_journal(clean.path());
    // Too high, too low, beyond all.
    for (commit, byte, bit) in [(20, 5, 6), (33, 5, 5), (59, 12, 7)] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("damaged");
        copy(clean.path(), &folder);
        let journal = folder.join("store/0.jnl");
        let place = starts[commit] + 5;
        flip(&journal, starts[commit] + byte, bit);
        let before = contents(&folder);
        let named = format!("the journal {} has a wrong sequence number at byte {place}", journal.display());
        let found = check(&folder).unwrap();
        assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
        assert!(found.damage[0].starts_with(&named), "{named}: {:?}", found.damage);
        let error = EmbeddedStore::open(&folder).unwrap_err().to_string();
        assert!(error.contains(&named), "{error}");
        let saved = salvage(&folder, &temp.path().join("new"), "default").unwrap();
        assert_eq!((saved.commits_lost, saved.journal_gaps), (0, 0), "{saved:?}");
        assert_eq!(jobs_in(&temp.path().join("new")), (1..=COMMITS).collect::<Vec<_>>());
        assert_untouched(&folder, &before);
    }
}

#[test]
fn several_damaged_places_are_told_in_one_message_of_bounded_length() {
    let folder = store_with(COMMITS);
    let (journal, _, starts) = the_journal(folder.path());
    (5..55).step_by(5).for_each(|commit| flip(&journal, starts[commit] + 50, 3));
    let error = EmbeddedStore::open(folder.path()).unwrap_err().to_string();
    for part in ["8 other places cannot be read", "commits 1 to 5, 7 to 10", "and others up to 60"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(check(folder.path()).unwrap().damage.len(), 10);
}

#[test]
fn what_lists_the_files_of_a_table_is_named_when_it_is_damaged_and_nothing_is_removed() {
    for (file, change) in [
        ("version", "flip"),
        ("version", "remove"),
        ("keyspaces/0/tables/9", "flip"),
        ("keyspaces/2/current", "flip"),
        ("keyspaces/2/current", "remove"),
        ("keyspaces/0/current", "remove"),
        ("keyspaces/5/current", "cut"),
        ("keyspaces/4/v0", "flip"),
        ("keyspaces/6/v0", "remove"),
    ] {
        let folder = store_with(3);
        let path = folder.path().join("store").join(file);
        match change {
            "flip" => flip(&path, fs::metadata(&path).unwrap().len() / 2, 1),
            "cut" => fs::write(&path, [0; 8]).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        let before = contents(folder.path());
        let error = EmbeddedStore::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{file}: {error}");
        assert_untouched(folder.path(), &before);
        let found = check(folder.path()).unwrap();
        assert!(found.damage[0].contains(&path.display().to_string()), "{file}: {:?}", found.damage);
        assert_untouched(folder.path(), &before);
        // All is in the journals, and is saved.
        let temp = tempfile::tempdir().unwrap();
        let saved = salvage(folder.path(), &temp.path().join("new"), "default").unwrap();
        assert_eq!((saved.jobs, saved.unreadable.len(), saved.commits_lost), (3, 0, 0), "{file}: {saved:?}");
        assert!(saved.damage[0].contains(&path.display().to_string()), "{file}: {:?}", saved.damage);
        assert_untouched(folder.path(), &before);
    }
}

const MANY: u64 = 5_200;

/// Commit `number` of a store of which each table has files: it creates a job, and ends the one before.
fn create_one_and_end_one(number: u64) -> Batch {
    let mut batch = one_job(number, 20_000);
    let created = &mut batch.jobs[0];
    created.after = JobAfter::Live(live_job(number));
    if number > 1 {
        let id = numbered(number - 1);
        let record = finished(1, number - 1, Done);
        let record = FinishedRecord { head: JobHead { id, ..record.head.clone() }, ..record };
        let after = finish_with(record, outputs_of(number - 1));
        batch.jobs.push(JobChange { id, flow: flow(1), created: None, revived: None, after });
    }
    batch.records.flows = vec![flow_record(1, "many")];
    batch
}

fn live_job(number: u64) -> LiveJob {
    let live = live(1);
    LiveJob { head: JobHead { id: numbered(number), number: JobNumber(number), ..live.head }, ..live }
}

/// Large enough to be kept apart.
fn outputs_of(number: u64) -> Bytes {
    let mut state = number | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(8_000).collect()
}

/// What lists the files of a table now.
fn current_list(store: &Path, keyspace: u64) -> PathBuf {
    let folder = store.join("keyspaces").join(keyspace.to_string());
    let current = fs::read(folder.join("current")).unwrap();
    folder.join(format!("v{}", u64::from_le_bytes(current[..8].try_into().unwrap())))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
}

/// A store of which each table has files, several of them more than one.
fn store_with_tables() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    (1..=MANY).for_each(|number| store.commit(&create_one_and_end_one(number)).wait().unwrap());
    store.close().wait().unwrap();
    drop(store);
    for keyspace in 1..=7 {
        let tables = files_in(&folder.path().join(format!("store/keyspaces/{keyspace}/tables")));
        assert!(!tables.is_empty(), "no files in table {keyspace}");
    }
    folder
}

/// Makes sure that a salvaged store is as it was, but for some outputs.
fn assert_all_is_there(data: &Path, outputs_lost: usize) {
    let store = EmbeddedStore::open(&data.join("default")).unwrap();
    let mut unfinished = Vec::new();
    let image = store.load(&mut |job| unfinished.push(job.head.id)).wait().unwrap();
    assert_eq!(image.counters.commit.0, MANY);
    assert_eq!(unfinished, [numbered(MANY)]);
    let ids: Vec<JobId> = (1..=MANY).map(numbered).collect();
    assert!(store.specs(&ids).wait().unwrap().iter().all(Option::is_some));
    let finished = store.finished(&ids).wait().unwrap();
    assert_eq!(finished.iter().flatten().count() as u64, MANY - 1);
    let right = |number: &u64| {
        let outputs = store.outputs(&[numbered(*number)]).wait();
        outputs.is_ok_and(|outputs| outputs == [Some(outputs_of(*number))])
    };
    let lost = (1..MANY).filter(|number| !right(number)).count();
    assert_eq!(lost, outputs_lost);
}

#[test]
fn what_a_damaged_list_of_files_named_is_found_and_merged_again() {
    let clean = store_with_tables();
    // The list of each table, one after the other; and of all.
    for keyspaces in [0..=0, 1..=1, 2..=2, 3..=3, 4..=4, 5..=5, 6..=6, 7..=7, 0..=7] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("damaged");
        copy(clean.path(), &folder);
        let lists: Vec<_> = keyspaces.map(|keyspace| current_list(&folder.join("store"), keyspace)).collect();
        lists.iter().for_each(|list| flip(list, fs::metadata(list).unwrap().len() / 2, 2));
        let before = contents(&folder);
        let error = EmbeddedStore::open(&folder).unwrap_err().to_string();
        assert!(error.contains(&lists[0].display().to_string()), "{error}");
        let found = check(&folder).unwrap();
        assert_eq!((found.damage.len(), found.jobs.len()), (lists.len(), 0), "{:?}", found.damage);
        let new = temp.path().join("new");
        let saved = salvage(&folder, &new, "default").unwrap();
        for (list, damage) in lists.iter().zip(&saved.damage) {
            let named = format!("the file {} does not fit its checksum", list.display());
            assert!(damage.contains(&named), "{named}: {damage}");
        }
        assert_eq!((saved.damage.len(), saved.unreadable.len()), (lists.len(), 0), "{saved:?}");
        assert_eq!((saved.gaps, saved.commits_lost, saved.newest), (0, 0, MANY));
        assert_all_is_there(&new, 0);
        assert_untouched(&folder, &before);
    }
}

#[test]
fn a_file_that_keeps_the_database_closed_is_left_out_of_what_is_salvaged() {
    let clean = store_with_tables();
    let values = files_in(&clean.path().join("store/keyspaces/4/blobs"));
    let value_file = values.first().unwrap();
    let bytes = fs::metadata(value_file).unwrap().len();
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("damaged");
    copy(clean.path(), &folder);
    // Its end tells where everything in it is.
    let damaged = folder.join(value_file.strip_prefix(clean.path()).unwrap());
    let file = OpenOptions::new().write(true).open(&damaged).unwrap();
    file.write_all_at(&[0xa5; 64], bytes - 64).unwrap();
    EmbeddedStore::open(&folder).unwrap_err();
    let before = contents(&folder);
    let new = temp.path().join("new");
    let saved = salvage(&folder, &new, "default").unwrap();
    let named = damaged.display().to_string();
    assert!(saved.damage.iter().any(|damage| damage.contains(&named)), "{:?}", saved.damage);
    // The outputs in it are gone, and named; all else is there.
    assert!(
        !saved.unreadable.is_empty() && saved.unreadable.len() < MANY as usize,
        "{}",
        saved.unreadable.len()
    );
    assert!(saved.unreadable.values().all(|lost| lost == "what it returned"));
    assert_all_is_there(&new, saved.unreadable.len());
    assert_untouched(&folder, &before);
}

#[test]
fn a_job_that_runs_is_of_a_submission_that_was_sealed_whatever_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let submitted = LiveJob { submission: Some(submission(1)), ..live(1) };
    let session = SessionRecord { id: running().session, instance: running().instance, secret: None };
    let batches = [
        Batch {
            records: Records {
                flows: vec![flow_record(1, "parts")],
                submissions: vec![submission_record(1, false)],
                sessions_opened: vec![session],
                ..jobs(vec![]).records
            },
            ..jobs(vec![created(1, &[], JobAfter::Live(submitted.clone()))])
        },
        Batch {
            records: Records { submissions: vec![submission_record(1, true)], ..jobs(vec![]).records },
            ..jobs(vec![])
        },
        jobs(vec![change(
            1,
            JobAfter::Live(LiveJob { running: Some(running()), attempt: Attempt(1), ..submitted }),
        )]),
    ];
    for (number, batch) in (1..).zip(batches) {
        let mut batch = batch;
        batch.counters = Counters {
            commit: Commit(number),
            job: JobNumber(9),
            flow: FlowNumber(9),
            session: SessionId(99),
            ..batch.counters
        };
        store.commit(&batch).wait().unwrap();
    }
    store.close().wait().unwrap();
    drop(store);
    let bytes = fs::read(folder.path().join("store/0.jnl")).unwrap();
    for (lost, start) in starts(&bytes).into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let (damaged, new) = (temp.path().join("damaged"), temp.path().join("new"));
        copy(folder.path(), &damaged);
        flip(&damaged.join("store/0.jnl"), start + 20, 3);
        let saved = salvage(&damaged, &new, "default").unwrap();
        assert_eq!(saved.commits_lost, 1);
        let store = EmbeddedStore::open(&new.join("default")).unwrap();
        let mut live = Vec::new();
        let image = store.load(&mut |job| live.push(job)).wait().unwrap();
        let sealed: Vec<_> = image.submissions.iter().map(|record| record.sealed).collect();
        match lost {
            // The session is gone with it.
            0 => assert!(live[0].running.is_none() && sealed == [true], "{live:?} {sealed:?}"),
            1 => assert!(live[0].running.is_some() && sealed == [true], "{live:?} {sealed:?}"),
            _ => assert!(live[0].running.is_none() && sealed == [true], "{live:?} {sealed:?}"),
        }
        assert_eq!(live.len(), 1);
        drop(store);
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let broker = Broker::open(&new).unwrap().bind("127.0.0.1:0").await.unwrap();
            broker.stop().await.unwrap();
        });
    }
}
