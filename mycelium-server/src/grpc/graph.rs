//! `GetGraph`: jobs and the edges between them.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use mycelium_core::ids::{FlowId, JobId};
use mycelium_proto::v1;

use super::convert;
use super::jobs::{decode_spec, find, find_all};
use super::list::{JobCursor, JobFilter, jobs_page};
use super::page;
use super::status::Error;
use super::values;
use crate::broker::{CallError, Handle};
use crate::store::{FinishedQuery, Store};
use crate::values::{Edge, edges_of};

/// The farthest that a graph around a job reaches.
const DEPTH_MAX: u32 = 100;

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
    let (jobs, next) = jobs_page(handle, &filter, cursor, limit).await?;
    let ids: Vec<JobId> = jobs.iter().filter_map(|job| JobId::from_slice(&job.job_id)).collect();
    let edges = handle.read(move |store| edges_into(store, &ids)).await?;
    Ok(v1::GetGraphResponse {
        jobs,
        edges,
        next_page_token: next.map(JobCursor::token).unwrap_or_default(),
        truncated: false,
        values: Vec::new(),
    })
}

/// Every edge that ends in one of `jobs`.
fn edges_into(store: &dyn Store, jobs: &[JobId]) -> Result<Vec<v1::JobEdge>, CallError> {
    let mut edges = Vec::new();
    for (id, record) in jobs.iter().zip(store.specs(jobs)?) {
        if let Some(record) = record {
            edges.extend(edges_into_one(*id, record.body)?);
        }
    }
    Ok(edges)
}

/// Every edge that ends in a job, whose specification is `body`.
pub(crate) fn edges_into_one(
    id: JobId,
    body: Bytes,
) -> Result<impl Iterator<Item = v1::JobEdge> + use<>, CallError> {
    let spec = decode_spec(id, body)?;
    Ok(edges_of(&spec).into_iter().map(move |edge| edge_message(id, edge)))
}

fn edge_message(to: JobId, edge: Edge) -> v1::JobEdge {
    let (from, output, parameter, kind) = match edge {
        Edge::Value { from, output, parameter } => (from, output, parameter, v1::JobEdgeKind::Value),
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
    let found = find_all(handle, ids.clone()).await?;
    let jobs: HashMap<JobId, v1::Job> =
        ids.iter().zip(found).filter_map(|(id, found)| Some((*id, found?.to_message()))).collect();
    let shown: Vec<JobId> = ids.into_iter().filter(|id| jobs.contains_key(id)).collect();
    let asked = shown.clone();
    let mut edges = handle.read(move |store| edges_into(store, &asked)).await?;
    edges.retain(|edge| JobId::from_slice(&edge.from_job_id).is_some_and(|from| jobs.contains_key(&from)));
    let mut jobs = jobs;
    Ok(v1::GetGraphResponse {
        jobs: shown.iter().filter_map(|id| jobs.remove(id)).collect(),
        edges,
        next_page_token: String::new(),
        truncated,
        values: Vec::new(),
    })
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
        let up = store.specs(&[job])?.pop().flatten().map(|spec| spec.depends_on).unwrap_or_default();
        // One more than there is room for tells that some are left out; those seen already come on top.
        let down = store.dependents(job, None, room + seen.len() + 1)?;
        for next in up.into_iter().chain(down) {
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
