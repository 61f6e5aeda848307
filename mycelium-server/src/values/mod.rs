//! Value graphs: checked when a job is submitted, computed when it is dispatched.
//!
//! Nothing here recurses: graphs come from outside, and may be as deep as their limits allow.

mod check;
mod derive;
mod edges;
mod preview;

pub(crate) use check::{SpecError, check_name, check_payload, check_spec};
pub(crate) use derive::{OutputsByJob, derive_arguments, has_operations};
pub(crate) use edges::{Edge, edges_of};
pub(crate) use preview::{Preview, Tracer, preview};
