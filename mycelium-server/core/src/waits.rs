//! Jobs that wait for places which are held by the very attempts that have submitted them, or by others that have submitted
//! such jobs: if these wait for the jobs, all of them wait for ever.
//!
//! Whether an attempt waits is not known here, so nothing is done about it: it is told to people.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Window;
use crate::ids::{JobId, SessionId, Token};
use crate::index::{ElfIdx, FlowIdx, QueueIdx, SessionIdx, Slot};
use crate::jobs::{Jobs, State};
use crate::sessions::{Held, Session, Sessions};

/// How far ancestors are followed. Who names whom comes from outside, and may go round in a circle.
const ANCESTORS_MAX: usize = 64;
/// How many flows are looked at in one look, and how many jobs of each that wait for a place.
const FLOWS_PER_LOOK: usize = 256;
const JOBS_PER_FLOW: usize = 4;
/// How many jobs of a flow are looked at for these.
const JOBS_LOOKED_AT: usize = 1_024;
/// How many attempts hold places, for it to be looked whether these all wait.
const HOLDERS_MAX: usize = 1_024;
/// How many of them are named.
const HOLDERS_NAMED_MAX: usize = 64;

/// Where attempts are.
pub(crate) struct Places<'a> {
    pub(crate) jobs: &'a Jobs,
    pub(crate) sessions: &'a Sessions,
}

/// A job that waits for a place which is held, as all others, by attempts that have submitted jobs which wait so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) job: JobId,
    /// The nearest attempt on whose behalf it was submitted that holds such a place, and where it runs.
    pub(crate) holder: Token,
    pub(crate) session: SessionId,
}

/// Where a job can have a place: with those that take the jobs of its queue, or with the one that holds it and does not know
/// of recalls.
type Chance = (QueueIdx, Option<SessionIdx>);

/// A job that waits for a place.
#[derive(Debug)]
struct Waiting {
    flow: FlowIdx,
    slot: Slot,
    chance: Chance,
    /// On whose behalf it was submitted, the nearest first. They wait for it, if they wait at all.
    ancestors: Vec<(Token, SessionIdx)>,
}

/// Who holds the places of a session.
#[derive(Debug)]
enum Holders {
    /// One of them has to be over for a place to be free.
    One(BTreeSet<Token>),
    /// All of them have.
    All(BTreeSet<Token>),
}

impl Holders {
    /// Whether no place becomes free while these wait.
    fn wait_with(&self, held_up: &BTreeSet<Token>) -> bool {
        match self {
            Self::One(tokens) => tokens.is_subset(held_up),
            Self::All(tokens) => !tokens.is_disjoint(held_up),
        }
    }

    fn tokens(&self) -> &BTreeSet<Token> {
        let (Self::One(tokens) | Self::All(tokens)) = self;
        tokens
    }
}

/// Jobs that wait for places, and who holds all that they can have, session by session, where none is free.
#[derive(Debug, Default)]
struct Waits {
    waiting: Vec<Waiting>,
    holders: BTreeMap<Chance, Option<Vec<Holders>>>,
}

impl Waits {
    /// The attempts on whose behalf jobs were submitted that wait.
    fn held_up(&self) -> BTreeSet<Token> {
        self.waiting.iter().flat_map(|one| one.ancestors.iter().map(|(token, _)| *token)).collect()
    }

    /// Leaves those that wait for each other in a circle: what holds their places is on its part waited for by no others
    /// than these.
    fn retain_circles(&mut self) {
        loop {
            let held_up = self.held_up();
            let before = self.waiting.len();
            let wait = |holders: &Holders| holders.wait_with(&held_up);
            self.holders.retain(|_, holders| holders.as_ref().is_some_and(|all| all.iter().all(wait)));
            self.waiting.retain(|one| self.holders.contains_key(&one.chance));
            if self.waiting.len() == before {
                return;
            }
        }
    }

    /// Those of the circle that hold the places of a chance.
    fn holders_in_circle(&self, chance: Chance) -> BTreeSet<Token> {
        let held_up = self.held_up();
        let all = self.holders.get(&chance).into_iter().flatten().flatten().flat_map(Holders::tokens);
        all.filter(|token| held_up.contains(token)).copied().collect()
    }
}

impl Places<'_> {
    /// The attempts on whose behalf a flow was submitted, as far as they are under way, the nearest first.
    fn ancestors(&self, flow: FlowIdx) -> Vec<(Token, SessionIdx)> {
        let mut ancestors: Vec<(Token, SessionIdx)> = Vec::new();
        let mut next = self.jobs.flow(flow).on_behalf_of;
        while let Some(token) = next
            && ancestors.len() < ANCESTORS_MAX
            && ancestors.iter().all(|(other, _)| *other != token)
            && let Some(slot) = self.jobs.find(&token.job)
        {
            let job = &self.jobs[slot];
            let State::Running { session, .. } = job.state else { break };
            if job.attempt != token.attempt {
                break;
            }
            ancestors.push((token, session));
            next = self.jobs.flow_of(job).on_behalf_of;
        }
        ancestors
    }

    /// If a job waits for a place that is held, as all others, by those on whose behalf it was submitted, or by attempts like
    /// them: who holds them, the nearest first.
    pub(crate) fn held_by_ancestors(&self, slot: Slot) -> Option<Vec<Token>> {
        let mut waits = Waits::default();
        if !self.waits(slot) {
            return None;
        }
        self.add(slot, &mut waits)?;
        let flows = self.jobs.flows().of_attempts(None).take(FLOWS_PER_LOOK);
        flows.for_each(|flow| self.add_flow(flow, &mut waits));
        waits.retain_circles();
        let own = waits.waiting.first().filter(|one| one.slot == slot)?;
        let mut others = waits.holders_in_circle(own.chance);
        let mut holders: Vec<Token> = own.ancestors.iter().map(|(token, _)| *token).collect();
        holders.retain(|ancestor| others.remove(ancestor));
        holders.extend(others);
        holders.truncate(HOLDERS_NAMED_MAX);
        Some(holders)
    }

    /// Looks at some flows that were submitted by tasks, those after `after` first. Returns which of them has such a wait, of
    /// those that wait for the same places the first alone, and after which flow to go on; none: from the first.
    pub(crate) fn look(&self, after: Option<FlowIdx>) -> (Vec<(FlowIdx, Option<Wait>)>, Option<FlowIdx>) {
        let flows: Vec<FlowIdx> = self.jobs.flows().of_attempts(after).take(FLOWS_PER_LOOK).collect();
        let mut waits = Waits::default();
        flows.iter().for_each(|flow| self.add_flow(*flow, &mut waits));
        waits.retain_circles();
        let holders = waits.holders.values().flatten().flatten().flat_map(Holders::tokens);
        let holders: BTreeSet<Token> = holders.copied().collect();
        let mut first: BTreeMap<FlowIdx, Wait> = BTreeMap::new();
        for Waiting { flow, slot, chance, ancestors } in waits.waiting {
            if let Some(&(holder, session)) = ancestors.iter().find(|(token, _)| holders.contains(token))
                && waits.holders.remove(&chance).is_some()
            {
                let (job, session) = (self.jobs[slot].id, self.sessions[session].id);
                first.entry(flow).or_insert(Wait { job, holder, session });
            }
        }
        let last = flows.last().copied().filter(|_| flows.len() == FLOWS_PER_LOOK);
        (flows.into_iter().map(|flow| (flow, first.remove(&flow))).collect(), last)
    }

    /// Adds what waits for places of a flow.
    fn add_flow(&self, flow: FlowIdx, waits: &mut Waits) {
        let jobs = self.jobs.flow(flow).jobs.iter().map(|(_, slot)| *slot);
        let waiting = jobs.take(JOBS_LOOKED_AT).filter(|slot| self.waits(*slot));
        waiting.take(JOBS_PER_FLOW).for_each(|slot| {
            self.add(slot, waits);
        });
    }

    /// Adds a job that waits, if there is no place for it, and it was submitted on behalf of an attempt.
    fn add(&self, slot: Slot, waits: &mut Waits) -> Option<()> {
        let job = &self.jobs[slot];
        let ancestors = self.ancestors(job.flow);
        let holder = if let State::Running { session, .. } = job.state { Some(session) } else { None };
        let bound_to = holder.filter(|session| !self.sessions[*session].knows_recall);
        let chance = (job.queue, bound_to);
        if ancestors.is_empty() {
            return None;
        }
        waits.holders.entry(chance).or_insert_with(|| self.holders(chance)).as_ref()?;
        waits.waiting.push(Waiting { flow: job.flow, slot, chance, ancestors });
        Some(())
    }

    /// Who holds all places that there are; `None` if one is free, or there are none, or too many.
    fn holders(&self, (queue, bound_to): Chance) -> Option<Vec<Holders>> {
        let names = self.jobs.names();
        let queue = names.queue(queue);
        let elf = names.task(queue.task).elf;
        let (mut holders, mut n_holders) = (Vec::new(), 0);
        for session in self.jobs.elf(elf).sessions.values() {
            let entry = &self.sessions[*session];
            let Some(offer) = entry.offers.get(&elf) else { continue };
            let declared = offer.declared.as_ref().filter(|_| entry.is_connected && !entry.is_draining);
            let takes = declared.is_some_and(|declared| {
                names.declaration(declared.declaration).takes(queue.task, &queue.kind)
            });
            if !bound_to.map_or(takes, |bound_to| bound_to == *session) {
                continue;
            }
            let (of_session, places) = if entry.kept_for.is_some() {
                // It gives no place to anything before all that it holds is over.
                (entry.held.values().take(HOLDERS_MAX).map(|held| held.token).collect(), 1)
            } else {
                let Window { jobs, concurrency, .. } = offer.window;
                let places = if bound_to.is_some() { concurrency } else { concurrency.min(jobs) };
                let places = usize::try_from(places).unwrap_or(usize::MAX);
                let running = runs(entry, elf, places).take(HOLDERS_MAX).map(|held| held.token);
                (running.collect::<BTreeSet<Token>>(), places)
            };
            n_holders += of_session.len();
            if places == 0 || of_session.len() < places || n_holders >= HOLDERS_MAX {
                return None;
            }
            holders.push(match entry.kept_for {
                Some(_) => Holders::All(of_session),
                None => Holders::One(of_session),
            });
        }
        (!holders.is_empty()).then_some(holders)
    }

    /// Whether a job is ready, or in the hands of a process that has not started it.
    pub(crate) fn waits(&self, slot: Slot) -> bool {
        match self.jobs[slot].state {
            State::Ready { .. } => true,
            State::Running { session, assign, .. } => {
                let entry = &self.sessions[session];
                let Some(held) = entry.held.get(&assign) else { return false };
                let offer = entry.offers.get(&held.elf);
                let places = offer.map_or(0, |offer| offer.window.concurrency);
                let places = usize::try_from(places).unwrap_or(usize::MAX);
                places > 0 && runs(entry, held.elf, places).all(|other| other.token != held.token)
            }
            State::Vacant
            | State::Unsealed { .. }
            | State::Pending { .. }
            | State::Evaluating { .. }
            | State::Gathering
            | State::UpstreamFailing => false,
        }
    }
}

/// What a session runs of an elf: what it tells to have started, or else as many as it has places, in the order in which they
/// were assigned.
fn runs(entry: &Session, elf: ElfIdx, places: usize) -> impl Iterator<Item = &Held> {
    let most = if entry.tells_starts { usize::MAX } else { places };
    let is_one = move |held: &&Held| held.elf == elf && (!entry.tells_starts || held.started.is_some());
    entry.held.values().filter(is_one).take(most)
}

#[cfg(test)]
mod tests;
