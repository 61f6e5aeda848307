//! Generates the Rust side of the contract with a compiler written in Rust, so that no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 10] = [
    "mycelium/v1/action.proto",
    "mycelium/v1/pause.proto",
    "mycelium/v1/value.proto",
    "mycelium/v1/failure.proto",
    "mycelium/v1/job.proto",
    "mycelium/v1/elf.proto",
    "mycelium/v1/mycelium_service.proto",
    "mycelium/v1/elf_service.proto",
    "mycelium/v1/blob_service.proto",
    "mycelium/v1/store_service.proto",
];

/// What the details of errors are made of: in the descriptor set, so that whoever has that can read them. Their code is
/// elsewhere.
const DETAILS: [&str; 2] = ["google/rpc/error_details.proto", "google/rpc/status.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.iter().chain(&DETAILS) {
        println!("cargo:rerun-if-changed={file}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let ours = compiler.file_descriptor_set();
    compiler.open_files(DETAILS)?;
    fs::write(out.join("mycelium.v1.bin"), compiler.encode_file_descriptor_set())?;

    // Without the generated `connect` constructors: one would clash with the call `ElfService.Connect`, and both
    // sides build their channels themselves.
    let mut config = prost_build::Config::new();
    // So that a message can be looked up in the descriptor set.
    config.enable_type_names();
    // Maps in order, so that equal messages are equal bytes.
    let services = tonic_prost_build::configure().bytes(".").btree_map(".").build_transport(false);
    services.compile_fds_with_config(ours, config)?;
    Ok(())
}
