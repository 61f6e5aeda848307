//! The operations, by family: each file is a part of the table, with the functions below it.

pub(crate) mod convert;
pub(crate) mod encoding;
pub(crate) mod generic;
pub(crate) mod list;
pub(crate) mod logic;
pub(crate) mod map;
pub(crate) mod number;
pub(crate) mod operand;
pub(crate) mod strict;
pub(crate) mod text;
pub(crate) mod whole;

use crate::error::ErrorKind;
use crate::table::{Function, Operation, Parameter, Run};
use crate::types::Types;

/// An operation that takes no more steps than the text it reads and writes.
const fn plain(
    name: &'static str,
    parameters: &'static [Parameter],
    result: Types,
    errors: &'static [ErrorKind],
    docs: &'static str,
    run: Function,
) -> Operation {
    Operation { name, parameters, body: None, result, errors, cost: "0", docs, run: Run::Eager(run) }
}
