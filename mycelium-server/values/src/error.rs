//! What goes wrong when a value is computed.

use std::fmt;

use crate::types::Type;

/// The types of so many operands are shown in a message.
const OPERANDS_SHOWN: usize = 8;

/// How an operation failed: what test vectors name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An operand has a type that the operation does not take.
    WrongType,
    /// A map has no such key.
    MissingKey,
    /// A list or string has no element with this index.
    BadIndex,
    /// Division by zero.
    DivisionByZero,
    /// A number is beyond what an int or a float holds.
    Overflow,
    /// An operand has the right type and cannot be used all the same: a text that is no number, a step of 0.
    InvalidValue,
    /// A list does not hold the element that was to be removed.
    NotFound,
    /// A list has no element, and one is needed.
    Empty,
    /// A limit of the evaluation is reached: steps, bytes, depth.
    LimitExceeded,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::WrongType,
        Self::MissingKey,
        Self::BadIndex,
        Self::DivisionByZero,
        Self::Overflow,
        Self::InvalidValue,
        Self::NotFound,
        Self::Empty,
        Self::LimitExceeded,
    ];

    /// Its name, as test vectors and the documentation have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::MissingKey => "missing_key",
            Self::BadIndex => "bad_index",
            Self::DivisionByZero => "division_by_zero",
            Self::Overflow => "overflow",
            Self::InvalidValue => "invalid_value",
            Self::NotFound => "not_found",
            Self::Empty => "empty",
            Self::LimitExceeded => "limit_exceeded",
        }
    }
}

/// How one operation failed, or why it has no operand, before it is known where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// What is wrong, for people; it tells types and sizes, and never a value.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A value that is missing, or cannot be used: [`ErrorKind::InvalidValue`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidValue, message)
    }
}

/// Why a value could not be computed, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct EvaluationError {
    /// The node, as its index in the job's table of nodes.
    pub node: usize,
    /// If the fault lies in a body: the nodes within bodies that lead to it, outermost first.
    pub body_nodes: Vec<usize>,
    /// The operation; empty if the node is none.
    pub operation: String,
    /// The types of its operands, as far as they were computed.
    pub operands: Vec<Type>,
    /// What is wrong.
    pub failure: Failure,
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)?;
        for node in &self.body_nodes {
            write!(f, ", node {node} of its body")?;
        }
        if !self.operation.is_empty() {
            write!(f, ", {}(", self.operation)?;
            for (index, operand) in self.operands.iter().take(OPERANDS_SHOWN).enumerate() {
                write!(f, "{}{operand}", if index > 0 { ", " } else { "" })?;
            }
            let more = self.operands.len().saturating_sub(OPERANDS_SHOWN);
            if more > 0 { write!(f, ", and {more} more)")? } else { f.write_str(")")? }
        }
        write!(f, ": {} ({})", self.failure.message, self.failure.kind.name())
    }
}
