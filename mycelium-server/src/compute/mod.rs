//! Computes values for jobs: their arguments when they are dispatched, and before that what decides how they go on.
//!
//! [`values`](crate::values) says what a value graph comes to, given its operands. Here its operands are read, and it is
//! decided when it is computed, and on which thread.

mod dispatch;
mod evaluation;
mod failed;
mod operands;
mod payloads;
mod quick;
mod tasks;

pub(crate) use dispatch::{Dispatched, Dispatcher};
pub(crate) use evaluation::run as run_evaluations;
pub(crate) use operands::Operands;
pub(crate) use tasks::Tasks;
