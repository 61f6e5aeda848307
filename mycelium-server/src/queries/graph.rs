//! Jobs and the edges between them.

use std::collections::{HashMap, HashSet};

use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, JobId};
use mycelium_proto::limits::PAGE_BYTES_MAX;

use super::elements;
use super::jobs::{Job, find, find_readable};
use super::list::{JobCursor, JobFilter, JobsPage, jobs_page};
use super::page::{self, PageOf, Weigh};
use super::specs::{self, JOBS_AT_ONCE, Lists, Run, Runs};
use super::values::{self, JobValues};
use crate::broker::{CallError, Handle};
use crate::documents::Spec;
use crate::error::Error;
use crate::store::{FinishedQuery, Reads, SpecRecord};
use crate::values::{Edge, element_id};

/// The farthest that a graph around a job reaches.
const DEPTH_MAX: u32 = 100;
/// The most bytes of edges in one answer.
const EDGES_BYTES_MAX: usize = 3 * 512 * 1024;

/// How many edges are read at once.
const EDGES_AT_ONCE: usize = 1_000;

/// An edge of the graph of jobs: what flows from one into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobEdge {
    pub(crate) from: JobId,
    pub(crate) to: JobId,
    /// Of a value: the output it comes from; empty if it is all that the job returned.
    pub(crate) output: String,
    /// Of a value: the parameter it flows into.
    pub(crate) parameter: String,
    pub(crate) kind: EdgeKind,
}

/// What an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EdgeKind {
    /// A value flows into an argument.
    Value,
    /// A value flows into the condition.
    Condition,
    /// A value flows into the list that the job is run over, or is an element of it.
    Element,
    /// The job waits for another, and takes no value of it.
    After,
    /// What the job for an element returned is gathered into a list.
    Gather,
}

impl Weigh for JobEdge {
    fn bytes(&self) -> usize {
        // Two ids, the kind, and tags and lengths.
        64 + self.output.len() + self.parameter.len()
    }
}

/// What a graph is made around.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root {
    Flow(FlowId),
    /// A job, with those that are at most so many edges away.
    Job {
        id: JobId,
        depth: u32,
    },
}

/// A part of the graph of jobs.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) jobs: Vec<Job>,
    pub(crate) edges: Vec<JobEdge>,
    /// The token of the next page; empty if there is none.
    pub(crate) next: String,
    /// Whether something was left out.
    pub(crate) truncated: bool,
    /// The values of the first jobs, if they were asked for.
    pub(crate) values: Vec<JobValues>,
}

/// The jobs of a flow, or those around a job, and what flows into them.
pub(crate) async fn graph(
    handle: &Handle,
    root: Root,
    page: &PageOf,
    shows_values: bool,
) -> Result<Graph, Error> {
    let mut graph = match root {
        Root::Flow(flow) => of_flow(handle, flow, JobCursor::read(&page.token)?, page.limit()).await?,
        Root::Job { depth, .. } if depth > DEPTH_MAX => {
            return Err(Error::field("depth", format!("must be at most {DEPTH_MAX}")));
        }
        Root::Job { id, depth } => around(handle, id, depth.max(1), page.limit()).await?,
    };
    if shows_values {
        let ids: Vec<JobId> = graph.jobs.iter().map(Job::id).collect();
        graph.values = values::of_jobs(handle, &ids).await?;
    }
    Ok(graph)
}

async fn of_flow(handle: &Handle, flow: FlowId, cursor: JobCursor, limit: usize) -> Result<Graph, CallError> {
    if handle.store().flows(&[flow]).await?.iter().flatten().next().is_none() {
        return Err(Refusal::FlowNotFound(flow).into());
    }
    let filter = JobFilter {
        unfinished: Some(mycelium_core::ListFilter { flow: Some(flow), ..Default::default() }),
        finished: Some(FinishedQuery { flow: Some(flow), ..FinishedQuery::default() }),
    };
    let mut limit = limit;
    let (jobs, next, edges, truncated) = loop {
        let JobsPage { jobs, next, .. } = jobs_page(handle, &filter, cursor, limit).await?;
        let ids: Vec<JobId> = jobs.iter().map(Job::id).collect();
        let (edges, truncated) = edges_into(handle, &ids).await?;
        if !truncated || jobs.len() <= 1 {
            break (jobs, next, edges, truncated);
        }
        // A page with fewer jobs has room for all their edges.
        limit = jobs.len() / 2;
    };
    let next = next.map(JobCursor::token).unwrap_or_default();
    Ok(Graph { jobs, edges, next, truncated, values: Vec::new() })
}

/// Every edge that ends in one of `jobs`, and those from jobs for elements among them to the jobs that gather what they
/// return; whether some were left out because they take too many bytes.
async fn edges_into(handle: &Handle, jobs: &[JobId]) -> Result<(Vec<JobEdge>, bool), CallError> {
    let mut edges = Vec::new();
    let mut bytes = 0;
    let mut runs = Runs::of(&**handle.store(), jobs, Lists::Read);
    while let Some(run) = runs.next().await? {
        for Incoming { job, edges: own, gathered_by, .. } in incoming(handle, run).await? {
            for edge in own.into_iter().chain(gathered_by.map(|list| gather_edge(job, list))) {
                bytes += edge.bytes();
                if bytes > EDGES_BYTES_MAX {
                    return Ok((edges, true));
                }
                edges.push(edge);
            }
        }
    }
    Ok((edges, false))
}

/// What a job's own specification tells of the edges that end in it.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) job: JobId,
    /// What flows into the job, and into the list if it is for an element.
    pub(super) edges: Vec<JobEdge>,
    /// The list that it belongs to.
    pub(super) gathered_by: Option<JobId>,
    /// Whether it is run over a list, so that those for its elements flow into it as well.
    pub(super) has_list: bool,
    /// How many bytes of the specification were read, if there is one.
    pub(super) bytes: Option<usize>,
}

/// What flows into jobs, in their order.
pub(super) async fn incoming(handle: &Handle, run: Run) -> Result<Vec<Incoming>, CallError> {
    let bytes = run.bytes();
    let work = move || {
        let mut into_lists = HashMap::with_capacity(run.lists.len());
        for (list, record) in run.lists {
            into_lists.insert(list, Spec::decode(list, record.body)?.list_edges());
        }
        let incoming = run.jobs.into_iter().map(|(job, record)| match record {
            Some(record) => Incoming::of(job, record, &into_lists),
            None => Ok(Incoming { job, ..Incoming::default() }),
        });
        incoming.collect()
    };
    handle.work_on(bytes, work).await
}

impl Incoming {
    fn of(job: JobId, record: SpecRecord, into_lists: &HashMap<JobId, Vec<Edge>>) -> Result<Self, CallError> {
        let (gathered_by, bytes) = (record.gathered_by, record.body.len());
        let spec = Spec::decode(job, record.body)?;
        let into_list = gathered_by.and_then(|list| into_lists.get(&list)).into_iter().flatten().cloned();
        let edges = spec.edges().into_iter().chain(into_list).map(|edge| into_job(job, edge)).collect();
        Ok(Self { job, edges, gathered_by, has_list: spec.has_list(), bytes: Some(bytes) })
    }
}

pub(super) fn gather_edge(element: JobId, list: JobId) -> JobEdge {
    JobEdge {
        from: element,
        to: list,
        output: String::new(),
        parameter: String::new(),
        kind: EdgeKind::Gather,
    }
}

fn into_job(to: JobId, edge: Edge) -> JobEdge {
    let (from, output, parameter, kind) = match edge {
        Edge::Value { from, output, parameter } => (from, output, parameter, EdgeKind::Value),
        Edge::Condition { from, output } => (from, output, String::new(), EdgeKind::Condition),
        Edge::Element { from, output } => (from, output, String::new(), EdgeKind::Element),
        Edge::After { from } => (from, String::new(), String::new(), EdgeKind::After),
    };
    JobEdge { from, to, output, parameter, kind }
}

async fn around(handle: &Handle, job: JobId, depth: u32, limit: usize) -> Result<Graph, CallError> {
    find(handle, job).await?;
    let (ids, truncated) = neighbours(&**handle.store(), job, depth, limit).await?;
    let mut jobs: Vec<Job> = find_readable(handle, ids).await?.into_iter().flatten().collect();
    let n_fit = page::fitting(&jobs, PAGE_BYTES_MAX);
    let truncated = truncated || n_fit < jobs.len();
    jobs.truncate(n_fit);
    let shown: Vec<JobId> = jobs.iter().map(Job::id).collect();
    let is_shown: HashSet<JobId> = shown.iter().copied().collect();
    let (mut edges, edges_are_missing) = edges_into(handle, &shown).await?;
    edges.retain(|edge| is_shown.contains(&edge.from) && is_shown.contains(&edge.to));
    let truncated = truncated || edges_are_missing;
    Ok(Graph { jobs, edges, next: String::new(), truncated, values: Vec::new() })
}

/// The jobs at most `depth` edges away, nearest first, at most `limit`; whether some were left out. What the jobs of one
/// distance lead to is read for all of them together.
async fn neighbours(
    store: &dyn Reads,
    job: JobId,
    depth: u32,
    limit: usize,
) -> Result<(Vec<JobId>, bool), CallError> {
    let mut found = Found { jobs: vec![job], seen: HashSet::from([job]), limit };
    let mut level = 0..1;
    for _ in 0..depth {
        let jobs: Vec<JobId> = found.jobs[level.clone()].to_vec();
        for jobs in jobs.chunks(JOBS_AT_ONCE) {
            if !found.all_around(store, jobs).await? {
                return Ok((found.jobs, true));
            }
        }
        level = level.end..found.jobs.len();
        if level.is_empty() {
            break;
        }
    }
    Ok((found.jobs, false))
}

/// Jobs in the order in which they were found.
struct Found {
    jobs: Vec<JobId>,
    seen: HashSet<JobId>,
    limit: usize,
}

impl Found {
    /// Takes jobs in that are not in yet. Whether there was room for all.
    fn take(&mut self, jobs: impl IntoIterator<Item = JobId>) -> bool {
        for job in jobs {
            if self.seen.contains(&job) {
                continue;
            }
            if self.jobs.len() == self.limit {
                return false;
            }
            self.seen.insert(job);
            self.jobs.push(job);
        }
        true
    }

    /// Takes in what one edge leads to from any of `jobs`. Whether there was room for all.
    async fn all_around(&mut self, store: &dyn Reads, jobs: &[JobId]) -> Result<bool, CallError> {
        let outlines = specs::outlines(store, jobs).await?;
        let with_list = outlines.iter().flatten().filter(|outline| outline.evaluate);
        let lists: Vec<JobId> = with_list.map(|outline| outline.head.id).collect();
        // One more than there is room for tells that some are left out.
        let elements = elements::counts(store, &lists, self.limit + 1 - self.jobs.len()).await?;
        for outline in outlines.into_iter().flatten() {
            let list = outline.head.id;
            let count = elements.get(&list).copied().unwrap_or(0);
            if !self.take(outline.depends_on) || !self.take((0..count).map(|at| element_id(list, at))) {
                return Ok(false);
            }
        }
        let mut after = None;
        loop {
            let edges = store.dependents(jobs, after, EDGES_AT_ONCE).await?;
            if !self.take(edges.iter().map(|edge| edge.dependent)) {
                return Ok(false);
            }
            if edges.len() < EDGES_AT_ONCE {
                return Ok(true);
            }
            after = edges.last().copied();
        }
    }
}
