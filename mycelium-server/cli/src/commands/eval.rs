//! `mycelium eval`.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use mycelium_values::Limits;
use mycelium_values::vector::Vector;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::Output;

/// Computes value graphs from a file, without a broker: for trying operations out.
#[derive(Debug, clap::Args)]
#[command(after_help = "The file holds one value graph or a list of them:\n  \
    {\"nodes\": [{\"input\": \"weight\"}, {\"literal\": 2}, {\"operation\": \"multiply\", \"inputs\": [0, 1]}],\n   \
    \"result\": 2, \"inputs\": {\"weight\": 21}}\n\
    Nodes are literal, input, list ([index]), map ([[key, index]]), operation (with inputs and, for some, a body of \
    nodes and result) and, in bodies, body_input. `docs/value-graphs.md` lists the operations.\n\n\
    JSON: [{name, value, error}], where value is null if there is an error.")]
pub(crate) struct Args {
    /// The file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Result<'a> {
    name: &'a str,
    value: Option<Box<RawValue>>,
    error: Option<String>,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let json = read(args).with_context(|| format!("cannot read {}", args.file.display()))?;
    let vectors = Vector::read(&json)?;
    let mut results = Vec::with_capacity(vectors.len());
    for vector in &vectors {
        let (value, error) = match vector.evaluate(Limits::default()) {
            Ok(value) => {
                let json = String::from_utf8(value.to_json().to_vec()).context("the value is not UTF-8")?;
                (Some(RawValue::from_string(json)?), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        results.push(Result { name: &vector.name, value, error });
    }
    let failed = results.iter().filter(|result| result.error.is_some()).count();
    if output.is_json() {
        output.json(&results)?;
    } else {
        let mut text = String::new();
        for Result { name, value, error } in &results {
            if !name.is_empty() {
                text.push_str(name);
                text.push_str(": ");
            }
            match (value, error) {
                (Some(value), _) => text.push_str(value.get()),
                (None, error) => {
                    text.push_str("failed at ");
                    text.push_str(error.as_deref().unwrap_or_default());
                }
            }
            text.push('\n');
        }
        output.text(&text)?;
    }
    if failed > 0 {
        bail!(
            "{failed} of {} could not be computed",
            crate::output::format::count(results.len() as u64, "value graph")
        );
    }
    Ok(())
}

fn read(args: &Args) -> std::io::Result<Vec<u8>> {
    if args.file.as_os_str() == "-" {
        let mut json = Vec::new();
        std::io::stdin().read_to_end(&mut json)?;
        return Ok(json);
    }
    std::fs::read(&args.file)
}
