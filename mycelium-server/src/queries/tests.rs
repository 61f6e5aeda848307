use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::command::Scope;
use mycelium_core::ids::{FlowId, JobId};

use super::graph::Root;
use super::lineage::LineageOf;
use super::list::{self, JobsQuery};
use super::{Job, PageOf, flows, graph, lineage, values};
use crate::blobs::Blobs;
use crate::broker::{self, Handle, PreparedJob, Running, testing};
use crate::config::Config;
use crate::store::{FaultyStore, MemoryStore, Reads as _};

const FLOW: FlowId = FlowId::new([9; 16]);

fn id(number: u16) -> JobId {
    let mut id = [7; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    JobId::new(id)
}

/// A job that takes what these return.
fn takes(number: u16, of: &[u16]) -> PreparedJob {
    let of: Vec<JobId> = of.iter().copied().map(id).collect();
    testing::takes(id(number), &of, labels())
}

/// A broker with some jobs.
async fn broker(jobs: Vec<PreparedJob>) -> (Arc<FaultyStore>, Running) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let blobs = Blobs::in_memory(Duration::from_secs(3600));
    let running = broker::start(store.clone(), blobs, Config::default()).unwrap();
    running.handle.submit(None, testing::submission(FLOW, jobs)).await.unwrap();
    (store, running)
}

/// How many requests of the store it takes to show `width` jobs that each take what one returned and give it to another:
/// in the graph of their flow, in that around the first, in the lineage up and down, and their values.
async fn requests(width: u16) -> [usize; 5] {
    let middle: Vec<u16> = (1..=width).collect();
    let mut jobs = vec![takes(0, &[])];
    jobs.extend(middle.iter().map(|number| takes(*number, &[0])));
    jobs.push(takes(width + 1, &middle));
    let n_jobs = jobs.len();
    let (store, running) = broker(jobs).await;
    let handle: &Handle = &running.handle;
    let page = PageOf { size: 1_000, ..PageOf::default() };
    let n_edges = 2 * middle.len();
    let of = |job, down| LineageOf { job: id(job), output: String::new(), down, shows_values: false };

    let mut before = store.reads();
    let mut count = || std::mem::replace(&mut before, store.reads());
    let mut counted = [0; 5];
    for (place, root) in [Root::Flow(FLOW), Root::Job { id: id(0), depth: 3 }].into_iter().enumerate() {
        let shown = graph::graph(handle, root, &page, false).await.unwrap();
        assert_eq!((shown.jobs.len(), shown.edges.len(), shown.truncated), (n_jobs, n_edges, false));
        counted[place] = store.reads() - count();
    }
    for (place, (job, down)) in [(width + 1, false), (0, true)].into_iter().enumerate() {
        let shown = lineage::lineage(handle, of(job, down), &page).await.unwrap();
        assert_eq!((shown.jobs.len(), shown.edges.len(), shown.truncated), (n_jobs, n_edges, false));
        counted[2 + place] = store.reads() - count();
    }
    let ids: Vec<JobId> = middle.iter().map(|number| id(*number)).collect();
    assert_eq!(values::of_jobs(handle, &ids).await.unwrap().len(), middle.len());
    counted[4] = store.reads() - count();
    stop(running).await;
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_the_store_do_not_grow_with_the_jobs_of_one_level() {
    let few = requests(2).await;
    assert_eq!(requests(900).await, few);
    assert!(few.iter().all(|count| *count <= 12), "{few:?}");
}

/// A store far away answers with what it had when it was asked. Were it asked before the core, a job that ends meanwhile
/// would be in neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_while_it_is_listed_is_not_left_out() {
    let all = JobsQuery::default;
    for query in [
        all(),
        JobsQuery { flow: Some(FLOW), ..all() },
        JobsQuery { elf: Some("e".to_owned()), ..all() },
        JobsQuery { labels: labels().into(), ..all() },
    ] {
        let (store, running) = broker(vec![takes(0, &[])]).await;
        let handle = &running.handle;
        let page = PageOf::default();
        let (listed, ()) = tokio::join!(
            list::jobs(handle, query.clone(), &page),
            store.hold_read_after(0).during(cancel(handle)),
        );
        assert!(listed.unwrap().entries.iter().any(|job| job.id() == id(0)), "{query:?}");
        stop(running).await;
    }
    let (store, running) = broker(vec![takes(0, &[])]).await;
    let handle = &running.handle;
    // The first finds the flow.
    let held = store.hold_read_after(1);
    let page = PageOf::default();
    let (shown, ()) =
        tokio::join!(graph::graph(handle, Root::Flow(FLOW), &page, false), held.during(cancel(handle)));
    assert_eq!(shown.unwrap().jobs.iter().map(Job::id).collect::<Vec<_>>(), [id(0)]);
    stop(running).await;
}

/// As when more jobs end before the core is asked than it remembers: it has forgotten the flow.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_ends_while_it_is_listed_is_told_with_what_it_ended_with() {
    let (store, running) = broker(vec![takes(0, &[])]).await;
    let before = store.flows(&[FLOW]).await.unwrap().remove(0).unwrap();
    cancel(&running.handle).await;
    stop(running).await;
    let running =
        broker::start(store, Blobs::in_memory(Duration::from_secs(3600)), Config::default()).unwrap();
    let known = running.handle.query(|core, _| core.flow(FLOW).is_some()).await.unwrap();
    assert!(!known, "a core that begins anew knows no flow that has ended");
    let flow = flows::as_they_stand(&running.handle, vec![before]).await.unwrap().remove(0);
    assert_eq!((flow.ready, flow.record.finished.cancelled), (0, 1));
    stop(running).await;
}

async fn cancel(handle: &Handle) {
    assert_eq!(handle.cancel(Scope::Jobs(vec![id(0)])).await.unwrap().cancelled, 1);
}

async fn stop(running: Running) {
    running.handle.stop().await;
    running.ended.await.unwrap().unwrap();
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("of".to_owned(), "tests".to_owned())])
}
