//! Writes the published test vectors as specifications of jobs, one a file: what a fuzzer begins with.
//!
//! `cargo run -p mycelium-values --example fuzz_seeds -- FOLDER`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use mycelium_proto::v1;
use mycelium_values::vector::Vector;
use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give the folder to write to")?;
    fs::create_dir_all(&folder)?;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/testdata/value-graphs");
    let mut number = 0;
    for file in fs::read_dir(vectors)? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for vector in Vector::read(&fs::read(&file)?)? {
            let spec =
                v1::JobSpec { nodes: vector.nodes()?, operations_version: 1, ..v1::JobSpec::default() };
            fs::write(folder.join(format!("vector-{number}")), spec.encode_to_vec())?;
            number += 1;
        }
    }
    Ok(())
}
