//! What happened, as the broker tells it: nothing here comes from the orchestrator's own memory.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::SystemTime;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use elf_runtime::v1::{Job, JobStatus, ListElvesRequest, ListJobsRequest};
use elf_runtime::{FlowId, Mycelium};

use crate::elves;

/// Prints jobs by task and status, the processes that ran them, how long it took, and what became of the reports.
pub(crate) async fn tell(mycelium: &Mycelium, flow_id: FlowId) -> Result<()> {
    let jobs = jobs_of(mycelium, flow_id).await?;
    let processes = processes(mycelium).await?;

    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for job in &jobs {
        *counts.entry((&job.elf, &job.task, status_of(job))).or_default() += 1;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["elf", "process", "task", "status", "jobs"]);
    for ((elf, task, status), count) in counts {
        let process = processes.get(elf).map(Vec::as_slice).unwrap_or_default().join(", ");
        table.add_row([elf, &process, task, status, &count.to_string()]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut out = io::stdout();
    writeln!(out, "{table}\n")?;
    let (jobs_in_all, seconds) = (count(jobs.len(), "job"), seconds(&jobs));
    writeln!(out, "{jobs_in_all} in {seconds:.2} s, by {} processes", processes.len())?;

    let reports = jobs.iter().filter(|job| job.elf == elves::PRINTER).count();
    let done = |job: &&Job| job.status() == JobStatus::Done;
    let reports_done = jobs.iter().filter(|job| job.elf == elves::PRINTER).filter(done).count();
    let failed = jobs.len() - jobs.iter().filter(done).count();
    if failed > 0 {
        let failed = count(failed, "job");
        bail!("{reports_done} of {} DONE, {failed} did not end well", count(reports, "report"));
    }
    writeln!(out, "{reports_done} of {} DONE, none failed", count(reports, "report"))?;
    Ok(())
}

/// `1 job`, `2 jobs`.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// All jobs of the flow. Lists come in pages, so that neither side ever holds an answer without bounds.
async fn jobs_of(mycelium: &Mycelium, flow_id: FlowId) -> Result<Vec<Job>> {
    let mut jobs = BTreeMap::new();
    let mut request =
        ListJobsRequest { flow_id: flow_id.into(), page_size: 1_000, ..ListJobsRequest::default() };
    loop {
        let page = mycelium.list_jobs(request.clone()).await?;
        // By id, because a job that ends between two pages may be in both.
        jobs.extend(page.jobs.into_iter().map(|job| (job.job_id.clone(), job)));
        if page.next_page_token.is_empty() {
            return Ok(jobs.into_values().collect());
        }
        request.page_token = page.next_page_token;
    }
}

/// The process ids that serve each elf now.
async fn processes(mycelium: &Mycelium) -> Result<BTreeMap<String, Vec<String>>> {
    let mut processes = BTreeMap::new();
    let request = ListElvesRequest { page_size: 1_000, ..ListElvesRequest::default() };
    for elf in mycelium.list_elves(request).await?.elves {
        let connected = elf.instances.iter().filter(|instance| instance.connected);
        let ids: Vec<String> = connected.map(|instance| instance.process_id.to_string()).collect();
        let name = elf.declaration.unwrap_or_default().name;
        if elves::NAMES.contains(&name.as_str()) {
            processes.insert(name, ids);
        }
    }
    Ok(processes)
}

fn status_of(job: &Job) -> &'static str {
    job.status().as_str_name().trim_start_matches("JOB_STATUS_")
}

/// From the first submission to the last end.
fn seconds(jobs: &[Job]) -> f64 {
    let submitted = jobs.iter().filter_map(|job| SystemTime::try_from(job.submitted_at?).ok()).min();
    let finished = jobs.iter().filter_map(|job| SystemTime::try_from(job.finished_at?).ok()).max();
    let duration = submitted.zip(finished).and_then(|(from, to)| to.duration_since(from).ok());
    duration.unwrap_or_default().as_secs_f64()
}
