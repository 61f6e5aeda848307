//! A page of a list costs the same whatever the size of the store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

use bytes::Bytes;
use mycelium_core::ids::{FinishNumber, JobId, Timestamp};
use mycelium_core::image::JobHead;
use mycelium_core::status::FinalStatus::{self, Done, Failed};
use mycelium_server::store::{FinishedQuery, FinishedRecord, JobChange};

use store_suite::*;

const JOBS: u64 = 1_000_000;
/// One job in so many fails.
const FAILED_EVERY: u64 = 10_000;
/// The most entries of a page in this test.
const PAGE: usize = 100;

fn id(number: u64) -> JobId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    JobId::new(id)
}

fn status(number: u64) -> FinalStatus {
    if number.is_multiple_of(FAILED_EVERY) { Failed } else { Done }
}

fn ended(number: u64) -> JobChange {
    let record = FinishedRecord {
        head: JobHead {
            id: id(number),
            flow: flow((number % 4) as u8),
            elf: ["scale", "storage", "printer"][(number % 3) as usize].into(),
            ..finished(1, number, status(number)).head
        },
        finish_number: FinishNumber(number),
        finished_at: Timestamp(1_000_000 + number * 10),
        ..finished(1, number, status(number))
    };
    JobChange {
        id: record.head.id,
        flow: record.head.flow,
        created: Some(spec(1, &[])),
        revived: None,
        after: finish_with(record, Bytes::from_static(b"{}")),
    }
}

/// A page reads at most one entry more than it may hold, and is full when an index serves its filters.
#[test]
#[ignore = "writes a million jobs, which takes a minute"]
fn a_page_of_a_million_reads_at_most_one_entry_more() {
    let mut world = World::new(Embedded::default());
    for first in (1..=JOBS).step_by(1_000) {
        world.commit(jobs((first..first + 1_000).map(ended).collect()));
    }
    world.reopen();

    let all = FinishedQuery { limit: PAGE, ..FinishedQuery::default() };
    let middle = Timestamp(1_000_000 + JOBS / 2 * 10);
    let queries = [
        ("all", all.clone()),
        ("from the middle on", FinishedQuery { after: Some(FinishNumber(JOBS / 2)), ..all.clone() }),
        ("flow", FinishedQuery { flow: Some(flow(3)), ..all.clone() }),
        ("elf", FinishedQuery { elf: Some("printer".into()), ..all.clone() }),
        ("failed", FinishedQuery { statuses: vec![Failed], ..all.clone() }),
        ("before the middle", FinishedQuery { finished_before: Some(middle), ..all.clone() }),
    ];
    for (name, query) in queries {
        let page = world.store().list_finished(&query).wait().unwrap();
        assert!(page.entries_read <= PAGE + 1, "{name}: {} entries read", page.entries_read);
        assert!(page.next.is_some() || name == "failed", "{name}");
        // Bounded in time, a page may begin up to the distance of two signposts too early.
        let full = if name == "before the middle" { 0 } else { PAGE };
        assert!(page.jobs.len() >= full, "{name}: {} jobs", page.jobs.len());
    }

    // Filters that no index serves together still read no more, and miss nothing.
    let rare =
        FinishedQuery { flow: Some(flow(0)), elf: Some("scale".into()), statuses: vec![Failed], ..all };
    let pages = world.pages(&rare);
    let found: Vec<_> = pages.iter().flat_map(|page| &page.jobs).map(|job| job.finish_number.0).collect();
    let expected = (1..=JOBS).rev().filter(|number| {
        number.is_multiple_of(FAILED_EVERY) && number.is_multiple_of(4) && number.is_multiple_of(3)
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert_eq!(pages.len(), 1, "the list of a flow's failed jobs is short");

    let around_the_middle = FinishedQuery {
        finished_from: Some(Timestamp(middle.0 - 1_000)),
        finished_before: Some(middle),
        ..FinishedQuery { limit: PAGE, ..FinishedQuery::default() }
    };
    let pages = world.pages(&around_the_middle);
    assert_eq!(pages.iter().map(|page| page.jobs.len()).sum::<usize>(), 100);
    assert!(pages.len() <= 8, "{} pages", pages.len());
}
