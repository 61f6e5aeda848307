//! What is said of actions on many jobs.

use std::sync::Arc;

use crate::ids::{ActionId, FailureId, FlowId, RequestId};
use crate::image::ActionKind;

/// An action begins, or comes further.
#[derive(Debug, Clone)]
pub struct Action {
    /// Where the reply goes.
    pub request: RequestId,
    /// Which.
    pub id: ActionId,
    /// What becomes of it.
    pub to: ActionTo,
}

/// What becomes of an action.
#[derive(Debug, Clone)]
pub enum ActionTo {
    /// It begins, unless it has begun before.
    Begun {
        /// What it does.
        kind: ActionKind,
        /// With which jobs.
        filter: Arc<str>,
        /// The flow that the filter names, if it names one.
        flow: Option<FlowId>,
        /// The failure that the filter names, if it names one.
        failure: Option<FailureId>,
        /// Who asks for it.
        by: Arc<str>,
    },
    /// How many jobs or flows there are is counted.
    Counted(u64),
    /// It has come further.
    Moved(ActionStep),
    /// It is over.
    Ended,
}

/// How far an action has come with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionStep {
    /// Which.
    pub id: ActionId,
    /// Where it goes on.
    pub place: u64,
    /// With how many jobs or flows it is done, beside those that the command itself does something with.
    pub done: u64,
    /// How many were refused.
    pub refused: u64,
}
