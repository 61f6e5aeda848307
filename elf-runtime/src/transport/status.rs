//! What a status says, as an error of ours: the mirror of the broker's mapping from its refusals.

use std::error::Error as StdError;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::credentials::Unshowable;
use crate::error::{Error, Violation};

/// Reads a status that came from the broker at `url`, or that was made on the way to it.
pub(super) fn error_of(url: &str, status: &Status) -> Error {
    if let Some(message) = unshowable(status) {
        return Error::InvalidCredentials { message: message.to_owned() };
    }
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    if reason.is_none() && is_of_transport(status) {
        return Error::unreachable(url, innermost(status));
    }
    let reason = reason.unwrap_or_default();
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    let message = status.message().to_owned();
    // A limit that no waiting heals comes without RetryInfo.
    if status.code() == Code::Unavailable
        || (status.code() == Code::ResourceExhausted && retry_after.is_some())
    {
        return Error::Busy { reason, message, retry_after };
    }
    let violations = details.bad_request().map(|bad_request| {
        let violation = |violation: &tonic_types::FieldViolation| Violation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        };
        bad_request.field_violations.iter().map(violation).collect()
    });
    Error::Refused { code: status.code(), reason, message, violations: violations.unwrap_or_default() }
}

/// What was wrong with what was to be shown or trusted, which was met before the call or the connection.
fn unshowable(status: &Status) -> Option<&str> {
    let mut source = status.source();
    while let Some(error) = source {
        // What an `io::Error` was made of is not its source.
        let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let met = made_of.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(Unshowable(message)) = met {
            return Some(message);
        }
        source = error.source();
    }
    None
}

/// Whether a status was made on this side because the connection failed, or speaks of an absent server: statuses
/// that a server sent have no source.
fn is_of_transport(status: &Status) -> bool {
    status.source().is_some() || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// Why nobody answers, as whoever met it first says. The statuses and errors that wrap it on its way repeat themselves
/// and each other, and show the insides of the transport.
fn innermost(status: &Status) -> String {
    let mut innermost: Option<&(dyn StdError + 'static)> = status.source();
    while let Some(source) = innermost.and_then(StdError::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use mycelium_proto::reason;
    use tonic_types::ErrorDetails;

    use super::*;

    fn refusal(code: Code, details: ErrorDetails) -> Error {
        error_of("http://broker", &Status::with_error_details(code, "no", details))
    }

    fn details(reason: &str) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, reason::DOMAIN, std::collections::HashMap::new());
        details
    }

    #[test]
    fn a_busy_broker_is_retryable_and_says_when() {
        let mut info = details(reason::BROKER_BUSY);
        info.set_retry_info(Some(Duration::from_millis(7)));
        let error = refusal(Code::ResourceExhausted, info);
        assert!(error.is_retryable());
        assert_eq!(error.reason(), Some(reason::BROKER_BUSY));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(7)));

        let error = refusal(Code::Unavailable, details(reason::STORE_UNAVAILABLE));
        assert!(matches!(error, Error::Busy { retry_after: None, .. }), "{error:?}");
        assert!(error.is_retryable());
    }

    #[test]
    fn an_exhausted_resource_without_a_delay_is_final() {
        assert!(!refusal(Code::ResourceExhausted, details(reason::BACKLOG_FULL)).is_retryable());
    }

    #[test]
    fn a_refusal_names_the_fields_once() {
        let mut info = details(reason::INVALID_FIELD);
        info.add_bad_request_violation("jobs[0].elf", "is empty");
        let error = refusal(Code::InvalidArgument, info);
        assert!(!error.is_retryable());
        assert_eq!(error.to_string(), "broker refused the call: no (INVALID_FIELD)\n  jobs[0].elf: is empty");

        let Error::Refused { code, reason, violations, .. } = error else { panic!("{error:?}") };
        let message = "jobs[0].elf: is empty".to_owned();
        let told = Error::Refused { code, reason, message, violations };
        assert_eq!(told.to_string(), "broker refused the call: jobs[0].elf: is empty (INVALID_FIELD)");
    }

    #[test]
    fn only_a_broken_connection_counts_as_unreachable() {
        let from_server = error_of("http://broker", &Status::internal("bug"));
        assert!(matches!(from_server, Error::Refused { code: Code::Internal, .. }), "{from_server:?}");

        let broken: Box<dyn StdError + Send + Sync> =
            Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let local = error_of("http://broker", &Status::from_error(broken));
        assert!(matches!(local, Error::Unreachable { .. }), "{local:?}");
        assert!(local.is_retryable());
        assert!(local.to_string().contains("mycelium serve"), "{local}");
    }

    #[test]
    fn what_cannot_be_shown_to_a_broker_is_no_refusal_of_it() {
        let status = Status::from(Unshowable("the file `x` has no token".to_owned()));
        let error = error_of("http://broker", &Status::from_error(Box::new(status)));
        assert!(matches!(error, Error::InvalidCredentials { .. }), "{error:?}");
        assert!(!error.is_retryable());
        assert_eq!(
            error.to_string(),
            "what is shown to the broker, or trusted, cannot be used: the file `x` has no token"
        );
    }

    #[test]
    fn what_the_connection_met_is_told_once_and_without_the_insides_of_the_transport() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Transport(#[source] std::io::Error);

        let refused = Transport(std::io::Error::other("Connection refused (os error 111)"));
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(Arc::new(refused));
        let error = error_of("http://broker", &status);
        let source = StdError::source(&error).unwrap();
        assert_eq!(source.to_string(), "Connection refused (os error 111)");
        assert!(source.source().is_none(), "the chain ends there");

        let error = error_of("http://broker", &Status::deadline_exceeded("no answer in time"));
        assert_eq!(StdError::source(&error).unwrap().to_string(), "no answer in time");
    }
}
