//! Why something could not be computed.

use crate::blobs::BlobError;
use crate::broker::{CallError, FailureBody};

/// Why something could not be computed, or read to compute with.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It would come again with every try: the job fails with this.
    Permanent(FailureBody),
    /// Another try may do.
    Transient(CallError),
}

impl Failed {
    /// What it is computed from is damaged; `reason` is for people.
    pub(crate) fn damaged(reason: String) -> Self {
        Self::Permanent(FailureBody::record_damaged(reason))
    }

    /// It cannot be computed; `reason` is for people.
    pub(crate) fn underivable(reason: String) -> Self {
        Self::Permanent(FailureBody::value_derivation(reason))
    }
}

/// What is damaged stays so, and a defect mostly comes again. All else is a matter of the moment.
impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Read(error) if error.is_damage() => Self::damaged(error.to_string()),
            CallError::Blob(error) if error.is_damage() => Self::damaged(error.to_string()),
            error @ CallError::Unreadable(_) => Self::damaged(error.to_string()),
            CallError::Defect(defect) | CallError::Blob(BlobError::Defect(defect)) => {
                Self::underivable(defect.to_string())
            }
            error => Self::Transient(error),
        }
    }
}

impl From<crate::store::Error> for Failed {
    fn from(error: crate::store::Error) -> Self {
        CallError::from(error).into()
    }
}

impl From<BlobError> for Failed {
    fn from(error: BlobError) -> Self {
        CallError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BlobDigest, Error};

    #[test]
    fn damage_comes_again_and_what_is_unavailable_may_be_there_later() {
        let damaged = || Error::Damaged { what: "a record".to_owned() };
        let digest = BlobDigest::new([1; 32]);
        for permanent in [
            CallError::from(damaged()),
            CallError::Unreadable("a record".to_owned()),
            CallError::Blob(BlobError::NotFound(digest)),
        ] {
            assert!(matches!(Failed::from(permanent.clone()), Failed::Permanent(_)), "{permanent}");
        }
        for transient in [CallError::StoreUnavailable, CallError::Busy, CallError::Stopping] {
            assert!(matches!(Failed::from(transient.clone()), Failed::Transient(_)), "{transient}");
        }
    }
}
