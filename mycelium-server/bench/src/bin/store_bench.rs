//! Measures the embedded store: jobs per second through a full life, commit times, memory of waiting jobs, and the
//! time to load them after a kill.
//!
//! ```text
//! cargo run --release -p mycelium-bench --bin store_bench -- life FOLDER BATCH JOBS BODY_BYTES
//! cargo run --release -p mycelium-bench --bin store_bench -- backlog FOLDER JOBS
//! cargo run --release -p mycelium-bench --bin store_bench -- load FOLDER
//! ```
//! `backlog` ends by aborting, as a killed broker does; `load` then opens what it left. The folder must be new for the
//! first two, and is left behind.
#![expect(clippy::print_stdout, reason = "its purpose")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use mycelium_bench::resident_bytes;
use mycelium_bench::store::World;
use mycelium_server::store::{EmbeddedStore, Log as _};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["life", folder, batch, jobs, body] => life(folder, batch.parse()?, jobs.parse()?, body.parse()?),
        ["backlog", folder, jobs] => backlog(folder, jobs.parse()?),
        ["load", folder] => load(folder),
        _ => Err("say life, backlog or load, as the documentation of this program shows".into()),
    }
}

/// Takes jobs through their life, `batch` of each stage in a commit: submitted, handed out, done.
fn life(folder: &str, batch: u64, jobs: u64, body_bytes: usize) -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::open(Path::new(folder))?;
    let mut world = World::new(body_bytes);
    let mut times = Vec::new();
    let begin = Instant::now();
    let (rounds, cpu) = (jobs.div_ceil(batch), cpu());
    for round in 0..rounds + 2 {
        let commit = world.round(round, batch);
        let before = Instant::now();
        store.commit(&commit).wait()?;
        times.push(before.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    println!(
        "batch {batch}, body {body_bytes} bytes: {:.0} jobs/s, {:.1} us of processor a job, commit p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} MiB resident",
        (rounds * batch) as f64 / seconds,
        (self::cpu() - cpu).as_secs_f64() * 1e6 / (rounds * batch) as f64,
        percentile(&times, 50).as_secs_f64() * 1e3,
        percentile(&times, 99).as_secs_f64() * 1e3,
        percentile(&times, 100).as_secs_f64() * 1e3,
        resident_bytes() / 1024 / 1024,
    );
    store.close().wait()?;
    Ok(())
}

/// Submits jobs that wait, says how much memory that takes, and dies.
fn backlog(folder: &str, jobs: u64) -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::open(Path::new(folder))?;
    let mut world = World::new(120);
    store.commit(&world.commit(Vec::new())).wait()?;
    let empty = resident_bytes();
    let begin = Instant::now();
    for first in (0..jobs).step_by(1024) {
        let changes = (first..jobs.min(first + 1024)).map(|job| world.stage(0, job)).collect();
        store.commit(&world.commit(changes)).wait()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let busy = resident_bytes();
    std::thread::sleep(Duration::from_secs(3));
    println!(
        "{jobs} waiting jobs in {seconds:.1} s: {} bytes resident a job, {} settled",
        busy.saturating_sub(empty) / jobs,
        resident_bytes().saturating_sub(empty) / jobs
    );
    std::process::abort()
}

fn load(folder: &str) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let store = EmbeddedStore::open(Path::new(folder))?;
    let opened = begin.elapsed();
    let mut jobs = 0;
    store.load(&mut |_| jobs += 1).wait()?;
    let loaded = begin.elapsed();
    println!(
        "opened in {:.2} s, {jobs} jobs loaded in {:.2} s more; {} MiB resident",
        opened.as_secs_f64(),
        (loaded - opened).as_secs_f64(),
        resident_bytes() / 1024 / 1024
    );
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// Processor time of all threads of this process so far; 0 where the system does not say.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    // User and system time, in hundredths of a second.
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
