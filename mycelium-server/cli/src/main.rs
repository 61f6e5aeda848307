//! The binary `mycelium`: the broker (`serve`), and commands that inspect and control one.

mod args;
mod bench;
mod commands;
mod errors;
mod output;
mod store_address;
mod views;

use std::process::ExitCode;
use std::time::Duration;

// The broker makes and drops many small pieces from several threads, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long what still waits aside, for a disk or a database, may hold up the end of the process.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// How many threads may read and compute aside, beside those for each core: more than wait for a disk at once.
const BLOCKING_THREADS_MIN: usize = 8;

fn main() -> ExitCode {
    keep_to_small_pages();
    let cli = args::Cli::read();
    // A commit of the broker blocks one thread: another has to be left that reads and writes, on one core as well.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        // Each keeps memory of its own for as long as it lives, and all of them take turns: with 80 of them, a flood of
        // watches took three times the memory.
        .max_blocking_threads(BLOCKING_THREADS_MIN + 2 * threads)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return errors::report(&anyhow::Error::new(error).context("cannot start")),
    };
    let ended = runtime.block_on(commands::run(cli));
    runtime.shutdown_timeout(ENDS_WITHIN);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::report(&error),
    }
}

/// Asks the system not to hand out memory in huge pages. The allocator invites them, and gives buffers of large values
/// back soon after use: the next one then costs the clearing of 2 MiB, however little of it is written.
fn keep_to_small_pages() {
    #[cfg(target_os = "linux")]
    // A system that does not know of this is slower for it, no more.
    let _slower = nix::sys::prctl::set_thp_disable(true);
}
