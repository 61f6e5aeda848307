use std::time::Duration;

use bytes::Bytes;
use mycelium_core::ids::ContentDigest;
use mycelium_core::image::JobHead;

use super::*;
use crate::blobs::Blobs;
use crate::broker::{PreparedJob, testing};
use crate::config::Config;
use crate::store::MemoryStore;

const FLOW: FlowId = FlowId::new([9; 16]);
const ROOT: JobId = id(1);

const fn id(number: u8) -> JobId {
    JobId::new([number; 16])
}

/// A broker with a job that is cancelled, and those that depend on it: three that wait for it, and a chain behind the last.
async fn with_a_cancelled_job() -> Handle {
    let blobs = Blobs::in_memory(Duration::from_secs(3600));
    let handle = crate::broker::start(Arc::new(MemoryStore::new()), blobs, Config::default()).unwrap().handle;
    let job = |number: u8, depends_on: Vec<JobId>| PreparedJob {
        head: JobHead { id: id(number), elf: Arc::from("e"), task: Arc::from("t"), ..JobHead::default() },
        blobs: Vec::new(),
        depends_on,
        evaluate: false,
        body: Bytes::new(),
        judged: mycelium_core::signature::Judged::NOT,
        policy: None,
        begins: mycelium_core::command::Begins::default(),
        digest: ContentDigest::default(),
    };
    let mut jobs = vec![job(1, Vec::new())];
    jobs.extend((2..=4).map(|number| job(number, vec![ROOT])));
    jobs.extend((5..=8).map(|number| job(number, vec![id(number - 1)])));
    handle.submit(None, testing::submission(FLOW, jobs)).await.unwrap();
    handle.cancel(Scope::Jobs(vec![ROOT])).await.unwrap();
    handle
}

/// Retries until all is back; how many calls that took.
async fn retry_all(handle: &Handle, scope: Scope, max: usize) -> (usize, Retried) {
    let mut total = Retried::default();
    for calls in 1..=20 {
        let some = handle.retry_up_to(scope.clone(), &RetryPolicy::default(), max).await.unwrap();
        assert!(some.revived <= max as u64 * 2, "{some:?}");
        total.retried += some.retried;
        total.revived += some.revived;
        if !some.is_cut_short {
            return (calls, total);
        }
    }
    panic!("it has no end: {total:?}");
}

#[tokio::test]
async fn a_retry_that_stops_at_its_bound_says_so_and_goes_on_when_it_is_repeated() {
    for scope in [Scope::Jobs(vec![ROOT]), Scope::Flow(FLOW)] {
        let handle = with_a_cancelled_job().await;
        let (calls, total) = retry_all(&handle, scope.clone(), 3).await;
        assert!(calls > 1, "{scope:?}: one call brought all back");
        assert_eq!((total.retried, total.revived), (1, 7), "{scope:?}");
        let unfinished = handle.query(|core, _| (1..=8).filter(|n| core.job(id(*n)).is_some()).count());
        assert_eq!(unfinished.await.unwrap(), 8, "{scope:?}");
        // Repeated once more it is harmless.
        assert_eq!(handle.retry_up_to(scope, &RetryPolicy::default(), 3).await.unwrap(), Retried::default());
    }
}

#[tokio::test]
async fn a_retry_within_its_bound_is_done_at_once() {
    for scope in [Scope::Jobs(vec![ROOT]), Scope::Flow(FLOW)] {
        let handle = with_a_cancelled_job().await;
        let all = Retried { retried: 1, revived: 7, is_cut_short: false };
        assert_eq!(handle.retry(scope, RetryPolicy::default()).await.unwrap(), all);
    }
}
