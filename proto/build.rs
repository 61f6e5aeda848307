//! Generates the Rust side of the contract with a compiler written in Rust, so that no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 8] = [
    "mycelium/v1/value.proto",
    "mycelium/v1/failure.proto",
    "mycelium/v1/job.proto",
    "mycelium/v1/elf.proto",
    "mycelium/v1/mycelium_service.proto",
    "mycelium/v1/elf_service.proto",
    "mycelium/v1/blob_service.proto",
    "mycelium/v1/store_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;

    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("mycelium.v1.bin"), descriptors.encode_to_vec())?;

    // Without the generated `connect` constructors: one would clash with the call `ElfService.Connect`, and both
    // sides build their channels themselves.
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
