//! `GetGraph`: jobs and the edges between them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use mycelium_core::ids::{FlowId, JobId};
use mycelium_proto::{limits, v1};
use prost::Message as _;

use super::jobs::{decode_spec, find, find_readable, read_spec, readable_specs};
use super::list::{JobCursor, JobFilter, JobsPage, jobs_page};
use super::page;
use super::values;
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::grpc::convert;
use crate::store::{FinishedQuery, SpecRecord, Store};
use crate::values::{Edge, edges_of, element_id, list_edges_of};

/// The farthest that a graph around a job reaches.
const DEPTH_MAX: u32 = 100;
/// The most bytes of edges in one answer.
const EDGES_BYTES_MAX: usize = 3 * 512 * 1024;

pub(crate) async fn get_graph(
    handle: &Handle,
    request: v1::GetGraphRequest,
) -> Result<v1::GetGraphResponse, Error> {
    use v1::get_graph_request::Root;
    let limit = page::size(request.page_size);
    let mut answer = match &request.root {
        Some(Root::FlowId(id)) => {
            let flow = convert::flow_id("flow_id", id)?;
            let cursor = JobCursor::read(&request.page_token)?;
            of_flow(handle, flow, cursor, limit).await?
        }
        Some(Root::JobId(id)) => {
            let job = convert::job_id("job_id", id)?;
            if request.depth > DEPTH_MAX {
                return Err(Error::field("depth", format!("must be at most {DEPTH_MAX}")));
            }
            around(handle, job, request.depth.max(1), limit).await?
        }
        None => return Err(Error::field("root", "says nothing: give a flow or a job")),
    };
    if request.include_values {
        answer.values = values::of_jobs(handle, &answer.jobs).await?;
    }
    Ok(answer)
}

async fn of_flow(
    handle: &Handle,
    flow: FlowId,
    cursor: JobCursor,
    limit: usize,
) -> Result<v1::GetGraphResponse, Error> {
    let known = handle.read(move |store| Ok(store.flow(flow)?.is_some())).await?;
    if !known {
        return Err(mycelium_core::effects::Refusal::FlowNotFound(flow).into());
    }
    let filter = JobFilter {
        unfinished: Some(mycelium_core::ListFilter { flow: Some(flow), ..Default::default() }),
        finished: Some(FinishedQuery { flow: Some(flow), ..FinishedQuery::default() }),
    };
    let mut limit = limit;
    let (jobs, next, edges, truncated) = loop {
        let JobsPage { jobs, next, .. } = jobs_page(handle, &filter, cursor, limit).await?;
        let ids: Vec<JobId> = jobs.iter().filter_map(|job| JobId::from_slice(&job.job_id)).collect();
        let (edges, truncated) = handle.read(move |store| edges_into(store, &ids)).await?;
        if !truncated || jobs.len() <= 1 {
            break (jobs, next, edges, truncated);
        }
        // A page with fewer jobs has room for all their edges.
        limit = jobs.len() / 2;
    };
    Ok(v1::GetGraphResponse {
        jobs,
        edges,
        next_page_token: next.map(JobCursor::token).unwrap_or_default(),
        truncated,
        values: Vec::new(),
    })
}

/// Every edge that ends in one of `jobs`, and those from jobs for elements among them to the jobs that gather what they
/// return; whether some were left out because they take too many bytes.
fn edges_into(store: &dyn Store, jobs: &[JobId]) -> Result<(Vec<v1::JobEdge>, bool), CallError> {
    let mut edges = Vec::new();
    let mut bytes = 0;
    let mut lists = IntoLists::new();
    for id in jobs {
        // One at a time: a specification may be large, and a page has many.
        let Some(record) = readable_specs(store, &[*id])?.pop().flatten() else { continue };
        let gathered_by = record.gathered_by;
        let own = own_edges(store, *id, record, &mut lists)?;
        for edge in own.into_iter().chain(gathered_by.map(|list| gather_edge(*id, list))) {
            bytes += encoded_len_in_list(&edge);
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
    store: &dyn Store,
    id: JobId,
    record: SpecRecord,
    lists: &mut IntoLists,
) -> Result<Vec<v1::JobEdge>, CallError> {
    let gathered_by = record.gathered_by;
    let spec = decode_spec(id, record.body)?;
    let mut edges: Vec<_> = edges_of(&spec).into_iter().map(|edge| edge_message(id, edge)).collect();
    if let Some(list) = gathered_by {
        let into_list = match lists.entry(list) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let spec = read_spec(store, list)?;
                new.insert(spec.as_ref().map(list_edges_of).unwrap_or_default())
            }
        };
        edges.extend(into_list.iter().map(|edge| edge_message(id, edge.clone())));
    }
    Ok(edges)
}

fn gather_edge(element: JobId, list: JobId) -> v1::JobEdge {
    v1::JobEdge {
        from_job_id: convert::id(element.as_bytes()),
        to_job_id: convert::id(list.as_bytes()),
        kind: v1::JobEdgeKind::Gather.into(),
        ..v1::JobEdge::default()
    }
}

/// Every edge that ends in a job: of one with a list, those from the jobs for its elements too, as far as they are there.
pub(crate) fn edges_into_one(
    store: &dyn Store,
    id: JobId,
    record: SpecRecord,
) -> Result<Vec<v1::JobEdge>, CallError> {
    // Only what is evaluated can have a list.
    let may_have_elements = record.evaluate;
    let mut edges = own_edges(store, id, record, &mut IntoLists::new())?;
    if may_have_elements {
        let finished = store.finished(&[id])?.pop().flatten();
        let elements = match finished.and_then(|finished| finished.elements) {
            Some(count) => (0..count).map(|index| element_id(id, index)).collect(),
            None => elements_of(store, id, limits::FOR_EACH_ELEMENTS_MAX)?,
        };
        edges.extend(elements.into_iter().map(|element| gather_edge(element, id)));
    }
    Ok(edges)
}

/// What an edge takes in an answer, with its tag and its length, in bytes.
pub(crate) fn encoded_len_in_list(edge: &v1::JobEdge) -> usize {
    edge.encoded_len() + 4
}

fn edge_message(to: JobId, edge: Edge) -> v1::JobEdge {
    let (from, output, parameter, kind) = match edge {
        Edge::Value { from, output, parameter } => (from, output, parameter, v1::JobEdgeKind::Value),
        Edge::Condition { from, output } => (from, output, String::new(), v1::JobEdgeKind::Condition),
        Edge::Element { from, output } => (from, output, String::new(), v1::JobEdgeKind::Element),
        Edge::After { from } => (from, String::new(), String::new(), v1::JobEdgeKind::After),
    };
    v1::JobEdge {
        from_job_id: convert::id(from.as_bytes()),
        to_job_id: convert::id(to.as_bytes()),
        output,
        parameter,
        kind: kind.into(),
    }
}

async fn around(
    handle: &Handle,
    job: JobId,
    depth: u32,
    limit: usize,
) -> Result<v1::GetGraphResponse, Error> {
    find(handle, job).await?;
    let (ids, truncated) = handle.read(move |store| neighbours(store, job, depth, limit)).await?;
    let found = find_readable(handle, ids.clone()).await?;
    let jobs: HashMap<JobId, v1::Job> =
        ids.iter().zip(found).filter_map(|(id, found)| Some((*id, found?.to_message()))).collect();
    let shown: Vec<JobId> = ids.into_iter().filter(|id| jobs.contains_key(id)).collect();
    let asked = shown.clone();
    let (mut edges, edges_are_missing) = handle.read(move |store| edges_into(store, &asked)).await?;
    let is_shown = |id: &[u8]| JobId::from_slice(id).is_some_and(|id| jobs.contains_key(&id));
    edges.retain(|edge| is_shown(&edge.from_job_id) && is_shown(&edge.to_job_id));
    let mut jobs = jobs;
    Ok(v1::GetGraphResponse {
        jobs: shown.iter().filter_map(|id| jobs.remove(id)).collect(),
        edges,
        next_page_token: String::new(),
        truncated: truncated || edges_are_missing,
        values: Vec::new(),
    })
}

/// The first jobs that a job was expanded into, at most `limit`.
fn elements_of(store: &dyn Store, list: JobId, limit: usize) -> Result<Vec<JobId>, CallError> {
    let is_there = |index: usize| -> Result<bool, CallError> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Ok(store.specs(&[element_id(list, index)])?.pop().flatten().is_some())
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
    store: &dyn Store,
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
        let down = store.dependents(job, None, room + seen.len() + 1)?;
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
