//! What can be said of a job before it is taken in: whether somebody is there who could take it.

use std::sync::Arc;

use mycelium_core::policy::{Policy, Timeouts};
use mycelium_core::signature::Judged;
use mycelium_proto::v1;

use super::{ElfSignature, Misfit};

/// Who serves an elf, and what was declared of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// What the sessions declare that serve it, each once, the newest first.
    pub(super) live: Arc<[Arc<ElfSignature>]>,
    /// Whether there may be others: more declarations than are asked, or sessions that have not been heard since the broker
    /// began, which may serve any elf.
    pub(super) may_be_others: bool,
    /// What was declared last, whether anybody who declares it is there or not.
    pub(super) newest: Option<Arc<ElfSignature>>,
}

/// What becomes of something that is held against what is declared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling<T> {
    /// Somebody takes it, or nothing is known.
    Taken,
    /// Nobody takes it as far as is known; somebody may come who does.
    Doubtful(T),
    /// Somebody is there, and nobody takes it.
    Refused(T),
}

impl Standing {
    /// Whether somebody is known to be there.
    pub(crate) fn is_served(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether there may be others who serve it than those that are known.
    pub(crate) fn may_be_others(&self) -> bool {
        self.may_be_others
    }

    /// Holds a job against what is declared. Tells also how each declaration of its task takes it: as `last` does, if
    /// that says the same, so that jobs share it.
    pub(crate) fn judge(&self, spec: &v1::JobSpec, last: Judged) -> (Judged, Ruling<Misfit>) {
        let mut misfits: Vec<Option<Misfit>> =
            self.live.iter().map(|signature| signature.fit(spec).err()).collect();
        let judged = self
            .live
            .iter()
            .zip(&misfits)
            .filter_map(|(signature, misfit)| Some((signature.task(&spec.task)?.id(), misfit.is_none())));
        let judged = if last.is(judged.clone()) { last } else { Judged::by(judged) };
        // Those that have the task say more than those that have not.
        misfits.sort_by_key(|misfit| matches!(misfit, Some(Misfit::TaskNotFound { .. })));
        (judged, self.rule(misfits, |signature| signature.fit(spec).err()))
    }

    /// The policy of a job: its own, with what the newest declaration of its task says of how long it may wait to be started,
    /// and take in all, as far as it does not say itself.
    pub(crate) fn policy_of(&self, task: &str, own: Option<Arc<Policy>>) -> Option<Arc<Policy>> {
        let Some(declared) = self.newest.as_ref().and_then(|elf| elf.task(task)) else { return own };
        let Timeouts { queue, total, .. } = &declared.timeouts;
        let says = own.as_ref().map(|own| own.timeouts.clone()).unwrap_or_default();
        let (queue, total) = (says.queue.or(*queue), says.total.or(*total));
        if (queue, total) == (says.queue, says.total) {
            return own;
        }
        let retry = own.map(|own| own.retry.clone()).unwrap_or_default();
        Some(Arc::new(Policy { retry, timeouts: Timeouts { queue, total, ..says } }))
    }

    /// Holds the name of an output against what is declared.
    pub(crate) fn judge_output(&self, task: &str, output: &str) -> Ruling<String> {
        let refuse = |signature: &ElfSignature| signature.refuse_output(task, output);
        self.rule(self.live.iter().map(|signature| refuse(signature)).collect(), refuse)
    }

    /// What follows of what is wrong in the eyes of each who is there, of whom the first speaks for all; if nobody is,
    /// `newest` tells what would be.
    fn rule<T>(&self, wrong: Vec<Option<T>>, newest: impl FnOnce(&ElfSignature) -> Option<T>) -> Ruling<T> {
        if wrong.is_empty() {
            let wrong = self.newest.as_deref().and_then(newest);
            return wrong.map_or(Ruling::Taken, Ruling::Doubtful);
        }
        let all: Option<Vec<T>> = wrong.into_iter().collect();
        match all.and_then(|all| all.into_iter().next()) {
            None => Ruling::Taken,
            Some(wrong) if self.may_be_others => Ruling::Doubtful(wrong),
            Some(wrong) => Ruling::Refused(wrong),
        }
    }
}
