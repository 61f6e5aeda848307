//! Measures the embedded store: jobs per second through a full life, commit times, memory of waiting jobs, and the
//! time to load them after a kill.
//!
//! ```text
//! cargo run --release -p mycelium-server --example store_bench -- life FOLDER BATCH JOBS BODY_BYTES
//! cargo run --release -p mycelium-server --example store_bench -- backlog FOLDER JOBS
//! cargo run --release -p mycelium-server --example store_bench -- load FOLDER
//! ```
//! `backlog` ends by aborting, as a killed broker does; `load` then opens what it left. The folder must be new for the
//! first two, and is left behind.
#![expect(clippy::print_stdout, reason = "its purpose")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob, Records};
use mycelium_core::ids::{
    Attempt, Commit, ContentDigest, FinishNumber, FlowId, FlowNumber, InstanceId, JobId, JobNumber, Revision,
    SessionId, Timestamp,
};
use mycelium_core::image::{Counters, FlowRecord, JobHead, LiveJob, Running};
use mycelium_core::status::FinalCounts;
use mycelium_server::store::{Batch, EmbeddedStore, JobAfter, JobChange, SpecRecord, Store};

const FLOW: FlowId = FlowId::new([1; 16]);
const INSTANCE: InstanceId = InstanceId::new([2; 16]);
const REVISION: Revision = Revision::new([3; 32]);

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
    // As in a broker under load, a commit holds some jobs of each stage.
    for round in 0..rounds + 2 {
        let mut changes = Vec::new();
        for (stage, age) in [(0, 0), (1, 1), (2, 2)] {
            let Some(group) = round.checked_sub(age).filter(|group| *group < rounds) else { continue };
            changes.extend((group * batch..(group + 1) * batch).map(|job| world.stage(stage, job)));
        }
        let commit = world.commit(changes);
        let before = Instant::now();
        store.commit(&commit)?;
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
        resident() / 1024 / 1024,
    );
    store.close()?;
    Ok(())
}

/// Submits jobs that wait, says how much memory that takes, and dies.
fn backlog(folder: &str, jobs: u64) -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::open(Path::new(folder))?;
    let mut world = World::new(120);
    store.commit(&world.commit(Vec::new()))?;
    let empty = resident();
    let begin = Instant::now();
    for first in (0..jobs).step_by(1024) {
        let changes = (first..jobs.min(first + 1024)).map(|job| world.stage(0, job)).collect();
        store.commit(&world.commit(changes))?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let busy = resident();
    std::thread::sleep(Duration::from_secs(3));
    println!(
        "{jobs} waiting jobs in {seconds:.1} s: {} bytes resident a job, {} settled",
        busy.saturating_sub(empty) / jobs,
        resident().saturating_sub(empty) / jobs
    );
    std::process::abort()
}

fn load(folder: &str) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let store = EmbeddedStore::open(Path::new(folder))?;
    let opened = begin.elapsed();
    let mut jobs = 0;
    store.load(&mut |_| jobs += 1)?;
    let loaded = begin.elapsed();
    println!(
        "opened in {:.2} s, {jobs} jobs loaded in {:.2} s more; {} MiB resident",
        opened.as_secs_f64(),
        (loaded - opened).as_secs_f64(),
        resident() / 1024 / 1024
    );
    Ok(())
}

/// What the broker would know.
struct World {
    counters: Counters,
    flow: FlowRecord,
    elf: Arc<str>,
    task: Arc<str>,
    body: Bytes,
}

impl World {
    fn new(body_bytes: usize) -> Self {
        // Not all zeros, which would compress away.
        let body: Vec<u8> =
            (0..body_bytes).map(|at| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u8).collect();
        Self {
            counters: Counters::default(),
            flow: FlowRecord {
                id: FLOW,
                name: "bench".into(),
                labels: mycelium_core::labels::Labels::NONE,
                number: FlowNumber(1),
                created_at: Timestamp(1),
                finished: FinalCounts::default(),
            },
            elf: "bench elf".into(),
            task: "task_nothing".into(),
            body: body.into(),
        }
    }

    fn stage(&mut self, stage: u8, job: u64) -> JobChange {
        // Ids as of version 7: time first, then what no one can guess.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(0x0190_0000_0000_0000 + (job << 8)).to_be_bytes());
        id[8..].copy_from_slice(&job.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let id = JobId::new(id);
        let (number, submitted_at) = (JobNumber(job + 1), Timestamp(1_700_000_000_000_000 + job));
        let (flow, elf, task, digest) = (FLOW, self.elf.clone(), self.task.clone(), ContentDigest(job));
        let head = || JobHead {
            id,
            flow,
            elf: elf.clone(),
            task: task.clone(),
            number,
            submitted_at,
            ..JobHead::default()
        };
        let live = |running: Option<Running>| LiveJob {
            head: head(),
            digest,
            waits_for: Vec::new(),
            submission: None,
            attempt: Attempt(running.map_or(0, |_| 1)),
            elves_lost: 0,
            evaluate: false,
            running,
            attempts: Vec::new(),
        };
        let running =
            Running { session: SessionId(1), instance: INSTANCE, revision: REVISION, since: submitted_at };
        let spec = || SpecRecord {
            head: head(),
            digest,
            depends_on: Vec::new(),
            evaluate: false,
            gathered_by: None,
            body: self.body.clone(),
        };
        let (created, after) = match stage {
            0 => (Some(spec()), JobAfter::Live(live(None))),
            1 => (None, JobAfter::Live(live(Some(running)))),
            _ => {
                self.counters.finish.0 += 1;
                self.flow.finished.done += 1;
                let finished = FinishedJob {
                    head: head(),
                    finish_number: self.counters.finish,
                    end: End::Done(self.body.slice(..self.body.len().min(100))),
                    finished_at: Timestamp(1_700_000_000_000_000 + self.counters.finish.0),
                    attempt: Attempt(1),
                    elves_lost: 0,
                    ran: Some(running),
                    elements: None,
                    attempts: Vec::new(),
                };
                (None, JobAfter::Finished(finished))
            }
        };
        JobChange { id, flow, created, revived: None, after }
    }

    fn commit(&mut self, jobs: Vec<JobChange>) -> Batch {
        self.counters.commit = Commit(self.counters.commit.0 + 1);
        self.counters.job = JobNumber(self.counters.job.0 + jobs.len() as u64);
        self.counters.finish = FinishNumber(self.counters.finish.0);
        let records = Records { flows: vec![self.flow.clone()], ..Records::default() };
        Batch { counters: self.counters, jobs, records, ..Batch::default() }
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// Resident memory of this process, in bytes; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Processor time of all threads of this process so far; 0 where the system does not say.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    // User and system time, in hundredths of a second.
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
