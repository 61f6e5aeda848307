//! `mycelium proto`: the contract as files, for those who write elves and clients in other languages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mycelium_proto::{FILE_DESCRIPTOR_SET, FILES};
use serde_json::json;

use crate::errors::Misuse;
use crate::output::Output;

/// The name of the descriptor set.
const DESCRIPTOR_SET: &str = "mycelium.v1.binpb";

/// Writes the contract: the `.proto` files, those of `google.rpc` that the details of errors are made of, and all of it
/// once more as an encoded `google.protobuf.FileDescriptorSet`, with comments.
///
/// JSON: `{files}`, the paths of what was written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mycelium proto --out proto\n  \
    python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. mycelium/v1/elf_service.proto")]
pub(crate) struct Args {
    /// The folder to write into; it is made if it is not there. Files of the same names are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let out = &args.out;
    if out.exists() && !out.is_dir() {
        return Err(Misuse(format!("--out: `{}` is there, and is no folder", out.display())).into());
    }
    let texts = FILES.iter().map(|(path, text)| (*path, text.as_bytes()));
    let mut written = Vec::new();
    for (path, bytes) in texts.chain([(DESCRIPTOR_SET, FILE_DESCRIPTOR_SET)]) {
        let path = out.join(path);
        write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        written.push(path.display().to_string());
    }
    if output.is_json() {
        return Ok(output.json(&json!({ "files": written }))?);
    }
    Ok(output.text(&written.iter().map(|path| format!("{path}\n")).collect::<String>())?)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}
