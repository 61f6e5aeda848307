//! The table as a page for people.

use std::fmt::Write as _;

use crate::error::ErrorKind;
use crate::table::{Operation, VERSION, families};

const HEAD: &str = include_str!("docs_head.md");

/// `docs/value-graphs.md`, from the table.
#[must_use]
pub fn documentation() -> String {
    let mut page = HEAD.replace("{version}", &VERSION.to_string());
    for family in families() {
        // Writing to a string does not fail.
        let _infallible = write!(page, "\n## {}\n", family.name);
        page.push_str("\n| operation | result | fails with | steps beyond 1 |\n|---|---|---|---|\n");
        for operation in family.operations {
            let _infallible = writeln!(
                page,
                "| `{}`<br>{} | {} | {} | {} |",
                signature(operation),
                operation.docs.replace('|', "\\|"),
                operation.result,
                names(operation.errors),
                operation.cost,
            );
        }
    }
    page
}

fn names(errors: &[ErrorKind]) -> String {
    errors.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

/// `get_or(value: list or map, key: int or string, default: any value, lazy)`
fn signature(operation: &Operation) -> String {
    let mut parameters = Vec::new();
    for parameter in operation.parameters {
        let mark = match (parameter.is_variadic, parameter.is_optional) {
            (true, _) => "...",
            (false, true) => "?",
            (false, false) => "",
        };
        let lazy = if parameter.is_lazy { " (lazy)" } else { "" };
        parameters.push(format!("{}{mark}: {}{lazy}", parameter.name, parameter.types));
    }
    let body = match operation.body {
        None => String::new(),
        Some(shape) => {
            let mark = if shape.is_optional { "?" } else { "" };
            format!(" {{{}}}{mark}", shape.inputs.join(", "))
        }
    };
    format!("{}({}){body}", operation.name, parameters.join(", "))
}
