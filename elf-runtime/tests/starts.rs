//! What a worker tells of the attempts that it starts, against a broker that is moved by hand.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

mod support;

use std::time::{Duration, Instant};

use elf_runtime::JobId;
use mycelium_proto::v1;
use mycelium_testing::fake::{ElfStream, FakeBroker, assignment, token};
use mycelium_testing::{Worker, within};
use support::TestElf;

/// Which attempts were told to be started, and for how long the first of them had run then.
async fn told(stream: &mut ElfStream) -> (Vec<v1::Token>, Duration) {
    while stream.starts.is_empty() {
        stream.heartbeat().await;
    }
    let starts = std::mem::take(&mut stream.starts);
    let ago = starts[0].ago.unwrap().try_into().unwrap();
    (starts.into_iter().filter_map(|start| start.token).collect(), ago)
}

#[tokio::test]
async fn a_start_is_told_soon_and_again_when_the_session_is_resumed() {
    let mut broker = FakeBroker::start().await;
    let (elf, gates) = TestElf::new();
    let worker = Worker::spawn(broker.client().serve().elf("tester", elf).concurrency(2));
    let mut stream = broker.accept().await;
    assert!(stream.hello().await.tells_starts);
    stream.welcome(7).await;
    let [short, long, waiting] = [(); 3].map(|()| token(JobId::generate(), 1));
    stream.assign(vec![assignment(&long, "task_wait", 1), assignment(&short, "task_double", 2)]).await;
    within("the start of the job", gates.started(1)).await;
    let begun = Instant::now();
    let (tokens, ago) = told(&mut stream).await;
    assert_eq!(tokens, std::slice::from_ref(&long), "what is over soon is told by its outcome alone");
    assert!(ago >= Duration::from_millis(50) && ago <= begun.elapsed() + Duration::from_secs(1), "{ago:?}");
    let outcome = stream.outcome().await;
    assert_eq!(outcome.token, Some(short.clone()));
    let ran: Duration = outcome.ran.unwrap().try_into().unwrap();
    assert!(ran < begun.elapsed(), "{ran:?}");
    stream.ack(vec![short]).await;
    stream.cut().await;

    let mut stream = broker.accept().await;
    stream.hello().await;
    stream.welcome_back(7, vec![long.clone()]).await;
    let (tokens, again) = told(&mut stream).await;
    assert_eq!(tokens, std::slice::from_ref(&long));
    assert!(again >= ago, "it is told when it began: {ago:?}, {again:?}");
    gates.open(1);
    let outcome = stream.outcome().await;
    let ran: Duration = outcome.ran.unwrap().try_into().unwrap();
    assert!(outcome.token == Some(long.clone()) && ran >= again, "{outcome:?}");

    // What is handed back without having been started has not run.
    let blocking = [(); 2].map(|()| token(JobId::generate(), 1));
    let blocks = blocking.iter().zip([3, 4]).map(|(token, n)| assignment(token, "task_wait", n));
    stream.assign(blocks.chain([assignment(&waiting, "task_wait", 5)]).collect()).await;
    within("the start of the jobs", async { tokio::join!(gates.started(3), gates.started(4)) }).await;
    stream.cancel(vec![waiting.clone()]).await;
    let outcome = stream.outcome().await;
    assert_eq!((outcome.token.as_ref(), outcome.ran), (Some(&waiting), None));
    [3, 4].into_iter().for_each(|n| gates.open(n));
    for _ in &blocking {
        let token = stream.outcome().await.token.unwrap();
        stream.ack(vec![token]).await;
    }
    stream.ack(vec![long, waiting]).await;
    worker.stop_on(stream).await.unwrap();
}
