//! Value graphs: what can be done to values that do not exist yet, and how it is computed once they do.
//!
//! [`families`] is the one table of operations; the check of a submission ([`check_operation`]), the evaluation
//! ([`evaluate`]) and the documentation ([`documentation`]) come from it. Nothing here does I/O, reads a clock or
//! executes text; nothing recurses over what comes from outside; every cost is counted before it is paid.

mod budget;
mod check;
mod docs;
mod error;
mod evaluate;
pub mod json;
mod operations;
mod order;
pub mod schema;
mod table;
mod types;
mod value;
pub mod vector;

pub use budget::Limits;
pub use check::{GraphProblem, check_operation, result_types};
pub use docs::documentation;
pub use error::{ErrorKind, EvaluationError, Failure};
pub use evaluate::{Outputs, evaluate};
pub use table::{BodyShape, Family, Operation, Parameter, VERSION, families};
pub use types::{Type, Types};
pub use value::{Int, List, Map, Text, Value};
