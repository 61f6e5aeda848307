//! The core against a hostile world, many times over. `SIM_SEED=n` replays one run, `SIM_SEEDS=n` runs that many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod sim;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn every_promise_holds_whatever_goes_wrong() {
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {:?}", sim::run(seed, false, |_| {}));
        return;
    }
    let (mut jobs, mut batches, mut rebuilds) = (0, 0, 0);
    for seed in 0..number("SIM_SEEDS").unwrap_or(32) {
        println!("replay with SIM_SEED={seed}");
        let outcome = sim::run(seed, false, |_| {});
        jobs += outcome.jobs;
        batches += outcome.batches;
        rebuilds += outcome.rebuilds;
    }
    println!("{jobs} jobs, {batches} batches, {rebuilds} rebuilds");
    assert!(jobs > 0 && rebuilds > 0, "the simulation does something");
}

#[test]
fn a_seed_gives_the_same_run_byte_for_byte() {
    for seed in [3, 5] {
        let first = sim::run(seed, true, |_| {});
        let second = sim::run(seed, true, |config| config.hash_seed = 99);
        assert!(first.log.len() > 10_000);
        assert_eq!(first, second, "seed {seed}");
    }
}
