//! What a result came from, or what was made of it.
//!
//! A page does not remember the walk that led to it: the walk is gone again, up to its limits, and a token is a place
//! in it. What was submitted stays as it was submitted, so the same walk comes by the same jobs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use mycelium_core::ids::JobId;
use mycelium_core::status::{FinalStatus, Status};
use mycelium_proto::limits::{FOR_EACH_ELEMENTS_MAX, PAGE_BYTES_MAX};

use super::elements;
use super::graph::{EdgeKind, Incoming, JobEdge, gather_edge, incoming};
use super::jobs::{Job, find, find_readable};
use super::page::{self, PageOf, Weigh};
use super::specs::{JOBS_AT_ONCE, Lists, Runs};
use super::values::{self, JobValues};
use crate::broker::{CallError, Handle};
use crate::documents::Outputs;
use crate::error::Error;
use crate::values::element_id;

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
/// How many dependents of some jobs are read at once.
const DEPENDENTS_AT_ONCE: usize = 1_000;
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
    let walk = Walk::new(handle, root);
    let walked = if down { walk.down(&output, from, limit).await? } else { walk.up(from, limit).await? };
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
    let outputs = Outputs::decode(job, stored.unwrap_or_default()).map_err(CallError::from)?;
    // Of a stub nobody knows any more.
    if outputs.named(output).is_some() || outputs.all().is_empty() {
        return Ok(());
    }
    Err(Error::field("output", format!("is none of what the job returned, which is: {}", outputs.names())))
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
    fn has_room(&self, bytes: usize, more: usize) -> bool {
        self.jobs.is_empty() || bytes + more <= EDGES_BYTES_MAX
    }
}

/// A walk along values, nearest jobs first.
struct Walk<'a> {
    handle: &'a Handle,
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
    fn new(handle: &'a Handle, root: JobId) -> Self {
        Self {
            handle,
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

    /// Notes that the specification of a job is gone through. False if that may not be, since as much was as may be.
    fn spend(&mut self, into: &IntoJob) -> bool {
        if self.is_spent() {
            self.truncated = true;
            return false;
        }
        if let Some(bytes) = into.bytes {
            self.specs += 1;
            self.specs_bytes += bytes;
        }
        true
    }

    /// What a result came from.
    async fn up(mut self, from: usize, limit: usize) -> Result<Walked, CallError> {
        let mut page = Walked::default();
        let mut edges_bytes = 0;
        let mut place = 0;
        'walk: while place < self.found.len() && page.jobs.len() < limit && edges_bytes < EDGES_BYTES_MAX {
            // All that is known to come next, but for what is not on the page.
            let end =
                self.found.len().min(place + JOBS_AT_ONCE).min(from.saturating_add(limit).max(place + 1));
            let next: Vec<JobId> = self.found[place..end].iter().map(|(job, _)| *job).collect();
            let mut values = Values::into(self.handle, &next);
            while let Some(run) = values.next().await? {
                for into in run {
                    let (job, distance) = self.found[place];
                    let into = IntoJob::of(self.handle, into).await?;
                    if page.jobs.len() == limit || edges_bytes >= EDGES_BYTES_MAX || !self.spend(&into) {
                        break 'walk;
                    }
                    if place >= from
                        && !page.has_room(edges_bytes, into.edges().map(|edge| edge.bytes()).sum())
                    {
                        break 'walk;
                    }
                    for edge in into.edges() {
                        self.find(edge.from, distance + 1);
                    }
                    if place >= from {
                        page.jobs.push((job, distance));
                        self.truncated |= push_edges(&mut page.edges, &mut edges_bytes, into.edges());
                    }
                    place += 1;
                }
            }
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
    async fn down(mut self, output: &str, from: usize, limit: usize) -> Result<Walked, CallError> {
        let root = self.found[0].0;
        // Whether an edge is one of the lineage, if its source is.
        let counts = |edge: &JobEdge| {
            let whole = output.is_empty() || edge.output.is_empty();
            edge.from != root || whole || edge.output == output
        };
        // Lists that were found for another reason than what is in them: their elements are still to be found.
        let mut lists: HashSet<JobId> = HashSet::new();
        let mut place = 0;
        while place < self.found.len() {
            let distance = self.found[place].1;
            let level = self.found[place..].iter().take_while(|(_, of_job)| *of_job == distance);
            let jobs: Vec<JobId> = level.take(JOBS_AT_ONCE).map(|(job, _)| *job).collect();
            place += jobs.len();
            if !self.on_from(&jobs, distance, &mut lists, counts).await? {
                break;
            }
        }
        let end = self.found.len().min(from.saturating_add(limit));
        let shown: Vec<(JobId, u32)> = self.found.get(from..end).unwrap_or_default().to_vec();
        let ids: Vec<JobId> = shown.iter().map(|(job, _)| *job).collect();
        let mut page = Walked::default();
        let mut edges_bytes = 0;
        // They were read on the way here; reading those of one page again costs less than keeping all.
        let mut values = Values::into(self.handle, &ids);
        'page: while let Some(run) = values.next().await? {
            for into in run {
                let into = IntoJob::of(self.handle, into).await?;
                let edges =
                    || into.edges().filter(|edge| self.places.contains_key(&edge.from) && counts(edge));
                let bytes = edges().map(|edge| edge.bytes()).sum();
                if edges_bytes >= EDGES_BYTES_MAX || !page.has_room(edges_bytes, bytes) {
                    break 'page;
                }
                page.jobs.push(shown[page.jobs.len()]);
                self.truncated |= push_edges(&mut page.edges, &mut edges_bytes, edges());
            }
        }
        let next = from + page.jobs.len();
        page.next = (next < self.found.len()).then_some(next);
        page.truncated = self.truncated;
        page.jobs_left_out = self.left_out.len();
        Ok(page)
    }

    /// Goes on from jobs of one distance, to those that take values of them. Whether there is a way on from others.
    async fn on_from(
        &mut self,
        jobs: &[JobId],
        distance: u32,
        lists: &mut HashSet<JobId>,
        counts: impl Fn(&JobEdge) -> bool,
    ) -> Result<bool, CallError> {
        let sources: HashSet<JobId> = jobs.iter().copied().collect();
        // Those that were looked at, and take nothing of any of them.
        let mut others: HashSet<JobId> = HashSet::new();
        let mut after = None;
        loop {
            let edges = self.handle.store().dependents(jobs, after, DEPENDENTS_AT_ONCE).await?;
            let mut met = HashSet::new();
            let mut next: Vec<JobId> = edges.iter().map(|edge| edge.dependent).collect();
            next.retain(|job| {
                let is_open = !self.places.contains_key(job) || lists.contains(job);
                is_open && !others.contains(job) && met.insert(*job)
            });
            let mut values = Values::into(self.handle, &next);
            while let Some(run) = values.next().await? {
                for into in run {
                    let into = IntoJob::of(self.handle, into).await?;
                    if !self.spend(&into) {
                        return Ok(false);
                    }
                    let taken = into.edges().filter(|edge| sources.contains(&edge.from) && counts(edge));
                    let kinds: HashSet<EdgeKind> = taken.map(|edge| edge.kind).collect();
                    if kinds.is_empty() {
                        others.insert(into.job);
                        continue;
                    }
                    self.find(into.job, distance + 1);
                    // Only the list waits for the job; its elements came of it just as well.
                    if !into.elements.is_empty() {
                        if kinds.contains(&EdgeKind::Element) {
                            lists.remove(&into.job);
                            into.elements.iter().for_each(|element| self.find(*element, distance + 1));
                        } else {
                            lists.insert(into.job);
                        }
                    }
                }
            }
            if edges.len() < DEPENDENTS_AT_ONCE {
                return Ok(true);
            }
            if self.found.len() == JOBS_MAX {
                self.truncated = true;
                return Ok(false);
            }
            after = edges.last().copied();
        }
    }
}

/// The values that flow into jobs, in their order.
struct Values<'a> {
    handle: &'a Handle,
    runs: Runs<'a>,
}

/// The values that flow into a job.
struct IntoJob {
    job: JobId,
    own: Vec<JobEdge>,
    /// The jobs that it was expanded into, so far: what they return flows into it as well.
    elements: Vec<JobId>,
    /// How many bytes of its specification were read, if there is one.
    bytes: Option<usize>,
}

impl<'a> Values<'a> {
    fn into(handle: &'a Handle, jobs: &'a [JobId]) -> Self {
        Self { handle, runs: Runs::of(&**handle.store(), jobs, Lists::Read) }
    }

    /// Of the next jobs, each with the number of its elements; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<(Incoming, u32)>>, CallError> {
        let Some(run) = self.runs.next().await? else { return Ok(None) };
        let incoming = incoming(self.handle, run).await?;
        let lists: Vec<JobId> = incoming.iter().filter(|into| into.has_list).map(|into| into.job).collect();
        let elements = elements::counts(&**self.handle.store(), &lists, FOR_EACH_ELEMENTS_MAX).await?;
        let with_count = |into: Incoming| {
            let count = elements.get(&into.job).copied().unwrap_or(0);
            (into, count)
        };
        Ok(Some(incoming.into_iter().map(with_count).collect()))
    }
}

impl IntoJob {
    /// The ids of the elements are made for one job after the other: there may be very many.
    async fn of(handle: &Handle, (into, elements): (Incoming, u32)) -> Result<Self, CallError> {
        let Incoming { job, edges: mut own, bytes, .. } = into;
        own.retain(|edge| edge.kind != EdgeKind::After);
        let ids = move || Ok((0..elements).map(|at| element_id(job, at)).collect());
        // Each takes about as long as a hundred bytes that are read.
        let elements = handle.work_on(elements as usize * 100, ids).await?;
        Ok(Self { job, own, elements, bytes })
    }

    fn edges(&self) -> impl Iterator<Item = Cow<'_, JobEdge>> {
        let gathered = self.elements.iter().map(|element| gather_edge(*element, self.job));
        self.own.iter().map(Cow::Borrowed).chain(gathered.map(Cow::Owned))
    }
}

/// Adds the edges that end in one job, as far as they may take bytes; whether some were left out.
fn push_edges<'e>(
    edges: &mut Vec<JobEdge>,
    bytes: &mut usize,
    more: impl Iterator<Item = Cow<'e, JobEdge>>,
) -> bool {
    let mut of_job = 0;
    for edge in more {
        of_job += edge.bytes();
        if of_job > EDGES_BYTES_MAX {
            return true;
        }
        *bytes += edge.bytes();
        edges.push(edge.into_owned());
    }
    false
}
