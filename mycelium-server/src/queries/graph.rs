//! Jobs and the edges between them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, JobId};
use mycelium_proto::limits::{FOR_EACH_ELEMENTS_MAX, PAGE_BYTES_MAX};

use super::jobs::{Job, decode_spec, find, find_readable, read_spec, readable_specs};
use super::list::{JobCursor, JobFilter, JobsPage, jobs_page};
use super::page::{self, PageOf, Weigh};
use super::values::{self, JobValues};
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::store::{FinishedQuery, Reads, SpecRecord};
use crate::values::{Edge, edges_of, element_id, list_edges_of};

/// The farthest that a graph around a job reaches.
const DEPTH_MAX: u32 = 100;
/// The most bytes of edges in one answer.
const EDGES_BYTES_MAX: usize = 3 * 512 * 1024;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let (edges, truncated) = handle.read(move |store| edges_into(store, &ids)).await?;
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
fn edges_into(store: &dyn Reads, jobs: &[JobId]) -> Result<(Vec<JobEdge>, bool), CallError> {
    let mut edges = Vec::new();
    let mut bytes = 0;
    let mut lists = IntoLists::new();
    for id in jobs {
        // One at a time: a specification may be large, and a page has many.
        let Some(record) = readable_specs(store, &[*id])?.pop().flatten() else { continue };
        let gathered_by = record.gathered_by;
        let own = own_edges(store, *id, record, &mut lists)?;
        for edge in own.into_iter().chain(gathered_by.map(|list| gather_edge(*id, list))) {
            bytes += edge.bytes();
            if bytes > EDGES_BYTES_MAX {
                return Ok((edges, true));
            }
            edges.push(edge);
        }
    }
    Ok((edges, false))
}

/// What flows into the lists that jobs for elements belong to.
type IntoLists = HashMap<JobId, Vec<Edge>>;

/// The edges that a job's own specification tells of: what flows into it, and into the list if it is for an element.
fn own_edges(
    store: &dyn Reads,
    id: JobId,
    record: SpecRecord,
    lists: &mut IntoLists,
) -> Result<Vec<JobEdge>, CallError> {
    let gathered_by = record.gathered_by;
    let spec = decode_spec(id, record.body)?;
    let mut edges: Vec<_> = edges_of(&spec).into_iter().map(|edge| into_job(id, edge)).collect();
    if let Some(list) = gathered_by {
        let into_list = match lists.entry(list) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let spec = read_spec(store, list)?;
                new.insert(spec.as_ref().map(list_edges_of).unwrap_or_default())
            }
        };
        edges.extend(into_list.iter().map(|edge| into_job(id, edge.clone())));
    }
    Ok(edges)
}

fn gather_edge(element: JobId, list: JobId) -> JobEdge {
    JobEdge {
        from: element,
        to: list,
        output: String::new(),
        parameter: String::new(),
        kind: EdgeKind::Gather,
    }
}

/// Every edge that ends in a job: of one with a list, those from the jobs for its elements too, as far as they are there.
pub(crate) fn edges_into_one(
    store: &dyn Reads,
    id: JobId,
    record: SpecRecord,
) -> Result<Vec<JobEdge>, CallError> {
    // Only what is evaluated can have a list.
    let may_have_elements = record.evaluate;
    let mut edges = own_edges(store, id, record, &mut IntoLists::new())?;
    if may_have_elements {
        let finished = store.finished(&[id]).wait()?.pop().flatten();
        let elements = match finished.and_then(|finished| finished.elements) {
            Some(count) => (0..count).map(|index| element_id(id, index)).collect(),
            None => elements_of(store, id, FOR_EACH_ELEMENTS_MAX)?,
        };
        edges.extend(elements.into_iter().map(|element| gather_edge(element, id)));
    }
    Ok(edges)
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
    let (ids, truncated) = handle.read(move |store| neighbours(store, job, depth, limit)).await?;
    let mut jobs: Vec<Job> = find_readable(handle, ids).await?.into_iter().flatten().collect();
    let n_fit = page::fitting(&jobs, PAGE_BYTES_MAX);
    let truncated = truncated || n_fit < jobs.len();
    jobs.truncate(n_fit);
    let shown: Vec<JobId> = jobs.iter().map(Job::id).collect();
    let is_shown: HashSet<JobId> = shown.iter().copied().collect();
    let (mut edges, edges_are_missing) = handle.read(move |store| edges_into(store, &shown)).await?;
    edges.retain(|edge| is_shown.contains(&edge.from) && is_shown.contains(&edge.to));
    let truncated = truncated || edges_are_missing;
    Ok(Graph { jobs, edges, next: String::new(), truncated, values: Vec::new() })
}

/// The first jobs that a job was expanded into, at most `limit`.
fn elements_of(store: &dyn Reads, list: JobId, limit: usize) -> Result<Vec<JobId>, CallError> {
    let is_there = |index: usize| -> Result<bool, CallError> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Ok(store.specs(&[element_id(list, index)]).wait()?.pop().flatten().is_some())
    };
    // They are submitted in their order, so that all before one that is there are there too: few have to be read to
    // find where they end.
    let (mut there, mut step) = (0, 1);
    while there + step <= limit && is_there(there + step - 1)? {
        there += step;
        step *= 2;
    }
    while step > 0 {
        if there + step <= limit && is_there(there + step - 1)? {
            there += step;
        }
        step /= 2;
    }
    Ok((0..u32::try_from(there).unwrap_or(u32::MAX)).map(|index| element_id(list, index)).collect())
}

/// The jobs at most `depth` edges away, nearest first, at most `limit`; whether some were left out.
fn neighbours(
    store: &dyn Reads,
    job: JobId,
    depth: u32,
    limit: usize,
) -> Result<(Vec<JobId>, bool), CallError> {
    let mut found = vec![job];
    let mut seen = HashSet::from([job]);
    let mut waiting = VecDeque::from([(job, 0)]);
    while let Some((job, distance)) = waiting.pop_front() {
        if distance == depth {
            continue;
        }
        let room = limit.saturating_sub(found.len());
        let spec = readable_specs(store, &[job])?.pop().flatten();
        // One more than there is room for tells that some are left out.
        let elements = match &spec {
            Some(spec) if spec.evaluate => elements_of(store, job, room + 1)?,
            Some(_) | None => Vec::new(),
        };
        let up = spec.map(|spec| spec.depends_on).unwrap_or_default();
        // One more than there is room for tells that some are left out; those seen already come on top.
        let down = store.dependents(&[job], None, room + seen.len() + 1).wait()?;
        let down = down.into_iter().map(|edge| edge.dependent);
        for next in up.into_iter().chain(elements).chain(down) {
            if seen.contains(&next) {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            seen.insert(next);
            found.push(next);
            waiting.push_back((next, distance + 1));
        }
    }
    Ok((found, false))
}
