//! The documents of the collections: typed, and the one description of what is stored, for both ways.
//!
//! They are for people too, who look at them in a browser and ask for them in statements of their own: statuses by name,
//! times in ISO 8601 beside milliseconds, values as JSON. What is only for people is written, and not read: it may be
//! edited, and it is left out where a body cannot be read.

pub(super) mod base64;
pub(super) mod count;
pub(super) mod elves;
pub(super) mod failures;
pub(super) mod flows;
pub(super) mod jobs;
pub(super) mod key;
pub(super) mod operators;
pub(super) mod parameters;
pub(super) mod records;
pub(super) mod row;
pub(super) mod sorted;
pub(super) mod text;
pub(super) mod time;
pub(super) mod values;

#[cfg(test)]
mod tests;
