//! Sessions: who is there, what they offer and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::command::Window;
use crate::ids::{
    AssignNumber, Build, InstanceId, Revision, SecretDigest, SessionId, Steady, Timestamp, Token,
};
use crate::image::{Running, SessionRecord};
use crate::index::{Arena, ElfIdx, SessionIdx, Slot, of};
use crate::jobs::{FreeSlot, Jobs, Laden};

mod check;
mod drain;
mod offer;
mod pace;

pub(crate) use offer::{Declared, DeclaredTask, Offer};

mod isolation;

pub(crate) use isolation::KeptFor;

/// What is delayed is numbered from here, above all that is sent.
const DELAYED: AssignNumber = AssignNumber(1 << 63);

/// Whether its arguments take longer to compute, so that it has not been sent.
pub(crate) fn is_delayed(assign: AssignNumber) -> bool {
    assign >= DELAYED
}

/// A session that is alive, its stream open or not.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) instance: InstanceId,
    /// The program that it runs, by its latest `Hello`.
    pub(crate) build: Build,
    pub(crate) is_connected: bool,
    pub(crate) is_draining: bool,
    /// What a `Hello` has to show to resume it; `None` if it was opened without a secret.
    pub(crate) secret: Option<SecretDigest>,
    /// Whether it tells of the attempts that it starts. Not stored: until a `Hello` has said so it is taken not to.
    pub(crate) tells_starts: bool,
    /// Whether it gives back what is recalled. Not stored either.
    pub(crate) knows_recall: bool,
    /// Whether it knows what to do when it is told to drain. Not stored either.
    pub(crate) knows_drain: bool,
    /// When it is to have left, if somebody told it to drain.
    pub(crate) leaves_by: Option<Steady>,
    /// Whether its instance is known to have heard of it: it has said something since it was welcomed.
    pub(crate) is_known: bool,
    /// By elf. An elf that is no longer offered stays until nothing of it is held.
    pub(crate) offers: BTreeMap<ElfIdx, Offer>,
    pub(crate) held: BTreeMap<AssignNumber, Held>,
    /// Where to find the attempts that were cancelled in its hands: their jobs are gone.
    pub(crate) cancelled_in_flight: BTreeMap<Token, AssignNumber>,
    /// How many of the attempts held are of suspects.
    pub(crate) suspects: u32,
    /// The job that it is kept for: it is given nothing else.
    pub(crate) kept_for: Option<KeptFor>,
    pub(crate) last_assign: AssignNumber,
    /// Up to here assignments are known to have reached it, whatever its stream's numbers say: it has named those
    /// it holds in a `Hello` since.
    pub(crate) received: AssignNumber,
}

/// An attempt in an instance's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) elf: ElfIdx,
    /// The job; `None` if it was cancelled and the instance has not let go of it.
    pub(crate) job: Option<Slot>,
    pub(crate) revision: Revision,
    pub(crate) build: Build,
    pub(crate) since: Timestamp,
    /// When it was started, if it is known to have been.
    pub(crate) started: Option<Timestamp>,
    /// Whether the job is a suspect.
    pub(crate) is_suspect: bool,
    /// The job's priority.
    pub(crate) priority: i32,
    /// Whether it was recalled, and the instance has neither given it back nor started it, as far as is known.
    pub(crate) is_recalled: bool,
}

/// The sessions that are alive.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    arena: Arena<of::Session, Session>,
    by_id: BTreeMap<SessionId, SessionIdx>,
    /// The newest session of each instance. It may have older ones, which wait for whoever has their secret.
    by_instance: BTreeMap<InstanceId, SessionIdx>,
    /// Those that are kept for a job each.
    kept: BTreeSet<SessionIdx>,
    /// The newest number given out.
    last: SessionId,
}

impl std::ops::Index<SessionIdx> for Sessions {
    type Output = Session;

    fn index(&self, session: SessionIdx) -> &Session {
        &self.arena[session]
    }
}

impl Sessions {
    /// None yet; they are numbered on from `last`.
    pub(crate) fn after(last: SessionId) -> Self {
        Self { last, ..Self::default() }
    }

    /// The newest number given out.
    pub(crate) fn last(&self) -> SessionId {
        self.last
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<SessionIdx> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, session: SessionIdx) -> Option<&Session> {
        self.arena.get(session)
    }

    /// The newest session of an instance, if it is alive.
    pub(crate) fn newest_of(&self, instance: InstanceId) -> Option<SessionIdx> {
        self.by_instance.get(&instance).copied()
    }

    /// The session, if it is alive and this instance's, and the secret shown is the one it was opened with. One that was
    /// opened without one is resumed unless secrets are required.
    pub(crate) fn to_resume(
        &self,
        id: SessionId,
        instance: InstanceId,
        secret: Option<SecretDigest>,
        secrets_required: bool,
    ) -> Option<SessionIdx> {
        let session = self.find(id)?;
        let entry = &self.arena[session];
        let is_trusted = match entry.secret {
            Some(_) => entry.secret == secret,
            None => !secrets_required,
        };
        (entry.instance == instance && is_trusted).then_some(session)
    }

    /// All of them, oldest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_id.keys().copied()
    }

    /// The oldest that is younger than this one.
    pub(crate) fn next_after(&self, id: SessionId) -> Option<(SessionId, SessionIdx)> {
        let after = (Bound::Excluded(id), Bound::Unbounded);
        self.by_id.range(after).next().map(|(&id, &session)| (id, session))
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionIdx, &Session)> {
        self.arena.iter()
    }

    /// Who holds an attempt, as it is stored.
    pub(crate) fn running(&self, session: SessionIdx, assign: AssignNumber) -> Option<Running> {
        let entry = &self.arena[session];
        Some(entry.running(entry.held.get(&assign)?))
    }

    /// Opens a session.
    pub(crate) fn open(&mut self, instance: InstanceId, secret: Option<SecretDigest>) -> SessionIdx {
        self.last = SessionId(self.last.0 + 1);
        self.insert(&SessionRecord { id: self.last, instance, secret }, false)
    }

    /// Takes in a session.
    pub(crate) fn insert(&mut self, record: &SessionRecord, is_known: bool) -> SessionIdx {
        let &SessionRecord { id, instance, secret } = record;
        let session = self.arena.insert(Session { id, instance, secret, is_known, ..Session::default() });
        self.by_id.insert(id, session);
        self.by_instance.insert(instance, session);
        session
    }

    /// It is over; what it held must have been taken before. Nothing of what it offers is in use any more.
    pub(crate) fn remove(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        let Some(entry) = self.arena.remove(session) else { return };
        self.kept.remove(&session);
        self.by_id.remove(&entry.id);
        if self.by_instance.get(&entry.instance) == Some(&session) {
            self.by_instance.remove(&entry.instance);
        }
        for (elf, offer) in entry.offers {
            offer.declared.into_iter().for_each(|of| jobs.names_mut().unuse_declaration(of.declaration));
            jobs.names_mut().remove_session(elf, entry.id);
        }
    }

    /// The program that its instance runs.
    pub(crate) fn set_build(&mut self, session: SessionIdx, build: Build) {
        self.arena[session].build = build;
    }

    /// Its instance has heard of it.
    pub(crate) fn set_known(&mut self, session: SessionIdx) {
        self.arena[session].is_known = true;
    }

    /// Its stream was opened, or closed.
    pub(crate) fn set_connected(&mut self, jobs: &mut Jobs, session: SessionIdx, is_connected: bool) {
        let entry = &mut self.arena[session];
        entry.is_connected = is_connected;
        // Whoever opens a stream takes jobs, unless somebody told it to drain.
        entry.is_draining = entry.leaves_by.is_some() || (entry.is_draining && !is_connected);
        self.refresh_free_slots(jobs, session);
    }

    /// Whether it tells of the attempts that it starts, and gives back what is recalled.
    pub(crate) fn set_speaks(&mut self, session: SessionIdx, tells_starts: bool, knows_recall: bool) {
        let entry = &mut self.arena[session];
        entry.knows_recall = knows_recall;
        entry.tells_starts = tells_starts;
        for offer in entry.offers.values_mut() {
            offer.pace = tells_starts.then(|| offer.pace.unwrap_or_default());
        }
    }

    /// It takes no more jobs.
    pub(crate) fn set_draining(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        self.arena[session].is_draining = true;
        self.refresh_free_slots(jobs, session);
    }

    /// What it offers for an elf.
    pub(crate) fn set_offer(
        &mut self,
        jobs: &mut Jobs,
        session: SessionIdx,
        elf: ElfIdx,
        window: Window,
        declared: Declared,
    ) {
        let entry = &mut self.arena[session];
        let tells_starts = entry.tells_starts;
        let offer = entry.offers.entry(elf).or_default();
        offer.window = window;
        offer.pace = tells_starts.then(|| offer.pace.unwrap_or_default());
        let before = offer.declared.replace(declared);
        before.into_iter().for_each(|of| jobs.names_mut().unuse_declaration(of.declaration));
    }

    /// It offers an elf no more.
    pub(crate) fn withdraw_offer(&mut self, jobs: &mut Jobs, session: SessionIdx, elf: ElfIdx) {
        if let Some(offer) = self.arena[session].offers.get_mut(&elf) {
            offer.window.jobs = 0;
            let before = offer.declared.take();
            before.into_iter().for_each(|of| jobs.names_mut().unuse_declaration(of.declaration));
        }
        self.refresh_free_slot(jobs, session, elf);
        self.drop_offer_if_unused(jobs, session, elf);
    }

    /// How many jobs of an elf it will hold, if it offers it.
    pub(crate) fn set_window(&mut self, jobs: &mut Jobs, session: SessionIdx, elf: ElfIdx, window: Window) {
        let offer = self.arena[session].offers.get_mut(&elf).filter(|offer| offer.is_offered());
        if let Some(offer) = offer {
            offer.window = window;
            self.refresh_free_slot(jobs, session, elf);
        }
    }

    fn drop_offer_if_unused(&mut self, jobs: &mut Jobs, session: SessionIdx, elf: ElfIdx) {
        let entry = &mut self.arena[session];
        if entry.offers.get(&elf).is_some_and(|offer| !offer.is_offered() && offer.held == 0) {
            entry.offers.remove(&elf);
            jobs.names_mut().remove_session(elf, entry.id);
        }
    }

    fn refresh_free_slots(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        let elves: Vec<ElfIdx> = self.arena[session].offers.keys().copied().collect();
        elves.into_iter().for_each(|elf| self.refresh_free_slot(jobs, session, elf));
    }

    /// Sees to it that a session stands among those with free slots for an elf if, and only if, it could take a job of
    /// it.
    fn refresh_free_slot(&mut self, jobs: &mut Jobs, session: SessionIdx, elf: ElfIdx) {
        let entry = &mut self.arena[session];
        let is_open = entry.is_connected && !entry.is_draining && entry.is_kept_free_for(elf);
        let Some(offer) = entry.offers.get_mut(&elf) else { return };
        let has_free = is_open && offer.is_offered() && offer.held < offer.limit();
        let (is_busy, held) = (offer.is_busy(), offer.held);
        let free = has_free.then_some(FreeSlot { is_busy, held, id: entry.id, session });
        let before = std::mem::replace(&mut offer.free_slot, free);
        let laden = offer.waiting().filter(|_| is_open && entry.knows_recall);
        let laden = laden.map(|waiting| Laden { waiting, id: entry.id, session });
        let laden_before = std::mem::replace(&mut offer.laden, laden);
        jobs.names_mut().set_free_slot(elf, before, free);
        jobs.names_mut().set_laden(elf, laden_before, laden);
    }
}

/// What they hold.
impl Sessions {
    /// The number that its next assignment gets.
    pub(crate) fn next_assign(&self, session: SessionIdx) -> AssignNumber {
        AssignNumber(self.arena[session].last_assign.0 + 1)
    }

    /// It holds one more attempt. Returns the number of the assignment.
    pub(crate) fn hold(&mut self, jobs: &mut Jobs, session: SessionIdx, held: Held) -> AssignNumber {
        let assign = self.take_assign(session);
        let elf = held.elf;
        let entry = &mut self.arena[session];
        entry.held.insert(assign, held);
        entry.suspects += u32::from(held.is_suspect);
        entry.offers.entry(elf).or_default().held += 1;
        self.refresh_free_slot(jobs, session, elf);
        assign
    }

    /// An attempt was started then, as far as is known. Says whether that is news.
    pub(crate) fn set_started(
        &mut self,
        jobs: &mut Jobs,
        session: SessionIdx,
        assign: AssignNumber,
        at: Timestamp,
    ) -> bool {
        self.set_recalled(jobs, session, assign, false);
        let Some(held) = self.arena[session].held.get_mut(&assign) else { return false };
        let is_news = held.started.is_none();
        held.started.get_or_insert(at.max(held.since));
        is_news
    }

    /// Whether an attempt is recalled has changed.
    pub(crate) fn set_recalled(
        &mut self,
        jobs: &mut Jobs,
        session: SessionIdx,
        assign: AssignNumber,
        is_recalled: bool,
    ) {
        let entry = &mut self.arena[session];
        let Some(held) = entry.held.get_mut(&assign) else { return };
        if std::mem::replace(&mut held.is_recalled, is_recalled) == is_recalled {
            return;
        }
        let elf = held.elf;
        if let Some(offer) = entry.offers.get_mut(&elf) {
            offer.recalled = offer.recalled - u32::from(!is_recalled) + u32::from(is_recalled);
        }
        jobs.names_mut().count_recalled(elf, is_recalled);
        self.refresh_free_slot(jobs, session, elf);
    }

    /// An attempt has ended that ran for so long.
    pub(crate) fn note_ran(&mut self, session: SessionIdx, assign: AssignNumber, ran: Duration) {
        let entry = &mut self.arena[session];
        let elf = entry.held.get(&assign).map(|held| held.elf);
        let pace = elf.and_then(|elf| entry.offers.get_mut(&elf)?.pace.as_mut());
        pace.into_iter().for_each(|pace| pace.note(ran));
    }

    /// What was noted of it is all there is for now: what it is given is adapted to that.
    pub(crate) fn adapt(&mut self, jobs: &mut Jobs, session: SessionIdx) {
        let noted = |(&elf, offer): (&ElfIdx, &mut Offer)| {
            let concurrency = offer.window.concurrency;
            offer.pace.as_mut().is_some_and(|pace| pace.adapt(concurrency)).then_some(elf)
        };
        let adapted: Vec<ElfIdx> = self.arena[session].offers.iter_mut().filter_map(noted).collect();
        adapted.into_iter().for_each(|elf| self.refresh_free_slot(jobs, session, elf));
    }

    /// Frees the slot of an attempt in the session's window.
    pub(crate) fn release(
        &mut self,
        jobs: &mut Jobs,
        session: SessionIdx,
        assign: AssignNumber,
    ) -> Option<Held> {
        let is_recalled = self.arena[session].held.get(&assign)?.is_recalled;
        self.set_recalled(jobs, session, assign, false);
        let entry = &mut self.arena[session];
        let held = Held { is_recalled, ..entry.held.remove(&assign)? };
        if held.job.is_none() {
            entry.cancelled_in_flight.remove(&held.token);
        }
        entry.suspects -= u32::from(held.is_suspect);
        if let Some(offer) = entry.offers.get_mut(&held.elf) {
            offer.held -= 1;
        }
        let kept_for = entry.kept_for.map(|kept| kept.elf).filter(|elf| *elf != held.elf);
        self.refresh_free_slot(jobs, session, held.elf);
        kept_for.into_iter().for_each(|elf| self.refresh_free_slot(jobs, session, elf));
        self.drop_offer_if_unused(jobs, session, held.elf);
        Some(held)
    }

    /// The job of an attempt is cancelled in its hands: it keeps the slot until it lets go of it.
    pub(crate) fn cancel_in_flight(
        &mut self,
        jobs: &mut Jobs,
        session: SessionIdx,
        assign: AssignNumber,
    ) -> Option<Token> {
        self.set_recalled(jobs, session, assign, false);
        let entry = &mut self.arena[session];
        let held = entry.held.get_mut(&assign)?;
        held.job = None;
        entry.cancelled_in_flight.insert(held.token, assign);
        Some(held.token)
    }

    /// The session is over: takes all that it holds.
    pub(crate) fn take_held(&mut self, jobs: &mut Jobs, session: SessionIdx) -> BTreeMap<AssignNumber, Held> {
        let recalled = self.arena[session].held.iter().filter(|(_, held)| held.is_recalled);
        let recalled: Vec<AssignNumber> = recalled.map(|(&assign, _)| assign).collect();
        recalled.into_iter().for_each(|assign| self.set_recalled(jobs, session, assign, false));
        let entry = &mut self.arena[session];
        entry.cancelled_in_flight.clear();
        entry.suspects = 0;
        std::mem::take(&mut entry.held)
    }

    /// Assignments are known to have reached it up to here. Returns up to where they are known to have.
    pub(crate) fn set_received(&mut self, session: SessionIdx, upto: AssignNumber) -> AssignNumber {
        let entry = &mut self.arena[session];
        entry.received = entry.received.max(upto.min(entry.last_assign));
        entry.received
    }

    /// What it holds by assignments after this one.
    pub(crate) fn held_after(&self, session: SessionIdx, after: AssignNumber) -> Vec<AssignNumber> {
        let after = (Bound::Excluded(after), Bound::Unbounded);
        self.arena[session].held.range(after).map(|(&assign, _)| assign).collect()
    }

    /// An attempt is not sent yet: its arguments take longer. Returns the number that it has until it is.
    pub(crate) fn delay(&mut self, session: SessionIdx, assign: AssignNumber) -> AssignNumber {
        let held = &self.arena[session].held;
        let last = held.last_key_value().map_or(DELAYED, |(&last, _)| last.max(DELAYED));
        let number = AssignNumber(last.0 + 1);
        self.renumber(session, assign, number);
        number
    }

    /// An attempt that was delayed is sent after all. Returns the number of the assignment.
    pub(crate) fn undelay(&mut self, session: SessionIdx, assign: AssignNumber) -> AssignNumber {
        let number = self.take_assign(session);
        self.renumber(session, assign, number);
        number
    }

    fn take_assign(&mut self, session: SessionIdx) -> AssignNumber {
        let number = self.next_assign(session);
        self.arena[session].last_assign = number;
        number
    }

    fn renumber(&mut self, session: SessionIdx, from: AssignNumber, to: AssignNumber) {
        let entry = &mut self.arena[session];
        if let Some(held) = entry.held.remove(&from) {
            entry.held.insert(to, held);
        }
    }
}

impl Session {
    /// Whether it may be given a job of this elf, as far as that hangs on what it is kept for.
    fn is_kept_free_for(&self, elf: ElfIdx) -> bool {
        self.kept_for.is_none_or(|kept| kept.elf == elf && self.held.is_empty())
    }

    /// Whether an attempt that it holds is recalled.
    pub(crate) fn is_recalled(&self, assign: AssignNumber) -> bool {
        self.held.get(&assign).is_some_and(|held| held.is_recalled)
    }

    /// Who holds an attempt that it holds, as it is stored.
    pub(crate) fn running(&self, held: &Held) -> Running {
        let (session, instance) = (self.id, self.instance);
        let Held { revision, build, since, started, .. } = *held;
        Running { session, instance, revision, build, since, started }
    }
}
