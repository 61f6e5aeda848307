//! Prints what the core alone costs: microseconds a job life (submit, assign, outcome), and bytes a waiting job.
//!
//! `cargo run --release -p mycelium-bench --bin core_speed`
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::Instant;

use mycelium_bench::resident_bytes;
use mycelium_bench::scheduler::{Scheduler, id};
use mycelium_core::command::Part;
use mycelium_core::ids::SubmissionId;

const JOBS: u64 = 1_000_000;
const CALL: u64 = 4_096;

fn lives() {
    let mut scheduler = Scheduler::with_elf();
    let started = Instant::now();
    let mut done = 0;
    while done < JOBS {
        done += scheduler.turn(CALL / 8);
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / done as f64;
    println!("{micros:.2} microseconds a job life, over {done} jobs");
}

fn backlog(name: &str, is_chained: bool) {
    let before = resident_bytes();
    let mut scheduler = Scheduler::without_elves();
    let started = Instant::now();
    let calls = JOBS / CALL;
    for call in 0..calls {
        let jobs = (call * CALL..(call + 1) * CALL).map(|number| {
            let on = if is_chained && number > 0 { vec![id(number - 1)] } else { vec![] };
            (number, on)
        });
        let jobs = jobs.collect();
        let index = u32::try_from(call).unwrap_or(u32::MAX);
        let part = Part { submission: SubmissionId::new([1; 16]), index, seal: call + 1 == calls };
        scheduler.submit(jobs, Some(part));
    }
    let jobs = calls * CALL;
    let bytes = resident_bytes().saturating_sub(before) as f64 / jobs as f64;
    let micros = started.elapsed().as_secs_f64() * 1e6 / jobs as f64;
    println!("{name}: {bytes:.0} bytes a waiting job, {micros:.2} microseconds each to take in");
    std::mem::forget(scheduler);
}

fn main() {
    backlog("ready", false);
    backlog("chained", true);
    lives();
}
