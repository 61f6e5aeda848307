//! What a result came from, or what was made of it.
//!
//! A page does not remember the walk that led to it: the walk is gone again, up to its limits, and a token is a place
//! in it. What was submitted stays as it was submitted, so the same walk comes by the same jobs.

use std::collections::{HashMap, HashSet};

use mycelium_core::ids::JobId;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::limits::PAGE_BYTES_MAX;

use super::graph::{EdgeKind, JobEdge, edges_into_one};
use super::jobs::{Job, decode_outputs, find, find_readable, readable_specs};
use super::page::{self, PageOf, Weigh};
use super::values::{self, JobValues};
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::store::{Edge, Reads};

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

/// Which lineage to show.
#[derive(Debug)]
pub(crate) struct LineageOf {
    pub(crate) job: JobId,
    /// Of one output only; empty: of all that the job returned.
    pub(crate) output: String,
    /// Whether what was made of it is asked for, and not what it came from.
    pub(crate) down: bool,
    pub(crate) shows_values: bool,
}

/// A part of a lineage.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// The jobs, nearest first, each with its distance.
    pub(crate) jobs: Vec<(Job, u32)>,
    pub(crate) edges: Vec<JobEdge>,
    /// The token of the next page; empty if there is none.
    pub(crate) next: String,
    /// The values of the first jobs, if they were asked for.
    pub(crate) values: Vec<JobValues>,
    /// Whether something was left out.
    pub(crate) truncated: bool,
    /// How many jobs there was no room for, as far as they were counted.
    pub(crate) jobs_left_out: usize,
}

/// What a result came from, or what was made of it.
pub(crate) async fn lineage(handle: &Handle, of: LineageOf, page: &PageOf) -> Result<Lineage, Error> {
    let LineageOf { job: root, output, down, shows_values } = of;
    let limit = page.limit();
    let from = page::read_number(&page.token, TOKEN)?.unwrap_or(0);
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let found = find(handle, root).await?;
    if !output.is_empty() {
        check_output(handle, root, &found, &output).await?;
    }
    let walked = handle
        .read(move |store| {
            let walk = Walk::new(store, root);
            if down { walk.down(&output, from, limit) } else { walk.up(from, limit) }
        })
        .await?;
    let Walked { jobs: mut places, mut edges, mut next, truncated, jobs_left_out } = walked;
    let mut found = find_readable(handle, places.iter().map(|(id, _)| *id).collect()).await?;
    let n_fit = page::fitting(&found, PAGE_BYTES_MAX);
    if n_fit < found.len() {
        // The next page begins with what does not fit.
        found.truncate(n_fit);
        places.truncate(n_fit);
        next = Some(from + n_fit);
        let kept: HashSet<JobId> = places.iter().map(|(id, _)| *id).collect();
        edges.retain(|edge| kept.contains(&edge.to));
    }
    let jobs: Vec<(Job, u32)> =
        places.iter().zip(found).filter_map(|((_, distance), found)| Some((found?, *distance))).collect();
    let values = if shows_values {
        let ids: Vec<JobId> = jobs.iter().map(|(job, _)| job.id()).collect();
        values::of_jobs(handle, &ids).await?
    } else {
        Vec::new()
    };
    let next = next.map(|next| page::token(TOKEN, &(next as u64).to_be_bytes())).unwrap_or_default();
    Ok(Lineage { jobs, edges, next, values, truncated, jobs_left_out })
}

/// Refuses an output that the job has not returned. What a job will return is not known before it has.
async fn check_output(handle: &Handle, job: JobId, found: &Job, output: &str) -> Result<(), Error> {
    if found.status() != Status::Final(FinalStatus::Done) {
        return Ok(());
    }
    let stored = handle.store().outputs(&[job]).await?.pop().flatten();
    let outputs = decode_outputs(job, stored.unwrap_or_default())?;
    if outputs.iter().any(|candidate| candidate.name == output) {
        return Ok(());
    }
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(Error::field("output", format!("is none of what the job returned, which is: {names}")))
}

/// What a walk comes to: a page of it.
#[derive(Debug, Default)]
struct Walked {
    /// The jobs, each with its distance.
    jobs: Vec<(JobId, u32)>,
    edges: Vec<JobEdge>,
    /// Where the next page begins.
    next: Option<usize>,
    truncated: bool,
    jobs_left_out: usize,
}

impl Walked {
    /// Whether the edges that end in one more job fit. Those of its first job are cut if they do not.
    fn has_room(&self, bytes: usize, edges: &[JobEdge]) -> bool {
        let more: usize = edges.iter().map(Weigh::bytes).sum();
        self.jobs.is_empty() || bytes + more <= EDGES_BYTES_MAX
    }
}

/// A walk along values, nearest jobs first.
struct Walk<'a> {
    store: &'a dyn Reads,
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

impl<'a> Walk<'a> {
    fn new(store: &'a dyn Reads, root: JobId) -> Self {
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
    fn edges(&mut self, job: JobId) -> Result<Option<Vec<JobEdge>>, CallError> {
        if self.is_spent() {
            self.truncated = true;
            return Ok(None);
        }
        let record = readable_specs(self.store, &[job])?.pop().flatten();
        let Some(record) = record else { return Ok(Some(Vec::new())) };
        self.specs += 1;
        self.specs_bytes += record.body.len();
        let mut edges = edges_into_one(self.store, job, record)?;
        edges.retain(|edge| edge.kind != EdgeKind::After);
        Ok(Some(edges))
    }

    /// What a result came from.
    fn up(mut self, from: usize, limit: usize) -> Result<Walked, CallError> {
        let mut page = Walked::default();
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
            for edge in &edges {
                self.find(edge.from, distance + 1);
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
    fn down(mut self, output: &str, from: usize, limit: usize) -> Result<Walked, CallError> {
        let root = self.found[0].0;
        // Whether an edge is one of the lineage, if its source is.
        let counts = |edge: &JobEdge| {
            let whole = output.is_empty() || edge.output.is_empty();
            edge.from != root || whole || edge.output == output
        };
        // Lists that were found for another reason than what is in them: their elements are still to be found.
        let mut lists: HashSet<JobId> = HashSet::new();
        let mut place = 0;
        'walk: while let Some(&(job, distance)) = self.found.get(place) {
            let mut after = None;
            loop {
                let edges = self.store.dependents(&[job], after, DEPENDENTS_CHUNK).wait()?;
                after = edges.last().copied();
                for Edge { dependent, .. } in &edges {
                    if self.places.contains_key(dependent) && !lists.contains(dependent) {
                        continue;
                    }
                    let Some(edges) = self.edges(*dependent)? else { break 'walk };
                    let taken = edges.iter().filter(|edge| edge.from == job && counts(edge));
                    let kinds: Vec<EdgeKind> = taken.map(|edge| edge.kind).collect();
                    if kinds.is_empty() {
                        continue;
                    }
                    self.find(*dependent, distance + 1);
                    // Only the list waits for the job; its elements came of it just as well.
                    let gathered = edges.iter().filter(|edge| edge.kind == EdgeKind::Gather);
                    let mut elements = gathered.map(|edge| edge.from).peekable();
                    if elements.peek().is_some() {
                        if kinds.contains(&EdgeKind::Element) {
                            lists.remove(dependent);
                            elements.for_each(|element| self.find(element, distance + 1));
                        } else {
                            lists.insert(*dependent);
                        }
                    }
                }
                if edges.len() < DEPENDENTS_CHUNK {
                    break;
                }
                if self.found.len() == JOBS_MAX {
                    self.truncated = true;
                    break 'walk;
                }
            }
            place += 1;
        }
        let mut page = Walked::default();
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
            edges.retain(|edge| self.places.contains_key(&edge.from) && counts(edge));
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
fn push_edges(edges: &mut Vec<JobEdge>, bytes: &mut usize, more: Vec<JobEdge>) -> bool {
    let mut of_job = 0;
    for edge in more {
        of_job += edge.bytes();
        if of_job > EDGES_BYTES_MAX {
            return true;
        }
        *bytes += edge.bytes();
        edges.push(edge);
    }
    false
}
