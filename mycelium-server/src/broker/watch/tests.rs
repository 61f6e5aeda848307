use mycelium_core::Config;

use super::*;

/// A commit with a message of so many bytes in one change.
fn change(job: u128, bytes: usize) -> WatchedChange {
    WatchedChange {
        job: JobId::new(job.to_be_bytes()),
        status: Status::Running,
        attempt: Attempt(1),
        cause: None,
        failure: None,
        failure_message: Some("x".repeat(bytes).into()),
        outputs: None,
    }
}

struct Watched {
    watches: Watches,
    core: Core,
    commit: u64,
}

impl Watched {
    fn new() -> Self {
        Self { watches: Watches::new(Commit(0)), core: Core::new(Config::default()), commit: 0 }
    }

    fn start(&mut self, peer: u16, flow: u128) -> WatchEvents {
        let (reply, mut started) = oneshot::channel();
        let start = WatchStart {
            peer: Some(([127, 0, 0, 1], peer).into()),
            scope: WatchScope::Flow(FlowId::new(flow.to_be_bytes())),
            from: None,
            wants: WatchWants { outputs: true, final_only: false },
            reply,
        };
        self.watches.start(start, Commit(self.commit), &self.core);
        started.try_recv().unwrap().events
    }

    fn tell(&mut self, flow: u128, changes: &[WatchedChange]) {
        self.commit += 1;
        let flow = FlowId::new(flow.to_be_bytes());
        let Some(mut watchers) = self.watches.by_flow.remove(&flow) else { return };
        self.watches.tell_all(&mut watchers, Commit(self.commit), changes, Some(1));
        self.watches.by_flow.insert(flow, watchers);
    }

    fn used(&self) -> usize {
        self.watches.queued.whole().used()
    }
}

/// What waits for a watcher; `None` if it was cut off.
fn waiting(events: &WatchEvents) -> Option<usize> {
    let queue = events.queue();
    (!queue.is_over()).then(|| queue.bytes())
}

#[test]
fn a_peer_takes_its_part_and_its_own_watchers_make_room_for_each_other() {
    let mut watched = Watched::new();
    let [unread, read] = [1, 2].map(|flow| watched.start(1, flow));
    let of_another = watched.start(2, 3);
    watched.tell(3, &[change(3, 100_000)]);
    let mut n_told = 0;
    while waiting(&unread).is_some() {
        watched.tell(1, &[change(1, 100_000)]);
        n_told += 1;
        assert!(watched.used() <= QUEUED_BYTES_MAX / 4 + 200_000, "{} bytes wait", watched.used());
        assert!(n_told < 100);
    }
    assert!((25..=32).contains(&n_told), "{n_told} commits of 100 kB");
    assert!(waiting(&of_another).is_some_and(|bytes| bytes > 100_000));

    let unread = watched.start(1, 1);
    for _ in 0..25 {
        watched.tell(1, &[change(1, 100_000)]);
    }
    for _ in 0..11 {
        watched.tell(2, &[change(2, 100_000)]);
    }
    assert_eq!(waiting(&unread), None, "the most waits for it");
    assert!(waiting(&read).is_some_and(|bytes| bytes > 1_000_000));
}

#[test]
fn peers_for_which_most_waits_make_room_for_others_however_little_waits_for_each_of_their_watchers() {
    let mut watched = Watched::new();
    // Four peers take all there is, with watches of flows of their own.
    let mut hostile = Vec::new();
    for flow in 0..1_200 {
        hostile.push(watched.start(u16::try_from(1 + flow % 4).unwrap(), flow));
        watched.tell(flow, &[change(flow, 10_000)]);
    }
    assert!(watched.used() > QUEUED_BYTES_MAX - 500_000, "{} bytes wait", watched.used());
    let innocent = watched.start(5, 9_999);
    for _ in 0..10 {
        watched.tell(9_999, &[change(9_999, 100_000)]);
    }
    assert!(waiting(&innocent).is_some_and(|bytes| bytes > 1_000_000), "it lost what waited for it");
    let n_cut_off = hostile.iter().filter(|events| waiting(events).is_none()).count();
    assert!((1..=800).contains(&n_cut_off), "{n_cut_off} were cut off");
    assert!(watched.used() <= QUEUED_BYTES_MAX + 200_000);
}

#[test]
fn what_several_watch_is_charged_once_in_all_and_once_for_each_peer() {
    let mut watched = Watched::new();
    let watchers: Vec<_> = (0..100).map(|watcher| watched.start(watcher % 2, 1)).collect();
    let outputs = Bytes::from(vec![b'1'; 1_000_000]);
    let changes = [WatchedChange { outputs: Some(outputs), ..change(1, 0) }];
    watched.tell(1, &changes);
    assert!((1_000_000..1_100_000).contains(&watched.used()), "{} bytes wait", watched.used());
    let part = watched.watches.queued.of(Some(([127, 0, 0, 1], 1).into())).used();
    assert!((1_000_000..1_100_000).contains(&part), "{part} bytes wait");
    // Beyond half of its part, outputs are read when they are sent.
    watched.tell(1, &changes);
    assert!(watched.used() < 1_200_000 && watchers.iter().all(|events| waiting(events).is_some()));
    drop(watchers);
    assert_eq!(watched.used(), 0);
}
