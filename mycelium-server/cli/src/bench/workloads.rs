//! What is measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use elf_runtime::{Job, JobId, Mycelium, RetryPolicy, Value};
use mycelium_proto::v1;

use super::Args;
use super::elf::{Bench, ELF};
use super::processes::BrokerProcess;
use super::report::Report;
use super::verify::{Expected, value_of};

/// How many jobs each submission of `throughput` and `backlog` brings.
const JOBS_PER_SUBMISSION: u64 = 4_000;
/// Memory has settled when it has not moved by more than a hundredth within this time...
const SETTLED_FOR: Duration = Duration::from_secs(2);
/// ...and at the latest after this.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3_600);

type Measured = anyhow::Result<(Report, Expected)>;

/// Independent jobs: submitted in several submissions to one flow, while one watch brings the outputs. With an
/// operation, each job takes one less than its number, and one added to that.
pub(super) async fn throughput(mycelium: &Mycelium, n: u64, args: &Args) -> Measured {
    warm_up(mycelium).await?;
    let flow = mycelium.flow("bench throughput");
    let tasks = Bench::tasks(&flow, ELF);
    let begun = Instant::now();
    let mut watch = mycelium.watch_jobs(v1::WatchJobsRequest {
        scope: Some(v1::watch_jobs_request::Scope::FlowId(flow.id().as_bytes().to_vec().into())),
        include_outputs: true,
        final_only: true,
        may_come: true,
        ..v1::WatchJobsRequest::default()
    });
    let submit = async {
        let mut jobs: Vec<(JobId, Option<i64>)> = Vec::new();
        let mut next = 0;
        while next < n {
            let end = (next + JOBS_PER_SUBMISSION).min(n);
            for number in next..end {
                let number = i64::try_from(number)?;
                let mut job = if args.with_operation {
                    tasks.task_echo(Value::literal(&(number - 1)) + 1)
                } else {
                    tasks.task_echo(number)
                };
                if args.with_policy {
                    job = job.retry(RetryPolicy::new().attempts(5)).run_timeout(HOUR);
                }
                jobs.push((job.id(), Some(number)));
            }
            flow.submit().await?;
            next = end;
        }
        anyhow::Ok(jobs)
    };
    let collect = async {
        let mut outputs: HashMap<Vec<u8>, i64> = HashMap::new();
        let wanted = usize::try_from(n)?;
        while outputs.len() < wanted {
            let message = watch.next().await?.context("the watch ended too early")?;
            for change in message.changes {
                if change.status() != v1::JobStatus::Done {
                    bail!("a job ended {}", change.status().as_str_name());
                }
                outputs.insert(change.job_id.to_vec(), value_of(&change.outputs)?);
            }
        }
        anyhow::Ok((outputs, begun.elapsed()))
    };
    let (jobs, (outputs, elapsed)) = tokio::try_join!(submit, collect)?;
    for (id, value) in &jobs {
        if outputs.get(id.as_bytes().as_slice()) != value.as_ref() {
            bail!("the output of job {id} is not what it was given");
        }
    }
    let mut report = Report::new("throughput", n, elapsed.as_secs_f64());
    if args.with_operation {
        report.notes.push("with one operation in each job".to_owned());
    }
    if args.with_policy {
        report.notes.push("with a policy to be tried again and a run timeout for each job".to_owned());
    }
    Ok((report, Expected { jobs, lists: Vec::new() }))
}

/// Runs a few jobs, so that connections and caches are there when the clock starts.
async fn warm_up(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("bench warm-up");
    let tasks = Bench::tasks(&flow, ELF);
    let jobs: Vec<Job<i64>> = (0..100).map(|number| tasks.task_echo(number)).collect();
    let run = flow.submit().await?;
    for job in &jobs {
        run.result(job).await?;
    }
    Ok(())
}

/// One job at a time.
pub(super) async fn latency(mycelium: &Mycelium, n: u64) -> Measured {
    warm_up(mycelium).await?;
    let flow = mycelium.flow("bench latency");
    let tasks = Bench::tasks(&flow, ELF);
    let run = mycelium.run(flow.id());
    let mut jobs = Vec::new();
    let mut times_ms = Vec::new();
    let begun = Instant::now();
    for number in 0..i64::try_from(n)? {
        let from = Instant::now();
        let job = tasks.task_echo(number);
        flow.submit().await?;
        let value = run.result(&job).await?;
        times_ms.push(from.elapsed().as_secs_f64() * 1_000.0);
        if value != number {
            bail!("job {} returned {value}, and was given {number}", job.id());
        }
        jobs.push((job.id(), Some(number)));
    }
    let report = Report::new("latency", n, begun.elapsed().as_secs_f64()).with_times(times_ms);
    Ok((report, Expected { jobs, lists: Vec::new() }))
}

/// Each job takes the output of the one before.
pub(super) async fn chain(mycelium: &Mycelium, n: u64) -> Measured {
    warm_up(mycelium).await?;
    let flow = mycelium.flow("bench chain");
    let tasks = Bench::tasks(&flow, ELF);
    let mut jobs: Vec<(JobId, Option<i64>)> = Vec::new();
    let mut last = tasks.task_increment(0);
    jobs.push((last.id(), Some(1)));
    for number in 1..i64::try_from(n)? {
        last = tasks.task_increment(&last);
        jobs.push((last.id(), Some(number + 1)));
    }
    let begun = Instant::now();
    let run = flow.submit().await?;
    let value = run.result(&last).await?;
    let seconds = begun.elapsed().as_secs_f64();
    if value != i64::try_from(n)? {
        bail!("the chain of {n} ended with {value}");
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of jobs are far below 2^52")]
    let hop_ms = seconds * 1_000.0 / n as f64;
    let mut report = Report::new("chain", n, seconds);
    report.p50_ms = Some(hop_ms);
    report.notes.push("p50_ms is the mean of a hop".to_owned());
    Ok((report, Expected { jobs, lists: Vec::new() }))
}

/// One job, then many, then one.
pub(super) async fn fan(mycelium: &Mycelium, n: u64) -> Measured {
    warm_up(mycelium).await?;
    let flow = mycelium.flow("bench fan");
    let tasks = Bench::tasks(&flow, ELF);
    let first = tasks.task_echo(1);
    let many: Vec<Job<i64>> = (0..n).map(|_| tasks.task_increment(&first)).collect();
    let values: Vec<Value<i64>> = many.iter().map(|job| job.value().clone()).collect();
    let sum = tasks.task_sum(values);
    let total = i64::try_from(n)?.wrapping_mul(2);
    let begun = Instant::now();
    let run = flow.submit().await?;
    let value = run.result(&sum).await?;
    let seconds = begun.elapsed().as_secs_f64();
    if value != total {
        bail!("the sum of {n} outputs is {value}, and should be {total}");
    }
    let mut jobs = vec![(first.id(), Some(1)), (sum.id(), Some(total))];
    jobs.extend(many.iter().map(|job| (job.id(), Some(2))));
    Ok((Report::new("fan", n, seconds), Expected { jobs, lists: Vec::new() }))
}

/// Jobs that wait for an elf that is not there, or each for its moment.
pub(super) async fn backlog(
    broker: &mut BrokerProcess,
    mycelium: &Mycelium,
    n: u64,
    is_delayed: bool,
) -> Measured {
    let empty = settled(broker).await?;
    let flow = mycelium.flow("bench backlog");
    let tasks = Bench::tasks(&flow, ELF);
    let mut jobs = Vec::new();
    let begun = Instant::now();
    let mut next = 0;
    while next < n {
        let end = (next + JOBS_PER_SUBMISSION).min(n);
        for number in next..end {
            let mut job = tasks.task_echo(i64::try_from(number)?);
            if is_delayed {
                job = job.delay(HOUR + Duration::from_secs(number));
            }
            jobs.push((job.id(), None));
        }
        flow.submit().await?;
        next = end;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let full = settled(broker).await?;
    let restart_seconds = broker.kill_and_restart().await?;
    let mut report = Report::new("backlog", n, seconds);
    #[expect(clippy::cast_precision_loss, reason = "numbers of jobs and bytes are far below 2^52")]
    let bytes_per_job = full.saturating_sub(empty) as f64 / n as f64;
    report.bytes_per_job = Some(bytes_per_job);
    report.restart_seconds = Some(restart_seconds);
    if is_delayed {
        report.notes.push("each job begins at a second of its own".to_owned());
    }
    report.notes.push(format!("resident: {empty} bytes empty, {full} bytes with the backlog"));
    Ok((report, Expected { jobs, lists: Vec::new() }))
}

/// Resident bytes of the broker once they have stopped moving.
async fn settled(broker: &BrokerProcess) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut steady = broker.resident_bytes()?;
    let mut steady_since = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = broker.resident_bytes()?;
        if now.abs_diff(steady) > steady / 100 {
            steady = now;
            steady_since = Instant::now();
        }
        if steady_since.elapsed() > SETTLED_FOR || begun.elapsed() > SETTLED_WITHIN {
            return Ok(now);
        }
    }
}
