//! JSON as it is written and read here: a value never changes, and no error message quotes it.
//!
//! serde_json alone writes NaN as null, and quotes what it cannot read. Both are values of our users: the one arrives
//! changed, and the other in a failure that others see.

mod found;
mod mismatch;
mod place;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use mismatch::Mismatch;
pub(crate) use read::{from_slice, from_slice_within};
pub use write::Unwritable;
pub(crate) use write::to_vec;
