//! `GetLineage`: what a result came from, or what was made of it.
//!
//! A page does not remember the walk that led to it: the walk is gone again, up to its limits, and a token is a place
//! in it. What was submitted stays as it was submitted, so the same walk comes by the same jobs.

use std::collections::{HashMap, HashSet};

use mycelium_core::ids::JobId;
use mycelium_proto::v1;

use super::graph::{edges_into_one, encoded_len_in_list};
use super::jobs::{Found, decode_outputs, find, find_readable, readable_specs};
use super::page;
use super::values;
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::grpc::convert;
use crate::store::Store;

/// The most jobs in a lineage.
const JOBS_MAX: usize = 10_000;
/// How far jobs beyond those are counted.
const LEFT_OUT_COUNTED_MAX: usize = 100_000;
/// The most bytes of specifications that are read for one answer...
const SPECS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// ...and the most specifications: jobs that depend on another need not take a value of it.
const SPECS_MAX: usize = 100_000;
/// The most bytes of edges in one answer.
const EDGES_BYTES_MAX: usize = 3 * 512 * 1024;
/// How many dependents of a job are read at once.
const DEPENDENTS_CHUNK: usize = 256;
/// The kind of the tokens of pages.
const TOKEN: char = 'g';

pub(crate) async fn get_lineage(
    handle: &Handle,
    request: v1::GetLineageRequest,
) -> Result<v1::GetLineageResponse, Error> {
    let root = convert::job_id("job_id", &request.job_id)?;
    let limit = page::size(request.page_size);
    let from = page::read_number(&request.page_token, TOKEN)?.unwrap_or(0);
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let found = find(handle, root).await?;
    if !request.output.is_empty() {
        check_output(handle, root, &found, &request.output).await?;
    }
    let v1::GetLineageRequest { output, down, include_values, .. } = request;
    let page = handle
        .read(move |store| {
            let walk = Walk::new(store, root);
            if down { walk.down(&output, from, limit) } else { walk.up(from, limit) }
        })
        .await?;
    let Page { jobs: places, edges, next, truncated, jobs_left_out } = page;
    let found = find_readable(handle, places.iter().map(|(id, _)| *id).collect()).await?;
    let jobs: Vec<v1::LineageJob> = places
        .iter()
        .zip(found)
        .filter_map(|((_, distance), found)| {
            Some(v1::LineageJob { job: Some(found?.to_message()), distance: *distance })
        })
        .collect();
    let values = if include_values {
        let jobs: Vec<v1::Job> = jobs.iter().filter_map(|job| job.job.clone()).collect();
        values::of_jobs(handle, &jobs).await?
    } else {
        Vec::new()
    };
    let next_page_token = next.map(|next| page::token(TOKEN, &(next as u64).to_be_bytes()));
    Ok(v1::GetLineageResponse {
        jobs,
        edges,
        next_page_token: next_page_token.unwrap_or_default(),
        values,
        truncated,
        jobs_left_out: jobs_left_out as u64,
    })
}

/// Refuses an output that the job has not returned. What a job will return is not known before it has.
async fn check_output(handle: &Handle, job: JobId, found: &Found, output: &str) -> Result<(), Error> {
    if found.status() != v1::JobStatus::Done {
        return Ok(());
    }
    let stored = handle.read(move |store| Ok(store.outputs(&[job])?.pop().flatten())).await?;
    let outputs = decode_outputs(job, stored.unwrap_or_default())?;
    if outputs.iter().any(|candidate| candidate.name == output) {
        return Ok(());
    }
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::field("output", format!("is none of what the job returned, which is: {names}")))
}

/// A part of a lineage.
#[derive(Debug, Default)]
struct Page {
    /// The jobs, each with its distance.
    jobs: Vec<(JobId, u32)>,
    edges: Vec<v1::JobEdge>,
    /// Where the next page begins.
    next: Option<usize>,
    truncated: bool,
    jobs_left_out: usize,
}

impl Page {
    /// Whether the edges that end in one more job fit. Those of its first job are cut if they do not.
    fn has_room(&self, bytes: usize, edges: &[v1::JobEdge]) -> bool {
        let more: usize = edges.iter().map(encoded_len_in_list).sum();
        self.jobs.is_empty() || bytes + more <= EDGES_BYTES_MAX
    }
}

/// A walk along values, nearest jobs first.
struct Walk<'a> {
    store: &'a dyn Store,
    /// What was found, in order, each with its distance. What stands behind the place of the walk is still to be gone on
    /// from.
    found: Vec<(JobId, u32)>,
    places: HashMap<JobId, usize>,
    specs: usize,
    specs_bytes: usize,
    truncated: bool,
    /// Jobs that were come by and for which there is no room.
    left_out: HashSet<JobId>,
}

/// The job that an edge comes from.
fn source(edge: &v1::JobEdge) -> Option<JobId> {
    JobId::from_slice(&edge.from_job_id)
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn Store, root: JobId) -> Self {
        Self {
            store,
            found: vec![(root, 0)],
            places: HashMap::from([(root, 0)]),
            specs: 0,
            specs_bytes: 0,
            truncated: false,
            left_out: HashSet::new(),
        }
    }

    /// Takes a job into the lineage, unless it is there or there is no room.
    fn find(&mut self, job: JobId, distance: u32) {
        if self.places.contains_key(&job) {
            return;
        }
        if self.found.len() == JOBS_MAX {
            self.truncated = true;
            if self.left_out.len() < LEFT_OUT_COUNTED_MAX {
                self.left_out.insert(job);
            }
            return;
        }
        self.places.insert(job, self.found.len());
        self.found.push((job, distance));
    }

    /// The edges of values that end in a job; `None` if as much was read as may be.
    fn edges(&mut self, job: JobId) -> Result<Option<Vec<v1::JobEdge>>, CallError> {
        if self.is_spent() {
            self.truncated = true;
            return Ok(None);
        }
        let record = readable_specs(self.store, &[job])?.pop().flatten();
        let Some(record) = record else { return Ok(Some(Vec::new())) };
        self.specs += 1;
        self.specs_bytes += record.body.len();
        let mut edges = edges_into_one(self.store, job, record)?;
        edges.retain(|edge| edge.kind() != v1::JobEdgeKind::After);
        Ok(Some(edges))
    }

    /// What a result came from.
    fn up(mut self, from: usize, limit: usize) -> Result<Page, CallError> {
        let mut page = Page::default();
        let mut edges_bytes = 0;
        let mut place = 0;
        while let Some(&(job, distance)) = self.found.get(place)
            && page.jobs.len() < limit
            && edges_bytes < EDGES_BYTES_MAX
        {
            let Some(edges) = self.edges(job)? else { break };
            if place >= from && !page.has_room(edges_bytes, &edges) {
                break;
            }
            for origin in edges.iter().filter_map(source) {
                self.find(origin, distance + 1);
            }
            if place >= from {
                page.jobs.push((job, distance));
                self.truncated |= push_edges(&mut page.edges, &mut edges_bytes, edges);
            }
            place += 1;
        }
        let is_more = place < self.found.len();
        // What cannot be read for the limits is not reached by another page either.
        page.next = (is_more && !self.is_spent()).then_some(place);
        page.truncated = self.truncated || (is_more && self.is_spent());
        page.jobs_left_out = self.left_out.len();
        Ok(page)
    }

    fn is_spent(&self) -> bool {
        self.specs == SPECS_MAX || self.specs_bytes > SPECS_BYTES_MAX
    }

    /// What was made of an output of the first job, or of all it returned.
    fn down(mut self, output: &str, from: usize, limit: usize) -> Result<Page, CallError> {
        let root = self.found[0].0;
        // Whether an edge is one of the lineage, if its source is.
        let counts = |edge: &v1::JobEdge| {
            let whole = output.is_empty() || edge.output.is_empty();
            source(edge).is_some_and(|from| from != root || whole || edge.output == output)
        };
        // Lists that were found for another reason than what is in them: their elements are still to be found.
        let mut lists: HashSet<JobId> = HashSet::new();
        let mut place = 0;
        'walk: while let Some(&(job, distance)) = self.found.get(place) {
            let mut after = None;
            loop {
                let dependents = self.store.dependents(job, after, DEPENDENTS_CHUNK)?;
                after = dependents.last().copied();
                for dependent in &dependents {
                    if self.places.contains_key(dependent) && !lists.contains(dependent) {
                        continue;
                    }
                    let Some(edges) = self.edges(*dependent)? else { break 'walk };
                    let taken = edges.iter().filter(|edge| source(edge) == Some(job) && counts(edge));
                    let kinds: Vec<v1::JobEdgeKind> = taken.map(v1::JobEdge::kind).collect();
                    if kinds.is_empty() {
                        continue;
                    }
                    self.find(*dependent, distance + 1);
                    // Only the list waits for the job; its elements came of it just as well.
                    let gathered = edges.iter().filter(|edge| edge.kind() == v1::JobEdgeKind::Gather);
                    let mut elements = gathered.filter_map(source).peekable();
                    if elements.peek().is_some() {
                        if kinds.contains(&v1::JobEdgeKind::Element) {
                            lists.remove(dependent);
                            elements.for_each(|element| self.find(element, distance + 1));
                        } else {
                            lists.insert(*dependent);
                        }
                    }
                }
                if dependents.len() < DEPENDENTS_CHUNK {
                    break;
                }
                if self.found.len() == JOBS_MAX {
                    self.truncated = true;
                    break 'walk;
                }
            }
            place += 1;
        }
        let mut page = Page::default();
        let mut edges_bytes = 0;
        let mut place = from;
        while let Some(&(job, distance)) = self.found.get(place)
            && page.jobs.len() < limit
            && edges_bytes < EDGES_BYTES_MAX
        {
            // They were read on the way here; reading those of one page again costs less than keeping all.
            self.specs = self.specs.min(SPECS_MAX - 1);
            self.specs_bytes = self.specs_bytes.min(SPECS_BYTES_MAX);
            let mut edges = self.edges(job)?.unwrap_or_default();
            edges.retain(|edge| {
                source(edge).is_some_and(|from| self.places.contains_key(&from)) && counts(edge)
            });
            if !page.has_room(edges_bytes, &edges) {
                break;
            }
            page.jobs.push((job, distance));
            self.truncated |= push_edges(&mut page.edges, &mut edges_bytes, edges);
            place += 1;
        }
        page.next = (place < self.found.len()).then_some(place);
        page.truncated = self.truncated;
        page.jobs_left_out = self.left_out.len();
        Ok(page)
    }
}

/// Adds the edges that end in one job, as far as they may take bytes; whether some were left out.
fn push_edges(edges: &mut Vec<v1::JobEdge>, bytes: &mut usize, more: Vec<v1::JobEdge>) -> bool {
    let mut of_job = 0;
    for edge in more {
        of_job += encoded_len_in_list(&edge);
        if of_job > EDGES_BYTES_MAX {
            return true;
        }
        *bytes += encoded_len_in_list(&edge);
        edges.push(edge);
    }
    false
}
