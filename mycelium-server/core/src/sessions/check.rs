//! Checks what is kept of sessions.

use std::collections::BTreeMap;

use super::{Session, Sessions, is_delayed};
use crate::index::ElfIdx;
use crate::invariants::{InvariantViolation, check};

impl Sessions {
    /// Checks what takes no time to check.
    pub(crate) fn check_totals(&self) -> Result<(), InvariantViolation> {
        let (all, by_id, instances) = (self.arena.len(), self.by_id.len(), self.by_instance.len());
        check(all == by_id && instances <= all, "every session is found by its id", || {
            format!("{by_id} of {all}, {instances} instances")
        })
    }

    /// Checks everything, between two batches.
    pub(crate) fn check(&self) -> Result<(), InvariantViolation> {
        self.check_totals()?;
        for (index, session) in self.iter() {
            let is_found = self.find(session.id) == Some(index);
            check(is_found, "sessions are found by id", || session.id.to_string())?;
            // Older ones that have a secret may live beside it; the newest may be over.
            let newest = self.newest_of(session.instance);
            let is_newest_or_older = newest.map_or(session.secret.is_some(), |newest| {
                let newest = &self[newest];
                newest.instance == session.instance
                    && (newest.id == session.id || (session.secret.is_some() && session.id < newest.id))
            });
            check(is_newest_or_older, "an instance has one session without a secret at most", || {
                session.id.to_string()
            })?;
            session.check()?;
        }
        Ok(())
    }
}

impl Session {
    fn check(&self) -> Result<(), InvariantViolation> {
        let mut by_elf: BTreeMap<ElfIdx, u32> = BTreeMap::new();
        let mut cancelled = 0;
        for (assign, held) in &self.held {
            *by_elf.entry(held.elf).or_default() += 1;
            let is_numbered = *assign <= self.last_assign || is_delayed(*assign);
            check(is_numbered, "assignments are numbered", || format!("{assign}"))?;
            if held.job.is_none() {
                cancelled += 1;
                let is_found = self.cancelled_in_flight.get(&held.token) == Some(assign);
                check(is_found, "cancelled attempts are found", || format!("{:?}", held.token))?;
            }
        }
        let suspects = self.held.values().filter(|held| held.is_suspect).count();
        check(suspects == self.suspects as usize, "suspects are counted", || self.id.to_string())?;
        check(suspects <= 1, "no two suspects run in one process", || self.id.to_string())?;
        let are_held = cancelled == self.cancelled_in_flight.len();
        check(are_held, "cancelled attempts are held", || self.id.to_string())?;
        for (elf, offer) in &self.offers {
            let counted = by_elf.remove(elf).unwrap_or_default();
            let recalled = self.held.values().filter(|held| held.elf == *elf && held.is_recalled).count();
            check(recalled == offer.recalled as usize, "offers count what is recalled", || {
                self.id.to_string()
            })?;
            check(counted == offer.held, "offers count what is held", || {
                format!("session {}: counted {counted}, kept {}", self.id, offer.held)
            })?;
            let may_take = self.is_connected
                && !self.is_draining
                && self.is_kept_free_for(*elf)
                && offer.is_offered()
                && offer.held < offer.limit();
            let holds = offer.free_slot.is_some() == may_take
                && offer.free_slot.is_none_or(|free| free.held == offer.held && free.id == self.id);
            check(holds, "free slots are of sessions that may take a job", || self.id.to_string())?;
            let is_open =
                self.is_connected && !self.is_draining && self.is_kept_free_for(*elf) && self.knows_recall;
            let laden = offer.laden.map(|laden| laden.waiting);
            check(laden == offer.waiting().filter(|_| is_open), "it is known who holds too much", || {
                self.id.to_string()
            })?;
        }
        check(by_elf.is_empty(), "what is held is of an elf", || self.id.to_string())
    }
}
