//! Which ends of a stream are the end of a worker.

use crate::error::Error;
use crate::transport::Code;

/// Whether a stream that ends so means that no later one will be better: the table of `ElfService.Connect` in the
/// contract.
pub(super) fn is_fatal(error: &Error, was_welcomed_before: bool) -> bool {
    let code = match error {
        Error::Refused { code, .. } => code,
        // The file of the token may be about to be replaced.
        Error::InvalidCredentials { .. } => &Code::Unauthenticated,
        // All other errors speak of the connection, or of a broker that is busy.
        _ => return false,
    };
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => true,
        // Where a broker was before, these may come from a proxy or from a broker that is being replaced.
        Code::NotFound | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
            !was_welcomed_before
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_on_its_way_ends_no_worker_that_served_before() {
        let message = "the token file `x` cannot be read".to_owned();
        let unshowable = Error::InvalidCredentials { message };
        assert!(is_fatal(&unshowable, false) && !is_fatal(&unshowable, true));
        let unreachable = Error::unreachable("http://broker", "gone");
        assert!(!is_fatal(&unreachable, false));
    }
}
