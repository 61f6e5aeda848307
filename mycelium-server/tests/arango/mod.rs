//! What tests of the store in ArangoDB stand on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use arangodb_double::{Double, ROOT};
use mycelium_server::store::arango::Address;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PASSWORD: &str = "a password";
/// The database of the mycelium `default`.
pub(crate) const DATABASE: &str = "BLUMYC_default";

pub(crate) async fn start() -> Double {
    Double::start(PASSWORD).await.unwrap()
}

/// A server as its administrator reaches it.
pub(crate) fn address(double: &Double) -> Address {
    Address::parse(&double.url()).unwrap().with_credentials(ROOT, PASSWORD)
}

/// Asks as an administrator, beside what is tested, and gives what is answered.
pub(crate) async fn ask(double: &Double, method: &str, database: &str, path: &str, body: Value) -> Value {
    let url = format!("{}/_db/{database}/{path}", double.url());
    let request =
        reqwest::Client::new().request(method.parse().unwrap(), url).basic_auth(ROOT, Some(PASSWORD));
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{method} {path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A way to a server that ends, once and for all, when the answer to a request is on its way.
pub(crate) struct Cut {
    listener: TcpListener,
    address: Address,
    posts: Arc<AtomicUsize>,
    posts_max: usize,
}

impl Cut {
    /// One over which so many requests that change something are answered, and the next one is not.
    pub(crate) async fn after_posts(posts_max: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let address = Address::parse(&url).unwrap().with_credentials(ROOT, PASSWORD);
        Self { listener, address, posts: Arc::default(), posts_max }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until it is cut.
    pub(crate) async fn served(&self, double: &Double) {
        while self.posts.load(Ordering::Relaxed) <= self.posts_max {
            let (stream, _) = self.listener.accept().await.unwrap();
            double.serve(Counted { stream, posts: Arc::clone(&self.posts), posts_max: self.posts_max }).await;
        }
    }
}

struct Counted {
    stream: TcpStream,
    posts: Arc<AtomicUsize>,
    posts_max: usize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // A client asks when it has its last answer, so that a request begins what is read.
        if buf.filled()[before..].starts_with(b"POST ") {
            self.posts.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.posts.load(Ordering::Relaxed) > self.posts_max {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
