//! The stores alone: commits in which jobs are submitted, start to run, and are done.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error should end at once")]

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mycelium_bench::store::World;
use mycelium_server::store::{EmbeddedStore, Log, MemoryStore};

/// The bytes of a small specification.
const BODY_BYTES: usize = 120;

fn commits(criterion: &mut Criterion, name: &str, store: &dyn Log) {
    let world = RefCell::new(World::new(BODY_BYTES));
    let mut group = criterion.benchmark_group(name);
    for jobs in [1, 64, 1_024] {
        group.throughput(Throughput::Elements(jobs));
        // Far from the jobs of other sizes.
        let mut round = u64::from(u32::MAX) * jobs;
        group.bench_function(format!("a commit of {jobs} jobs of each stage"), |bencher| {
            let next = || {
                round += 1;
                world.borrow_mut().round(round, jobs)
            };
            bencher.iter_batched(next, |batch| store.commit(&batch).wait().unwrap(), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn stores(criterion: &mut Criterion) {
    commits(criterion, "memory", &MemoryStore::new());
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    commits(criterion, "embedded", &store);
    store.close().wait().unwrap();
}

criterion_group!(benches, stores);
criterion_main!(benches);
