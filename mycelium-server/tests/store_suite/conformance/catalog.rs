//! Flows, elves, revisions and failures.

use bytes::Bytes;
use mycelium_core::effects::Records;
use mycelium_core::ids::{Attempt, FlowNumber, Timestamp};
use mycelium_server::store::{Batch, ElfRecord, FlowQuery, RevisionRecord};

use super::*;

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
