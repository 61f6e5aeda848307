//! What is deleted.

use mycelium_core::effects::Records;
use mycelium_core::image::{DeletionRecord, DeletionStage};
use mycelium_core::status::FinalStatus::{self, Done, Failed};
use mycelium_server::store::{Batch, Edges, Erased, FlowPage, FlowQuery, SpecRecord};

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
