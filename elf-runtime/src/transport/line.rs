//! A channel that shows who calls.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{self, Either, FutureExt as _};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response, header};
use tonic::codegen::{Service, StdError};
use tonic::transport::Channel;

use super::credentials::Authorization;

/// A channel whose calls carry the token of the program, if it has one.
#[derive(Debug, Clone)]
pub struct Line {
    channel: Channel,
    authorization: Arc<Authorization>,
}

impl Line {
    pub(super) fn new(channel: Channel, authorization: Arc<Authorization>) -> Self {
        Self { channel, authorization }
    }
}

type Calling = <Channel as Service<Request<Body>>>::Future;
type Answered = Result<Response<Body>, StdError>;

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Either<
        future::Map<Calling, fn(Result<Response<Body>, tonic::transport::Error>) -> Answered>,
        future::Ready<Answered>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.channel.poll_ready(context).map_err(StdError::from)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.authorization.header() {
            Ok(Some(header)) => {
                request.headers_mut().insert(header::AUTHORIZATION, header);
            }
            Ok(None) => {}
            Err(problem) => return Either::Right(future::ready(Err(Status::from(problem).into()))),
        }
        let answered: fn(_) -> Answered = |answered| Result::map_err(answered, StdError::from);
        Either::Left(self.channel.call(request).map(answered))
    }
}
