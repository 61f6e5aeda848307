//! What is deleted.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::Timestamp;
use mycelium_core::image::{DeletionRecord, DeletionStage};
use mycelium_core::status::FinalStatus::{self, Done, Failed};
use mycelium_server::store::{
    Batch, Edges, ElfRecord, Erased, FlowPage, FlowQuery, RevisionRecord, SpecRecord, SweptElf,
};

use super::*;

/// A finished job is deleted as a whole.
fn erased(record: &FinishedRecord, depends_on: &[u8], gathered_by: Option<u8>) -> Erased {
    Erased {
        head: record.head.clone(),
        finish_number: record.finish_number,
        status: record.end.status(),
        outputs_bytes: 0,
        edges: Edges {
            depends_on: depends_on.iter().copied().map(job).collect(),
            gathered_by: gathered_by.map(job),
        },
        stub: None,
    }
}

pub(crate) fn deletions_come_and_go(world: &mut World) {
    let deletion = |number, stage| DeletionRecord { flow: flow(number), stage };
    let records = |deletions, deletions_ended| Batch {
        records: Records { deletions, deletions_ended, ..Records::default() },
        ..Batch::default()
    };
    let all = [
        deletion(1, DeletionStage::Checking),
        deletion(2, DeletionStage::Removing),
        deletion(3, DeletionStage::Stubbing),
    ];
    world.commit(records(all.to_vec(), vec![]));
    world.reopen();
    assert_eq!(world.load().1.deletions, all);
    world.commit(records(vec![deletion(1, DeletionStage::Removing)], vec![flow(2), flow(3)]));
    world.reopen();
    assert_eq!(world.load().1.deletions, [deletion(1, DeletionStage::Removing)]);
}

pub(crate) fn what_is_erased_leaves_nothing_in_any_list(world: &mut World) {
    let list = finished(9, 3, Done);
    let element = SpecRecord { gathered_by: Some(job(9)), ..spec(2, &[1]) };
    let (first, second) = (finished(1, 1, Done), finished(2, 2, Failed));
    let mut made = created(2, &[1], finish(second.clone()));
    made.created = Some(element);
    world.commit(jobs(vec![
        created(1, &[], finish_with(first.clone(), vec![7; 5_000].into())),
        made,
        created(9, &[], finish(list.clone())),
        created(3, &[], finish(finished(3, 4, Done))),
    ]));
    assert_eq!(dependents(&**world.store(), 1, None, 10), [job(2)]);
    let whole = Erased { outputs_bytes: 5_000, ..erased(&first, &[], None) };
    world.commit(Batch { erased: vec![erased(&second, &[1], Some(9)), whole], ..Batch::default() });
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        for number in [1, 2] {
            assert_eq!(world.spec(number), None);
            assert_eq!((world.finished_record(number), world.outputs(number)), (None, None));
            assert_eq!(dependents(&**world.store(), number, None, 10), []);
        }
        assert_eq!(world.listed(&ALL), [4, 3]);
        assert_eq!(world.listed(&FinishedQuery { flow: Some(flow(1)), ..ALL }), [4, 3]);
        assert_eq!(world.listed(&FinishedQuery { elf: Some("scale".to_owned()), ..ALL }), [4, 3]);
        for status in FinalStatus::ALL {
            let left: &[u64] = if status == Done { &[4, 3] } else { &[] };
            for flow in [None, Some(flow(1))] {
                assert_eq!(world.listed(&FinishedQuery { flow, statuses: vec![status], ..ALL }), left);
            }
        }
        assert!(world.outputs(3).is_some() && world.spec(9).is_some(), "others stay as they are");
    }
}

pub(crate) fn a_stub_keeps_all_but_its_values(world: &mut World) {
    for (number, outputs) in [(1, 10), (2, 5_000)] {
        let record = finished(number, number.into(), Done);
        let outputs = Bytes::from(vec![7; outputs]);
        world.commit(jobs(vec![created(number, &[], finish_with(record.clone(), outputs.clone()))]));
        world.commit(jobs(vec![created(number + 10, &[number], JobAfter::Live(live(number + 10)))]));
        let stub = SpecRecord { body: "less".into(), ..world.spec(number).unwrap() };
        let erased =
            Erased { outputs_bytes: outputs.len(), stub: Some(stub.clone()), ..erased(&record, &[], None) };
        world.commit(Batch { erased: vec![erased], ..Batch::default() });
        for reopens in [false, true] {
            if reopens {
                world.reopen();
            }
            assert_eq!(world.spec(number), Some(stub.clone()));
            assert_eq!(world.finished_record(number), Some(record.clone()));
            assert_eq!(world.outputs(number), Some(Bytes::new()));
            assert_eq!(dependents(&**world.store(), number, None, 10), [job(number + 10)]);
        }
    }
    assert_eq!(world.listed(&ALL), [2, 1]);
}

pub(crate) fn a_flow_that_is_removed_is_in_no_list(world: &mut World) {
    let record = flow_record(1, "daily report");
    world.counters.flow = record.number;
    world.commit(jobs(vec![]));
    let label = FlowQuery { labels: record.labels.clone(), limit: 9, ..FlowQuery::default() };
    assert_eq!(world.store().list_flows(&label).wait().unwrap().flows, std::slice::from_ref(&record));
    let records = Records { flows_removed: vec![record], ..Records::default() };
    world.commit(Batch { records, ..Batch::default() });
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        let store = world.store();
        assert_eq!(store.flows(&[flow(1)]).wait().unwrap(), [None]);
        assert_eq!(store.flow_named("daily report").wait().unwrap(), None);
        let all = FlowQuery { limit: 9, ..FlowQuery::default() };
        let named = FlowQuery { name: Some("daily report".to_owned()), ..all.clone() };
        for query in [&all, &named, &label] {
            assert_eq!(store.list_flows(query).wait().unwrap(), FlowPage::default());
        }
    }
}

pub(crate) fn an_id_that_was_erased_is_free(world: &mut World) {
    let record = finished(1, 1, Failed);
    world.commit(jobs(vec![created(1, &[5], finish(record.clone()))]));
    world.commit(Batch { erased: vec![erased(&record, &[5], None)], ..Batch::default() });
    world.commit(jobs(vec![created(1, &[6], JobAfter::Live(live(1)))]));
    assert_eq!(world.live_job(1), Some(live(1)));
    assert_eq!(dependents(&**world.store(), 5, None, 10), []);
    assert_eq!(dependents(&**world.store(), 6, None, 10), [job(1)]);
    let again = finished(1, 2, Done);
    world.commit(jobs(vec![change(1, finish(again.clone()))]));
    world.reopen();
    assert_eq!((world.finished_record(1), world.listed(&ALL)), (Some(again), vec![2]));
    assert!(world.outputs(1).is_some());
}

pub(crate) fn occurrences_are_removed_and_failures_of_which_none_is_left(world: &mut World) {
    let mut again = seen(1, 1, 300, "again");
    again.occurrence.attempt = Attempt(2);
    let failures = vec![seen(1, 1, 100, "first"), seen(1, 2, 200, "second"), again, seen(2, 1, 400, "other")];
    world.commit(Batch { failures, ..Batch::default() });
    let found = |world: &World, of: &[(u8, u8)], limit| {
        let of: Vec<_> = of.iter().map(|(of, number)| (failure(*of), job(*number))).collect();
        let mut found = world.store().occurrences_in(&of, limit).wait().unwrap();
        found.sort_unstable();
        found
    };
    let in_first = [(failure(1), job(1), 1), (failure(1), job(1), 3), (failure(2), job(1), 1)];
    assert_eq!(found(world, &[(2, 1), (1, 1), (3, 1)], 10), in_first);
    assert_eq!(found(world, &[(1, 1)], 1).len(), 1);
    let remove = |occurrences: &[_], failures: &[_]| Batch {
        occurrences_removed: occurrences.to_vec(),
        failures_removed: failures.to_vec(),
        ..Batch::default()
    };
    world.commit(remove(&in_first, &[]));
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        assert_eq!(found(world, &[(1, 1), (2, 1)], 10), []);
        let store = world.store();
        let of = [(failure(1), job(1)), (failure(1), job(2))];
        let own: Vec<bool> = store.occurrences_of(&of).wait().unwrap().iter().map(Option::is_some).collect();
        assert_eq!(own, [false, true]);
        let left = store.list_occurrences(failure(1), None, 10).wait().unwrap();
        assert_eq!(left.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        assert_eq!(world.failure_record(1).unwrap().occurrences, 3, "so often it was seen");
    }

    // One that was seen once more than whoever removes it knows stays, and is counted on.
    world.commit(Batch { failures: vec![seen(2, 3, 500, "late")], ..Batch::default() });
    world.commit(remove(&[], &[(failure(2), 1)]));
    assert_eq!(world.failure_record(2).unwrap().occurrences, 2);
    let late = Batch { failures: vec![seen(2, 4, 600, "later")], ..remove(&[], &[(failure(2), 2)]) };
    world.commit(late);
    assert_eq!(world.failure_record(2).unwrap().occurrences, 3, "in the same batch");
    let numbers = |of: &[(_, _, u64)]| of.iter().map(|(_, _, number)| *number).collect::<Vec<_>>();
    let others = [found(world, &[(2, 3)], 10), found(world, &[(2, 4)], 10)].concat();
    assert_eq!(numbers(&others), [2, 3]);

    world.commit(remove(&others, &[(failure(2), 3)]));
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        assert_eq!(world.failure_record(2), None);
        let listed = world.store().list_failures(None, 10).wait().unwrap().entries;
        assert_eq!(listed.iter().map(|(_, failure)| failure.id).collect::<Vec<_>>(), [failure(1)]);
    }
    world.commit(Batch { failures: vec![seen(2, 5, 700, "anew")], ..Batch::default() });
    assert_eq!(world.failure_record(2).unwrap().occurrences, 1, "it is as if it had never been seen");
    assert_eq!(numbers(&found(world, &[(2, 5)], 10)), [1]);
}

pub(crate) fn what_nothing_refers_to_of_an_elf_is_removed_unless_it_is_back(world: &mut World) {
    let elf = |name: &str, at| ElfRecord {
        name: name.into(),
        body: Bytes::from_static(b"elf"),
        first_seen: Timestamp(at),
        last_seen: Timestamp(at),
    };
    let kept = |name: &str, task: &str, number| RevisionRecord {
        elf: name.into(),
        task: task.into(),
        revision: revision(number),
        first_seen: Timestamp(u64::from(number)),
        body: Bytes::from_static(b"revision"),
    };
    let swept = |name: &str, at, whole, revisions: &[(&str, u8)]| Batch {
        elves_swept: vec![SweptElf {
            name: name.into(),
            last_seen: Timestamp(at),
            revisions: revisions
                .iter()
                .map(|(task, number)| (Arc::from(*task), revision(*number), Timestamp(u64::from(*number))))
                .collect(),
            whole,
        }],
        ..Batch::default()
    };
    let left = |world: &World, name: &str| {
        let store = world.store();
        let elf = store.elves(&[name.into()]).wait().unwrap().remove(0);
        let listed = store.list_revisions(name, None, 9).wait().unwrap();
        let read = |(_, record): (_, RevisionRecord)| {
            let key = (record.elf.clone(), record.task.clone(), record.revision);
            assert_eq!(store.revisions(&[key]).wait().unwrap(), [Some(record.clone())]);
            (record.task.to_string(), record.revision.as_bytes()[0])
        };
        (elf.map(|elf| elf.last_seen.0), listed.into_iter().map(read).collect::<Vec<_>>())
    };
    let of = |task: &str, number| (task.to_owned(), number);
    let revisions = vec![kept("a", "", 1), kept("a", "t", 2), kept("a", "t", 3), kept("ab", "t", 2)];
    world.commit(Batch { elves: vec![elf("a", 10), elf("ab", 10)], revisions, ..Batch::default() });

    // It has connected since, with a batch before and with the same one.
    world.commit(swept("a", 9, true, &[("t", 2)]));
    world.commit(Batch { elves: vec![elf("a", 20)], ..swept("a", 10, true, &[("t", 2)]) });
    assert_eq!(left(world, "a"), (Some(20), vec![of("t", 3), of("t", 2), of("", 1)]));

    world.commit(swept("a", 20, false, &[("t", 2)]));
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        assert_eq!(left(world, "a"), (Some(20), vec![of("t", 3), of("", 1)]));
        assert_eq!(left(world, "ab"), (Some(10), vec![of("t", 2)]), "of another elf");
        let gone = world.store().revisions(&[("a".into(), "t".into(), revision(2))]).wait().unwrap();
        assert_eq!(gone, [None]);
    }

    world.commit(swept("a", 20, true, &[("t", 3), ("", 1)]));
    for reopens in [false, true] {
        if reopens {
            world.reopen();
        }
        assert_eq!(left(world, "a"), (None, vec![]));
        assert_eq!(world.store().list_elves(None, 9).wait().unwrap(), [elf("ab", 10)]);
    }
    // It is as if it had never been there.
    world.commit(Batch { elves: vec![elf("a", 30)], revisions: vec![kept("a", "t", 2)], ..Batch::default() });
    assert_eq!(left(world, "a"), (Some(30), vec![of("t", 2)]));
}
