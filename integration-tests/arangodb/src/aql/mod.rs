//! The query language: parsed, checked, planned and run for any statement of the subset.

pub(crate) mod ast;
pub(crate) mod check;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod functions;
mod lexer;
pub(crate) mod parser;
pub(crate) mod plan;
pub(crate) mod walk;

#[cfg(test)]
mod recorded;
