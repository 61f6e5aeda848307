//! `ListOperations`: the table of operations as it stands.

use mycelium_proto::v1;
use mycelium_values::{Operation, Types, VERSION};

use crate::broker::Handle;
use crate::error::Error;

pub(super) async fn list_operations(
    _handle: &Handle,
    _request: v1::ListOperationsRequest,
) -> Result<v1::ListOperationsResponse, Error> {
    Ok(v1::ListOperationsResponse { version: VERSION, operations: Operation::all().map(info).collect() })
}

fn info(operation: &Operation) -> v1::OperationInfo {
    let parameters = operation.parameters.iter().map(|parameter| v1::OperationParameter {
        name: parameter.name.to_owned(),
        types: names(parameter.types),
        optional: parameter.is_optional,
        variadic: parameter.is_variadic,
        lazy: parameter.is_lazy,
    });
    let body = operation.body;
    v1::OperationInfo {
        name: operation.name.to_owned(),
        parameters: parameters.collect(),
        body_inputs: body.map_or(&[][..], |shape| shape.inputs).iter().map(|&name| name.to_owned()).collect(),
        body_optional: body.is_some_and(|shape| shape.is_optional),
        result_types: names(operation.result),
        docs: operation.docs.to_owned(),
        errors: operation.errors.iter().map(|kind| kind.name().to_owned()).collect(),
        cost: operation.cost.to_owned(),
        since: operation.since(),
    }
}

fn names(types: Types) -> Vec<String> {
    types.iter().map(|one| one.name().to_owned()).collect()
}
