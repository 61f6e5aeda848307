//! Functions of the language. One that is not listed is refused by its name.

pub(crate) mod array;
pub(crate) mod date;
mod date_format;
mod number;
mod object;
pub(crate) mod string;
mod types;

use crate::error::{Failure, Outcome};
use crate::value::Value;

/// A function, and how many arguments it takes.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// It reads documents by their ids.
    pub(crate) reads: bool,
    pub(crate) call: fn(&mut Calls, &[Value]) -> Outcome<Value>,
}

const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    call: fn(&mut Calls, &[Value]) -> Outcome<Value>,
) -> Function {
    Function { name, least, most, reads: false, call }
}

/// For functions that take as many arguments as one likes.
const MANY: usize = usize::MAX;

/// What functions share while a statement runs.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Name of the function that runs.
    pub(crate) name: &'static str,
    /// Number and message of each.
    pub(crate) warnings: Vec<(u32, String)>,
    /// How far the clock of the server is ahead of that of the machine, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    /// As on a server of 4.x.
    pub(crate) is_4: bool,
}

/// How many warnings a statement keeps.
const WARNINGS_MAX: usize = 10;

impl Calls {
    pub(crate) fn warn(&mut self, number: u32, message: impl Into<String>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push((number, message.into()));
        }
    }

    /// An argument of the wrong type: a warning, and null.
    fn mismatch(&mut self) -> Outcome<Value> {
        let message = format!("invalid argument type in call to function '{}()'", self.name);
        self.warn(1542, message);
        Ok(Value::Null)
    }

    /// An argument that the language takes, and the double does not.
    fn not_known(&self, what: &str) -> Failure {
        Failure::unknown(1541, format!("{what} of function '{}()'", self.name))
    }
}

/// Finds a function by its name, in any case.
pub(crate) fn find(name: &str) -> Outcome<&'static Function> {
    let tables = [
        array::TABLE,
        date::TABLE,
        date_format::TABLE,
        number::TABLE,
        object::TABLE,
        string::TABLE,
        types::TABLE,
    ];
    tables
        .into_iter()
        .flatten()
        .find(|function| function.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| Failure::unknown(1540, format!("AQL: usage of unknown function '{name}()'")))
}

/// The argument at a place, null where there is none.
fn argument(arguments: &[Value], at: usize) -> Value {
    arguments.get(at).cloned().unwrap_or_default()
}
