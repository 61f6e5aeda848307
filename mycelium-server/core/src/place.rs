//! Turns ready jobs and free windows into assignments.

use std::ops::Bound;

use crate::core::Core;
use crate::effects::Assignment;
use crate::ids::{AssignNumber, Attempt, Clocks, Revision, Token};
use crate::names::Room;
use crate::sessions::Held;
use crate::slab::{Slot, State};

/// How many assignments a batch makes for each job that it may settle.
const ASSIGNMENTS_PER_STEP: usize = 4;

impl Core {
    /// Places jobs for the elves where something has changed. What the bound of a batch leaves over stays dirty.
    pub(crate) fn place(&mut self, now: Clocks) {
        let mut budget = self.step_max() * ASSIGNMENTS_PER_STEP;
        while let Some(elf) = self.dirty.pop_first() {
            if self.names.elves.get(elf).is_some() {
                self.place_elf(now, elf, &mut budget);
            }
            if budget == 0 {
                self.dirty.insert(elf);
                return;
            }
        }
    }

    /// Gives the session that holds fewest jobs of an elf the best job it offers the task of, again and again.
    ///
    /// A session that offers none of the tasks with waiting jobs is passed over for the rest of the pass: queues only
    /// shrink meanwhile, and the key of a session that was given a job only rises.
    fn place_elf(&mut self, now: Clocks, elf: u32, budget: &mut usize) {
        let mut passed: Option<Room> = None;
        while *budget > 0 {
            let entry = &self.names.elves[elf];
            if entry.heads.is_empty() {
                return;
            }
            let after = passed.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&room) = entry.rooms.range((after, Bound::Unbounded)).next() else { return };
            let Some((slot, revision)) = self.best_for(room, elf) else {
                passed = Some(room);
                continue;
            };
            *budget -= 1;
            let job = &self.slab[slot];
            if self.flows.arena[job.flow].is_cancelling(job.number) {
                self.set_state(slot, State::Ready { queued: false });
            } else {
                self.assign(now, elf, room.session, slot, revision);
            }
        }
    }

    fn best_for(&self, room: Room, elf: u32) -> Option<(Slot, Revision)> {
        let offer = self.sessions.arena[room.session].offers.get(&elf)?;
        self.names.elves[elf].heads.iter().find_map(|(_, _, task)| {
            let revision = offer.tasks.get(task)?;
            let (_, _, slot) = self.names.tasks[*task].queue.first()?;
            Some((*slot, *revision))
        })
    }

    fn assign(&mut self, now: Clocks, elf: u32, session: u32, slot: Slot, revision: Revision) {
        self.touch_record(slot);
        let entry = &mut self.sessions.arena[session];
        let assign = AssignNumber(entry.last_assign.0 + 1);
        entry.last_assign = assign;
        let job = &mut self.slab[slot];
        job.attempt = Attempt(job.attempt.0.saturating_add(1));
        let token = Token { job: job.id, attempt: job.attempt };
        let assignment = Assignment {
            token,
            flow: self.flows.arena[job.flow].id,
            elf: self.names.elves[elf].name.clone(),
            task: self.names.tasks[job.task].name.clone(),
        };
        entry.held.insert(assign, Held { token, elf, job: Some(slot), revision, since: now.wall });
        if let Some(offer) = entry.offers.get_mut(&elf) {
            offer.held += 1;
        }
        let (_, assignments) = self.batch.assigns.entry(entry.id).or_insert_with(|| (assign, Vec::new()));
        assignments.push(assignment);
        self.set_state(slot, State::Running { session, assign });
        self.refresh_room(session, elf);
    }
}
