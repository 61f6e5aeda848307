//! The connections to a broker: the one place that knows the gRPC library. Everything else of this crate sees messages
//! of the contract, and [`Error`](crate::Error)s.

mod credentials;
mod endpoint;
mod line;
mod lines;
mod secure;
mod status;

pub(crate) use self::credentials::{Credentials, Token};
pub(crate) use self::endpoint::Address;
pub use self::line::Line;
pub(crate) use self::lines::{Answer, BlobLine, CallLine, ElfLine, Inbound, RawClient};
/// The code of a refusal, as [`Error::Refused`](crate::Error::Refused) has it.
pub use tonic::Code;
