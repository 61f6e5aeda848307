//! The operations, by family: each file is a part of the table, with the functions below it.

pub(crate) mod convert;
pub(crate) mod encoding;
pub(crate) mod generic;
pub(crate) mod list;
pub(crate) mod logic;
pub(crate) mod map;
pub(crate) mod number;
pub(crate) mod operand;
pub(crate) mod text;
pub(crate) mod whole;
