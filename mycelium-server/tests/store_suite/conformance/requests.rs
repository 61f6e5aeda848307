//! How many requests each call may take to whatever is behind a store, and for how many keys. A store that is far away
//! pays for each of them; one that counts none is held by its answers alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{Attempt, FlowNumber, JobNumber, Timestamp};
use mycelium_core::image::JobHead;
use mycelium_core::status::FinalStatus::Done;
use mycelium_server::store::{
    Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord, ElfRecord, FlowQuery, JobAfter, RevisionKey,
    RevisionRecord,
};

use super::super::folders::numbered;
use super::*;

/// A call of the contract may name so many keys, and more.
const KEYS: u64 = 500;

/// A new job, which waits.
fn waiting(number: u64) -> JobChange {
    let id = numbered(number);
    let head = JobHead { id, number: JobNumber(number), ..live(1).head };
    let depends_on = vec![job(7)];
    let spec = SpecRecord { head: head.clone(), depends_on, ..spec(1, &[]) };
    let after = JobAfter::Live(LiveJob { head, ..live(1) });
    JobChange { id, flow: flow(1), created: Some(spec), revived: None, after }
}

/// The end of that job.
fn ended(number: u64) -> JobChange {
    let id = numbered(number);
    let record = finished(1, number, Done);
    let head = JobHead { id, number: JobNumber(number), ..record.head };
    let after = finish(FinishedRecord { head, ..record });
    JobChange { id, flow: flow(1), created: None, revived: None, after }
}

fn elf(number: u64) -> ElfRecord {
    ElfRecord {
        name: format!("elf-{number:03}").into(),
        body: Bytes::new(),
        first_seen: Timestamp(number),
        last_seen: Timestamp(number),
    }
}

fn kept(number: u64) -> RevisionRecord {
    RevisionRecord {
        elf: "elf".into(),
        task: format!("task_{number:03}").into(),
        revision: revision(1),
        first_seen: Timestamp(number),
        body: Bytes::new(),
    }
}

fn new_failure(number: u64) -> NewFailure {
    let failure = seen(1, 1, number, "broken");
    let occurrence = OccurrenceRecord { job: numbered(number), ..failure.occurrence };
    NewFailure { id: FailureId::new(*numbered(number).as_bytes()), occurrence, ..failure }
}

fn used(number: u64) -> BlobUse {
    let mut blob = [0; 32];
    blob[..16].copy_from_slice(numbered(number).as_bytes());
    BlobUse { blob: BlobDigest::new(blob), job: numbered(number), role: BlobRole::Kept }
}

/// A batch in which there is everything, in numbers.
fn everything() -> Batch {
    let flows = (1..=KEYS).map(|number| FlowRecord {
        id: FlowId::new(*numbered(number).as_bytes()),
        number: FlowNumber(number),
        ..flow_record(1, "many")
    });
    let submissions = (1..=KEYS).map(|number| SubmissionRecord {
        id: SubmissionId::new(*numbered(number).as_bytes()),
        ..submission_record(1, false)
    });
    Batch {
        jobs: (1..=KEYS).map(waiting).collect(),
        records: Records { flows: flows.collect(), submissions: submissions.collect(), ..Records::default() },
        elves: (1..=KEYS).map(elf).collect(),
        revisions: (1..=KEYS).map(kept).collect(),
        failures: (1..=KEYS).map(new_failure).collect(),
        blob_uses_begun: (1..=KEYS).map(used).collect(),
        ..Batch::default()
    }
}

pub(crate) fn a_commit_is_one_request_whatever_is_in_it(world: &mut World) {
    let numbered = |world: &mut World, mut batch: Batch| {
        batch.counters.commit = Commit(world.counters.commit.0 + 1);
        world.store().commit(&batch).wait().unwrap();
        world.counters.commit = batch.counters.commit;
    };
    let one = Asked { commits: 1, ..Asked::default() };
    world.takes(one, |world| numbered(world, Batch::default()));
    world.takes(one, |world| numbered(world, everything()));
    let ends = Batch { jobs: (1..=KEYS).map(ended).collect(), ..Batch::default() };
    world.takes(one, |world| numbered(world, ends));
}

pub(crate) fn what_a_batch_has_to_know_takes_a_request_for_each_kind_of_record(world: &mut World) {
    let many = KEYS as usize;
    let commit = |reads, keys| Asked { commits: 1, reads, keys };
    // Elves, revisions and failures, none of which are known.
    world.takes(commit(3, 3 * many), |world| world.commit(everything()));
    // What was just seen is remembered.
    let again = Batch { failures: (1..=KEYS).map(new_failure).collect(), ..Batch::default() };
    world.takes(commit(0, 0), |world| world.commit(again));
    // Jobs are made and ended blind.
    let more = (KEYS + 1..=2 * KEYS).map(waiting).collect();
    world.takes(commit(0, 0), |world| world.commit(jobs(more)));
    world.takes(commit(0, 0), |world| world.commit(jobs((1..=KEYS / 2).map(ended).collect())));
    // Those to be evaluated, and the edges of those that are dropped.
    let change = |number, after| JobChange { created: None, after, ..waiting(number) };
    let evaluated = (KEYS / 2 + 1..=KEYS).map(|number| change(number, JobAfter::Evaluate));
    let dropped = (KEYS + 1..=2 * KEYS).map(|number| change(number, JobAfter::Dropped));
    let both = jobs(evaluated.chain(dropped).collect());
    world.takes(commit(2, many / 2 + many), |world| world.commit(both));
    assert_eq!(world.load().0.iter().filter(|job| job.evaluate).count(), many / 2);
}

pub(crate) fn many_keys_are_one_request(world: &mut World) {
    world.commit(everything());
    world.commit(jobs((1..=KEYS / 2).map(ended).collect()));
    let (many, half) = (KEYS as usize, KEYS as usize / 2);
    let ids: Vec<_> = (1..=KEYS).map(numbered).collect();
    let flows: Vec<_> = ids.iter().map(|id| FlowId::new(*id.as_bytes())).collect();
    let submissions: Vec<_> = ids.iter().map(|id| SubmissionId::new(*id.as_bytes())).collect();
    let failures: Vec<_> = ids.iter().map(|id| FailureId::new(*id.as_bytes())).collect();
    let occurrences: Vec<_> = failures.iter().copied().zip(ids.iter().copied()).collect();
    let elves: Vec<Arc<str>> = (1..=KEYS).map(|number| elf(number).name).collect();
    let key = |kept: RevisionRecord| -> RevisionKey { (kept.elf, kept.task, kept.revision) };
    let revisions: Vec<_> = (1..=KEYS).map(|number| key(kept(number))).collect();

    /// One read: how many of what it was asked for it finds.
    fn some<T>(read: &[Option<T>]) -> usize {
        read.iter().flatten().count()
    }
    type Read<'a> = &'a dyn Fn(&dyn Storage) -> usize;
    let reads: [(usize, Read<'_>); 11] = [
        (many, &|store| some(&store.specs(&ids).wait().unwrap())),
        (many, &|store| some(&store.outlines(&ids).wait().unwrap())),
        (half, &|store| some(&store.unfinished(&ids).wait().unwrap())),
        (half, &|store| some(&store.finished(&ids).wait().unwrap())),
        (half, &|store| some(&store.outputs(&ids).wait().unwrap())),
        (many, &|store| some(&store.flows(&flows).wait().unwrap())),
        (many, &|store| some(&store.submissions(&submissions).wait().unwrap())),
        (many, &|store| some(&store.elves(&elves).wait().unwrap())),
        (many, &|store| some(&store.revisions(&revisions).wait().unwrap())),
        (many, &|store| some(&store.failures(&failures).wait().unwrap())),
        (many, &|store| some(&store.occurrences_of(&occurrences).wait().unwrap())),
    ];
    for (place, (found, read)) in reads.into_iter().enumerate() {
        let asked = Asked { reads: 1, keys: many, ..Asked::default() };
        world.takes(asked, |world| assert_eq!(read(&**world.store()), found, "read {place}"));
    }
    // Keys that lead to several entries each, of which there is a limit.
    let leading: Vec<_> = (1..KEYS).map(numbered).chain([job(7)]).collect();
    let blobs: Vec<_> = (1..=KEYS).map(|number| used(number).blob).collect();
    let asked = Asked { reads: 1, keys: many, ..Asked::default() };
    world.takes(asked, |world| {
        assert_eq!(world.store().dependents(&leading, None, half).wait().unwrap().len(), half);
    });
    world.takes(asked, |world| {
        assert_eq!(world.store().blob_uses(&blobs, None, half).wait().unwrap().len(), half);
    });
}

/// All pages of a list, `limit` entries each: `page` gives its entries, and where the next begins.
fn all_of<T: Ord, P>(
    world: &mut World,
    limit: usize,
    keys: usize,
    page: impl Fn(&dyn Storage, Option<P>) -> (Vec<T>, Option<P>),
) {
    let (mut found, mut after) = (BTreeSet::new(), None);
    for left in (0..=KEYS as usize / limit).rev() {
        let (entries, next) = world.takes(Asked { reads: 1, keys, ..Asked::default() }, |world| {
            page(&**world.store(), after.take())
        });
        // The last is empty, unless the one before has said that it is the last.
        assert_eq!(entries.len(), if left == 0 { 0 } else { limit });
        found.extend(entries);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), KEYS as usize, "each is listed once");
}

pub(crate) fn a_page_is_one_request_and_no_longer_than_asked_for(world: &mut World) {
    const LIMIT: usize = 50;
    world.commit(everything());
    world.commit(jobs((1..=KEYS).map(ended).collect()));
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_finished(&FinishedQuery { after, limit: LIMIT, ..ALL }).wait().unwrap();
        assert!(page.entries_read <= LIMIT + 1, "{} entries were read", page.entries_read);
        (page.jobs.into_iter().map(|job| job.head.id).collect(), page.next)
    });
    all_of(world, LIMIT, 0, |store, after| {
        let name = Some("many".to_owned());
        let query = FlowQuery { name, after, limit: LIMIT, ..FlowQuery::default() };
        let page = store.list_flows(&query).wait().unwrap();
        (page.flows.into_iter().map(|flow| flow.id).collect(), page.next)
    });
    all_of(world, LIMIT, 0, |store, after: Option<String>| {
        let page = store.list_elves(after.as_deref(), LIMIT).wait().unwrap();
        let last = page.last().map(|elf| elf.name.to_string());
        (page.into_iter().map(|elf| elf.name).collect(), last)
    });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_revisions("elf", after.as_ref(), LIMIT).wait().unwrap();
        let last = page.last().map(|(place, _)| place.clone());
        (page.into_iter().map(|(_, kept)| kept.task).collect(), last)
    });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_failures(after.as_ref(), LIMIT).wait().unwrap();
        let last = page.entries.last().map(|(place, _)| place.clone());
        (page.entries.into_iter().map(|(_, failure)| failure.id).collect(), last)
    });
    all_of(world, LIMIT, 1, |store, after| {
        let page = store.dependents(&[job(7)], after, LIMIT).wait().unwrap();
        let last = page.last().copied();
        (page, last)
    });
    let blobs: Vec<_> = (1..=KEYS).map(|number| used(number).blob).collect();
    all_of(world, LIMIT, KEYS as usize, |store, after| {
        let page = store.blob_uses(&blobs, after, LIMIT).wait().unwrap();
        let last = page.last().copied();
        (page, last)
    });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_blob_uses(after, LIMIT).wait().unwrap();
        let last = page.last().copied();
        (page, last)
    });
    let checkpoints = (1..=KEYS).map(|number| CheckpointRecord {
        job: numbered(number),
        attempt: Attempt(1),
        at: Timestamp(1),
        body: Bytes::new(),
    });
    world.commit(Batch { checkpoints: checkpoints.collect(), ..Batch::default() });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_checkpoints(after, LIMIT).wait().unwrap();
        let last = page.last().copied();
        (page, last)
    });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_submissions(after, LIMIT).wait().unwrap();
        let last = page.last().map(|submission| submission.id);
        (page.into_iter().map(|submission| submission.id).collect(), last)
    });
    // Occurrences of one failure.
    let occurrences = (1..=KEYS).map(|number| NewFailure { id: failure(1), ..new_failure(number) });
    world.commit(Batch { failures: occurrences.collect(), ..Batch::default() });
    all_of(world, LIMIT, 0, |store, after| {
        let page = store.list_occurrences(failure(1), after, LIMIT).wait().unwrap();
        let last = page.last().map(|(number, _)| *number);
        (page.into_iter().map(|(number, _)| number).collect(), last)
    });
}
