//! `mycelium jobs`.

use std::collections::HashMap;

use bytes::Bytes;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use elf_runtime::Mycelium;
use mycelium_proto::v1::{Job, JobStatus, ListJobsRequest};

use super::client;
use crate::output::format;
use crate::output::{Output, Table};
use crate::views::{status_name, views};

/// Lists jobs: first the unfinished ones, then the finished ones, last finished first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: an array of {job_id, flow_id, elf, task, status, priority, attempt, elves_lost, \
    waiting_for, submitted_at, assigned_at, started_at, finished_at, instance_id, revision, failure_id, cause_job_id, elements, \
    labels, progress: {fraction, text, reported_at, attempt}}.\n\n\
    Examples:\n  mycelium jobs --flow 'daily report' --status failed --status upstream_failed\n  \
    mycelium jobs 'status:failed elf:scale label.customer=acme since:2h text:\"over quota\"'"
)]
pub(crate) struct Args {
    /// Which jobs, in words: status:failed,cancelled flow:NAME elf:NAME task:NAME label.KEY=VALUE since:2h until:30m
    /// failure:ab12 text:"over quota". All must hold. A moment is a span of time before now, or written out in UTC; a value
    /// with blanks stands in quotes.
    #[arg(value_name = "FILTER", conflicts_with_all = ["flow", "elf", "task", "status", "labels"])]
    filter: Option<String>,
    /// Only jobs of this flow, named by its id or its name; of several flows of one name the newest is meant.
    #[arg(long, value_name = "NAME|ID")]
    flow: Option<String>,
    /// Only jobs of this elf.
    #[arg(long, value_name = "NAME")]
    elf: Option<String>,
    /// Only jobs of this task.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Only jobs that stand so; may be given several times.
    #[arg(long, value_parser = status(), ignore_case = true)]
    status: Vec<JobStatus>,
    /// Only jobs with this label; may be given several times, and then they must have all.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = client::label)]
    labels: Vec<(String, String)>,
    /// The most jobs to list.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// The names of statuses, and what they mean.
const STATUSES: [(&str, &str); 10] = [
    ("pending", "Waits for other jobs"),
    ("ready", "Waits in its elf's queue"),
    ("assigned", "An elf holds it, and has not begun it as far as is known"),
    ("running", "An elf has begun it"),
    ("done", "Its outputs are stored"),
    ("failed", "It ended with a failure"),
    ("upstream_failed", "A job that it depends on did not end DONE"),
    ("cancelled", "It was cancelled"),
    ("expired", "Its time was over before it ended"),
    ("skipped", "Its condition was not met, or it needs a value of a job that was skipped"),
];

fn status() -> impl TypedValueParser<Value = JobStatus> {
    let values = STATUSES.map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).try_map(|name| {
        let name = format!("JOB_STATUS_{}", name.to_uppercase());
        JobStatus::from_str_name(&name).ok_or_else(|| format!("the contract has no {name}"))
    })
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let flow_id = match &args.flow {
        Some(flow) => client::find_flow(mycelium, flow).await?.flow_id,
        None => Bytes::new(),
    };
    let request = ListJobsRequest {
        flow_id,
        elf: args.elf.unwrap_or_default(),
        task: args.task.unwrap_or_default(),
        statuses: args.status.into_iter().map(Into::into).collect(),
        labels: args.labels.into_iter().collect(),
        filter: args.filter.unwrap_or_default(),
        ..ListJobsRequest::default()
    };
    let (jobs, are_more) = list(mycelium, request, args.limit as usize).await?;
    client::print_list(output, || views(&jobs), || table(&jobs), "no jobs", (args.limit, are_more))
}

/// Follows the pages up to `limit` jobs, and tells whether there are more.
async fn list(
    mycelium: &Mycelium,
    mut request: ListJobsRequest,
    limit: usize,
) -> Result<(Vec<Job>, bool), elf_runtime::Error> {
    let mut jobs: Vec<Job> = Vec::new();
    // A job that finishes between two pages is on both: the later word is the true one.
    let mut places: HashMap<Bytes, usize> = HashMap::new();
    loop {
        request.page_size = client::page_size(limit - jobs.len() + 1);
        let page = mycelium.list_jobs(request.clone()).await?;
        client::note_unreadable(page.unreadable);
        for job in page.jobs {
            match places.get(&job.job_id) {
                Some(&place) => jobs[place] = job,
                None if jobs.len() == limit => return Ok((jobs, true)),
                None => {
                    places.insert(job.job_id.clone(), jobs.len());
                    jobs.push(job);
                }
            }
        }
        if page.next_page_token.is_empty() {
            return Ok((jobs, false));
        }
        request.page_token = page.next_page_token;
    }
}

/// Jobs as people read them.
pub(super) fn table(jobs: &[Job]) -> Table {
    let columns = ["JOB", "STATUS", "ELF", "TASK", "ATTEMPT", "SUBMITTED (UTC)", "RAN"];
    let cells = |job: &Job| {
        [
            format::id(&job.job_id),
            status_name(job.status()).to_owned(),
            job.elf.clone(),
            job.task.clone(),
            job.attempt.to_string(),
            format::utc(job.submitted_at.as_ref()),
            format::between(job.started_at.as_ref(), job.finished_at.as_ref()),
        ]
    };
    if jobs.iter().all(|job| job.progress.is_none()) {
        return Table::new(columns).numbers([4, 6]).rows(jobs, cells);
    }
    let [job, status, elf, task, attempt, submitted, ran] = columns;
    let columns = [job, status, elf, task, attempt, submitted, ran, "PROGRESS"];
    Table::new(columns).numbers([4, 6]).rows(jobs, |job| {
        let [id, status, elf, task, attempt, submitted, ran] = cells(job);
        let progress = job.progress.as_ref().map_or(format::NOTHING.to_owned(), format::progress);
        [id, status, elf, task, attempt, submitted, ran, progress]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_contract_can_be_asked_for() {
        let known: Vec<JobStatus> = (1..100).filter_map(|number| JobStatus::try_from(number).ok()).collect();
        assert_eq!(known.len(), STATUSES.len());
        for status in known {
            let name = status.as_str_name().trim_start_matches("JOB_STATUS_").to_lowercase();
            assert!(STATUSES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
