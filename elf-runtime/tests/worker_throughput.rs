//! How many no-op jobs a second a worker takes, with nothing but a fake broker behind it. To be run by hand:
//! `cargo test --release -p elf-runtime --test worker_throughput -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

use std::sync::Arc;
use std::time::Instant;

use elf_runtime::{
    Elf, ElfDeclaration, JobId, TaskCall, TaskContext, TaskDeclaration, TaskError, TaskOutputs,
};
use futures::future::BoxFuture;
use mycelium_proto::v1;
use mycelium_testing::fake::{FakeBroker, assignment, token};

/// Does nothing.
struct Idler;

impl Elf for Idler {
    fn declaration(&self) -> ElfDeclaration {
        ElfDeclaration::new("idle")
            .task(TaskDeclaration::new("task_idle", "idle").parameter::<u32>("n").outputs::<()>())
    }

    fn call(
        self: Arc<Self>,
        mut call: TaskCall,
        _context: TaskContext,
    ) -> BoxFuture<'static, Result<TaskOutputs, TaskError>> {
        Box::pin(async move {
            let _n: u32 = call.argument("n")?;
            Ok(TaskOutputs::new())
        })
    }
}

/// CPU time of a thread or of the process, in seconds: user and system.
fn cpu_seconds(stat: &str) -> f64 {
    let stat = std::fs::read_to_string(stat).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    // Fields 14 and 15 of the file, in hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// CPU time of the threads whose name begins with this.
fn cpu_seconds_of(name: &str) -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named = threads
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.starts_with(name)));
    named.map(|path| cpu_seconds(path.join("stat").to_str().unwrap())).sum()
}

#[test]
#[ignore = "a measurement"]
fn no_op_jobs_per_second() {
    const JOBS: usize = 200_000;
    const WINDOW: usize = 514;
    // Threads of different names, so that the broker's share can be told from the worker's.
    let runtime = |name: &str, threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name(name).enable_all().build().unwrap()
    };
    let scripts = runtime("fake-script", 1);
    let workers = runtime("tasks", 2);
    let mut broker = scripts.block_on(FakeBroker::start());
    let client = scripts.block_on(async { broker.client() });
    let worker = client.serve().elf("tester", Idler).concurrency(2);
    let worker = workers.spawn(worker.run());
    let script = scripts.spawn(async move {
        let mut stream = broker.accept().await;
        stream.hello().await;
        stream.welcome(1).await;
        let start = Instant::now();
        let (mut n_assigned, mut n_done) = (0, 0);
        let mut n_messages = 0;
        while n_done < JOBS {
            let n_free = (WINDOW - (n_assigned - n_done)).min(JOBS - n_assigned);
            if n_free > 0 {
                let jobs = (0..n_free).map(|_| assignment(&token(JobId::generate(), 1), "task_idle", 7));
                stream.assign(jobs.collect()).await;
                n_assigned += n_free;
            }
            let mut done: Vec<v1::Token> = vec![stream.outcome().await.token.unwrap()];
            n_messages += 1;
            done.extend(stream.take_outcomes().map(|outcome| outcome.token.unwrap()));
            n_done += done.len();
            stream.ack(done).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        let per_job = |name| cpu_seconds_of(name) * 1e6 / JOBS as f64;
        println!(
            "{:.0} jobs/s, {:.1} outcomes a message; CPU a job in microseconds: connection {:.2}, tasks {:.2}, fake broker {:.2}",
            JOBS as f64 / seconds,
            JOBS as f64 / f64::from(n_messages),
            per_job("elf-connection"),
            per_job("tasks"),
            per_job("fake"),
        );
    });
    scripts.block_on(script).unwrap();
    worker.abort();
}
