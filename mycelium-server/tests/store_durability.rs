//! What the embedded store has acknowledged is there after a kill, or it refuses to open and says what is damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mycelium_core::ids::{Attempt, Commit, FailureId, FlowId, FlowNumber, InstanceId, JobId, Timestamp};
use mycelium_core::image::{AttemptEnd, FlowRecord, PastAttempt, Running};
use mycelium_server::store::{
    Batch, EmbeddedStore, Error, FinishedQuery, FlowQuery, JobAfter, JobChange, Knowledge, Log as _,
    NewFailure, Reads as _,
};

use store_suite::folders::*;
use store_suite::*;

/// Tells a process that a test has started which folder to work in.
const FOLDER: &str = "MYCELIUM_TEST_STORE_FOLDER";

/// This test program, to run one of its ignored tests in a process of its own.
fn this_program(test: &str) -> (PathBuf, [&str; 4]) {
    (std::env::current_exe().unwrap(), ["--exact", test, "--ignored", "--nocapture"])
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (program, arguments) = this_program("acknowledge_until_killed");
        let mut child = Command::new(program)
            .args(arguments)
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let acknowledged =
            |line: String| line.strip_prefix("acknowledged ").map(|number| number.parse::<u64>().unwrap());
        let _ = lines.by_ref().filter_map(acknowledged).nth(150).expect("150 commits");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said and we had not read counts too.
        let last = lines.filter_map(acknowledged).last();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        let found = check_jobs(&store);
        assert!(last.is_none_or(|last| last <= found), "acknowledged {last:?}, found {found}");
    }
}

#[test]
#[ignore = "the process that what_was_acknowledged_survives_a_kill kills"]
fn acknowledge_until_killed() {
    let store = EmbeddedStore::open(Path::new(&std::env::var_os(FOLDER).unwrap())).unwrap();
    let begin = check_jobs(&store) + 1;
    for number in begin.. {
        store.commit(&one_job(number, 3_000)).wait().unwrap();
        println!("acknowledged {number}");
    }
}

#[test]
fn a_failed_write_stops_the_store_until_it_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    // The files of a new store are larger than the limit below: the journal reserves its place.
    drop(EmbeddedStore::open(folder.path()).unwrap());
    drop(EmbeddedStore::open(folder.path()).unwrap());
    let (program, arguments) = this_program("write_until_the_limit");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""])
        .arg(program)
        .args(arguments)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged = said.lines().find_map(|line| line.strip_prefix("acknowledged ")).unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    assert_eq!(check_jobs(&store).to_string(), acknowledged);
}

#[test]
#[ignore = "the process that a_failed_write_stops_the_store_until_it_is_loaded_again limits"]
fn write_until_the_limit() {
    let store = EmbeddedStore::open(Path::new(&std::env::var_os(FOLDER).unwrap())).unwrap();
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(number < 1000, "the limit is never met");
        if let Err(error) = store.commit(&one_job(number, 100_000)).wait() {
            break error;
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    assert!(!error.is_certainly_not_applied(), "{error:?}");
    // Nothing more is written, and what was there can be read.
    let refused = store.commit(&one_job(number, 1)).wait().unwrap_err();
    assert!(refused.is_certainly_not_applied() && refused.is_retryable(), "{refused:?}");
    assert_eq!(store.specs(&[numbered(number - 1)]).wait().unwrap().iter().flatten().count(), 1);
    // Loading tells whether the batch was stored, and then the store goes on.
    let found = check_jobs(&store);
    assert!(found == number - 1 || found == number, "{found} after {number}");
    store.commit(&one_job(found + 1, 1)).wait().unwrap();
    println!("\nacknowledged {}", found + 1);
}

#[test]
fn a_journal_cut_short_is_refused() {
    let folder = store_with(50);
    let (journal, written) = journal(folder.path());
    journal.set_len(written / 2).unwrap();
    assert_damaged(folder.path(), "commits up to 50 were acknowledged");
}

#[test]
fn a_journal_damaged_in_the_middle_is_refused() {
    let folder = store_with(50);
    let (journal, written) = journal(folder.path());
    journal.write_all_at(&[0xff; 3000], written / 2).unwrap();
    assert_damaged(folder.path(), "");
}

#[test]
fn a_flipped_byte_in_the_journal_is_refused() {
    let folder = store_with(50);
    let (journal, written) = journal(folder.path());
    for place in written / 2..written / 2 + 3 {
        let mut byte = [0];
        journal.read_exact_at(&mut byte, place).unwrap();
        journal.write_all_at(&[!byte[0]], place).unwrap();
    }
    assert_damaged(folder.path(), "");
}

#[test]
fn a_missing_journal_is_refused() {
    let folder = store_with(50);
    for entry in fs::read_dir(folder.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            fs::remove_file(path).unwrap();
        }
    }
    assert_damaged(folder.path(), "is missing, and the tables end at commit 0");
}

#[test]
fn a_torn_last_write_is_dropped() {
    let folder = store_with(49);
    let mark = folder.path().join("mycelium.mark");
    let before = fs::read(&mark).unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    store.commit(&one_job(50, 500)).wait().unwrap();
    drop(store);
    // As if it had died in the middle of commit 50: neither all written nor acknowledged.
    fs::write(&mark, before).unwrap();
    let (journal, written) = journal(folder.path());
    journal.set_len(written - 3).unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    assert_eq!(check_jobs(&store), 49);
    store.commit(&one_job(50, 500)).wait().unwrap();
    drop(store);
    assert_eq!(check_jobs(&EmbeddedStore::open(folder.path()).unwrap()), 50);
}

#[test]
fn a_missing_or_unreadable_mark_is_refused() {
    let folder = store_with(3);
    let mark = folder.path().join("mycelium.mark");
    fs::write(&mark, [0; 8192]).unwrap();
    assert_damaged(folder.path(), "mycelium.mark is unreadable");
    fs::remove_file(&mark).unwrap();
    assert_damaged(folder.path(), "mycelium.mark is missing");
}

#[test]
fn a_missing_database_or_table_is_refused() {
    let folder = store_with(3);
    let table = folder.path().join("store").join("keyspaces").join("3");
    assert!(table.is_dir());
    fs::remove_dir_all(table).unwrap();
    assert_damaged(folder.path(), "is missing");
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    assert_damaged(folder.path(), "store is missing");
}

/// The files of tables, largest first.
fn table_files(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut files = Vec::new();
    for keyspace in fs::read_dir(folder.join("store").join("keyspaces")).unwrap() {
        let Ok(tables) = fs::read_dir(keyspace.unwrap().path().join("tables")) else { continue };
        files.extend(tables.map(|file| {
            let path = file.unwrap().path();
            (fs::metadata(&path).unwrap().len(), path)
        }));
    }
    files.sort();
    files.reverse();
    files
}

/// A store whose specifications are in a table on the disk, of which a byte is flipped. Gives the damaged file.
fn store_with_a_damaged_table(jobs: u64) -> (tempfile::TempDir, EmbeddedStore, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    (1..=jobs).for_each(|number| store.commit(&one_job(number, 20_000)).wait().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    let (size, path) = loop {
        match table_files(folder.path()).into_iter().next() {
            Some((size, path)) if size > 4_000_000 => break (size, path),
            _ => assert!(Instant::now() < deadline, "no table was written"),
        }
        std::thread::yield_now();
    };
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).unwrap();
    file.write_all_at(&[!byte[0]], size / 2).unwrap();
    (folder, store, path)
}

#[test]
fn damage_names_its_file_and_leaves_the_others_readable() {
    const JOBS: u64 = 700;
    let (_folder, store, path) = store_with_a_damaged_table(JOBS);
    let ids: Vec<_> = (1..=JOBS).map(numbered).collect();
    let Err(together) = store.specs(&ids).wait() else { panic!("all can be read") };
    assert!(matches!(together, Error::Damaged { .. }), "{together}");
    let mut damaged = 0;
    for id in ids {
        match store.specs(&[id]).wait() {
            Ok(spec) => assert!(spec[0].is_some()),
            Err(error @ Error::Damaged { .. }) => {
                damaged += 1;
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=4).contains(&damaged), "{damaged} of {JOBS} cannot be read");
    // Nor does it keep anything from being stored.
    store.commit(&one_job(JOBS + 1, 1)).wait().unwrap();
}

/// A name that does not compress.
fn scattered_name(number: u64) -> String {
    let mut state = number | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    std::iter::repeat_with(&mut next).take(200).collect()
}

/// Flips bytes throughout the files of all large tables, but not at their ends, which tell where everything is.
fn damage_all_tables(folder: &Path) {
    for (size, path) in table_files(folder).into_iter().take_while(|(size, _)| *size > 40_000) {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for part in 2..10 {
            let (place, mut byte) = (size / 16 * part, [0]);
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[!byte[0]], place).unwrap();
        }
    }
}

#[test]
fn lists_go_on_past_what_is_damaged_in_them() {
    const COMMITS: u64 = 40;
    const PER_COMMIT: u64 = 500;
    let elf = "e".repeat(250);
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    for commit in 1..=COMMITS {
        let mut batch = Batch::default();
        for number in (commit - 1) * PER_COMMIT + 1..=commit * PER_COMMIT {
            let mut job = one_job(number, 1).jobs.remove(0);
            if let JobAfter::Finished(finish) = &mut job.after {
                finish.head.elf = elf.as_str().into();
                // Large, and in words that are stored apart in none.
                finish.attempts = scattered_name(number)
                    .as_bytes()
                    .chunks_exact(16)
                    .map(|bytes| PastAttempt {
                        number: Attempt(1),
                        held: Running { instance: InstanceId::from_slice(bytes).unwrap(), ..running() },
                        ended_at: Timestamp(number),
                        how: AttemptEnd::HandedBack,
                        failure: None,
                    })
                    .collect();
            }
            batch.jobs.push(job);
            let id = FlowId::new(*numbered(number).as_bytes());
            let name = scattered_name(number).into();
            batch.records.flows.push(FlowRecord {
                id,
                name,
                number: FlowNumber(number),
                ..flow_record(1, "")
            });
            let id = FailureId::new(*numbered(number).as_bytes());
            batch.failures.push(NewFailure { id, ..seen(1, 1, number, &scattered_name(number)) });
        }
        batch.counters.commit = Commit(commit);
        store.commit(&batch).wait().unwrap();
    }
    let all = COMMITS * PER_COMMIT;
    // Those of finished jobs, and of flows and failures.
    let large = || {
        let files = table_files(folder.path()).into_iter().filter(|(size, _)| *size > 40_000);
        files.map(|(_, path)| path.parent().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while large().len() < 2 {
        assert!(Instant::now() < deadline, "only these are written: {:?}", large());
        std::thread::yield_now();
    }
    // A merge that is under way would put sound tables in the place of those that are damaged here. One that begins when
    // they are ends at the damage, and replaces nothing.
    drop(store);
    damage_all_tables(folder.path());
    let store = EmbeddedStore::open(folder.path()).unwrap();

    let by_elf = FinishedQuery { elf: Some(elf.clone()), ..FinishedQuery::default() };
    for query in [FinishedQuery::default(), by_elf] {
        let pages = all_pages(&store, &FinishedQuery { limit: 1000, ..query });
        let listed: BTreeSet<u64> =
            pages.iter().flat_map(|page| &page.jobs).map(|job| job.finish_number.0).collect();
        let n_entries: usize = pages.iter().map(|page| page.jobs.len()).sum();
        assert_eq!(listed.len(), n_entries, "each is listed once");
        let damaged: usize = pages.iter().map(|page| page.damaged.len()).sum();
        assert!(damaged > 0 && n_entries as u64 > all * 9 / 10, "{n_entries} of {all}, {damaged} damaged");
    }

    let (mut flows, mut damaged, mut after) = (BTreeSet::new(), 0, None);
    loop {
        let page =
            store.list_flows(&FlowQuery { after, limit: 1_000, ..FlowQuery::default() }).wait().unwrap();
        damaged += page.damaged.len();
        flows.extend(page.flows.into_iter().map(|flow| flow.number));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(damaged > 0 && flows.len() as u64 > all * 8 / 10, "{} flows, {damaged} damaged", flows.len());
    let (mut failures, mut damaged, mut after) = (BTreeSet::new(), 0, None);
    loop {
        let page = store.list_failures(after.as_ref(), 1_000).wait().unwrap();
        damaged += page.damaged.len();
        after = page.entries.last().map(|(place, _)| place.clone());
        let n_entries = page.entries.len();
        failures.extend(page.entries.into_iter().map(|(_, failure)| failure.id));
        if n_entries < 1_000 {
            break;
        }
    }
    assert!(damaged > 0 && failures.len() as u64 > all * 8 / 10, "{} failures, {damaged}", failures.len());
}

#[test]
fn a_commit_passes_over_damaged_records_that_it_only_looks_up() {
    const JOBS: u64 = 700;
    let (_folder, store, _) = store_with_a_damaged_table(JOBS);
    let ids: Vec<_> = (1..=JOBS).map(numbered).collect();
    let is_damaged = |id: &JobId| matches!(store.specs(&[*id]).wait(), Err(Error::Damaged { .. }));
    assert!(ids.iter().any(is_damaged), "nothing is damaged");
    // What is dropped is looked up for the entries that lead to it.
    let mut batch = jobs(
        ids.iter()
            .map(|id| JobChange {
                id: *id,
                flow: flow(1),
                created: None,
                revived: None,
                after: JobAfter::Dropped,
            })
            .collect(),
    );
    batch.counters.commit = Commit(JOBS + 1);
    futures::executor::block_on(Knowledge::default().prepare(&store, &mut batch)).unwrap();
    store.commit(&batch).wait().unwrap();
    assert!(store.specs(&ids).wait().unwrap().iter().all(Option::is_none), "the damaged ones are gone too");
    store.commit(&one_job(JOBS + 2, 1)).wait().unwrap();
}

#[test]
fn damage_that_merging_meets_is_named_and_commits_go_on() {
    // Ids that are scattered, so that tables overlap and have to be merged.
    let scattered = |number: u64| {
        let mut id = [9; 16];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        JobId::new(id)
    };
    let job = |number: u64| {
        let mut batch = one_job(number, 40_000);
        batch.jobs[0].id = scattered(number);
        if let JobAfter::Finished(finished) = &mut batch.jobs[0].after {
            finished.head.id = scattered(number);
        }
        batch
    };
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let mut number = 0;
    let damaged = loop {
        number += 1;
        store.commit(&job(number)).wait().unwrap();
        if let Some((size, path)) = table_files(folder.path()).into_iter().find(|(size, _)| *size > 4_000_000)
        {
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, size / 2).unwrap();
            file.write_all_at(&[!byte[0]], size / 2).unwrap();
            break path;
        }
        assert!(number < 2_000, "no table was written");
    };
    let error = loop {
        number += 1;
        assert!(number < 4_000, "no merge met the damage");
        if let Err(error) = store.commit(&job(number)).wait() {
            break error;
        }
    };
    assert!(error.to_string().contains(&damaged.display().to_string()), "{error}");
    assert!(error.is_retryable() && error.is_certainly_not_applied(), "{error}");
    // It is loaded again, and takes what comes.
    let mut last = store.load(&mut |_| {}).wait().unwrap().counters.commit.0;
    assert_eq!(last, number - 1);
    for _ in 0..600 {
        last += 1;
        store.commit(&job(last)).wait().unwrap();
    }
    let sound = (1..=last).filter(|number| store.specs(&[scattered(*number)]).wait().is_ok()).count() as u64;
    assert!(sound >= last - 4, "{sound} of {last} can be read");
    // There is an end to it, which says what to do.
    let error = loop {
        last += 1;
        assert!(last < 20_000, "there is no end");
        if let Err(error) = store.commit(&job(last)).wait() {
            break error;
        }
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    for part in [&damaged.display().to_string(), "mycelium store salvage"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_table_that_keeps_the_database_closed_is_named() {
    let (folder, store, path) = store_with_a_damaged_table(500);
    drop(store);
    // Its end tells where everything in it is.
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let end = fs::metadata(&path).unwrap().len();
    file.write_all_at(&[0xa5; 64], end - 64).unwrap();
    assert_damaged(folder.path(), &path.display().to_string());
}
