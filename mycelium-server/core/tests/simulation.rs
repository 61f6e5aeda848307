//! The core against a hostile world, many times over. `SIM_SEED=n` replays one run, `SIM_SEEDS=n` runs that many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod sim;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sim::{Counts, Invariant, Length, Seen};

/// Seeds in which everything happens that can, often enough that it is asked for.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// What runs came to.
#[derive(Debug, Default)]
struct All {
    jobs: usize,
    batches: u64,
    rebuilds: u64,
    seen: Counts,
    checked: Vec<u64>,
    /// The longest time that one needed to end everything.
    ended_after: Duration,
    failed: Vec<u64>,
}

impl All {
    fn run(&mut self, seed: u64) {
        let Ok(outcome) = catch_unwind(|| sim::run(seed, Length::of(seed), false, |_| {})) else {
            return self.failed.push(seed);
        };
        self.jobs += outcome.jobs;
        self.batches += outcome.batches;
        self.rebuilds += outcome.rebuilds;
        self.seen.add(&outcome.seen);
        self.add_checked(&outcome.checked);
        self.ended_after = self.ended_after.max(outcome.ended_after);
    }

    fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.batches += other.batches;
        self.rebuilds += other.rebuilds;
        self.seen.add(&other.seen);
        self.add_checked(&other.checked);
        self.ended_after = self.ended_after.max(other.ended_after);
        self.failed.extend(other.failed);
    }

    fn add_checked(&mut self, checked: &[u64]) {
        self.checked.resize(Invariant::ALL.len(), 0);
        self.checked.iter_mut().zip(checked).for_each(|(all, more)| *all += more);
    }
}

/// Runs seeds on all cores, until one fails.
fn run_all(seeds: u64) -> All {
    let next = AtomicU64::new(0);
    let work = || {
        let mut all = All::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return all;
            }
            all.run(seed);
            if !all.failed.is_empty() {
                next.store(seeds, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all = All::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| all.add(worker.join().unwrap()));
    });
    all
}

#[test]
fn every_promise_holds_whatever_goes_wrong() {
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {:?}", sim::run(seed, Length::of(seed), false, |_| {}));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let All { jobs, batches, rebuilds, seen, checked, ended_after, failed } = run_all(seeds);
    println!(
        "{seeds} seeds: {jobs} jobs, {batches} batches, {rebuilds} rebuilds, all ended after {ended_after:?}"
    );
    for seen_one in Seen::ALL {
        println!("{:9} times {}", seen.of(seen_one), seen_one.says());
    }
    for (invariant, checked) in Invariant::ALL.into_iter().zip(&checked) {
        println!("{checked:9} times checked: {}", invariant.says());
    }
    assert!(failed.is_empty(), "replay with SIM_SEED={}", failed[0]);
    if seeds >= SEEDS {
        let never: Vec<Seen> = Seen::ALL.into_iter().filter(|one| seen.of(*one) == 0).collect();
        assert!(never.is_empty(), "the simulation does not do all that it can: {never:?}");
        assert!(checked.iter().all(|times| *times > 0), "every invariant is checked: {checked:?}");
    }
}

#[test]
fn a_seed_gives_the_same_run_byte_for_byte() {
    for (seed, length) in [(3, Length::Long), (5, Length::Long), (7, Length::Short)] {
        let first = sim::run(seed, length, true, |_| {});
        let second = sim::run(seed, length, true, |config| config.hash_seed = 99);
        assert!(first.log.len() > 10_000);
        assert_eq!(first, second, "seed {seed}");
    }
}
