//! Sessions: who is there, what they offer and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::arena::Arena;
use crate::aside::is_aside;
use crate::command::{ElfOffer, Hello, Window};
use crate::core::Core;
use crate::effects::{Effects, End, FailedBy, Ran, Reply, Send};
use crate::ids::{
    AssignNumber, Attempt, Clocks, InstanceId, Revision, SecretDigest, SessionId, Steady, Timestamp, Token,
};
use crate::image::SessionRecord;
use crate::names::Room;
use crate::slab::{Slot, State};
use crate::transitions::Ending;

/// A session that is alive, its stream open or not.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) instance: InstanceId,
    pub(crate) is_connected: bool,
    pub(crate) is_draining: bool,
    /// What a `Hello` has to show to resume it; `None` if it was opened without a secret.
    pub(crate) secret: Option<SecretDigest>,
    /// Whether its instance is known to have heard of it: it has said something since it was welcomed.
    pub(crate) is_known: bool,
    pub(crate) lease_until: Steady,
    /// By elf. An elf that is no longer offered stays until nothing of it is held.
    pub(crate) offers: BTreeMap<u32, Offer>,
    pub(crate) held: BTreeMap<AssignNumber, Held>,
    /// Where to find the attempts that were cancelled in its hands: their jobs are gone.
    pub(crate) zombies: BTreeMap<Token, AssignNumber>,
    pub(crate) last_assign: AssignNumber,
    /// Up to here assignments are known to have reached it, whatever its stream's numbers say: it has named those
    /// it holds in a `Hello` since.
    pub(crate) received: AssignNumber,
}

/// What a session offers for one elf.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    pub(crate) is_offered: bool,
    pub(crate) tasks: BTreeMap<u32, Revision>,
    pub(crate) window: Window,
    /// How many attempts of it the instance holds, cancelled ones included.
    pub(crate) held: u32,
    /// How it stands among the elf's rooms, if it does.
    pub(crate) room: Option<Room>,
}

/// An attempt in an instance's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) elf: u32,
    /// The job; `None` if it was cancelled and the instance has not let go of it.
    pub(crate) job: Option<Slot>,
    pub(crate) revision: Revision,
    pub(crate) since: Timestamp,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// Its lease ran out, or its instance has opened another: what it had started may have been its end.
    Lost,
    /// It said goodbye.
    Goodbye,
}

/// The sessions that are alive.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) arena: Arena<Session>,
    pub(crate) by_id: BTreeMap<SessionId, u32>,
    /// The newest session of each instance. It may have older ones, which wait for whoever has their secret.
    pub(crate) by_instance: BTreeMap<InstanceId, u32>,
    pub(crate) leases: BTreeSet<(Steady, u32)>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            arena: Arena::new(),
            by_id: BTreeMap::new(),
            by_instance: BTreeMap::new(),
            leases: BTreeSet::new(),
        }
    }

    pub(crate) fn insert(&mut self, record: &SessionRecord, is_known: bool, lease_until: Steady) -> u32 {
        let &SessionRecord { id, instance, secret } = record;
        let session = self.arena.insert(Session {
            id,
            instance,
            is_connected: false,
            is_draining: false,
            secret,
            is_known,
            lease_until,
            offers: BTreeMap::new(),
            held: BTreeMap::new(),
            zombies: BTreeMap::new(),
            last_assign: AssignNumber(0),
            received: AssignNumber(0),
        });
        self.by_id.insert(id, session);
        self.by_instance.insert(instance, session);
        self.leases.insert((lease_until, session));
        session
    }
}

impl Core {
    /// The session, its lease renewed: it has given a sign of life.
    pub(crate) fn session_alive(&mut self, now: Clocks, id: SessionId) -> Option<u32> {
        let session = *self.sessions.by_id.get(&id)?;
        self.renew_lease(now, session);
        self.sessions.arena[session].is_known = true;
        Some(session)
    }

    /// Its words are on their way, and will say themselves what they are.
    pub(crate) fn on_heard(&mut self, now: Clocks, id: SessionId) {
        if let Some(&session) = self.sessions.by_id.get(&id) {
            self.renew_lease(now, session);
        }
    }

    /// The session that a `Hello` would resume if it were applied now.
    pub fn resumes(&self, hello: &Hello) -> Option<SessionId> {
        hello.resume.filter(|&id| self.session_to_resume(id, hello.instance, hello.secret).is_some())
    }

    fn renew_lease(&mut self, now: Clocks, session: u32) {
        let entry = &mut self.sessions.arena[session];
        let until = now.steady.after(self.config.lease);
        self.sessions.leases.remove(&(entry.lease_until, session));
        entry.lease_until = until;
        self.sessions.leases.insert((until, session));
    }

    pub(crate) fn on_hello(&mut self, now: Clocks, hello: Hello, effects: &mut Effects) {
        let Hello { request, instance, resume, secret, secret_new, elves, held } = hello;
        self.batch.must_commit = true;
        let resumed = resume.and_then(|id| self.session_to_resume(id, instance, secret));
        let (session, keep) = match resumed {
            Some(session) => {
                self.renew_lease(now, session);
                self.sessions.arena[session].is_known = true;
                // What was put together for the stream before goes back, and must not reach this one.
                let id = self.sessions.arena[session].id;
                effects.sends.retain(|sent| !matches!(sent, Send::Ready { session, .. } if *session == id));
                (session, self.reconcile_held(now, session, &held))
            }
            None => (self.open_session(now, instance, secret_new, effects), Vec::new()),
        };
        self.set_offers(session, elves);
        let entry = &mut self.sessions.arena[session];
        entry.is_connected = true;
        entry.is_draining = false;
        let id = entry.id;
        self.refresh_rooms(session);
        let reply = Reply::Welcome { session: id, resumed: resumed.is_some(), keep };
        effects.replies.push((request, Ok(reply)));
    }

    /// The session, if it is alive and this instance's, and the secret shown is the one it was opened with.
    fn session_to_resume(
        &self,
        id: SessionId,
        instance: InstanceId,
        secret: Option<SecretDigest>,
    ) -> Option<u32> {
        let session = *self.sessions.by_id.get(&id)?;
        let entry = &self.sessions.arena[session];
        let is_trusted = match entry.secret {
            Some(_) => entry.secret == secret,
            None => !self.config.secrets_required,
        };
        (entry.instance == instance && is_trusted).then_some(session)
    }

    fn open_session(
        &mut self,
        now: Clocks,
        instance: InstanceId,
        secret: Option<SecretDigest>,
        effects: &mut Effects,
    ) -> u32 {
        // Whoever does not show its secret does not end a session either. But if the stream of its instance is gone, and
        // nothing was heard on it after the welcome, that may have been lost, and the secret with it.
        if let Some(&old) = self.sessions.by_instance.get(&instance) {
            let Session { secret, is_known, is_connected, .. } = &self.sessions.arena[old];
            if secret.is_none() || !(*is_known || *is_connected) {
                self.end_session(now, old, SessionEnd::Lost, effects);
            }
        }
        let id = SessionId(self.counters.session.0 + 1);
        self.counters.session = id;
        let record = SessionRecord { id, instance, secret };
        let session = self.sessions.insert(&record, false, now.steady.after(self.config.lease));
        self.batch.sessions_opened.push(record);
        session
    }

    /// An instance has come back and named what it holds: the rest has been lost on the way. Returns what it is to go
    /// on with.
    fn reconcile_held(&mut self, now: Clocks, session: u32, named: &[Token]) -> Vec<Token> {
        let named: BTreeSet<Token> = named.iter().copied().collect();
        let entry = &mut self.sessions.arena[session];
        // What it does not go on with it drops without a report, cancelled attempts included.
        let gone: Vec<AssignNumber> = entry
            .held
            .iter()
            .filter(|(_, held)| held.job.is_none() || !named.contains(&held.token))
            .map(|(&assign, _)| assign)
            .collect();
        entry.received = entry.last_assign;
        for assign in gone {
            self.give_back(now, session, assign);
        }
        let kept: BTreeSet<Token> =
            self.sessions.arena[session].held.values().map(|held| held.token).collect();
        named.intersection(&kept).copied().collect()
    }

    /// An instance no longer holds an attempt: its job, if there is one, returns to its place in the queue.
    pub(crate) fn give_back(&mut self, now: Clocks, session: u32, assign: AssignNumber) {
        if let Some(held) = self.free_held(session, assign)
            && let Some(slot) = held.job
        {
            self.hand_back(now, slot);
        }
    }

    /// The job of an elf that is lost returns to its place in the queue.
    fn return_job(&mut self, slot: Slot) {
        self.touch_record(slot);
        self.set_state(slot, State::Ready { queued: true });
    }

    /// Frees the place of an attempt in its session's window.
    pub(crate) fn free_held(&mut self, session: u32, assign: AssignNumber) -> Option<Held> {
        let entry = &mut self.sessions.arena[session];
        let held = entry.held.remove(&assign)?;
        if held.job.is_none() {
            entry.zombies.remove(&held.token);
        }
        if let Some(offer) = entry.offers.get_mut(&held.elf) {
            offer.held -= 1;
        }
        self.refresh_room(session, held.elf);
        self.drop_offer_if_unused(session, held.elf);
        Some(held)
    }

    fn set_offers(&mut self, session: u32, elves: Vec<ElfOffer>) {
        let id = self.sessions.arena[session].id;
        let mut unused: BTreeSet<u32> = self.sessions.arena[session].offers.keys().copied().collect();
        for offer in elves {
            let elf = self.names.intern_elf(&offer.elf);
            unused.remove(&elf);
            self.names.elves[elf].sessions.insert(id, session);
            let mut tasks = BTreeMap::new();
            for (name, revision) in &offer.tasks {
                let task = self.names.use_task(elf, name);
                if tasks.insert(task, *revision).is_some() {
                    self.names.unuse_task(task);
                }
            }
            let entry = self.sessions.arena[session].offers.entry(elf).or_default();
            entry.is_offered = true;
            entry.window = offer.window;
            let before = std::mem::replace(&mut entry.tasks, tasks);
            before.into_keys().for_each(|task| self.names.unuse_task(task));
        }
        for elf in unused {
            let tasks = match self.sessions.arena[session].offers.get_mut(&elf) {
                Some(offer) => {
                    offer.is_offered = false;
                    offer.window.jobs = 0;
                    std::mem::take(&mut offer.tasks)
                }
                None => BTreeMap::new(),
            };
            tasks.into_keys().for_each(|task| self.names.unuse_task(task));
            self.refresh_room(session, elf);
            self.drop_offer_if_unused(session, elf);
        }
    }

    fn drop_offer_if_unused(&mut self, session: u32, elf: u32) {
        let entry = &mut self.sessions.arena[session];
        if entry.offers.get(&elf).is_some_and(|offer| !offer.is_offered && offer.held == 0) {
            entry.offers.remove(&elf);
            self.names.elves[elf].sessions.remove(&entry.id);
            self.names.drop_elf_if_unused(elf);
        }
    }

    pub(crate) fn refresh_rooms(&mut self, session: u32) {
        let elves: Vec<u32> = self.sessions.arena[session].offers.keys().copied().collect();
        elves.into_iter().for_each(|elf| self.refresh_room(session, elf));
    }

    /// Sees to it that a session stands among the rooms of an elf if, and only if, it could take a job of it.
    pub(crate) fn refresh_room(&mut self, session: u32, elf: u32) {
        let entry = &mut self.sessions.arena[session];
        let is_open = entry.is_connected && !entry.is_draining;
        let Some(offer) = entry.offers.get_mut(&elf) else { return };
        let room = (is_open && offer.is_offered && offer.held < offer.window.jobs).then_some(Room {
            held: offer.held,
            id: entry.id,
            session,
        });
        let before = std::mem::replace(&mut offer.room, room);
        let elf_entry = &mut self.names.elves[elf];
        if let Some(before) = before {
            elf_entry.rooms.remove(&before);
        }
        if let Some(room) = room {
            elf_entry.rooms.insert(room);
            if !elf_entry.heads.is_empty() {
                self.dirty.insert(elf);
            }
        }
    }

    pub(crate) fn on_stream_closed(&mut self, now: Clocks, id: SessionId) {
        if let Some(&session) = self.sessions.by_id.get(&id) {
            self.renew_lease(now, session);
            self.sessions.arena[session].is_connected = false;
            self.refresh_rooms(session);
        }
    }

    pub(crate) fn on_set_window(&mut self, now: Clocks, id: SessionId, elf: &Arc<str>, window: Window) {
        let Some(session) = self.session_alive(now, id) else { return };
        let Some(elf) = self.names.find_elf(elf) else { return };
        let offer = self.sessions.arena[session].offers.get_mut(&elf).filter(|offer| offer.is_offered);
        if let Some(offer) = offer {
            offer.window = window;
            self.refresh_room(session, elf);
        }
    }

    pub(crate) fn on_draining(&mut self, now: Clocks, id: SessionId) {
        if let Some(session) = self.session_alive(now, id) {
            self.sessions.arena[session].is_draining = true;
            self.refresh_rooms(session);
        }
    }

    pub(crate) fn on_goodbye(&mut self, now: Clocks, id: SessionId, effects: &mut Effects) {
        if let Some(session) = self.session_alive(now, id) {
            self.end_session(now, session, SessionEnd::Goodbye, effects);
        }
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        now: Clocks,
        id: SessionId,
        named: &[Token],
        received: AssignNumber,
        effects: &mut Effects,
    ) {
        let Some(session) = self.session_alive(now, id) else {
            effects.sends.push(Send::SessionOver { session: id });
            return;
        };
        let listed: BTreeSet<Token> = named.iter().copied().collect();
        let entry = &mut self.sessions.arena[session];
        entry.received = entry.received.max(received.min(entry.last_assign));
        let received = entry.received;
        let mut unknown = listed.clone();
        let mut gone = Vec::new();
        for (&assign, held) in &entry.held {
            // A cancelled attempt is named as unknown again and again: the message that cancelled it may be lost.
            if held.job.is_some() {
                unknown.remove(&held.token);
            }
            if assign <= received && !listed.contains(&held.token) {
                gone.push(assign);
            }
        }
        gone.into_iter().for_each(|assign| self.give_back(now, session, assign));
        let unknown = unknown.into_iter().collect();
        effects.sends.push(Send::HeartbeatAck { session: id, unknown });
    }

    /// Ends a session: what it holds returns to its place, or ends if it has been the end of too many elves.
    pub(crate) fn end_session(&mut self, now: Clocks, session: u32, how: SessionEnd, effects: &mut Effects) {
        self.sessions.arena[session].is_connected = false;
        self.refresh_rooms(session);

        let entry = &mut self.sessions.arena[session];
        let (id, instance) = (entry.id, entry.instance);
        entry.zombies.clear();
        let mut held_before: BTreeMap<u32, u32> = BTreeMap::new();
        for (assign, held) in std::mem::take(&mut entry.held) {
            let before = held_before.entry(held.elf).or_default();
            let concurrency = self.sessions.arena[session]
                .offers
                .get(&held.elf)
                .map_or(0, |offer| offer.window.concurrency);
            let may_have_started = !is_aside(assign) && (concurrency == 0 || *before < concurrency);
            *before += 1;
            let Some(slot) = held.job else { continue };
            match how {
                SessionEnd::Lost if may_have_started => {
                    let ran = Ran { instance, revision: held.revision, since: held.since };
                    self.elf_lost(now, slot, ran);
                }
                SessionEnd::Lost => self.return_job(slot),
                SessionEnd::Goodbye => self.hand_back(now, slot),
            }
        }

        if let Some(entry) = self.sessions.arena.remove(session) {
            self.sessions.by_id.remove(&id);
            if self.sessions.by_instance.get(&instance) == Some(&session) {
                self.sessions.by_instance.remove(&instance);
            }
            self.sessions.leases.remove(&(entry.lease_until, session));
            for (elf, offer) in entry.offers {
                offer.tasks.into_keys().for_each(|task| self.names.unuse_task(task));
                self.names.elves[elf].sessions.remove(&id);
                self.names.drop_elf_if_unused(elf);
            }
        }
        self.batch.cancels.remove(&id);
        self.batch.sessions_ended.push(id);
        effects.sends.push(Send::SessionOver { session: id });
    }

    fn elf_lost(&mut self, now: Clocks, slot: Slot, ran: Ran) {
        let job = &mut self.slab[slot];
        job.elves_lost += 1;
        let elves_lost = job.elves_lost;
        if elves_lost >= self.config.elves_lost_max {
            let end = End::Failed(FailedBy::ElvesLost(elves_lost));
            self.finish(now, slot, Ending::unreported(end, Some(ran)));
        } else {
            self.return_job(slot);
        }
    }

    /// The sessions whose lease the next [`finish_batch`](Self::finish_batch) at `now` ends, unless it is renewed before.
    pub fn leases_over(&self, now: Clocks) -> Vec<SessionId> {
        let now = self.attended(now);
        let over = self.sessions.leases.iter().take_while(|(until, _)| *until <= now.steady);
        over.map(|&(_, session)| self.sessions.arena[session].id).collect()
    }

    /// Ends the sessions whose lease has run out.
    pub(crate) fn expire_leases(&mut self, now: Clocks, effects: &mut Effects) {
        while let Some(&(until, session)) = self.sessions.leases.first()
            && until <= now.steady
        {
            self.end_session(now, session, SessionEnd::Lost, effects);
        }
    }

    /// The attempt a session holds, if it does: its job runs there now under that number.
    pub(crate) fn held_by(&self, session: u32, token: Token) -> Option<(Slot, AssignNumber)> {
        let slot = self.slab.find(&token.job)?;
        let job = &self.slab[slot];
        let State::Running { session: holder, assign } = job.state else { return None };
        #[cfg(feature = "planted-bugs")]
        if self.config.leaves_out(crate::config::PlantedBug::OutcomeNotFenced) {
            return (holder == session).then_some((slot, assign));
        }
        (holder == session && job.attempt == token.attempt && token.attempt > Attempt(0))
            .then_some((slot, assign))
    }
}

#[cfg(test)]
mod tests;
