//! Errors of calls, whatever protocol they come by: code, reason, message and violations of each, as data.

use std::time::Duration;

use mycelium_core::effects::Refusal;
use mycelium_proto::reason;

use crate::access::ForeignCall;
use crate::blobs::BlobError;
use crate::broker::{CallError, Misfit};
use crate::defect::Defect;
use crate::report::Report;
use crate::store::{self, Lack, lack_in};
use crate::transport::Refusal as Refused;
use crate::values::SpecError;

/// How long a caller is asked to wait when something is full.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Whoever something was for is gone, and there is nobody to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// What kind of answer an error is, whatever protocol is spoken: the codes of gRPC, which say most about what a caller can
/// do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request is wrong by itself.
    InvalidArgument,
    /// It is not known who asks.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// There is no such call.
    Unimplemented,
    /// What it names is not there.
    NotFound,
    /// What it names is there, and is something else.
    AlreadyExists,
    /// The request does not fit how things stand.
    FailedPrecondition,
    /// Something else has taken its place.
    Aborted,
    /// There is no room for it now.
    ResourceExhausted,
    /// It cannot be done now.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
    /// What is stored is damaged.
    DataLoss,
    /// The broker failed.
    Internal,
}

/// What a caller is told of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: Code,
    /// One of [`mycelium_proto::reason`].
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// What is wrong with single fields of the request: the path of each, and the problem.
    pub(crate) violations: Vec<(String, String)>,
    /// How long to wait before another try.
    pub(crate) retry_after: Option<Duration>,
}

/// An error of a call.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Call(#[from] CallError),
    /// A field of the request is malformed.
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    /// A specification is malformed.
    #[error("{prefix}.{}: {error}", error.field())]
    Spec { prefix: String, error: SpecError },
    /// A job does not fit the task it names.
    #[error("{prefix}: {misfit}")]
    Misfit { prefix: String, misfit: Misfit },
    #[error(
        "there is no mycelium named `{0}`, and this broker makes none by itself: mycelium mycelia create {0}"
    )]
    MyceliumNotFound(String),
    /// About one of those that a request names.
    #[error("{error}")]
    Named { field: String, error: CallError },
    #[error("this broker hosts {max} mycelia, and no more are allowed")]
    MyceliaFull { max: usize },
    #[error(
        "the mycelium `{0}` is in use, or has jobs that are not finished; delete it with `force` all the same"
    )]
    MyceliumInUse(String),
    #[error("the mycelium `default` cannot be deleted, and a broker on one given store has no other")]
    MyceliumFixed,
    /// The stream of an elf broke a rule.
    #[error("{0}")]
    ProtocolViolation(String),
    #[error(
        "the elf speaks protocol versions {min} to {max}, and this broker speaks {ours_min} to {ours_max}"
    )]
    ProtocolVersion { min: u32, max: u32, ours_min: u32, ours_max: u32 },
    #[error("the stream did not begin with `Hello` within {} s", within.as_secs())]
    HelloOverdue { within: Duration },
    #[error("a message is larger than the broker takes: {0}")]
    MessageTooLarge(String),
    #[error("a message cannot be decoded: {0}")]
    MessageUndecodable(String),
    #[error("the system gives no random bytes")]
    NoRandomBytes(#[from] getrandom::Error),
    #[error("the broker asks for credentials: a token (MYCELIUM_TOKEN_FILE) or a client certificate")]
    CredentialsMissing,
    /// Why is for the log alone.
    #[error("the credentials are not accepted")]
    CredentialsRefused,
    /// Of what is not there as of what is there.
    #[error("the caller may not do this")]
    NotPermitted,
    #[error(transparent)]
    Foreign(#[from] ForeignCall),
    #[error("there is no such call")]
    UnknownCall,
    /// The call did not keep within what calls may take.
    #[error(transparent)]
    Transport(#[from] Refused),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Call(error.into())
    }
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    /// A message that the stream of an elf must not have here.
    pub(crate) fn violation(message: &str) -> Self {
        Self::ProtocolViolation(message.to_owned())
    }

    /// The same, of a field within another.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::Field { field, problem } => Self::Field { field: format!("{outer}.{field}"), problem },
            other => other,
        }
    }

    /// The reason of it, one of [`mycelium_proto::reason`].
    pub(crate) fn reason(&self) -> &'static str {
        code_and_reason(self).1
    }

    /// What its caller is told. A defect that is not in the log yet is logged.
    pub(crate) fn tell(&self) -> Told {
        let (code, reason) = code_and_reason(self);
        let violations = match self {
            Self::Field { field, problem } => vec![(field.clone(), problem.clone())],
            Self::Spec { prefix, error } => vec![(format!("{prefix}.{}", error.field()), error.to_string())],
            Self::Misfit { prefix, misfit: Misfit::Arguments { violations } } => {
                let path =
                    |(field, problem): &(String, String)| (format!("{prefix}.{field}"), problem.clone());
                violations.iter().map(path).collect()
            }
            Self::Named { field, error } => vec![(field.clone(), error.to_string())],
            Self::Misfit { misfit: Misfit::TaskNotFound { .. }, .. }
            | Self::Call(_)
            | Self::MyceliumNotFound(_)
            | Self::MyceliaFull { .. }
            | Self::MyceliumInUse(_)
            | Self::MyceliumFixed
            | Self::ProtocolViolation(_)
            | Self::ProtocolVersion { .. }
            | Self::HelloOverdue { .. }
            | Self::MessageTooLarge(_)
            | Self::MessageUndecodable(_)
            | Self::NoRandomBytes(_)
            | Self::CredentialsMissing
            | Self::CredentialsRefused
            | Self::NotPermitted
            | Self::Foreign(_)
            | Self::UnknownCall
            | Self::Transport(_) => Vec::new(),
        };
        let message = match self {
            // It is in the log already.
            Self::Call(CallError::Defect(defect) | CallError::Blob(BlobError::Defect(defect))) => {
                defect.to_string()
            }
            error if code == Code::Internal => Defect::of("a call", &Report(error)).to_string(),
            error => Report(error).to_string(),
        };
        let retry_after = (code == Code::ResourceExhausted).then_some(RETRY_AFTER);
        Told { code, reason, message, violations, retry_after }
    }
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        Self::Call(CallError::Blob(error))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Call(CallError::Refused(refusal))
    }
}

/// Code and reason of an error.
fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::Field { .. } => (Code::InvalidArgument, reason::INVALID_FIELD),
        Error::Spec { error, .. } => match error {
            SpecError::Field { .. } => (Code::InvalidArgument, reason::INVALID_FIELD),
            SpecError::Graph { .. } => (Code::InvalidArgument, reason::INVALID_VALUE_GRAPH),
            SpecError::PayloadTooLarge { .. } => (Code::InvalidArgument, reason::PAYLOAD_TOO_LARGE),
            SpecError::WaitsForItself => (Code::InvalidArgument, reason::DEPENDENCY_CYCLE),
        },
        Error::Misfit { misfit, .. } => match misfit {
            Misfit::TaskNotFound { .. } => (Code::FailedPrecondition, reason::TASK_NOT_FOUND),
            Misfit::Arguments { .. } => (Code::InvalidArgument, reason::SIGNATURE_MISMATCH),
        },
        Error::MyceliumNotFound(_) => (Code::NotFound, reason::MYCELIUM_NOT_FOUND),
        Error::MyceliaFull { .. } => (Code::ResourceExhausted, reason::MYCELIA_FULL),
        Error::MyceliumInUse(_) => (Code::FailedPrecondition, reason::MYCELIUM_IN_USE),
        Error::MyceliumFixed => (Code::FailedPrecondition, reason::MYCELIUM_FIXED),
        Error::ProtocolViolation(_) => (Code::FailedPrecondition, reason::PROTOCOL_VIOLATION),
        Error::ProtocolVersion { .. } => (Code::FailedPrecondition, reason::PROTOCOL_VERSION_UNSUPPORTED),
        Error::Transport(refused) => match refused {
            Refused::TooManyCalls | Refused::ReceivingFull | Refused::AnswersFull => {
                (Code::ResourceExhausted, reason::BROKER_BUSY)
            }
            Refused::RequestStalled => (Code::DeadlineExceeded, reason::REQUEST_STALLED),
            Refused::UploadStalled => (Code::DeadlineExceeded, reason::BLOB_STALLED),
            Refused::ReadTooLong => (Code::DeadlineExceeded, reason::DEADLINE_EXCEEDED),
            Refused::NoPeer => (Code::Internal, reason::INTERNAL),
        },
        Error::HelloOverdue { .. } => (Code::DeadlineExceeded, reason::HELLO_OVERDUE),
        Error::MessageTooLarge(_) => (Code::InvalidArgument, reason::MESSAGE_TOO_LARGE),
        Error::MessageUndecodable(_) => (Code::InvalidArgument, reason::MESSAGE_UNDECODABLE),
        Error::NoRandomBytes(_) => (Code::Internal, reason::INTERNAL),
        Error::CredentialsMissing => (Code::Unauthenticated, reason::CREDENTIALS_MISSING),
        Error::CredentialsRefused => (Code::Unauthenticated, reason::CREDENTIALS_REFUSED),
        Error::NotPermitted => (Code::PermissionDenied, reason::NOT_PERMITTED),
        Error::Foreign(_) => (Code::PermissionDenied, reason::FOREIGN_CALL),
        Error::UnknownCall => (Code::Unimplemented, reason::UNKNOWN_CALL),
        Error::Call(error) | Error::Named { error, .. } => match error {
            CallError::Refused(refusal) => refusal_code_and_reason(refusal),
            CallError::Busy => (Code::ResourceExhausted, reason::BROKER_BUSY),
            CallError::StoreUnavailable => (Code::Unavailable, reason::STORE_UNAVAILABLE),
            CallError::StoreFull => (Code::Unavailable, reason::STORE_FULL),
            CallError::StoreReadOnly => (Code::Unavailable, reason::STORE_READ_ONLY),
            CallError::StoreRefuses => (Code::InvalidArgument, reason::INVALID_FIELD),
            CallError::Stopping => (Code::Unavailable, reason::BROKER_STOPPING),
            CallError::SessionTakenOver => (Code::Aborted, reason::SESSION_TAKEN_OVER),
            CallError::SessionOver => (Code::Aborted, reason::SESSION_OVER),
            CallError::StreamNotRead => (Code::Aborted, reason::STREAM_NOT_READ),
            CallError::Read(error) if error.is_retryable() => (Code::Unavailable, reason::STORE_UNAVAILABLE),
            CallError::Read(error) if matches!(**error, store::Error::Refused { .. }) => {
                (Code::FailedPrecondition, reason::BACKUP_NOT_POSSIBLE)
            }
            CallError::Read(error) if error.is_damage() => (Code::DataLoss, reason::RECORD_DAMAGED),
            CallError::Unreadable(_) => (Code::DataLoss, reason::RECORD_DAMAGED),
            CallError::Read(_) | CallError::Defect(_) => (Code::Internal, reason::INTERNAL),
            CallError::Blob(error) => match error {
                BlobError::NotFound(_) => (Code::NotFound, reason::BLOB_NOT_FOUND),
                BlobError::Differs(_) => (Code::InvalidArgument, reason::BLOB_DIFFERS),
                BlobError::Damaged { .. } => (Code::DataLoss, reason::BLOB_DAMAGED),
                BlobError::Defect(_) => (Code::Internal, reason::INTERNAL),
                BlobError::Stalled => (Code::DeadlineExceeded, reason::BLOB_STALLED),
                BlobError::Unavailable(error) => match lack_in(&**error) {
                    Some(Lack::Space) => (Code::Unavailable, reason::STORE_FULL),
                    Some(Lack::Writing) => (Code::Unavailable, reason::STORE_READ_ONLY),
                    None => (Code::Unavailable, reason::STORE_UNAVAILABLE),
                },
            },
            CallError::FlowNameNotFound(_) => (Code::NotFound, reason::FLOW_NOT_FOUND),
            CallError::ElfNotFound(_) => (Code::NotFound, reason::ELF_NOT_FOUND),
            CallError::RevisionNotFound => (Code::NotFound, reason::REVISION_NOT_FOUND),
            CallError::FailureNotFound(_) => (Code::NotFound, reason::FAILURE_NOT_FOUND),
        },
    }
}

fn refusal_code_and_reason(refusal: &Refusal) -> (Code, &'static str) {
    match refusal {
        Refusal::JobNotFound(_) => (Code::NotFound, reason::JOB_NOT_FOUND),
        Refusal::FlowNotFound(_) => (Code::NotFound, reason::FLOW_NOT_FOUND),
        Refusal::ContentDiffers(_) => (Code::AlreadyExists, reason::JOB_CONTENT_DIFFERS),
        Refusal::DependencyCycle(_) => (Code::InvalidArgument, reason::DEPENDENCY_CYCLE),
        Refusal::SubmissionOutOfOrder { .. } => (Code::FailedPrecondition, reason::SUBMISSION_OUT_OF_ORDER),
        Refusal::BacklogFull { .. } => (Code::ResourceExhausted, reason::BACKLOG_FULL),
        Refusal::FlowDeleting(_) => (Code::Unavailable, reason::FLOW_DELETING),
        Refusal::FlowDeleted(_) => (Code::FailedPrecondition, reason::FLOW_DELETED),
        Refusal::OriginDeleted(_) => (Code::FailedPrecondition, reason::ORIGIN_DELETED),
        Refusal::TooManyPauses { .. } => (Code::ResourceExhausted, reason::PAUSES_FULL),
        Refusal::ActionDiffers(_) => (Code::AlreadyExists, reason::ACTION_DIFFERS),
        Refusal::ActionNotFound(_) => (Code::NotFound, reason::ACTION_NOT_FOUND),
        Refusal::TooManyActions { .. } => (Code::ResourceExhausted, reason::ACTIONS_FULL),
        Refusal::InstanceNotFound(_) => (Code::NotFound, reason::INSTANCE_NOT_FOUND),
        Refusal::NotRetryable(_) | Refusal::NotEnded(_) => {
            (Code::FailedPrecondition, reason::JOB_NOT_RETRYABLE)
        }
        // The handle reads the preconditions again; what stays stale it answers as busy. Other refusals to come are
        // answered so until they have a reason of their own.
        Refusal::PreconditionsStale | _ => (Code::ResourceExhausted, reason::BROKER_BUSY),
    }
}
