//! What comes to the admin listener: bounded in number, in bytes and in time, whatever it is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use crate::spawn::TaskGroup;

/// The most connections at once. The oldest gives way to a new one: those who ask as they should are answered by then.
const CONNECTIONS_MAX: usize = 32;
/// How much the head of a request may take, in bytes and in lines.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// How long it may take to come, and how long a connection may take in all: it is for one request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing is taken in after the system could not give a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers all who come, until it is dropped.
pub(super) async fn serve(listener: TcpListener, answers: Arc<Answers>, tasks: TaskGroup) {
    let open = Arc::new(Open::default());
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let place = Open::admit(&open);
        let answers = Arc::clone(&answers);
        tasks.spawn("a request of an admin", async move {
            let answered = tokio::time::timeout(CONNECTION_WITHIN, answer_one(socket, &answers));
            // Cut or not: whoever asked is told no more than that.
            let _cut = place.gives_way.run_until_cancelled(answered).await;
        });
    }
}

async fn answer_one(socket: TcpStream, answers: &Answers) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answers.answer(&request).await));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin listener has failed");
    }
}

/// The connections there are, the oldest first.
#[derive(Debug, Default)]
struct Open {
    all: Mutex<(u64, BTreeMap<u64, CancellationToken>)>,
}

/// A connection among those.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    number: u64,
    gives_way: CancellationToken,
}

impl Open {
    fn admit(open: &Arc<Self>) -> Place {
        let mut all = open.all();
        let (last, places) = &mut *all;
        if places.len() >= CONNECTIONS_MAX
            && let Some((_, oldest)) = places.pop_first()
        {
            oldest.cancel();
        }
        *last += 1;
        let gives_way = CancellationToken::new();
        places.insert(*last, gives_way.clone());
        Place { open: Arc::clone(open), number: *last, gives_way }
    }

    fn all(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, CancellationToken>)> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.all().1.remove(&self.number);
    }
}
