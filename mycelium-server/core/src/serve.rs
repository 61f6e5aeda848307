//! What instances say, and what becomes of the jobs that they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{ElfOffer, Hello, Window};
#[cfg(feature = "planted-bugs")]
use crate::config::PlantedBug;
use crate::effects::{Effects, Reply, Send};
use crate::graph::Graph;
use crate::ids::{AssignNumber, Clocks, InstanceId, JobId, SecretDigest, SessionId, Token};
use crate::image::{AttemptEnd, SessionRecord};
use crate::index::{ElfIdx, SessionIdx, Slot};
use crate::outbox::Outbox;
use crate::sessions::{Declared, DeclaredTask, Held, Session, Sessions};
use crate::suspicion::Loss;
use crate::timers::TimerKey;

mod closed;
mod delayed;
mod drain;
mod isolate;
mod outcomes;
mod overrun;
mod place;
mod recall;
mod starts;
mod unfit;

pub(crate) use place::choose;

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// Its lease ran out, or its instance has opened another: what it had started may have been its end.
    Lost,
    /// It said goodbye.
    Goodbye,
}

/// Serves the instances.
pub(crate) struct Serving<'a> {
    pub(crate) graph: Graph<'a>,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) outbox: &'a mut Outbox,
    /// How many outcomes were refused as stale.
    pub(crate) outcomes_stale: &'a mut u64,
}

impl Serving<'_> {
    /// The session, its lease renewed: it has given a sign of life.
    fn alive(&mut self, now: Clocks, id: SessionId) -> Option<SessionIdx> {
        let session = self.sessions.find(id)?;
        self.renew_lease(now, session);
        self.sessions.set_known(session);
        Some(session)
    }

    /// A message of it has arrived at the shell, and will be applied by a command of its own.
    pub(crate) fn on_heard(&mut self, now: Clocks, id: SessionId) {
        if let Some(session) = self.sessions.find(id) {
            self.renew_lease(now, session);
        }
    }

    fn renew_lease(&mut self, now: Clocks, session: SessionIdx) {
        let until = now.steady.after(self.graph.config.lease);
        self.graph.timers.set(TimerKey::Lease(session), until);
    }

    pub(crate) fn on_hello(&mut self, now: Clocks, hello: Hello, effects: &mut Effects) {
        let Hello {
            request,
            instance,
            build,
            resume,
            secret,
            secret_new,
            elves,
            held,
            tells_starts,
            knows_recall,
            knows_drain,
            needs_secret,
        } = hello;
        #[cfg(feature = "planted-bugs")]
        let knows_recall = knows_recall || self.graph.config.leaves_out(PlantedBug::RecallNotAsked);
        self.outbox.require_commit();
        let required = self.graph.config.secrets_required || needs_secret;
        let resumed = resume.and_then(|id| self.sessions.to_resume(id, instance, secret, required));
        let (session, keep) = match resumed {
            Some(session) => {
                self.renew_lease(now, session);
                self.forget_unconfirmed(session);
                self.sessions.set_known(session);
                // What was assembled for the stream before goes back, and must not reach this one.
                let id = self.sessions[session].id;
                effects.sends.retain(|sent| !matches!(sent, Send::Ready { session, .. } if *session == id));
                (session, self.reconcile_held(now, session, &held, &elves))
            }
            None => (self.open_session(now, instance, secret_new, effects), Vec::new()),
        };
        self.set_speaks(session, tells_starts, knows_recall);
        self.sessions.set_knows_drain(session, knows_drain);
        self.sessions.set_build(session, build);
        self.set_offers(session, elves);
        self.time_runs(now, session);
        self.sessions.set_connected(self.graph.jobs, session, true);
        self.recall_paused(now, session);
        self.tell_to_drain(now, session, effects);
        let session = self.sessions[session].id;
        let reply = Reply::Welcome { session, resumed: resumed.is_some(), keep };
        effects.replies.push((request, Ok(reply)));
    }

    fn open_session(
        &mut self,
        now: Clocks,
        instance: InstanceId,
        secret: Option<SecretDigest>,
        effects: &mut Effects,
    ) -> SessionIdx {
        // Whoever does not show its secret does not end a session either. But if the stream of its instance is gone, and
        // nothing was heard on it after the welcome, that may have been lost, and the secret with it.
        if let Some(old) = self.sessions.newest_of(instance) {
            let Session { secret, is_known, is_connected, .. } = &self.sessions[old];
            if secret.is_none() || !(*is_known || *is_connected) {
                self.end_session(now, old, SessionEnd::Lost, effects);
            }
        }
        let session = self.sessions.open(instance, secret);
        self.renew_lease(now, session);
        self.outbox.session_opened(SessionRecord { id: self.sessions[session].id, instance, secret });
        session
    }

    /// An instance has come back and named what it holds: the rest has been lost on the way. Of elves that it does not offer
    /// any more it holds nothing: it may not be allowed to speak for them. Returns what it is to go on with.
    fn reconcile_held(
        &mut self,
        now: Clocks,
        session: SessionIdx,
        named: &[Token],
        offers: &[ElfOffer],
    ) -> Vec<Token> {
        let named: BTreeSet<Token> = named.iter().copied().collect();
        let names = self.graph.jobs.names();
        let offered: BTreeSet<ElfIdx> =
            offers.iter().filter_map(|offer| names.find_elf(&offer.elf)).collect();
        let entry = &self.sessions[session];
        // What it does not go on with it drops without a report, cancelled attempts included.
        let gone: Vec<AssignNumber> = entry
            .held
            .iter()
            .filter(|(_, held)| {
                held.job.is_none() || !named.contains(&held.token) || !offered.contains(&held.elf)
            })
            .map(|(&assign, _)| assign)
            .collect();
        self.sessions.set_received(session, entry.last_assign);
        for assign in gone {
            self.give_back(now, session, assign, AttemptEnd::NotHeld);
        }
        let kept: BTreeSet<Token> = self.sessions[session].held.values().map(|held| held.token).collect();
        named.intersection(&kept).copied().collect()
    }

    /// An instance no longer holds an attempt: its job, if there is one, returns to its place in the queue.
    fn give_back(&mut self, now: Clocks, session: SessionIdx, assign: AssignNumber, how: AttemptEnd) {
        if let Some(held) = self.release(session, assign)
            && let Some(slot) = held.job
        {
            let held = self.sessions[session].running(&held);
            self.graph.hand_back(now, slot, held, how);
        }
    }

    /// Frees the slot of an attempt in its session's window.
    fn release(&mut self, session: SessionIdx, assign: AssignNumber) -> Option<Held> {
        self.sessions.release(self.graph.jobs, session, assign)
    }

    fn set_offers(&mut self, session: SessionIdx, elves: Vec<ElfOffer>) {
        let id = self.sessions[session].id;
        let jobs = &mut *self.graph.jobs;
        let mut unused: BTreeSet<ElfIdx> = self.sessions[session].offers.keys().copied().collect();
        for offer in elves {
            let elf = jobs.serve(&offer.elf, id, session);
            unused.remove(&elf);
            let (declaration, tasks) = jobs.names_mut().use_declaration(elf, &offer.tasks);
            let of_tasks = offer
                .tasks
                .into_iter()
                .map(|offer| DeclaredTask { revision: offer.revision, policy: offer.policy });
            let declared = Declared { declaration, tasks: tasks.into_iter().zip(of_tasks).collect() };
            let window = offer.window;
            #[cfg(feature = "planted-bugs")]
            let window = window.as_if(self.graph.config);
            self.sessions.set_offer(jobs, session, elf, window, declared);
        }
        unused.into_iter().for_each(|elf| self.sessions.withdraw_offer(jobs, session, elf));
    }

    pub(crate) fn on_set_window(&mut self, now: Clocks, id: SessionId, elf: &Arc<str>, window: Window) {
        let Some(session) = self.alive(now, id) else { return };
        if let Some(elf) = self.graph.jobs.names().find_elf(elf) {
            self.sessions.set_window(self.graph.jobs, session, elf, window);
        }
    }

    pub(crate) fn on_draining(&mut self, now: Clocks, id: SessionId) {
        if let Some(session) = self.alive(now, id) {
            self.sessions.set_draining(self.graph.jobs, session);
        }
    }

    pub(crate) fn on_goodbye(&mut self, now: Clocks, id: SessionId, effects: &mut Effects) {
        if let Some(session) = self.alive(now, id) {
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
        let Some(session) = self.alive(now, id) else {
            effects.sends.push(Send::SessionOver { session: id });
            return;
        };
        let listed: BTreeSet<Token> = named.iter().copied().collect();
        let received = self.sessions.set_received(session, received);
        let mut unknown = listed.clone();
        let mut gone = Vec::new();
        for (&assign, held) in &self.sessions[session].held {
            // A cancelled attempt is named as unknown again and again: the message that cancelled it may be lost.
            if held.job.is_some() {
                unknown.remove(&held.token);
            }
            if assign <= received && !listed.contains(&held.token) {
                gone.push(assign);
            }
        }
        gone.into_iter().for_each(|assign| self.give_back(now, session, assign, AttemptEnd::NotHeld));
        self.end_silent(now, session);
        let unknown = unknown.into_iter().collect();
        effects.sends.push(Send::HeartbeatAck { session: id, unknown });
    }

    /// Ends a session: what it holds returns to its place, or ends if it has been the end of too many elves.
    pub(crate) fn end_session(
        &mut self,
        now: Clocks,
        session: SessionIdx,
        how: SessionEnd,
        effects: &mut Effects,
    ) {
        // It has no free slots from now on.
        self.sessions.set_connected(self.graph.jobs, session, false);
        self.graph.timers.cancel(TimerKey::Lease(session));
        self.graph.timers.cancel(TimerKey::Unconfirmed(session));
        let started = self.may_have_started(session);
        let all = self.sessions.take_held(self.graph.jobs, session);
        let is_alone = all.len() == 1;
        let of_started = all.iter().filter(|(assign, held)| started.contains(assign) && held.job.is_some());
        let started_jobs: Vec<JobId> = of_started.map(|(_, held)| held.token.job).collect();
        for (assign, held) in all {
            let may_have_started = started.contains(&assign);
            let Some(slot) = held.job else { continue };
            let entry = &self.sessions[session];
            let mut held = entry.running(&held);
            if !may_have_started && !entry.tells_starts {
                // It was only taken to have been.
                held.started = None;
            }
            match how {
                SessionEnd::Lost => {
                    let loss = Loss { may_have_started, is_alone, started: &started_jobs };
                    self.graph.elf_lost(now, slot, held, &loss);
                }
                SessionEnd::Goodbye => self.graph.hand_back(now, slot, held, AttemptEnd::HandedBack),
            }
        }
        let id = self.sessions[session].id;
        self.sessions.remove(self.graph.jobs, session);
        self.outbox.session_ended(id);
        effects.sessions_lost += u32::from(how == SessionEnd::Lost);
        effects.sends.push(Send::SessionOver { session: id });
    }

    /// The attempt a session holds, if it does: its job runs there now under that number.
    fn held_by(&self, session: SessionIdx, token: Token) -> Option<(Slot, AssignNumber)> {
        self.graph.jobs.held_by(self.graph.config, session, token)
    }
}

#[cfg(test)]
mod tests;
