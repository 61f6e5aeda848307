//! The scheduler alone: batches in which jobs are submitted, assigned and done.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mycelium_bench::scheduler::Scheduler;

fn lives(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    for jobs in [1, 64, 1_024] {
        group.throughput(Throughput::Elements(jobs));
        group.bench_function(format!("a batch of {jobs}"), |bencher| {
            let mut scheduler = Scheduler::with_elf();
            bencher.iter(|| scheduler.turn(jobs));
        });
    }
    group.finish();
}

criterion_group!(benches, lives);
criterion_main!(benches);
