//! The binary `mycelium`: the broker (`serve`), and commands that look at one and steer it.

mod args;
mod bench;
mod commands;
mod errors;
mod output;
mod views;

use std::process::ExitCode;

use clap::Parser as _;

// The broker makes and drops many small pieces from several threads, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return errors::report(&anyhow::Error::new(error).context("cannot start")),
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::report(&error),
    }
}
