//! `mycelium lineage`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;

use bytes::Bytes;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::{GetLineageRequest, GetLineageResponse, Job, JobEdge, LineageJob};

use super::client;
use super::values::Values;
use crate::output::format::{self, count};
use crate::output::{Format, Json, Output, note};
use crate::views::{Outline, status_name, view, views};

/// Jobs farther away than this are not indented any more.
const INDENTED_MAX: u32 = 12;

/// Shows what a result came from, or what was made of it: jobs, nearest first, with the values they were given.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each job stands once, indented by its distance, and is referred to by the end of its id where its values \
    are used: `heavy = weight * 2   where weight = scale.task_weigh#1a2b3c4d.weight`.\n\n\
    JSON: {jobs: [a job as in `mycelium jobs`, and distance, values (as in `mycelium job`)], edges (as in `mycelium \
    graph`), truncated, jobs_left_out (how many more were come by, at least)}.\n\n\
    Example: mycelium lineage JOB --output weight --down"
)]
pub(crate) struct Args {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Only what this output of the job came from, or what was made of it. Default: all that the job returned. (In place
    /// of the --output that other commands take: see --format.)
    // An id of its own: `output` is the format, which other commands call so.
    #[arg(id = "of_output", long = "output", value_name = "NAME")]
    of_output: Option<String>,
    /// Show what was made of the result, in place of what it came from.
    #[arg(long)]
    down: bool,
    /// Whether to print for people or for programs; what other commands call --output.
    #[arg(id = "output", long = "format", value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (lineage, values) = fetch(mycelium, &args).await?;
    if output.is_json() {
        output.json(&json(&lineage, &values))?;
    } else {
        output.text(&render(&args, &lineage, &values))?;
    }
    if lineage.truncated {
        let jobs = count(lineage.jobs.len() as u64, "job");
        note(&format!("Only the nearest {jobs} can be shown; there are more."));
    }
    Ok(())
}

/// Follows all pages.
async fn fetch(mycelium: &Mycelium, args: &Args) -> anyhow::Result<(GetLineageResponse, Values)> {
    let mut pages = Pages::default();
    let mut values = Values::default();
    let mut request = GetLineageRequest {
        job_id: client::job_bytes(args.job),
        output: args.of_output.clone().unwrap_or_default(),
        down: args.down,
        page_size: limits::PAGE_SIZE_MAX,
        include_values: true,
        ..GetLineageRequest::default()
    };
    loop {
        let mut page = mycelium.get_lineage(request.clone()).await?;
        values.extend(std::mem::take(&mut page.values));
        request.page_token = std::mem::take(&mut page.next_page_token);
        pages.add(page);
        if request.page_token.is_empty() {
            break;
        }
    }
    values.complete(mycelium, jobs(&pages.lineage)).await?;
    Ok((pages.lineage, values))
}

/// All pages together. Jobs that were submitted between two calls may have moved some to the later page that were on
/// the earlier one: each stands here once, with its edges.
#[derive(Default)]
struct Pages {
    lineage: GetLineageResponse,
    /// Where each job stands.
    known: HashMap<Bytes, usize>,
}

impl Pages {
    fn add(&mut self, page: GetLineageResponse) {
        let earlier = self.known.len();
        for found in page.jobs {
            let id = found.job.as_ref().map(|job| job.job_id.clone()).unwrap_or_default();
            if let Entry::Vacant(entry) = self.known.entry(id) {
                entry.insert(self.lineage.jobs.len());
                self.lineage.jobs.push(found);
            }
        }
        let is_new = |edge: &JobEdge| self.known.get(&edge.to_job_id).is_none_or(|place| *place >= earlier);
        self.lineage.edges.extend(page.edges.into_iter().filter(is_new));
        self.lineage.truncated |= page.truncated;
        // Each page counts those that its walk came by; the last one went farthest.
        self.lineage.jobs_left_out = self.lineage.jobs_left_out.max(page.jobs_left_out);
    }
}

fn jobs(lineage: &GetLineageResponse) -> impl Iterator<Item = &Job> {
    lineage.jobs.iter().filter_map(|job| job.job.as_ref())
}

fn json(lineage: &GetLineageResponse, values: &Values) -> Json {
    let job = |found: &LineageJob| {
        let job = found.job.as_ref()?;
        Some(view(found).with("values", values.json(&job.job_id)))
    };
    Json::object([
        ("jobs", lineage.jobs.iter().filter_map(job).collect::<Vec<_>>().into()),
        ("edges", views(&lineage.edges)),
        ("truncated", lineage.truncated.into()),
        ("jobs_left_out", lineage.jobs_left_out.into()),
    ])
}

fn render(args: &Args, lineage: &GetLineageResponse, values: &Values) -> String {
    let names: Outline<'_> = values.outline(jobs(lineage));
    let mut root = names.name(&client::job_bytes(args.job));
    if let Some(output) = &args.of_output {
        let _infallible = write!(root, ".{}", format::one_line(output));
    }
    let mut text = match args.down {
        false => format!("{root} came from {}\n", others(lineage)),
        true => format!("of {root} were made {}\n", others(lineage)),
    };
    for found in &lineage.jobs {
        let Some(job) = &found.job else { continue };
        let indent = 4 * found.distance.min(INDENTED_MAX) as usize;
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "\n{:indent$}{}  {}  {}",
            "",
            names.name(&job.job_id),
            status_name(job.status()),
            format::id(&job.job_id),
        );
        for (definition, result) in values.lines(&job.job_id, &names) {
            let _infallible = writeln!(text, "{:indent$}  {definition}", "");
            if let Some(result) = result {
                let _infallible = writeln!(text, "{:indent$}    {result}", "");
            }
        }
    }
    text
}

/// How many jobs a lineage has beside the one that was asked for.
fn others(lineage: &GetLineageResponse) -> String {
    let shown = lineage.jobs.len().saturating_sub(1) as u64;
    if !lineage.truncated {
        return count(shown, "job");
    }
    match lineage.jobs_left_out {
        // Edges were left out, or an older broker does not count.
        0 => format!("{} or more, of which these are shown", count(shown, "job")),
        left_out => {
            format!("at least {}, of which the nearest {shown} are shown", count(shown + left_out, "job"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(jobs: &[u8], edges: &[(u8, u8)], truncated: bool) -> GetLineageResponse {
        let id = |n: u8| Bytes::from(vec![n; 16]);
        let job = |n: &u8| LineageJob {
            job: Some(Job { job_id: id(*n), ..Job::default() }),
            ..LineageJob::default()
        };
        let edge = |(from, to): &(u8, u8)| JobEdge {
            from_job_id: id(*from),
            to_job_id: id(*to),
            ..JobEdge::default()
        };
        GetLineageResponse {
            jobs: jobs.iter().map(job).collect(),
            edges: edges.iter().map(edge).collect(),
            truncated,
            ..GetLineageResponse::default()
        }
    }

    #[test]
    fn a_lineage_that_is_cut_says_so_where_it_counts() {
        let mut lineage = page(&[1, 2, 3], &[], false);
        assert_eq!(others(&lineage), "2 jobs");
        lineage.truncated = true;
        assert_eq!(others(&lineage), "2 jobs or more, of which these are shown");
        lineage.jobs_left_out = 5;
        assert_eq!(others(&lineage), "at least 7 jobs, of which the nearest 2 are shown");
    }

    #[test]
    fn a_job_that_is_on_two_pages_stands_once_with_its_edges() {
        let mut pages = Pages::default();
        pages.add(page(&[1, 2], &[(9, 1), (9, 2)], false));
        pages.add(page(&[2, 3], &[(9, 2), (9, 3), (8, 3)], true));
        assert_eq!(pages.lineage, page(&[1, 2, 3], &[(9, 1), (9, 2), (9, 3), (8, 3)], true));
    }
}
