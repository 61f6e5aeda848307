//! The table of operations: what each is called, takes, gives, and how it fails. The checks at submission, the
//! evaluation, the documentation and `ListOperations` all come from it.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::operations;
use crate::order::Order;
use crate::types::Types;
use crate::value::Value;

/// The version of the table. A version adds operations; what an operation means never changes.
pub const VERSION: u32 = 2;

/// An operation on values.
#[derive(Debug)]
pub struct Operation {
    /// Its name, which never changes.
    pub name: &'static str,
    /// What it takes, in order. Only the last ones may be optional, only the last may be variadic.
    pub parameters: &'static [Parameter],
    /// What its body is given, if it takes one.
    pub body: Option<BodyShape>,
    /// The types its result may have.
    pub result: Types,
    /// How it can fail, beyond `wrong_type` and `limit_exceeded`.
    pub errors: &'static [ErrorKind],
    /// How many steps it takes, beyond one and those of the text that is read or written.
    pub cost: &'static str,
    /// What it does.
    pub docs: &'static str,
    pub(crate) run: Run,
}

/// A parameter of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// The types it takes.
    pub types: Types,
    /// Whether it may be left out.
    pub is_optional: bool,
    /// Whether any number of operands may be given for it.
    pub is_variadic: bool,
    /// Whether it is computed only if the result needs it.
    pub is_lazy: bool,
}

/// What a body is given.
#[derive(Debug, Clone, Copy)]
pub struct BodyShape {
    /// Its own inputs, in order; captured values come after them.
    pub inputs: &'static [&'static str],
    /// Whether the body may be left out.
    pub is_optional: bool,
}

/// An operation whose operands are all computed, looked into where their parameter asks for a type, and of the right
/// types.
pub(crate) type Function = fn(&mut [Value], &mut Budget) -> Result<Value, Failure>;

/// How an operation is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// From its operands.
    Eager(Function),
    /// From those of its operands that turn out to be needed.
    Lazy(Lazy),
    /// With a body for each element.
    Loop(Loop),
}

/// Operations that may leave operands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lazy {
    Select,
    Coalesce,
    And,
    Or,
    GetOr,
}

/// Operations with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    Map,
    Filter,
    Reduce,
    GroupBy,
    Sort(Order),
}

impl Operation {
    /// The operation of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        static BY_NAME: LazyLock<HashMap<&'static str, &'static Operation>> =
            LazyLock::new(|| Operation::all().map(|operation| (operation.name, operation)).collect());
        BY_NAME.get(name).copied()
    }

    /// All operations, by family.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        families().iter().flat_map(|family| family.operations)
    }

    /// The version of the table that added it.
    #[must_use]
    pub fn since(&self) -> u32 {
        if self.name.starts_with("strict.") { 2 } else { 1 }
    }

    /// The parameter that an operand is for; `None` if there are too many operands.
    #[must_use]
    pub fn parameter(&self, operand: usize) -> Option<&'static Parameter> {
        match self.parameters.get(operand) {
            Some(parameter) => Some(parameter),
            None => self.parameters.last().filter(|last| last.is_variadic),
        }
    }

    /// The least number of operands.
    #[must_use]
    pub fn operands_min(&self) -> usize {
        self.parameters.iter().filter(|parameter| !parameter.is_optional && !parameter.is_variadic).count()
    }

    /// The greatest number of operands, those passed on to a body left out; `None` if there is none.
    #[must_use]
    pub fn operands_max(&self) -> Option<usize> {
        let is_variadic = self.parameters.last().is_some_and(|last| last.is_variadic);
        (!is_variadic).then_some(self.parameters.len())
    }
}

impl Parameter {
    pub(crate) const fn new(name: &'static str, types: Types) -> Self {
        Self { name, types, is_optional: false, is_variadic: false, is_lazy: false }
    }

    pub(crate) const fn any(name: &'static str) -> Self {
        Self::new(name, Types::ANY)
    }

    pub(crate) const fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    pub(crate) const fn variadic(mut self) -> Self {
        self.is_variadic = true;
        self
    }

    pub(crate) const fn lazy(mut self) -> Self {
        self.is_lazy = true;
        self
    }
}

/// Operations that belong together.
#[derive(Debug)]
pub struct Family {
    /// Its name, for people.
    pub name: &'static str,
    /// The operations.
    pub operations: &'static [Operation],
}

/// All operations, by family.
#[must_use]
pub fn families() -> &'static [Family] {
    &[
        Family { name: "Any value", operations: operations::generic::OPERATIONS },
        Family { name: "Logic", operations: operations::logic::OPERATIONS },
        Family { name: "Values of one kind", operations: operations::strict::OPERATIONS },
        Family { name: "Numbers", operations: operations::number::OPERATIONS },
        Family { name: "Conversions", operations: operations::convert::OPERATIONS },
        Family { name: "Lists", operations: operations::list::OPERATIONS },
        Family { name: "Lists as a whole", operations: operations::whole::OPERATIONS },
        Family { name: "Maps", operations: operations::map::OPERATIONS },
        Family { name: "Strings", operations: operations::text::OPERATIONS },
        Family { name: "Encodings", operations: operations::encoding::OPERATIONS },
    ]
}
