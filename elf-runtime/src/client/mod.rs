//! The client: a handle on one mycelium of a broker.

mod builder;
mod calls;
mod log_reader;
mod mycelium;
mod own;
mod watch;
mod why;

pub use self::builder::Builder;
pub use self::log_reader::LogReader;
pub use self::mycelium::Mycelium;
pub(crate) use self::own::Unwelcomed;
pub use self::watch::JobWatch;
pub use self::why::describe_reason;
