//! `mycelium watch`.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use elf_runtime::{Error, JobWatch, Mycelium};
use mycelium_proto::v1::{
    GetJobRequest, JobChange, JobStatus, WatchJobsRequest, WatchJobsResponse, watch_jobs_request,
};

use super::client;
use super::scope::{Scope, ScopeArgs};
use crate::errors::Misuse;
use crate::output::format::{self, count};
use crate::output::{Json, Output, note};
use crate::views::{self, status_name};

/// The most names of jobs that are kept at hand; beyond it they are asked for again.
const NAMES_MAX: usize = 100_000;
/// The pause between two tries to reach a broker that is unavailable.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows how jobs stand and then each change, until all of them have ended.
///
/// A watch goes on through restarts of the broker: when it is unavailable it is waited for, 15 seconds at most, and standard
/// error says so. If none answers when the watch begins, the command fails at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: one object a line for each change, {job_id, status, attempt, snapshot, commit, \
    failure_id, cause_job_id, failure_message}; snapshot is true for the state that the watch begins with, and commit \
    the number of the commit that the line is true for (0 within a snapshot, but for its last lines). With --progress also {job_id, progress: {fraction, text, reported_at, \
    attempt}}.\n\n\
    Exit codes: 0 all jobs have ended DONE or SKIPPED (with --no-exit-status: have ended), 1 some have ended otherwise, \
    no broker answers, or the watch could not go on, 2 the command line is wrong.\n\n\
    Example: mycelium watch --flow 'daily report'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Goes on when all jobs have ended: more may be added to a flow, and jobs may be retried.
    #[arg(long)]
    follow: bool,
    /// Exits with 0 when all jobs have ended, however they did.
    #[arg(long, conflicts_with = "follow")]
    no_exit_status: bool,
    /// Also tells how far the jobs are that run, as they say themselves.
    #[arg(long)]
    progress: bool,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let scope = match args.scope.find(mycelium).await? {
        Scope::Flow(flow_id) => watch_jobs_request::Scope::FlowId(flow_id),
        Scope::Jobs(mut lists) if lists.len() == 1 => watch_jobs_request::Scope::Jobs(lists.swap_remove(0)),
        Scope::Jobs(_) => {
            let max = mycelium_proto::limits::JOB_IDS_MAX;
            return Err(Misuse(format!("at most {max} jobs can be watched by their ids")).into());
        }
    };
    let request = WatchJobsRequest {
        scope: Some(scope),
        until_final: !args.follow,
        include_progress: args.progress,
        ..WatchJobsRequest::default()
    };
    let mut watch = client::without_patience(mycelium)?.watch_jobs(request);
    let mut statuses = Statuses::default();
    let mut people = (!output.is_json()).then(|| ForPeople::new(mycelium, output));
    while let Some(message) = next(&mut watch).await? {
        statuses.note(&message.changes);
        match &mut people {
            Some(people) => people.show(&message, &statuses).await?,
            None => {
                for change in &message.changes {
                    output.json_line(&view(message.snapshot, message.commit, change))?;
                }
                for progressed in &message.progress {
                    output.json_line(&views::view(progressed))?;
                }
            }
        }
    }
    if people.is_some() {
        output.line(&format!("all have ended; {}", statuses.summary()))?;
    }
    match statuses.unwell() {
        0 => Ok(()),
        _ if args.no_exit_status => Ok(()),
        unwell => bail!("{unwell} of {} did not end DONE or SKIPPED", count(statuses.0.len() as u64, "job")),
    }
}

/// The last status of each job.
#[derive(Debug, Default)]
struct Statuses(HashMap<Bytes, JobStatus>);

impl Statuses {
    fn note(&mut self, changes: &[JobChange]) {
        self.0.extend(changes.iter().map(|change| (change.job_id.clone(), change.status())));
    }

    /// How many jobs did not end as they should.
    fn unwell(&self) -> usize {
        let is_well = |status: &&JobStatus| matches!(status, JobStatus::Done | JobStatus::Skipped);
        self.0.len() - self.0.values().filter(is_well).count()
    }

    /// `3 jobs: 2 DONE, 1 RUNNING`.
    fn summary(&self) -> String {
        let mut counts: BTreeMap<i32, (JobStatus, usize)> = BTreeMap::new();
        for status in self.0.values() {
            counts.entry((*status).into()).or_insert((*status, 0)).1 += 1;
        }
        let parts: Vec<String> =
            counts.values().map(|(status, count)| format!("{count} {}", status_name(*status))).collect();
        let jobs = count(self.0.len() as u64, "job");
        if parts.is_empty() { jobs } else { format!("{jobs}: {}", parts.join(", ")) }
    }
}

/// The next message. A broker that is unavailable is waited for, and people are told.
async fn next(watch: &mut JobWatch) -> Result<Option<WatchJobsResponse>, Error> {
    let mut unavailable_since = None;
    loop {
        let error = match watch.next().await {
            Err(error) if error.is_retryable() => error,
            message => {
                if unavailable_since.is_some() && message.is_ok() {
                    note("the broker is back");
                }
                return message;
            }
        };
        let since = *unavailable_since.get_or_insert_with(|| {
            note(&format!(
                "the broker is unavailable; waiting up to {} s for it",
                client::PATIENCE.as_secs()
            ));
            Instant::now()
        });
        if since.elapsed() >= client::PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn view(snapshot: bool, commit: u64, change: &JobChange) -> Json {
    views::view(change).with("snapshot", snapshot).with("commit", commit)
}

/// Tells people of a watch: the state as a sentence, and each change as a line.
struct ForPeople<'a> {
    mycelium: &'a Mycelium,
    output: Output,
    /// Elf and task of jobs that changed.
    names: HashMap<Bytes, String>,
}

impl<'a> ForPeople<'a> {
    fn new(mycelium: &'a Mycelium, output: Output) -> Self {
        Self { mycelium, output, names: HashMap::new() }
    }

    async fn show(&mut self, message: &WatchJobsResponse, statuses: &Statuses) -> anyhow::Result<()> {
        for progressed in &message.progress {
            let name = self.name(&progressed.job_id).await?;
            let progress = progressed.progress.as_ref().map_or(format::NOTHING.to_owned(), format::progress);
            let (id, status) = (format::id(&progressed.job_id), "progress");
            self.output.line(&format!("{id}  {status:<15}  {name}: {}", format::one_line(&progress)))?;
        }
        if !message.snapshot {
            for change in &message.changes {
                let line = self.line(change).await?;
                self.output.line(&line)?;
            }
        } else if message.commit > 0 {
            // The last message of a snapshot is the one that names its commit.
            self.output.line(&statuses.summary())?;
        }
        Ok(())
    }

    async fn line(&mut self, change: &JobChange) -> Result<String, Error> {
        let name = self.name(&change.job_id).await?;
        let (id, status) = (format::id(&change.job_id), status_name(change.status()));
        let mut line = format!("{id}  {status:<15}  {name}");
        if !change.failure_message.is_empty() {
            line.push_str(": ");
            line.push_str(&format::shorten(&change.failure_message, 200));
        }
        Ok(line)
    }

    async fn name(&mut self, job_id: &Bytes) -> Result<String, Error> {
        if let Some(name) = self.names.get(job_id) {
            return Ok(name.clone());
        }
        let request = GetJobRequest { job_id: job_id.clone(), ..GetJobRequest::default() };
        let job = self.mycelium.get_job(request).await?.job.unwrap_or_default();
        let name = format!("{} of {}", format::one_line(&job.task), format::one_line(&job.elf));
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        self.names.insert(job_id.clone(), name.clone());
        Ok(name)
    }
}
