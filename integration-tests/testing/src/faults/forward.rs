//! Services whose calls pass as they are.

use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::Channel;

/// Passes on the calls of the service `S`.
pub(super) struct Forward<S> {
    broker: Channel,
    _of: PhantomData<fn() -> S>,
}

impl<S> Forward<S> {
    pub(super) fn new(broker: Channel) -> Self {
        Self { broker, _of: PhantomData }
    }
}

impl<S> Clone for Forward<S> {
    fn clone(&self) -> Self {
        Self::new(self.broker.clone())
    }
}

impl<S: NamedService> NamedService for Forward<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Forward<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut broker = self.broker.clone();
        Box::pin(async move {
            let answer = async {
                poll_fn(|context| broker.poll_ready(context)).await?;
                broker.call(request).await
            };
            // Callers meet what they would without this between them.
            Ok(answer.await.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
        })
    }
}
