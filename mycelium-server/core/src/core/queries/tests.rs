use std::collections::BTreeSet;

use crate::command::{Command, Scope};
use crate::ids::{FlowId, JobId, Revision, SessionId};
use crate::status::Status;
use crate::testing::{FLOW, TestEnv, id, job, offer, token};
use crate::{Explanation, ListFilter};

#[test]
fn every_unfinished_job_is_explained() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[1, 2])]);
    assert_eq!(env.core.explain(id(1)), Some(Explanation::NoInstance { instances: 0 }));
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    assert_eq!(env.core.explain(id(3)), Some(Explanation::WaitsForJobs { count: 2 }));
    let full = Explanation::NoFreeWindow { instances: 1, draining: 0, window: 1, held: 1, jobs_before: 0 };
    assert_eq!(env.core.explain(id(2)), Some(full));
    let Some(Explanation::Held { connected, .. }) = env.core.explain(id(1)) else { panic!() };
    assert!(connected);
    assert_eq!(env.core.token_task(crate::ids::SessionId(1), token(1, 1)), Some(("elf", "task_run")));
    assert_eq!(env.core.token_task(crate::ids::SessionId(1), token(1, 2)), None);
    env.cancel(Scope::Jobs(vec![id(1)]));
    assert_eq!(env.core.explain(id(1)), None);
}

/// Two flows; the newest flow and the newest job come first.
#[test]
fn lists_go_page_by_page_within_their_bounds() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1]), job(3, &[])]);
    let mut other = env.submit_command(vec![job(4, &[]), job(5, &[])]);
    other.flow = FlowId::new([1; 16]);
    env.batch([Command::Submit(other)]);

    let list = |filter: &ListFilter, limit, scan_max| {
        let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = env.core.list_unfinished(filter, after, limit, scan_max);
            assert!(page.jobs.len() <= limit);
            found.extend(page.jobs.into_iter().map(|job| job.head.id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (found, pages);
            }
        }
    };
    let ids = |numbers: &[u8]| numbers.iter().map(|&number| id(number)).collect::<Vec<JobId>>();
    assert_eq!(list(&ListFilter::default(), 2, 100), (ids(&[5, 4, 3, 2, 1]), 3));
    assert_eq!(list(&ListFilter::default(), 100, 1).0, ids(&[5, 4, 3, 2, 1]));
    let filter = ListFilter { flow: Some(FLOW), ..ListFilter::default() };
    assert_eq!(list(&filter, 100, 100), (ids(&[3, 2, 1]), 1));
    let filter = ListFilter { statuses: vec![Status::Pending], ..ListFilter::default() };
    assert_eq!(list(&filter, 100, 100), (ids(&[2]), 1));
}

#[test]
fn the_revisions_of_attempts_that_are_over_are_told_page_by_page() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[]), job(3, &[]), job(4, &[])]);
    for number in [1, 2] {
        let mut other = offer(3, 3);
        other.tasks[0].revision = Revision::new([number; 32]);
        env.hello(number, None, vec![other], vec![]);
        assert_eq!(env.core.revisions_tried(None, 9).0.len(), usize::from(number) - 1, "they are under way");
        env.batch([Command::Goodbye { session: SessionId(number.into()) }]);
    }
    let both = [1, 2].map(|number| Revision::new([number; 32])).into();
    let (mut after, mut pages) = (None, 0);
    loop {
        let (revisions, next) = env.core.revisions_tried(after, 1);
        assert_eq!(revisions, both);
        pages += 1;
        match next {
            None => break,
            next => after = next,
        }
    }
    assert_eq!(pages, 3, "one was never tried");
    env.cancel(Scope::Jobs(vec![id(1), id(2), id(3)]));
    assert_eq!(
        env.core.revisions_tried(None, 9),
        (BTreeSet::new(), None),
        "they are in the records of what has ended"
    );
}
