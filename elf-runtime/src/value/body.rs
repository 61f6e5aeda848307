//! The body of an operation: what it does with each element of a list.

use mycelium_proto::v1;

use super::scopes::Scope;

/// The body of an operation. Generic in what the closure returned, which is a node that may hold bodies.
pub(crate) struct Body<N> {
    pub(super) wire: v1::OperationBody,
    pub(super) scope: Scope,
    /// How many inputs the closure was given.
    pub(super) own_inputs: u32,
    /// How many values from outside it uses. They are the last operands of the operation.
    pub(super) captured: usize,
    /// What the closure returned. It is kept to be shown.
    pub(super) result: N,
    pub(super) node_count: usize,
    pub(super) literal_bytes: usize,
    pub(super) operations_version: u32,
    pub(super) nested: u32,
}
