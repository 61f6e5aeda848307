//! What is said of pauses.

use std::sync::Arc;

use crate::ids::{Commit, RequestId};
use crate::image::PauseTarget;

/// Something to pause. What is paused already stays paused as it is.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Where the reply goes.
    pub request: RequestId,
    /// What.
    pub target: PauseTarget,
    /// Who asks for it.
    pub by: Arc<str>,
    /// Why, if they say.
    pub reason: Arc<str>,
    /// If it is a flow: whether the store has it.
    pub is_stored: bool,
    /// The newest commit that the store had completed when it was asked.
    pub as_of: Commit,
}

/// Something to resume. What is not paused stays as it is.
#[derive(Debug, Clone)]
pub struct Resume {
    /// Where the reply goes.
    pub request: RequestId,
    /// What.
    pub target: PauseTarget,
}
