//! What uses flows that are to be deleted, and what so becomes of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mycelium_core::ids::{FlowId, JobId};
use mycelium_core::image::{DeletionStage, FlowRecord};

use super::super::handle::Handle;
use super::super::message::CallError;
use super::{FLOWS_AT_ONCE, Fate};
use crate::report::Report;
use crate::store::{FinishedQuery, FlowQuery, Reads, isolate};

/// As many jobs of a flow are looked at together, and edges from them.
const JOBS_AT_ONCE: usize = 1_000;
const EDGES_AT_ONCE: usize = 4_096;
/// Of as many jobs of a flow it is remembered that they are of it. One of the others is read.
const OWN_JOBS_REMEMBERED: usize = 262_144;
/// A flow that is used by more flows leaves a stub, whoever they are.
const USERS_MAX: usize = 65_536;

/// The flows that use one.
#[derive(Debug, Default)]
struct Users {
    flows: BTreeSet<FlowId>,
    /// There are too many to be told apart, or not all can be read.
    are_some_unknown: bool,
}

/// What becomes of flows if they are deleted together, as far as that can be told now.
pub(super) async fn judge(
    handle: &Handle,
    flows: &[FlowRecord],
) -> Result<BTreeMap<FlowId, Fate>, CallError> {
    let mut users: BTreeMap<FlowId, Users> = BTreeMap::new();
    for flow in flows {
        users.insert(flow.id, users_of(&**handle.store(), flow.id).await?);
    }
    add_children(&**handle.store(), flows, &mut users).await?;

    let mut asked: BTreeSet<FlowId> = users.values().flat_map(|users| &users.flows).copied().collect();
    asked.extend(flows.iter().map(|flow| flow.id));
    let (unfinished, going) = handle
        .query(move |core, _| {
            let asked: Vec<FlowId> = asked.into_iter().collect();
            let unfinished: BTreeSet<FlowId> = core.unfinished_among(&asked).into_iter().collect();
            let deletions = core.deletions().into_iter();
            let going = deletions.filter(|deletion| deletion.stage == DeletionStage::Removing);
            (unfinished, going.map(|deletion| deletion.flow).collect::<BTreeSet<FlowId>>())
        })
        .await?;

    let mut fates = BTreeMap::new();
    for flow in flows {
        let user = users[&flow.id].flows.iter().find(|user| unfinished.contains(user));
        fates.insert(
            flow.id,
            match user {
                _ if unfinished.contains(&flow.id) => Fate::Unfinished,
                _ if flow.pinned => Fate::Pinned,
                Some(user) => Fate::Used(*user),
                None if users[&flow.id].are_some_unknown => Fate::Stub,
                None => Fate::Whole,
            },
        );
    }
    // Whoever is used by one that stays, if only as a stub, leaves a stub: begins with what stays, and goes on as long as
    // there is more of it.
    loop {
        let goes = |flow: &FlowId| fates.get(flow).map_or(going.contains(flow), |fate| *fate == Fate::Whole);
        let stays = |flow: &FlowId| users[flow].flows.iter().any(|user| !goes(user));
        let stubs: Vec<FlowId> =
            fates.keys().filter(|flow| fates[flow] == Fate::Whole && stays(flow)).copied().collect();
        if stubs.is_empty() {
            return Ok(fates);
        }
        fates.extend(stubs.into_iter().map(|flow| (flow, Fate::Stub)));
    }
}

/// The other flows whose jobs depend on jobs of this one. Its last jobs are looked at first.
async fn users_of(store: &dyn Reads, flow: FlowId) -> Result<Users, CallError> {
    let mut users = Users::default();
    let mut own: HashSet<JobId> = HashSet::new();
    let mut query = FinishedQuery { flow: Some(flow), limit: JOBS_AT_ONCE, ..FinishedQuery::default() };
    loop {
        let page = store.list_finished(&query).await?;
        if let Some(what) = page.damaged.first() {
            // What depends on it is not known.
            tracing::warn!(%flow, what, "a flow with damaged records leaves a stub when it is deleted");
            users.are_some_unknown = true;
        }
        let jobs: Vec<JobId> = page.jobs.iter().map(|record| record.head.id).collect();
        if own.len() < OWN_JOBS_REMEMBERED {
            own.extend(&jobs);
        }
        add_users(store, flow, &jobs, &own, &mut users).await?;
        if users.flows.len() > USERS_MAX {
            users.are_some_unknown = true;
            return Ok(users);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(users),
        }
    }
}

async fn add_users(
    store: &dyn Reads,
    flow: FlowId,
    jobs: &[JobId],
    own: &HashSet<JobId>,
    users: &mut Users,
) -> Result<(), CallError> {
    let mut after = None;
    while !jobs.is_empty() {
        let edges = store.dependents(jobs, after, EDGES_AT_ONCE).await?;
        let others: BTreeSet<JobId> =
            edges.iter().map(|edge| edge.dependent).filter(|job| !own.contains(job)).collect();
        let others: Vec<JobId> = others.into_iter().collect();
        // One without a flow came with a submission that was dropped.
        users.flows.extend(flows_of(store, &others).await?.into_iter().flatten().filter(|of| *of != flow));
        after = edges.last().copied();
        if edges.len() < EDGES_AT_ONCE {
            break;
        }
    }
    Ok(())
}

/// The flows of jobs; `None` for those that are not known.
async fn flows_of(store: &dyn Reads, jobs: &[JobId]) -> Result<Vec<Option<FlowId>>, CallError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let outlines = isolate(jobs, |jobs| store.outlines(jobs)).await?;
    let mut flows = Vec::with_capacity(jobs.len());
    for (job, outline) in jobs.iter().zip(outlines) {
        flows.push(match outline {
            Ok(outline) => outline.map(|spec| spec.head.flow),
            // Its other records say the same.
            Err(_) => {
                let finished = store.finished(std::slice::from_ref(job)).await?.pop().flatten();
                finished.map(|record| record.head.flow)
            }
        });
    }
    Ok(flows)
}

/// Adds the flows that were submitted by jobs of these: whoever looks at one wants to know whose it was.
async fn add_children(
    store: &dyn Reads,
    flows: &[FlowRecord],
    users: &mut BTreeMap<FlowId, Users>,
) -> Result<(), CallError> {
    // A flow that a job submits is younger than its own.
    let Some(oldest) = flows.iter().map(|flow| flow.number).min() else { return Ok(()) };
    let mut query = FlowQuery { limit: FLOWS_AT_ONCE, ..FlowQuery::default() };
    loop {
        let page = store.list_flows(&query).await?;
        let is_past = page.flows.last().is_some_and(|flow| flow.number <= oldest);
        let children = page.flows.iter().filter_map(|flow| Some((flow.id, flow.on_behalf_of?.job)));
        let (children, parents): (Vec<FlowId>, Vec<JobId>) = children.unzip();
        for (child, parent) in children.into_iter().zip(flows_of(store, &parents).await?) {
            if let Some(parent) = parent.filter(|parent| *parent != child)
                && let Some(users) = users.get_mut(&parent)
            {
                users.flows.insert(child);
            }
        }
        match page.next {
            Some(next) if !is_past => query.after = Some(next),
            Some(_) | None => return Ok(()),
        }
    }
}

/// Whether an error is about what is stored of one flow, so that others can be deleted all the same.
pub(super) fn is_of_one(error: &CallError) -> bool {
    if error.is_damage() {
        tracing::error!(error = %Report(error), "a flow is not deleted, because its records are damaged");
    }
    error.is_damage()
}
