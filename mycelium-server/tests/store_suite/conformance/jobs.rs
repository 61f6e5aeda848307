//! Records of jobs: made, changed, ended, revived and dropped, and what leads from one to others.

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{Attempt, Timestamp};
use mycelium_core::status::FinalStatus::{self, Cancelled, Done, Failed, UpstreamFailed};
use mycelium_core::status::{ExpiredWhy, FinalCounts};
use mycelium_server::store::{
    Batch, BlobDigest, BlobRole, BlobUse, CheckpointRecord, FinishedQuery, FinishedRecord, JobAfter,
    JobChange, SpecRecord,
};

use super::*;

pub(crate) fn a_live_job_is_to_be_evaluated(world: &mut World) {
    let waiting = LiveJob { waits_for: vec![job(7), job(8)], attempt: Attempt(3), ..live(1) };
    world.commit(jobs(vec![created(1, &[7, 8], JobAfter::Live(waiting.clone()))]));
    world.commit(jobs(vec![change(1, JobAfter::Evaluate)]));
    for _ in 0..2 {
        assert_eq!(world.live_job(1), Some(LiveJob { evaluate: true, ..waiting.clone() }));
        world.reopen();
    }
    world.commit(jobs(vec![change(1, finish(finished(1, 1, FinalStatus::Skipped)))]));
    assert_eq!(world.live_job(1), None);
}

pub(crate) fn the_job_that_gathers_an_element_is_its_dependent(world: &mut World) {
    let list = SpecRecord { evaluate: true, ..spec(9, &[]) };
    let element = SpecRecord { gathered_by: Some(job(9)), ..spec(2, &[5]) };
    let new = |number: u8, spec: &SpecRecord| JobChange {
        created: Some(spec.clone()),
        ..change(number, JobAfter::Live(live(number)))
    };
    world.commit(jobs(vec![new(9, &list), new(2, &element)]));
    world.commit(jobs(vec![created(3, &[2], JobAfter::Live(live(3)))]));
    for _ in 0..2 {
        assert_eq!((world.spec(9), world.spec(2)), (Some(list.clone()), Some(element.clone())));
        assert_eq!(dependents(&**world.store(), 2, None, 10), [job(3), job(9)]);
        assert_eq!(dependents(&**world.store(), 5, None, 10), [job(2)]);
        world.reopen();
    }
    world.commit(jobs(vec![change(2, JobAfter::Dropped)]));
    // A store may take its time to remove what was dropped.
    world.reopen();
    assert_eq!(dependents(&**world.store(), 2, None, 10), [job(3)]);
}

pub(crate) fn what_a_job_was_expanded_into_and_how_many_were_skipped_is_kept(world: &mut World) {
    let record = FinishedRecord { elements: Some(0), ..finished(1, 1, Done) };
    let finished_counts = FinalCounts { skipped: 7, ..FinalCounts::default() };
    let flow_record = FlowRecord { finished: finished_counts, ..flow_record(1, "daily report") };
    let batch = jobs(vec![created(1, &[], finish(record.clone()))]);
    world.commit(Batch {
        records: Records { flows: vec![flow_record.clone()], ..Records::default() },
        ..batch
    });
    world.reopen();
    assert_eq!(world.finished_record(1), Some(record));
    assert_eq!(world.store().flows(&[flow(1)]).wait().unwrap().remove(0), Some(flow_record));
}

pub(crate) fn a_job_is_created_and_waits(world: &mut World) {
    let waiting = LiveJob { waits_for: vec![job(7), job(8)], ..live(1) };
    world.commit(jobs(vec![created(1, &[7, 8, 9], JobAfter::Live(waiting.clone()))]));
    for _ in 0..2 {
        assert_eq!(world.spec(1), Some(spec(1, &[7, 8, 9])));
        assert_eq!(world.load().0, std::slice::from_ref(&waiting));
        assert_eq!((world.finished_record(1), world.outputs(1)), (None, None));
        assert_eq!(world.listed(&ALL), [0; 0]);
        world.reopen();
    }
}

pub(crate) fn a_live_job_is_replaced(world: &mut World) {
    world.commit(jobs(vec![created(1, &[], JobAfter::Live(live(1)))]));
    let assigned = LiveJob {
        attempt: Attempt(1),
        running: Some(running()),
        elves_lost: 4,
        elves_lost_alone: 1,
        beside: vec![job(7), job(8)],
        ..live(1)
    };
    world.commit(jobs(vec![change(1, JobAfter::Live(assigned.clone()))]));
    for _ in 0..2 {
        assert_eq!(world.load().0, std::slice::from_ref(&assigned));
        assert_eq!(world.spec(1), Some(spec(1, &[])));
        world.reopen();
    }
}

pub(crate) fn a_job_is_created_and_finishes_in_one_batch(world: &mut World) {
    let record = finished(1, 1, UpstreamFailed);
    world.commit(jobs(vec![created(1, &[2], finish(record.clone()))]));
    for _ in 0..2 {
        assert_eq!(world.load().0, []);
        assert_eq!(world.spec(1), Some(spec(1, &[2])));
        assert_eq!(world.finished_record(1), Some(record.clone()));
        assert_eq!(world.outputs(1), None);
        assert_eq!(world.listed(&ALL), [1]);
        world.reopen();
    }
}

pub(crate) fn a_live_job_finishes(world: &mut World) {
    let mut records: Vec<(u8, FinishedRecord)> =
        (1..).zip(FinalStatus::ALL).map(|(n, status)| (n, finished(n, u64::from(n), status))).collect();
    let total = End::Expired(ExpiredWhy::Total);
    records.push((7, FinishedRecord { end: total, ..finished(7, 7, FinalStatus::Expired) }));
    for (number, record) in records {
        let status = record.end.status();
        world.commit(jobs(vec![created(number, &[], JobAfter::Live(live(number)))]));
        world.commit(jobs(vec![change(number, finish(record.clone()))]));
        for _ in 0..2 {
            assert_eq!(world.live_job(number), None);
            assert_eq!(world.finished_record(number), Some(record.clone()));
            assert_eq!(world.outputs(number).is_some(), status == Done);
            world.reopen();
        }
    }
    assert_eq!(world.listed(&ALL), [7, 6, 5, 4, 3, 2, 1]);
}

pub(crate) fn a_finished_job_is_revived(world: &mut World) {
    for (number, status) in (1..).zip(FinalStatus::ALL) {
        let record = finished(number, u64::from(number), status);
        world.commit(jobs(vec![created(number, &[], finish(record.clone()))]));
        let again = LiveJob { attempt: Attempt(2), ..live(number) };
        let revival =
            JobChange { revived: revived(&record), ..change(number, JobAfter::Live(again.clone())) };
        world.commit(jobs(vec![revival]));
        for _ in 0..2 {
            assert_eq!(world.live_job(number), Some(again.clone()));
            assert_eq!((world.finished_record(number), world.outputs(number)), (None, None));
            assert_eq!(world.listed(&ALL), [0; 0]);
            world.reopen();
        }
        // And it ends again.
        let record = finished(number, 100 + u64::from(number), Done);
        world.commit(jobs(vec![change(number, finish(record.clone()))]));
        assert_eq!(world.finished_record(number), Some(record.clone()));
        assert_eq!(world.listed(&ALL), [100 + u64::from(number)]);
        let revival = JobChange { revived: revived(&record), ..change(number, JobAfter::Live(again)) };
        world.commit(jobs(vec![revival]));
    }
}

pub(crate) fn a_job_is_revived_and_finishes_in_one_batch(world: &mut World) {
    let (first, second) = (finished(1, 1, Failed), finished(1, 2, Cancelled));
    world.commit(jobs(vec![created(1, &[], finish(first.clone()))]));
    world.commit(jobs(vec![JobChange { revived: revived(&first), ..change(1, finish(second.clone())) }]));
    for _ in 0..2 {
        assert_eq!(world.load().0, []);
        assert_eq!(world.finished_record(1), Some(second.clone()));
        assert_eq!(world.listed(&ALL), [2]);
        assert_eq!(world.listed(&FinishedQuery { statuses: vec![Failed], ..ALL }), [0; 0]);
        assert_eq!(world.listed(&FinishedQuery { statuses: vec![Cancelled], ..ALL }), [2]);
        world.reopen();
    }
}

pub(crate) fn outputs_of_any_size_are_kept_and_go_with_a_revival(world: &mut World) {
    for (number, size) in (1..).zip([0, 1, 1023, 1024, 1025, 5_000, 1_000_000]) {
        let outputs = Bytes::from(vec![number; size]);
        let record = finished(number, u64::from(number), Done);
        let end = finish_with(record.clone(), outputs.clone());
        world.commit(jobs(vec![created(number, &[], end)]));
        assert_eq!(world.outputs(number), Some(outputs.clone()));
        world.reopen();
        assert_eq!(world.outputs(number), Some(outputs));
        let revival = JobChange { revived: revived(&record), ..change(number, JobAfter::Live(live(number))) };
        world.commit(jobs(vec![revival]));
        assert_eq!(world.outputs(number), None);
        // What was stored before does not come back with other outputs.
        let record = finished(number, 100 + u64::from(number), Failed);
        world.commit(jobs(vec![change(number, finish(record))]));
        assert_eq!(world.outputs(number), None);
    }
}

pub(crate) fn a_dropped_job_leaves_nothing(world: &mut World) {
    world.commit(jobs(vec![
        created(1, &[7], JobAfter::Live(live(1))),
        created(2, &[7], JobAfter::Live(live(2))),
    ]));
    assert_eq!(dependents(&**world.store(), 7, None, 10), [job(1), job(2)]);
    world.commit(jobs(vec![change(1, JobAfter::Dropped)]));
    for _ in 0..2 {
        assert_eq!((world.spec(1), world.live_job(1)), (None, None));
        assert_eq!(dependents(&**world.store(), 7, None, 10), [job(2)]);
        assert!(world.spec(2).is_some() && world.live_job(2).is_some());
        world.reopen();
    }
}

pub(crate) fn a_job_created_and_dropped_in_one_batch_leaves_nothing(world: &mut World) {
    world.commit(jobs(vec![created(1, &[7], JobAfter::Dropped)]));
    assert_eq!((world.spec(1), world.live_job(1), world.finished_record(1)), (None, None, None));
    assert_eq!(dependents(&**world.store(), 7, None, 10), []);
}

pub(crate) fn reads_of_many_keep_their_order(world: &mut World) {
    world.commit(jobs(vec![
        created(1, &[], finish(finished(1, 1, Done))),
        created(2, &[], JobAfter::Live(live(2))),
        created(3, &[], finish(finished(3, 2, Done))),
    ]));
    let ids = [job(3), job(9), job(2), job(1), job(3)];
    let specs = world.store().specs(&ids).wait().unwrap();
    let numbers: Vec<_> = specs.iter().map(|spec| spec.as_ref().map(|spec| spec.head.number.0)).collect();
    assert_eq!(numbers, [Some(3), None, Some(2), Some(1), Some(3)]);
    let finished = world.store().finished(&ids).wait().unwrap();
    let found: Vec<_> = finished.iter().map(|record| record.as_ref().map(|record| record.head.id)).collect();
    assert_eq!(found, [Some(job(3)), None, None, Some(job(1)), Some(job(3))]);
    let outputs = world.store().outputs(&ids).wait().unwrap();
    assert_eq!(outputs.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true, true]);
    assert_eq!(outputs[0], outputs[4]);
    assert_ne!(outputs[0], outputs[3]);
}

pub(crate) fn dependents_are_listed_in_pages(world: &mut World) {
    let submitted = [5, 3, 4, 1, 2].map(|number| created(number, &[9, 8], JobAfter::Live(live(number))));
    world.commit(jobs(submitted.to_vec()));
    world.commit(jobs(vec![created(6, &[8], JobAfter::Live(live(6)))]));
    world.reopen();
    let store = world.store();
    assert_eq!(dependents(&**store, 9, None, 2), [job(1), job(2)]);
    assert_eq!(dependents(&**store, 9, Some(job(2)), 2), [job(3), job(4)]);
    assert_eq!(dependents(&**store, 9, Some(job(4)), 2), [job(5)]);
    assert_eq!(dependents(&**store, 9, Some(job(5)), 2), []);
    assert_eq!(dependents(&**store, 8, Some(job(4)), 9), [job(5), job(6)]);
    assert_eq!(dependents(&**store, 10, None, 9), []);
}

pub(crate) fn uses_of_blobs_come_and_go_and_are_listed_in_pages(world: &mut World) {
    let used = |blob: u8, number, role| BlobUse { blob: BlobDigest::new([blob; 32]), job: job(number), role };
    let all = [
        used(1, 1, BlobRole::Kept),
        used(1, 1, BlobRole::Argument),
        used(1, 2, BlobRole::Argument),
        used(1, 3, BlobRole::Kept),
    ];
    let begun = [vec![used(0, 1, BlobRole::Kept), used(2, 1, BlobRole::Kept)], all.to_vec()].concat();
    world.commit(Batch { blob_uses_begun: begun, ..Batch::default() });
    world.reopen();
    let blob = BlobDigest::new([1; 32]);
    assert_eq!(world.store().blob_uses(&[blob], None, 3).wait().unwrap(), all[..3]);
    assert_eq!(world.store().blob_uses(&[blob], Some(all[2]), 3).wait().unwrap(), all[3..]);
    assert_eq!(world.store().blob_uses(&[BlobDigest::new([3; 32])], None, 3).wait().unwrap(), []);
    let of_all = |after, limit| world.store().list_blob_uses(after, limit).wait().unwrap();
    assert_eq!(of_all(None, 3), [used(0, 1, BlobRole::Kept), all[0], all[1]]);
    assert_eq!(of_all(Some(all[1]), 9), [all[2], all[3], used(2, 1, BlobRole::Kept)]);
    assert_eq!(of_all(Some(used(1, 9, BlobRole::Kept)), 9).len(), 1, "it need not be there");
    assert_eq!(of_all(Some(used(2, 1, BlobRole::Kept)), 9), []);

    // One that was never there goes as well.
    let ended = vec![all[1], used(1, 9, BlobRole::Kept)];
    world.commit(Batch { blob_uses_ended: ended, ..Batch::default() });
    world.reopen();
    assert_eq!(world.store().blob_uses(&[blob], None, 9).wait().unwrap(), [all[0], all[2], all[3]]);
    assert_eq!(world.store().blob_uses(&[BlobDigest::new([0; 32])], None, 9).wait().unwrap().len(), 1);
}

pub(crate) fn the_newest_checkpoint_of_a_job_is_kept_until_it_is_removed(world: &mut World) {
    let left = |number: u8, attempt: u32, bytes: usize| CheckpointRecord {
        job: job(number),
        attempt: Attempt(attempt),
        at: Timestamp(1_764_411_409_123_456 + u64::from(attempt)),
        body: Bytes::from(vec![number; bytes]),
    };
    let read = |world: &World| {
        let checkpoints = world.store().checkpoints(&[job(3), job(9), job(1)]).wait().unwrap();
        (checkpoints, world.store().list_checkpoints(None, 9).wait().unwrap())
    };
    assert_eq!(read(world), (vec![None, None, None], vec![]));
    world.commit(Batch { checkpoints: vec![left(3, 1, 10), left(1, 1, 64 * 1024)], ..Batch::default() });
    world.commit(Batch { checkpoints: vec![left(3, 2, 0), left(2, 1, 5)], ..Batch::default() });
    for _ in 0..2 {
        let (three, one) = (Some(left(3, 2, 0)), Some(left(1, 1, 64 * 1024)));
        assert_eq!(read(world), (vec![three, None, one], vec![job(1), job(2), job(3)]));
        world.reopen();
    }
    let page = |after, limit| world.store().list_checkpoints(after, limit).wait().unwrap();
    assert_eq!((page(None, 2), page(Some(job(2)), 2)), (vec![job(1), job(2)], vec![job(3)]));

    // One that was never there goes as well; and the records of the job are others.
    world.commit(jobs(vec![created(3, &[], JobAfter::Live(live(3)))]));
    let removed = vec![job(3), job(9), job(2)];
    world.commit(Batch { checkpoints_removed: removed, ..Batch::default() });
    world.reopen();
    assert_eq!(read(world), (vec![None, None, Some(left(1, 1, 64 * 1024))], vec![job(1)]));
    assert_eq!(world.live_job(3), Some(live(3)));
    // And it may come again.
    world.commit(Batch { checkpoints: vec![left(3, 7, 3)], ..Batch::default() });
    assert_eq!(read(world).0[0], Some(left(3, 7, 3)));
}
