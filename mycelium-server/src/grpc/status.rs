//! The only place that makes a `tonic::Status`.

use mycelium_proto::reason;
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code as RpcCode, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::broker::CallError;
use crate::defect::Defect;
use crate::error::{Code, Error, Told};
use crate::transport::Refusal as Refused;

/// What a status says that the transport made while it read a request: `None` if that is not what it is about, but a
/// connection that broke, say.
pub(crate) fn unreadable(status: &Status) -> Option<Error> {
    let is_from_transport = status.details().is_empty() && std::error::Error::source(status).is_none();
    let text = status.message();
    let text = text.strip_prefix("Error, ").unwrap_or(text).to_owned();
    match status.code() {
        RpcCode::OutOfRange if is_from_transport => Some(Error::MessageTooLarge(text)),
        RpcCode::Internal if is_from_transport => Some(Error::MessageUndecodable(text)),
        _ => None,
    }
}

/// Whether the broker is to blame for an answer with this code, as the conventions of OpenTelemetry for servers of gRPC have it.
pub(crate) fn is_failure(code: RpcCode) -> bool {
    match code {
        RpcCode::Unknown
        | RpcCode::DeadlineExceeded
        | RpcCode::Unimplemented
        | RpcCode::Internal
        | RpcCode::Unavailable
        | RpcCode::DataLoss => true,
        RpcCode::Ok
        | RpcCode::Cancelled
        | RpcCode::InvalidArgument
        | RpcCode::NotFound
        | RpcCode::AlreadyExists
        | RpcCode::PermissionDenied
        | RpcCode::ResourceExhausted
        | RpcCode::FailedPrecondition
        | RpcCode::Aborted
        | RpcCode::OutOfRange
        | RpcCode::Unauthenticated => false,
    }
}

/// Gives the answers that the transport makes by itself, because it cannot read a request, the code and the reason that
/// they have in the contract. A layer around all services.
pub(crate) fn with_reason(response: Response<Body>) -> Response<Body> {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(unreadable) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// The reason for which a call was refused, if it was: that of the contract, or the code if the answer has none. A call is not
/// refused that is answered in parts and breaks off later.
pub(crate) fn refused_for(response: &Response<Body>) -> Option<String> {
    let status = Status::from_header_map(response.headers())?;
    if status.code() == RpcCode::Ok {
        return None;
    }
    let info = status.get_details_error_info();
    Some(info.map_or_else(|| format!("{:?}", status.code()).to_uppercase(), |info| info.reason))
}

/// What a call is answered with that did not keep within what calls may take.
pub(crate) fn refuse(refused: Refused) -> Status {
    Error::from(refused).into()
}

/// What a call is answered with whose handler panicked.
pub(crate) fn failed(defect: Defect) -> Status {
    Error::from(CallError::from(defect)).into()
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let Told { code, reason, message, violations, retry_after } = error.tell();
        let mut details = ErrorDetails::with_error_info(reason, reason::DOMAIN, []);
        for (field, problem) in violations {
            details.add_bad_request_violation(field, problem);
        }
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Self::with_error_details(code.into(), message, details)
    }
}

impl From<Code> for RpcCode {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::Unimplemented => Self::Unimplemented,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::DataLoss => Self::DataLoss,
            Code::Internal => Self::Internal,
        }
    }
}
