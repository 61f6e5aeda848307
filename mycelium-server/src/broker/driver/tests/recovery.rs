//! A store that is far away may take long to be read, or not answer at all.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_while_the_store_is_read_again_is_refused_at_once() {
    for place in [crate::config::SchedulerPlace::OwnThread, crate::config::SchedulerPlace::Runtime] {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let config = Config { scheduler: place, ..Config::default() };
        let running = super::super::super::start(store.clone(), blobs(), config).unwrap();
        let handle = running.handle.clone();
        store.hang_loads();
        store.hold_commits();
        store.fail_commit_after(0, Fault::NotApplied);
        let submit = |id: u8| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.submit(None, submission(JobId::new([id; 16]))).await })
        };
        let failed = submit(1);
        let held = Arc::clone(&store);
        tokio::task::spawn_blocking(move || held.wait_for_held_commit()).await.unwrap();
        // It came when all was well, and is taken from the queue when nothing is any more.
        let queued = submit(2);
        handle.until_queued(1).await;
        store.release_commits();

        for refused in [failed, queued] {
            let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap().unwrap();
            assert!(matches!(refused, Err(CallError::StoreUnavailable)), "{refused:?}");
        }
        assert_eq!(handle.store_state().borrow().store, StoreState::Unavailable);
        // The store never answers, and the broker stops all the same.
        let stopped = async {
            handle.stop().await;
            running.ended.await.unwrap().unwrap();
        };
        tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
    }
}
