//! Lists of finished jobs.

use std::collections::BTreeSet;

use mycelium_core::ids::{FinishNumber, Timestamp};
use mycelium_core::image::JobHead;
use mycelium_core::status::FinalStatus::{self, Cancelled, Done, Expired, Failed, UpstreamFailed};
use mycelium_server::store::{FinishedQuery, FinishedRecord, JobAfter, JobChange};

use super::*;

/// Finishes jobs of three flows, two elves, two tasks and all statuses, `step` finish numbers apart.
fn finish_many(world: &mut World, step: u64) -> Vec<FinishedRecord> {
    let mut records = Vec::new();
    for number in 1..=120_u8 {
        let status = FinalStatus::ALL[usize::from(number) % 7 % 6];
        let end = match status {
            Failed => End::Failed(failure(number % 4)),
            status => finished(number, 1, status).end,
        };
        let record = FinishedRecord {
            end,
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
    let statuses = [
        vec![],
        vec![Done],
        vec![Failed],
        vec![Cancelled, Failed],
        vec![Expired],
        vec![Failed, UpstreamFailed, Cancelled],
    ];
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
    if let Some(prefix) = &query.failure {
        fits &= record.end.failure().is_some_and(|id| prefix.begins(*id));
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

pub(crate) fn jobs_are_listed_by_the_beginning_of_their_failure(world: &mut World) {
    let records = finish_many(world, 1);
    let id = *records.iter().find_map(|record| record.end.failure()).unwrap();
    let other = records.iter().filter_map(|record| record.end.failure()).find(|other| **other != id).unwrap();
    let digits = id.to_string();
    for failure in [&digits, &digits[..6], &digits[..1], &other.to_string()] {
        for flow in [None, Some(flow(1))] {
            let failure = Some(failure.parse().unwrap());
            check(world, &records, &FinishedQuery { flow, failure, limit: 7, ..ALL });
        }
    }
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
