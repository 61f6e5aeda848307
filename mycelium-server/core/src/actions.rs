//! Actions on many jobs: what they do, and how far they are.
//!
//! Which jobs they are about is not known here, nor is anything done by itself: whoever goes through them says how far that
//! is, in the commit of each step, so that nothing is counted twice or not at all when the broker ends between two steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Action, ActionStep, ActionTo};
use crate::effects::{Effects, Records, Refusal, Reply};
use crate::ids::{ActionId, Clocks, Timestamp};
use crate::image::{ActionKind, ActionRecord, Counters};

/// How many actions may be under way.
const UNDER_WAY_MAX: usize = 64;
/// How many of those that are over are remembered, the latest. All fit one answer.
const ENDED_KEPT: usize = 192;

/// The actions.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    all: BTreeMap<ActionId, ActionRecord>,
    /// Those that the batch has changed.
    changed: BTreeSet<ActionId>,
    forgotten: Vec<ActionId>,
}

impl Actions {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ActionRecord> {
        self.all.values()
    }

    pub(crate) fn restore(&mut self, record: ActionRecord) {
        self.all.insert(record.id, record);
    }

    pub(crate) fn on_action(
        &mut self,
        now: Clocks,
        counters: Counters,
        action: Action,
        effects: &mut Effects,
    ) {
        let Action { request, id, to } = action;
        effects.replies.push((request, self.change(now, counters, id, to)));
    }

    fn change(
        &mut self,
        now: Clocks,
        counters: Counters,
        id: ActionId,
        to: ActionTo,
    ) -> Result<Reply, Refusal> {
        if let ActionTo::Begun { kind, filter, flow, failure, by } = to {
            if let Some(before) = self.all.get(&id) {
                return match before.kind == kind && before.filter == filter {
                    true => Ok(Reply::Action { action: before.clone(), is_new: false }),
                    false => Err(Refusal::ActionDiffers(id)),
                };
            }
            if self.iter().filter(|action| action.ended_at.is_none()).count() >= UNDER_WAY_MAX {
                return Err(Refusal::TooManyActions { limit: UNDER_WAY_MAX });
            }
            let upto = match kind {
                ActionKind::Retry | ActionKind::Delete => counters.finish.0,
                ActionKind::Cancel => counters.job.0,
            };
            let (began_at, place, total, done, refused, ended_at) = (now.wall, 0, None, 0, 0, None);
            let action = ActionRecord {
                id,
                kind,
                filter,
                flow,
                failure,
                by,
                began_at,
                upto,
                place,
                total,
                done,
                refused,
                ended_at,
            };
            self.all.insert(id, action.clone());
            self.changed.insert(id);
            self.forget();
            return Ok(Reply::Action { action, is_new: true });
        }
        let action = self.all.get_mut(&id).ok_or(Refusal::ActionNotFound(id))?;
        if action.ended_at.is_none() {
            match to {
                ActionTo::Begun { .. } => {}
                ActionTo::Counted(total) => action.total = Some(total),
                ActionTo::Moved(step) => move_on(action, &step, 0),
                ActionTo::Ended => action.ended_at = Some(now.wall),
            }
            self.changed.insert(id);
        }
        Ok(Reply::Action { action: action.clone(), is_new: false })
    }

    /// A step of an action was done, with so many jobs beside those that it says itself.
    pub(crate) fn step(&mut self, step: Option<ActionStep>, done: u64) {
        let Some(step) = step else { return };
        if let Some(action) = self.all.get_mut(&step.id).filter(|action| action.ended_at.is_none()) {
            move_on(action, &step, done);
            self.changed.insert(step.id);
        }
    }

    /// Forgets the oldest of those that are over, if there are too many.
    fn forget(&mut self) {
        let over = self.all.values().filter_map(|action| Some((action.ended_at?, action.id)));
        let over: BTreeSet<(Timestamp, ActionId)> = over.collect();
        let too_many = over.len().saturating_sub(ENDED_KEPT);
        for (_, id) in over.into_iter().take(too_many) {
            self.all.remove(&id);
            self.changed.remove(&id);
            self.forgotten.push(id);
        }
    }

    /// Puts what the batch has changed into its records.
    pub(crate) fn emit(&mut self, records: &mut Records) {
        let changed = std::mem::take(&mut self.changed);
        records.actions.extend(changed.iter().filter_map(|id| self.all.get(id).cloned()));
        records.actions_forgotten.append(&mut self.forgotten);
    }
}

fn move_on(action: &mut ActionRecord, step: &ActionStep, done: u64) {
    action.place = step.place;
    action.done += step.done + done;
    action.refused += step.refused;
}

#[cfg(test)]
mod tests;
