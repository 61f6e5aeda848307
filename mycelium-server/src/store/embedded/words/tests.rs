use std::path::Path;

use fjall::PersistMode;
use mycelium_core::ids::JobId;
use mycelium_core::image::LiveJob;

use super::*;
use crate::store::embedded::codec::tests::live;
use crate::store::embedded::tables::Tables;

fn open(path: &Path) -> Tables {
    let tables = if path.exists() { Tables::open(path) } else { Tables::create(path) };
    let tables = tables.unwrap();
    tables.words.load(&tables.view()).unwrap();
    tables
}

/// Writes it as a batch does.
fn write(tables: &Tables, job: &LiveJob) {
    let mut write = OwnedWriteBatch::with_capacity(tables.db.clone(), 1);
    let mut words = Numbering::of(&tables.words);
    let mut buffer = Vec::new();
    codec::encode(job, &mut buffer, Some(&mut words));
    write.insert(&tables.live.keyspace, job.head.id.as_bytes().as_slice(), buffer.as_slice());
    words.write(&mut write);
    write.durability(Some(PersistMode::SyncAll)).commit().unwrap();
}

fn read(tables: &Tables, id: JobId) -> Result<LiveJob, Error> {
    Ok(tables.view().get::<LiveJob>(&tables.live, id.as_bytes(), id)?.unwrap())
}

fn job(number: u8, task: &str) -> LiveJob {
    let mut job = live();
    job.head.id = JobId::new([number; 16]);
    job.head.task = task.into();
    job
}

fn words_of(tables: &Tables, table: &Table) -> usize {
    tables.view().scan(table, keys::words().as_bytes(), None).count()
}

#[test]
fn a_record_reads_as_it_was_written_in_any_later_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let jobs = [job(1, "task_a"), job(2, "task_b"), job(3, "task_a")];
    for job in &jobs {
        // Each in a life of its own.
        write(&open(&path), job);
    }
    let tables = open(&path);
    for job in &jobs {
        assert_eq!(read(&tables, job.head.id).unwrap(), *job);
    }
    // Two calls and the programs of an attempt under way and one before.
    assert_eq!(words_of(&tables, &tables.catalog), 4);
    let mut whole = Vec::new();
    codec::encode(&jobs[0], &mut whole, None);
    let stored = tables.view().get_raw(&tables.live, &[1; 16]).unwrap().unwrap();
    assert!(stored.len() + 150 < whole.len(), "{} of {}", stored.len(), whole.len());
}

#[test]
fn words_of_a_batch_that_was_not_written_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let tables = open(&path);
    let mut words = Numbering::of(&tables.words);
    codec::encode(&job(1, "task_never"), &mut Vec::new(), Some(&mut words));
    drop(words);
    write(&tables, &job(2, "task_a"));
    write(&tables, &job(3, "task_never"));
    drop(tables);
    let tables = open(&path);
    assert_eq!(read(&tables, JobId::new([2; 16])).unwrap(), job(2, "task_a"));
    assert_eq!(read(&tables, JobId::new([3; 16])).unwrap(), job(3, "task_never"));
}

#[test]
fn a_word_that_is_lost_in_one_place_is_read_in_the_other_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let job = job(1, "task_a");
    write(&open(&path), &job);
    {
        let tables = open(&path);
        assert_eq!((words_of(&tables, &tables.catalog), words_of(&tables, &tables.index)), (3, 0));
        // Whatever comes next stores them again.
        write(&tables, &job);
        assert_eq!((words_of(&tables, &tables.catalog), words_of(&tables, &tables.index)), (3, 3));
    }
    for lost_in_catalog in [true, false] {
        let tables = Tables::open(&path).unwrap();
        let lost = if lost_in_catalog { &tables.catalog } else { &tables.index };
        let removed: Vec<_> =
            tables.view().scan(lost, keys::words().as_bytes(), None).map(|entry| entry.unwrap().0).collect();
        assert_eq!(removed.len(), 3);
        removed.into_iter().for_each(|key| lost.keyspace.remove(key).unwrap());
        assert_eq!(read(&tables, job.head.id).unwrap(), job);
        tables.words.load(&tables.view()).unwrap();
        assert_eq!(read(&tables, job.head.id).unwrap(), job);
        write(&tables, &job);
        assert_eq!(words_of(&tables, lost), 3);
    }
    let tables = Tables::open(&path).unwrap();
    for table in [&tables.catalog, &tables.index] {
        for number in 1..=3 {
            table.keyspace.remove(keys::word(number).as_bytes()).unwrap();
        }
    }
    let error = read(&tables, job.head.id).unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
}

#[test]
fn what_has_no_room_stands_in_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let tables = open(&path);
    let long = job(1, &"x".repeat(WORD_BYTES_MAX));
    write(&tables, &long);
    assert_eq!(words_of(&tables, &tables.catalog), 2);
    tables.words.known.write().unwrap().bytes = WORDS_BYTES_MAX - WORD_BYTES;
    let late = job(2, "task_late");
    write(&tables, &late);
    assert_eq!(words_of(&tables, &tables.catalog), 2);
    drop(tables);
    let tables = open(&path);
    assert_eq!(read(&tables, long.head.id).unwrap(), long);
    assert_eq!(read(&tables, late.head.id).unwrap(), late);
}
