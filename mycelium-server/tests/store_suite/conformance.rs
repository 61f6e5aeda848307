//! What every store has to do. One function for each promise; `suite!` makes tests of them for a kind of store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mycelium_core::ids::{
    Attempt, Commit, FinishNumber, FlowNumber, InstanceId, JobNumber, SecretDigest, SessionId, Timestamp,
};
use mycelium_core::image::{Counters, JobHead, SessionRecord, Settling};
use mycelium_core::labels::Labels;
use mycelium_core::status::FinalStatus::{self, Cancelled, Done, Failed, UpstreamFailed};
use mycelium_server::store::{
    Batch, BlobDigest, BlobRole, BlobUse, ElfRecord, Error, FinishedQuery, FinishedRecord, FlowPage,
    FlowQuery, JobAfter, RevisionRecord,
};

use super::*;

/// Makes a module of tests for a kind of store.
#[macro_export]
macro_rules! suite {
    ($name:ident, $kind:ty) => {
        $crate::suite!($name, $kind;
            a_new_store_is_empty,
            commits_are_numbered_without_gaps,
            counters_are_stored,
            a_job_is_created_and_waits,
            a_live_job_is_replaced,
            a_job_is_created_and_finishes_in_one_batch,
            a_live_job_is_to_be_evaluated,
            the_job_that_gathers_an_element_is_its_dependent,
            what_a_job_was_expanded_into_and_how_many_were_skipped_is_kept,
            a_live_job_finishes,
            a_finished_job_is_revived,
            a_job_is_revived_and_finishes_in_one_batch,
            outputs_of_any_size_are_kept_and_go_with_a_revival,
            a_dropped_job_leaves_nothing,
            a_job_created_and_dropped_in_one_batch_leaves_nothing,
            reads_of_many_keep_their_order,
            dependents_are_listed_in_pages,
            uses_of_blobs_come_and_go_and_are_listed_in_pages,
            flows_are_found_and_listed,
            the_image_has_what_unfinished_jobs_need,
            sessions_submissions_and_settlings_come_and_go,
            elves_are_kept_and_listed,
            revisions_are_kept_once_and_listed_newest_first,
            failures_are_counted_under_their_identity,
            failures_are_listed_last_seen_first,
            finished_jobs_are_listed_by_every_filter,
            a_page_reads_at_most_one_entry_more,
            a_list_bounded_in_time_is_exact,
            a_list_is_exact_after_the_clock_was_set_back,
            revived_jobs_leave_every_list,
            a_read_sees_all_of_a_batch_or_nothing,
            a_name_longer_than_a_key_is_refused_or_kept,
        );
    };
    ($name:ident, $kind:ty; $($test:ident,)+) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    let mut world = $crate::store_suite::World::new(<$kind>::default());
                    $crate::store_suite::conformance::$test(&mut world);
                }
            )+
        }
    };
}

const ALL: FinishedQuery = FinishedQuery {
    flow: None,
    elf: None,
    task: None,
    statuses: Vec::new(),
    labels: Labels::NONE,
    finished_from: None,
    finished_before: None,
    after: None,
    limit: 100,
};

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

pub(crate) fn a_new_store_is_empty(world: &mut World) {
    let (jobs, image) = world.load();
    assert_eq!(jobs, []);
    assert_eq!(image.counters, Counters::default());
    assert!(image.flows.is_empty() && image.sessions.is_empty());
    assert!(image.submissions.is_empty() && image.settling.is_empty());
    assert_eq!((world.spec(1), world.finished_record(1), world.outputs(1)), (None, None, None));
    assert_eq!(world.listed(&ALL), [0; 0]);
    let store = world.store();
    assert_eq!(store.flows(&[flow(1)]).wait().unwrap().remove(0), None);
    assert_eq!(store.flow_named("daily report").wait().unwrap(), None);
    assert_eq!(store.submissions(&[submission(1)]).wait().unwrap().remove(0), None);
    assert_eq!(store.elves(&["scale".into()]).wait().unwrap().remove(0), None);
    assert_eq!(store.revisions(&[("scale".into(), "".into(), revision(1))]).wait().unwrap().remove(0), None);
    assert_eq!(store.failures(&[failure(1)]).wait().unwrap().remove(0), None);
    assert_eq!(dependents(&**store, 1, None, 10), []);
    assert_eq!(store.list_flows(&FlowQuery::default()).wait().unwrap(), FlowPage::default());
    assert_eq!(store.list_elves(None, 10).wait().unwrap(), []);
    assert_eq!(store.list_revisions("scale", None, 10).wait().unwrap(), []);
    assert_eq!(store.list_failures(None, 10).wait().unwrap().entries, []);
    assert_eq!(store.list_occurrences(failure(1), None, 10).wait().unwrap(), []);
}

pub(crate) fn commits_are_numbered_without_gaps(world: &mut World) {
    world.commit(Batch::default());
    world.commit(Batch::default());
    for given in [0, 1, 2, 4, u64::MAX] {
        let mut batch = jobs(vec![created(1, &[], JobAfter::Live(live(1)))]);
        batch.counters.commit = Commit(given);
        match world.store().commit(&batch).wait() {
            Err(error @ Error::OutOfOrder { last: Commit(2), given: Commit(refused) }) => {
                assert_eq!(refused, given);
                assert!(error.is_certainly_not_applied() && !error.is_retryable());
            }
            other => panic!("commit {given} after 2: {other:?}"),
        }
    }
    assert_eq!(world.spec(1), None);
    world.reopen();
    assert_eq!(world.load().1.counters.commit, Commit(2));
    world.commit(Batch::default());
}

pub(crate) fn counters_are_stored(world: &mut World) {
    world.counters = Counters {
        commit: Commit(0),
        job: JobNumber(11),
        flow: FlowNumber(12),
        finish: FinishNumber(13),
        session: SessionId(u64::MAX),
    };
    world.commit(Batch::default());
    world.reopen();
    assert_eq!(world.load().1.counters, world.counters);
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
    let assigned = LiveJob { attempt: Attempt(1), running: Some(running()), elves_lost: 4, ..live(1) };
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
    for (number, status) in (1..).zip(FinalStatus::ALL) {
        let record = finished(number, u64::from(number), status);
        world.commit(jobs(vec![created(number, &[], JobAfter::Live(live(number)))]));
        world.commit(jobs(vec![change(number, finish(record.clone()))]));
        for _ in 0..2 {
            assert_eq!(world.live_job(number), None);
            assert_eq!(world.finished_record(number), Some(record.clone()));
            assert_eq!(world.outputs(number).is_some(), status == Done);
            world.reopen();
        }
    }
    assert_eq!(world.listed(&ALL), [5, 4, 3, 2, 1]);
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

    // One that was never there goes as well.
    let ended = vec![all[1], used(1, 9, BlobRole::Kept)];
    world.commit(Batch { blob_uses_ended: ended, ..Batch::default() });
    world.reopen();
    assert_eq!(world.store().blob_uses(&[blob], None, 9).wait().unwrap(), [all[0], all[2], all[3]]);
    assert_eq!(world.store().blob_uses(&[BlobDigest::new([0; 32])], None, 9).wait().unwrap().len(), 1);
}

pub(crate) fn flows_are_found_and_listed(world: &mut World) {
    let names = ["a", "b", "a", "", "ab"];
    let flows: Vec<_> = (1..).zip(names).map(|(number, name)| flow_record(number, name)).collect();
    for flow in &flows {
        world.commit(Batch {
            records: Records { flows: vec![flow.clone()], ..Records::default() },
            ..Batch::default()
        });
    }
    // A flow that changes stays where it is in the lists.
    let mut changed = flows[0].clone();
    changed.finished.done = 77;
    world.commit(Batch {
        records: Records { flows: vec![changed.clone()], ..Records::default() },
        ..Batch::default()
    });
    world.reopen();
    let store = world.store();
    let listed = |query: FlowQuery| -> Vec<u64> {
        let page = store.list_flows(&query).wait().unwrap();
        page.flows.iter().map(|flow| flow.number.0).collect()
    };
    let numbers = |name: Option<&str>, after: Option<u64>, limit| {
        let (name, after) = (name.map(str::to_owned), after.map(FlowNumber));
        listed(FlowQuery { name, after, limit, ..FlowQuery::default() })
    };
    let labelled = |name: Option<&str>, labels| {
        let (name, labels) = (name.map(str::to_owned), labels_of(labels));
        listed(FlowQuery { name, labels, limit: 9, ..FlowQuery::default() })
    };
    assert_eq!(labelled(None, &[("odd", "1")]), [3, 1]);
    assert_eq!(labelled(None, &[("odd", "0"), ("high", "1")]), [2]);
    assert_eq!(labelled(Some("a"), &[("high", "1")]), [3]);
    assert_eq!(labelled(None, &[("high", "2")]), [0; 0]);
    assert_eq!(labelled(None, &[("hig", "h1")]), [0; 0]);
    let first = FlowQuery { labels: labels_of(&[("odd", "1")]), limit: 1, ..FlowQuery::default() };
    assert_eq!(store.list_flows(&first).wait().unwrap().next, Some(FlowNumber(3)));
    assert_eq!(store.flows(&[flow(1)]).wait().unwrap().remove(0), Some(changed));
    assert_eq!(store.flow_named("a").wait().unwrap().as_ref(), Some(&flows[2]));
    assert_eq!(store.flow_named("").wait().unwrap().as_ref(), Some(&flows[3]));
    assert_eq!(store.flow_named("c").wait().unwrap(), None);
    assert_eq!(numbers(None, None, 3), [5, 4, 3]);
    assert_eq!(numbers(None, Some(3), 3), [2, 1]);
    assert_eq!(numbers(None, Some(1), 3), [0; 0]);
    assert_eq!(numbers(Some("a"), None, 1), [3]);
    assert_eq!(numbers(Some("a"), Some(3), 9), [1]);
    assert_eq!(numbers(Some("c"), None, 9), [0; 0]);
}

pub(crate) fn the_image_has_what_unfinished_jobs_need(world: &mut World) {
    let with_submission = LiveJob { submission: Some(submission(1)), ..live(1) };
    world.commit(Batch {
        records: Records { submissions: vec![submission_record(1, true)], ..jobs(vec![]).records },
        ..jobs(vec![
            created(1, &[], JobAfter::Live(with_submission)),
            created(2, &[], finish(finished(2, 1, Done))),
        ])
    });
    world.reopen();
    let (jobs, image) = world.load();
    assert_eq!(jobs.len(), 1);
    assert_eq!(image.flows, [flow_record(1, "daily report")]);
    assert_eq!(image.submissions, [submission_record(1, true)]);
}

pub(crate) fn sessions_submissions_and_settlings_come_and_go(world: &mut World) {
    let session = |number| SessionRecord {
        id: SessionId(number),
        instance: InstanceId::new([number as u8; 16]),
        secret: number.is_multiple_of(2).then(|| SecretDigest::new([number as u8; 32])),
    };
    let settling = |number| Settling { cause: job(number) };
    world.commit(Batch {
        records: Records {
            sessions_opened: vec![session(1), session(2), session(300)],
            submissions: vec![submission_record(1, false), submission_record(2, false)],
            settling_begun: vec![settling(1), settling(2)],
            ..Records::default()
        },
        ..Batch::default()
    });
    world.commit(Batch {
        records: Records {
            sessions_ended: vec![SessionId(2)],
            submissions: vec![submission_record(2, true)],
            submissions_dropped: vec![submission(1)],
            settling_ended: vec![settling(1)],
            ..Records::default()
        },
        ..Batch::default()
    });
    world.reopen();
    let (_, image) = world.load();
    assert_eq!(image.sessions, [session(1), session(300)]);
    assert_eq!(image.settling, [settling(2)]);
    assert_eq!(world.store().submissions(&[submission(1)]).wait().unwrap().remove(0), None);
    assert_eq!(
        world.store().submissions(&[submission(2)]).wait().unwrap().remove(0),
        Some(submission_record(2, true))
    );
}

pub(crate) fn elves_are_kept_and_listed(world: &mut World) {
    let elf = |name: &str, first: u64, last: u64| ElfRecord {
        name: name.into(),
        body: Bytes::from(format!("{name} at {last}")),
        first_seen: Timestamp(first),
        last_seen: Timestamp(last),
    };
    world.commit(Batch { elves: vec![elf("b", 1, 1), elf("ab", 2, 2), elf("a", 3, 3)], ..Batch::default() });
    world.commit(Batch { elves: vec![elf("b", 9, 9)], ..Batch::default() });
    world.reopen();
    let store = world.store();
    assert_eq!(store.elves(&["b".into()]).wait().unwrap().remove(0), Some(elf("b", 1, 9)));
    assert_eq!(store.elves(&["c".into()]).wait().unwrap().remove(0), None);
    assert_eq!(store.list_elves(None, 2).wait().unwrap(), [elf("a", 3, 3), elf("ab", 2, 2)]);
    assert_eq!(store.list_elves(Some("ab"), 2).wait().unwrap(), [elf("b", 1, 9)]);
    assert_eq!(store.list_elves(Some("b"), 2).wait().unwrap(), []);
}

pub(crate) fn revisions_are_kept_once_and_listed_newest_first(world: &mut World) {
    let record = |elf: &str, task: &str, number, at| RevisionRecord {
        elf: elf.into(),
        task: task.into(),
        revision: revision(number),
        first_seen: Timestamp(at),
        body: Bytes::from(format!("{elf} {task} at {at}")),
    };
    let (elf, first, other) = (record("a", "", 1, 10), record("a", "t", 2, 10), record("ab", "t", 2, 30));
    world.commit(Batch { revisions: vec![elf.clone(), first.clone(), other.clone()], ..Batch::default() });
    let newer = record("a", "t", 3, 20);
    let again = record("a", "t", 2, 20);
    world.commit(Batch { revisions: vec![newer.clone(), again], ..Batch::default() });
    world.reopen();
    let store = world.store();
    assert_eq!(
        store.revisions(&[("a".into(), "t".into(), revision(2))]).wait().unwrap().remove(0),
        Some(first.clone())
    );
    assert_eq!(
        store.revisions(&[("a".into(), "".into(), revision(1))]).wait().unwrap().remove(0),
        Some(elf.clone())
    );
    assert_eq!(store.revisions(&[("a".into(), "".into(), revision(2))]).wait().unwrap().remove(0), None);
    let page = store.list_revisions("a", None, 2).wait().unwrap();
    assert_eq!(page.iter().map(|(_, record)| record).collect::<Vec<_>>(), [&newer, &elf]);
    let rest = store.list_revisions("a", Some(&page[1].0), 2).wait().unwrap();
    assert_eq!(rest.iter().map(|(_, record)| record).collect::<Vec<_>>(), [&first]);
    assert_eq!(store.list_revisions("a", Some(&rest[0].0), 2).wait().unwrap(), []);
    assert_eq!(store.list_revisions("ab", None, 9).wait().unwrap().len(), 1);
}

pub(crate) fn failures_are_counted_under_their_identity(world: &mut World) {
    world.commit(Batch { failures: vec![seen(1, 1, 100, "first")], ..Batch::default() });
    // Several times in a batch, and not in the order of time.
    let failures = vec![seen(1, 2, 300, "second"), seen(2, 3, 250, "other"), seen(1, 4, 200, "third")];
    world.commit(Batch { failures, ..Batch::default() });
    for _ in 0..2 {
        let record = world.failure_record(1).unwrap();
        assert_eq!(
            (record.occurrences, record.first_seen, record.last_seen),
            (3, Timestamp(100), Timestamp(200)),
            "the clock may have been set back before the last"
        );
        assert_eq!(record.body, "third");
        assert_eq!(world.failure_record(2).unwrap().occurrences, 1);
        let occurrences = world.store().list_occurrences(failure(1), None, 2).wait().unwrap();
        let told: Vec<_> = occurrences.iter().map(|(number, one)| (*number, one.message.as_str())).collect();
        assert_eq!(told, [(3, "third"), (2, "second")]);
        for (number, told) in
            [(1, Some("first")), (2, Some("second")), (4, Some("third")), (3, None), (9, None)]
        {
            let own = world.store().occurrences_of(&[(failure(1), job(number))]).wait().unwrap().remove(0);
            assert_eq!(own.as_ref().map(|own| own.message.as_str()), told, "of job {number}");
        }
        let rest = world.store().list_occurrences(failure(1), Some(2), 2).wait().unwrap();
        assert_eq!(rest, [(1, seen(1, 1, 100, "first").occurrence)]);
        world.reopen();
    }
    // A job that fails again in the same way has one more occurrence, and that is its own from then on.
    let mut again = seen(1, 1, 400, "again");
    again.occurrence.attempt = Attempt(2);
    world.commit(Batch { failures: vec![again.clone()], ..Batch::default() });
    for _ in 0..2 {
        assert_eq!(
            world.store().occurrences_of(&[(failure(1), job(1))]).wait().unwrap().remove(0).as_ref(),
            Some(&again.occurrence)
        );
        world.reopen();
    }
}

pub(crate) fn failures_are_listed_last_seen_first(world: &mut World) {
    let at = [(1, 100), (2, 300), (3, 200), (4, 200)];
    let failures = at.map(|(number, at)| seen(number, 1, at, "once")).to_vec();
    world.commit(Batch { failures, ..Batch::default() });
    let ids = |world: &World, after: Option<_>| -> (Vec<_>, Option<_>) {
        let page = world.store().list_failures(after.as_ref(), 2).wait().unwrap().entries;
        (page.iter().map(|(_, record)| record.id).collect(), page.last().map(|(place, _)| place.clone()))
    };
    let (first, place) = ids(world, None);
    assert_eq!(first, [failure(2), failure(3)]);
    assert_eq!(ids(world, place).0, [failure(4), failure(1)]);
    // One that is seen again moves to the front, and stands there once.
    world.commit(Batch { failures: vec![seen(1, 1, 400, "again")], ..Batch::default() });
    world.reopen();
    let (first, place) = ids(world, None);
    assert_eq!(first, [failure(1), failure(2)]);
    let (second, place) = ids(world, place);
    assert_eq!(second, [failure(3), failure(4)]);
    assert_eq!(ids(world, place).0, []);
}

/// Finishes jobs of three flows, two elves, two tasks and all statuses, `step` finish numbers apart.
fn finish_many(world: &mut World, step: u64) -> Vec<FinishedRecord> {
    let mut records = Vec::new();
    for number in 1..=120_u8 {
        let status = FinalStatus::ALL[usize::from(number) % 7 % 5];
        let record = FinishedRecord {
            head: JobHead {
                flow: flow(number % 3),
                elf: ["scale", "storage"][usize::from(number % 2)].into(),
                task: ["task_a", "task_b"][usize::from(number / 2 % 2)].into(),
                labels: labels(number),
                ..finished(number, u64::from(number) * step, status).head
            },
            ..finished(number, u64::from(number) * step, status)
        };
        records.push(record.clone());
        world.commit(jobs(vec![created(number, &[], finish(record))]));
    }
    records.reverse();
    records
}

fn every_query() -> Vec<FinishedQuery> {
    let mut queries = Vec::new();
    let statuses =
        [vec![], vec![Done], vec![Failed], vec![Cancelled, Failed], vec![Failed, UpstreamFailed, Cancelled]];
    for flow in [None, Some(flow(1)), Some(flow(9))] {
        for elf in [None, Some("scale".to_owned()), Some("scal".to_owned())] {
            for task in [None, Some("task_b".to_owned())] {
                for statuses in &statuses {
                    for limit in [1, 2, 7, 1000] {
                        for labels in [&[][..], &[("odd", "1")], &[("odd", "0"), ("high", "1")]] {
                            let (elf, task, statuses) = (elf.clone(), task.clone(), statuses.clone());
                            let labels = labels_of(labels);
                            queries.push(FinishedQuery { flow, elf, task, statuses, labels, limit, ..ALL });
                        }
                    }
                }
            }
        }
    }
    queries
}

fn labels_of(labels: &[(&str, &str)]) -> Labels {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    labels.collect::<BTreeMap<_, _>>().into()
}

/// Whether a job fits a query: written again, so as not to test the filter with itself.
fn fits(record: &FinishedRecord, query: &FinishedQuery) -> bool {
    let mut fits = true;
    if let Some(flow) = query.flow {
        fits &= record.head.flow == flow;
    }
    if let Some(elf) = &query.elf {
        fits &= *record.head.elf == **elf;
    }
    if let Some(task) = &query.task {
        fits &= *record.head.task == **task;
    }
    if !query.statuses.is_empty() {
        fits &= query.statuses.contains(&record.end.status());
    }
    for (key, value) in query.labels.iter() {
        fits &= record.head.labels.iter().any(|label| label == (key, value));
    }
    if let Some(from) = query.finished_from {
        fits &= record.finished_at >= from;
    }
    if let Some(before) = query.finished_before {
        fits &= record.finished_at < before;
    }
    fits
}

fn check(world: &World, records: &[FinishedRecord], query: &FinishedQuery) {
    let expected: Vec<_> = records.iter().filter(|record| fits(record, query)).collect();
    let pages = world.pages(query);
    let listed: Vec<_> = pages.iter().flat_map(|page| &page.jobs).collect();
    assert_eq!(listed, expected, "{query:?}");
}

pub(crate) fn finished_jobs_are_listed_by_every_filter(world: &mut World) {
    let records = finish_many(world, 1);
    for query in every_query() {
        check(world, &records, &query);
    }
    world.reopen();
    check(world, &records, &ALL);
}

pub(crate) fn a_page_reads_at_most_one_entry_more(world: &mut World) {
    let records = finish_many(world, 1);
    // `pages` checks each page. A list without filters has full ones.
    for limit in [1, 7, 59, 60, 120, 121] {
        let pages = world.pages(&FinishedQuery { limit, ..ALL });
        assert_eq!(pages.len(), records.len().div_ceil(limit), "limit {limit}");
        let (last, full) = pages.split_last().unwrap();
        assert!(full.iter().all(|page| page.jobs.len() == limit && page.entries_read == limit + 1));
        assert_eq!((last.next, last.entries_read), (None, last.jobs.len()));
    }
    let page = world.store().list_finished(&FinishedQuery { limit: 0, ..ALL }).wait().unwrap();
    assert_eq!((page.jobs.len(), page.next), (1, Some(FinishNumber(120))));
}

pub(crate) fn a_list_bounded_in_time_is_exact(world: &mut World) {
    // Far apart, so that whatever leads from times to places has many of its marks between them.
    let records = finish_many(world, 100);
    let first = records.last().unwrap().finished_at.0;
    let last = records[0].finished_at.0;
    for query in
        [ALL, FinishedQuery { flow: Some(flow(1)), limit: 3, statuses: vec![Failed, Cancelled], ..ALL }]
    {
        for from in [0, first, first + 1, first + 5_000, last, last + 1] {
            for before in [0, first, first + 1, first + 7_300, last, last + 1, u64::MAX] {
                let (finished_from, finished_before) = (Some(Timestamp(from)), Some(Timestamp(before)));
                check(world, &records, &FinishedQuery { finished_from, finished_before, ..query.clone() });
            }
        }
    }
}

pub(crate) fn a_list_is_exact_after_the_clock_was_set_back(world: &mut World) {
    let mut records = Vec::new();
    let mut moment = 100_000;
    for number in 1..=100_u8 {
        moment = match number {
            40 => moment - 1_500,
            70 => moment - 5_000,
            _ => moment + 100,
        };
        let record = FinishedRecord {
            finished_at: Timestamp(moment),
            ..finished(number, u64::from(number) * 128, Done)
        };
        world.commit(jobs(vec![created(number, &[], finish(record.clone()))]));
        records.insert(0, record);
        if number == 60 {
            world.reopen();
        }
    }
    for from in (98_000..106_000).step_by(350) {
        for before in (98_000..106_000).step_by(350) {
            let (finished_from, finished_before) = (Some(Timestamp(from)), Some(Timestamp(before)));
            check(world, &records, &FinishedQuery { finished_from, finished_before, ..ALL });
        }
    }
}

pub(crate) fn revived_jobs_leave_every_list(world: &mut World) {
    let mut records = finish_many(world, 1);
    let gone: BTreeSet<_> = records
        .iter()
        .filter(|record| record.finish_number.0 % 2 == 0)
        .map(|record| record.finish_number)
        .collect();
    for record in records.iter().filter(|record| gone.contains(&record.finish_number)) {
        let number = record.head.id.as_bytes()[0];
        let revival = JobChange { revived: revived(record), ..change(number, JobAfter::Live(live(number))) };
        world.commit(jobs(vec![revival]));
    }
    records.retain(|record| !gone.contains(&record.finish_number));
    for query in every_query() {
        check(world, &records, &query);
    }
}

pub(crate) fn a_read_sees_all_of_a_batch_or_nothing(world: &mut World) {
    // Each batch ends one job and revives another, so that exactly one of the two is ever finished.
    let (even, odd) = (|number| finished(1, number, Done), |number| finished(2, number, Failed));
    world.commit(jobs(vec![created(1, &[], finish(even(2))), created(2, &[], JobAfter::Live(live(2)))]));
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, done) = (world.store().clone(), done.clone());
        move || {
            let mut reads = 0_u32;
            while !done.load(Ordering::Acquire) || reads == 0 {
                let page = store.list_finished(&ALL).wait().unwrap();
                assert_eq!(page.jobs.len(), 1, "{page:?}");
                let found = store.finished(&[job(1), job(2)]).wait().unwrap();
                assert_eq!(found.iter().flatten().count(), 1, "{found:?}");
                reads += 1;
            }
        }
    });
    for number in 3..300 {
        let (ends, revives) = if number % 2 == 0 {
            (change(1, finish(even(number))), (2, odd(number - 1)))
        } else {
            (change(2, finish(odd(number))), (1, even(number - 1)))
        };
        let (other, record) = revives;
        let revival = JobChange { revived: revived(&record), ..change(other, JobAfter::Live(live(other))) };
        world.commit(jobs(vec![ends, revival]));
    }
    done.store(true, Ordering::Release);
    reader.join().unwrap();
}

pub(crate) fn a_name_longer_than_a_key_is_refused_or_kept(world: &mut World) {
    let name = "n".repeat(70_000);
    let record = FinishedRecord {
        head: JobHead { elf: name.as_str().into(), ..finished(1, 1, Done).head },
        ..finished(1, 1, Done)
    };
    match world.try_commit(jobs(vec![created(1, &[], finish(record.clone()))])) {
        Ok(()) => assert_eq!(world.finished_record(1), Some(record)),
        Err(error @ Error::Refused { .. }) => {
            assert!(error.is_certainly_not_applied() && !error.is_retryable());
            assert_eq!((world.spec(1), world.finished_record(1)), (None, None));
        }
        Err(other) => panic!("{other}"),
    }
    // And the store goes on.
    world.commit(jobs(vec![created(2, &[], finish(finished(2, 2, Done)))]));
    assert_eq!(world.store().elves(&[name.into()]).wait().unwrap().remove(0), None);
}
