//! What is written: batches, one after the other, by one owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mycelium_core::effects::Records;
use mycelium_core::ids::{
    ActionId, Commit, FinishNumber, FlowNumber, InstanceId, JobNumber, PolicyId, SecretDigest, SessionId,
};
use mycelium_core::image::{
    ActionKind, ActionRecord, Counters, JobHead, LiveJob, PauseRecord, PauseTarget, PropagationRecord,
    SessionRecord,
};
use mycelium_core::policy::{Policy, PolicyRecord, RetryPolicy, Timeouts};
use mycelium_core::status::FinalStatus::{Done, Failed};
use mycelium_server::store::{Batch, Error, FinishedRecord, FlowPage, FlowQuery, JobAfter, JobChange};

use super::*;

pub(crate) fn a_new_store_is_empty(world: &mut World) {
    let (jobs, image) = world.load();
    assert_eq!(jobs, []);
    assert_eq!(image.counters, Counters::default());
    assert!(image.flows.is_empty() && image.sessions.is_empty());
    assert!(image.submissions.is_empty() && image.propagations.is_empty());
    assert_eq!((world.spec(1), world.finished_record(1), world.outputs(1)), (None, None, None));
    assert_eq!(world.listed(&ALL), [0; 0]);
    let store = world.store();
    assert_eq!(store.flows(&[flow(1)]).wait().unwrap().remove(0), None);
    assert_eq!(store.flow_named("daily report").wait().unwrap(), None);
    assert_eq!(store.submissions(&[submission(1)]).wait().unwrap().remove(0), None);
    assert_eq!(store.list_blob_uses(None, 10).wait().unwrap(), []);
    assert_eq!(store.list_checkpoints(None, 10).wait().unwrap(), []);
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

pub(crate) fn sessions_submissions_and_propagations_come_and_go(world: &mut World) {
    let session = |number| SessionRecord {
        id: SessionId(number),
        instance: InstanceId::new([number as u8; 16]),
        secret: number.is_multiple_of(2).then(|| SecretDigest::new([number as u8; 32])),
    };
    let propagation = |number| PropagationRecord { cause: job(number) };
    world.commit(Batch {
        records: Records {
            sessions_opened: vec![session(1), session(2), session(300)],
            submissions: vec![submission_record(1, false), submission_record(2, false)],
            propagations_begun: vec![propagation(1), propagation(2)],
            ..Records::default()
        },
        ..Batch::default()
    });
    world.commit(Batch {
        records: Records {
            sessions_ended: vec![SessionId(2)],
            submissions: vec![submission_record(2, true)],
            submissions_dropped: vec![submission(1)],
            propagations_ended: vec![propagation(1)],
            ..Records::default()
        },
        ..Batch::default()
    });
    world.reopen();
    let (_, image) = world.load();
    assert_eq!(image.sessions, [session(1), session(300)]);
    assert_eq!(image.propagations, [propagation(2)]);
    assert_eq!(world.store().submissions(&[submission(1)]).wait().unwrap().remove(0), None);
    assert_eq!(
        world.store().submissions(&[submission(2)]).wait().unwrap().remove(0),
        Some(submission_record(2, true))
    );
}

pub(crate) fn policies_come_and_go_and_keep_what_they_leave_open(world: &mut World) {
    let seconds = |number: u64| Some(Duration::from_micros(number * 1_000_001));
    let all = Policy {
        retry: RetryPolicy {
            attempts: Some(5),
            first: seconds(1),
            factor: Some(2_500),
            cap: seconds(31_000_000),
            jitter: Some(0),
            never: Some([Arc::from("ReadError::NotFound"), Arc::from("Störung")].into()),
            panics: Some(false),
            argument_errors: Some(true),
        },
        timeouts: Timeouts { queue: seconds(2), run: seconds(3), total: seconds(4), progress: seconds(5) },
    };
    let never = Policy {
        retry: RetryPolicy { never: Some([].into()), ..RetryPolicy::default() },
        timeouts: Timeouts { total: seconds(7), ..Timeouts::default() },
    };
    let record = |id, policy: &Policy| PolicyRecord { id: PolicyId(id), policy: policy.clone() };
    let made = [record(1, &never), record(2, &all), record(300, &never), record(70_000, &Policy::default())];
    let records = Records { policies: made.to_vec(), ..Records::default() };
    world.commit(Batch { records, ..Batch::default() });
    let records = Records {
        policies: vec![record(4, &all), record(5, &all)],
        policies_dropped: vec![PolicyId(1), PolicyId(5)],
        ..Records::default()
    };
    world.commit(Batch { records, ..Batch::default() });
    world.reopen();
    let (_, mut image) = world.load();
    image.policies.sort_unstable_by_key(|record| record.id);
    let [_, two, three, four] = made;
    assert_eq!(image.policies, [two, record(4, &all), three, four]);
}

pub(crate) fn pauses_are_kept_until_they_are_over(world: &mut World) {
    let pause = |target: &PauseTarget, by: &str, reason: &str| PauseRecord {
        target: target.clone(),
        since: Timestamp(17),
        by: Arc::from(by),
        reason: Arc::from(reason),
    };
    let long: Arc<str> = Arc::from("ß/ ".repeat(80));
    let targets = [
        PauseTarget::Mycelium,
        PauseTarget::Elf(Arc::clone(&long)),
        PauseTarget::Elf(Arc::from("a")),
        PauseTarget::Task { elf: Arc::clone(&long), task: Arc::clone(&long) },
        PauseTarget::Task { elf: Arc::from("a"), task: Arc::from("b") },
        PauseTarget::Flow(flow(1)),
        PauseTarget::Flow(flow(2)),
    ];
    let all: Vec<PauseRecord> = targets.iter().map(|target| pause(target, "ada@host", "")).collect();
    let records = Records { pauses: all, ..Records::default() };
    world.commit(Batch { records, ..Batch::default() });
    // What begins and ends in one batch has ended.
    let [mycelium, _, elf, _, task, first, _] = &targets;
    let again = pause(first, "bob", "the disk is full");
    let records = Records {
        pauses: vec![again.clone(), pause(elf, "bob", "")],
        pauses_ended: vec![elf.clone(), mycelium.clone(), task.clone()],
        ..Records::default()
    };
    world.commit(Batch { records, ..Batch::default() });
    world.reopen();
    let (_, mut image) = world.load();
    image.pauses.sort_unstable_by_key(|pause| pause.target.clone());
    let [_, one, _, two, _, _, three] = &targets;
    let (one, two, three) =
        (pause(one, "ada@host", ""), pause(two, "ada@host", ""), pause(three, "ada@host", ""));
    assert_eq!(image.pauses, [one, two, again, three]);
}

pub(crate) fn actions_are_kept_until_they_are_forgotten(world: &mut World) {
    let action = |number: u8, kind, place| ActionRecord {
        id: ActionId::new([number; 16]),
        kind,
        filter: Arc::from("status:failed text:\"over quota\" ß"),
        flow: (number == 2).then(|| flow(1)),
        failure: (number == 3).then(|| failure(1)),
        by: Arc::from("ada@host"),
        began_at: Timestamp(17),
        upto: 1 << 50,
        place,
        total: (number > 1).then_some(9),
        done: place,
        refused: 1,
        ended_at: (number == 3).then_some(Timestamp(18)),
    };
    let all = [
        action(1, ActionKind::Retry, 0),
        action(2, ActionKind::Cancel, 0),
        action(3, ActionKind::Delete, 4),
        action(4, ActionKind::Retry, 0),
    ];
    let records = Records { actions: all.to_vec(), ..Records::default() };
    world.commit(Batch { records, ..Batch::default() });
    let further = action(1, ActionKind::Retry, 5);
    let records = Records {
        actions: vec![further.clone()],
        actions_forgotten: vec![ActionId::new([4; 16])],
        ..Records::default()
    };
    world.commit(Batch { records, ..Batch::default() });
    world.reopen();
    let (_, mut image) = world.load();
    image.actions.sort_unstable_by_key(|action| action.id);
    let [_, two, three, _] = all;
    assert_eq!(image.actions, [further, two, three]);
}

pub(crate) fn submissions_are_listed_by_their_ids(world: &mut World) {
    assert_eq!(world.store().list_submissions(None, 9).wait().unwrap(), []);
    let all = [1, 2, 3, 4].map(|number| submission_record(number, number % 2 == 0));
    for submissions in [&all[2..], &all[..2]] {
        world.commit(Batch {
            records: Records { submissions: submissions.to_vec(), ..Records::default() },
            ..Batch::default()
        });
    }
    world.commit(Batch {
        records: Records { submissions_dropped: vec![submission(3)], ..Records::default() },
        ..Batch::default()
    });
    world.reopen();
    let listed = |after: Option<u8>, limit| {
        world.store().list_submissions(after.map(submission), limit).wait().unwrap()
    };
    assert_eq!(listed(None, 9), [all[0], all[1], all[3]]);
    assert_eq!(listed(None, 2), all[..2]);
    assert_eq!(listed(Some(2), 2), all[3..]);
    assert_eq!(listed(Some(3), 2), all[3..], "it need not be there");
    assert_eq!(listed(Some(4), 2), []);
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

pub(crate) fn another_owner_is_kept_out_or_takes_over(world: &mut World) {
    world.commit(jobs(vec![created(1, &[], JobAfter::Live(live(1)))]));
    match world.open_beside() {
        // Nobody else can have what is in the memory of this process.
        None => {}
        Some(Err(error)) => {
            assert!(matches!(error, Error::InUse { .. }), "{error}");
            world.commit(Batch::default());
        }
        Some(Ok(other)) => {
            let mut jobs = 0;
            let image = other.load(&mut |_| jobs += 1).wait().unwrap();
            assert_eq!((jobs, image.counters.commit), (1, world.counters.commit));
            // It may have been on its way when the other took over.
            for _ in 0..2 {
                let error = world.try_commit(Batch::default()).unwrap_err();
                assert!(matches!(error, Error::Fenced { .. }), "{error}");
            }
            let mut batch = Batch::default();
            batch.counters.commit = Commit(world.counters.commit.0 + 1);
            other.commit(&batch).wait().unwrap();
        }
    }
}

pub(crate) fn a_durable_store_has_a_place_for_blobs(world: &mut World) {
    let store = world.store();
    assert_eq!(store.blobs_folder().is_some(), store.is_durable(), "{}", store.kind());
    let (kind, folder) = (store.kind(), store.blobs_folder());
    world.reopen();
    assert_eq!((world.store().kind(), world.store().blobs_folder()), (kind, folder));
}
