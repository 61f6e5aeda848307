use tokio_util::sync::CancellationToken;

use super::hub::INTERVAL;
use super::*;
use crate::ids::{FlowId, JobId};

fn attempt(hub: &Arc<Hub>, number: u32) -> Arc<Attempt> {
    let parts = TaskContextParts {
        job_id: JobId::from_bytes([7; 16]),
        flow_id: FlowId::generate(),
        attempt: number,
        elf: Arc::from("test"),
        task: Arc::from("task_test"),
        cancellation: CancellationToken::new(),
    };
    Attempt::new(parts, None, Destination::Broker(Arc::clone(hub)))
}

/// What is taken at a moment: attempt, fraction and text.
fn taken(hub: &Hub, at: Instant) -> Vec<(u32, f64, String)> {
    let progress = hub.take(at).progress.into_iter();
    progress.map(|said| (said.token.unwrap().attempt, said.fraction, said.text)).collect()
}

#[test]
fn the_newest_progress_is_sent_now_and_then_and_none_of_an_attempt_that_is_over() {
    let hub = Arc::new(Hub::default());
    let (one, two) = (attempt(&hub, 1), attempt(&hub, 2));
    let now = Instant::now();
    assert_eq!(taken(&hub, now), []);
    for row in 0..1_000 {
        one.progress(f64::from(row) / 1_000.0, format_args!("row {row}"));
    }
    one.progress(f64::NAN, "no number");
    assert_eq!(taken(&hub, now), [(1, 0.999, "row 999".to_owned())]);
    one.progress(7.0, "beyond");
    two.progress(-7.0, "before");
    assert_eq!(taken(&hub, now + INTERVAL / 2), [], "too soon");
    let both = [(1, 1.0, "beyond".to_owned()), (2, 0.0, "before".to_owned())];
    assert_eq!(taken(&hub, now + INTERVAL), both);
    assert_eq!(taken(&hub, now + 3 * INTERVAL), [], "once");

    two.progress(0.5, "");
    drop(UntilEnded(Arc::clone(&two)));
    two.progress(0.6, "");
    assert_eq!(taken(&hub, now + 4 * INTERVAL), [], "it is over");
    hub.send_again();
    assert_eq!(taken(&hub, now), both[..1], "on the next stream, of those that run");
    drop(UntilEnded(Arc::clone(&one)));
    hub.send_again();
    assert_eq!((taken(&hub, now), Arc::strong_count(&one)), (vec![], 1), "nothing is kept");
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_is_told_once_that_something_waits() {
    let hub = Arc::new(Hub::default());
    let one = attempt(&hub, 1);
    assert!(futures::poll!(std::pin::pin!(hub.due())).is_pending());
    one.progress(0.1, "");
    hub.due().await;
    assert!(futures::poll!(std::pin::pin!(hub.due())).is_pending(), "it has no room yet");
    assert_eq!(taken(&hub, Instant::now()).len(), 1);
    one.progress(0.2, "");
    assert!(futures::poll!(std::pin::pin!(hub.due())).is_pending(), "something was sent just now");
}
