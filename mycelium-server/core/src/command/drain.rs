//! What is said of instances that are to drain.

use std::time::Duration;

use crate::ids::{InstanceId, RequestId};

/// An instance that is to take no more jobs, and to leave.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// Where the reply goes.
    pub request: RequestId,
    /// Which.
    pub instance: InstanceId,
    /// How long it may take to finish what it runs.
    pub within: Duration,
}
