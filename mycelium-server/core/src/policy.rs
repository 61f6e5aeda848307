//! By which rules jobs are tried again and timed out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::PolicyId;

/// What a job, or the declaration of its task, says of how it is tried again and timed out. What a job leaves open comes from
/// the declaration of the process that runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Policy {
    /// How it is tried again.
    pub retry: RetryPolicy,
    /// How it is timed out.
    pub timeouts: Timeouts,
}

/// How a job is tried again when an attempt fails; each rule is open if it is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RetryPolicy {
    /// How many attempts that fail there may be in all.
    pub attempts: Option<u32>,
    /// The least time from the first failure to the next attempt.
    pub first: Option<Duration>,
    /// By how much that grows with each further failure, in thousandths.
    pub factor: Option<u32>,
    /// What it grows to at most.
    pub cap: Option<Duration>,
    /// By up to which part of itself each of these times is lengthened, in thousandths.
    pub jitter: Option<u32>,
    /// The types of failures after which it is not tried again.
    pub never: Option<Arc<[Arc<str>]>>,
    /// Whether it is tried again after a panic.
    pub panics: Option<bool>,
    /// Whether it is tried again after the task could not read its arguments.
    pub argument_errors: Option<bool>,
}

impl RetryPolicy {
    /// These rules, and those of another where these are open.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            attempts: self.attempts.or(other.attempts),
            first: self.first.or(other.first),
            factor: self.factor.or(other.factor),
            cap: self.cap.or(other.cap),
            jitter: self.jitter.or(other.jitter),
            never: self.never.or(other.never),
            panics: self.panics.or(other.panics),
            argument_errors: self.argument_errors.or(other.argument_errors),
        }
    }
}

/// How long things may take; each is open if it is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timeouts {
    /// From ready to started.
    pub queue: Option<Duration>,
    /// One attempt, from its start.
    pub run: Option<Duration>,
    /// From submitted to ended, with all attempts.
    pub total: Option<Duration>,
    /// From one report of progress to the next.
    pub progress: Option<Duration>,
}

impl Timeouts {
    /// How long one attempt of a job may take that says this itself, if the process that runs it declares that: only the
    /// times of an attempt, the others are open.
    pub(crate) fn of_attempt(own: Option<&Self>, declared: Option<&Self>) -> Self {
        let of = |time: fn(&Self) -> Option<Duration>| own.and_then(time).or_else(|| declared.and_then(time));
        let (run, progress) = (of(|timeouts| timeouts.run), of(|timeouts| timeouts.progress));
        Self { run, progress, ..Self::default() }
    }
}

/// A policy of unfinished jobs, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// What jobs name it by; not 0.
    pub id: PolicyId,
    /// What it says.
    pub policy: Policy,
}

/// How many policies are kept that no unfinished job has. It saves writing the same one again and again for jobs that come
/// one after the other.
const UNUSED_KEPT: usize = 1_024;

/// The policies of unfinished jobs, each content once. A job without one of its own has number 0, which is not kept.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    by_id: BTreeMap<PolicyId, Arc<Policy>>,
    by_content: BTreeMap<Arc<Policy>, PolicyId>,
    /// How many sets of traits have each that is in use.
    users: BTreeMap<PolicyId, u64>,
    unused: BTreeSet<PolicyId>,
    /// The newest number given out. As long as there are unused ones the lowest go first, so that the newest stays, and
    /// numbers rise across restarts too.
    last: PolicyId,
    /// What the batch has made, and what it has dropped.
    made: Vec<PolicyRecord>,
    dropped: Vec<PolicyId>,
}

impl Policies {
    /// The number of a policy, which is new if there is none of that content.
    pub(crate) fn intern(&mut self, policy: Option<&Arc<Policy>>) -> PolicyId {
        let Some(policy) = policy.filter(|policy| ***policy != Policy::default()) else {
            return PolicyId::default();
        };
        if let Some(&id) = self.by_content.get(policy) {
            return id;
        }
        let id = self.next();
        self.insert(id, Arc::clone(policy));
        self.made.push(PolicyRecord { id, policy: Policy::clone(policy) });
        id
    }

    fn next(&mut self) -> PolicyId {
        loop {
            self.last = PolicyId(self.last.0.checked_add(1).unwrap_or(1));
            if !self.by_id.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn insert(&mut self, id: PolicyId, policy: Arc<Policy>) {
        self.last = self.last.max(id);
        self.by_content.insert(Arc::clone(&policy), id);
        self.by_id.insert(id, policy);
        if !self.users.contains_key(&id) {
            self.unused.insert(id);
        }
    }

    /// Takes in a policy as the store has it. Says whether it was not there.
    pub(crate) fn restore(&mut self, record: PolicyRecord) -> bool {
        let PolicyRecord { id, policy } = record;
        let is_new = id != PolicyId::default() && !self.by_id.contains_key(&id);
        if is_new {
            self.insert(id, Arc::new(policy));
        }
        is_new
    }

    /// The first that is in use and was not taken in.
    pub(crate) fn missing(&self) -> Option<PolicyId> {
        self.users.keys().find(|id| !self.by_id.contains_key(id)).copied()
    }

    /// One user more.
    pub(crate) fn add_user(&mut self, id: PolicyId) {
        if id != PolicyId::default() {
            *self.users.entry(id).or_default() += 1;
            self.unused.remove(&id);
        }
    }

    /// One user less.
    pub(crate) fn remove_user(&mut self, id: PolicyId) {
        if let Some(users) = self.users.get_mut(&id) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&id);
                self.unused.insert(id);
            }
        }
    }

    /// What a policy says; `None` for 0.
    pub(crate) fn get(&self, id: PolicyId) -> Option<&Policy> {
        self.by_id.get(&id).map(Arc::as_ref)
    }

    /// Drops what nobody has, but for the newest.
    pub(crate) fn prune(&mut self) {
        while self.unused.len() > UNUSED_KEPT
            && let Some(id) = self.unused.pop_first()
        {
            if let Some(policy) = self.by_id.remove(&id) {
                self.by_content.remove(&policy);
            }
            self.dropped.push(id);
        }
    }

    /// Takes what the batch has made and what it has dropped.
    pub(crate) fn take_changes(&mut self) -> (Vec<PolicyRecord>, Vec<PolicyId>) {
        (std::mem::take(&mut self.made), std::mem::take(&mut self.dropped))
    }

    /// Compares with how many sets of traits have each.
    pub(crate) fn are_counted(&self, users: &BTreeMap<PolicyId, u64>) -> bool {
        self.users == *users
            && self.by_id.len() == self.by_content.len()
            && self.by_id.len() == self.users.len() + self.unused.len()
            && self.users.keys().chain(&self.unused).all(|id| {
                let content = self.by_id.get(id);
                content.is_some_and(|content| self.by_content.get(content) == Some(id))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32) -> Option<Arc<Policy>> {
        let retry = RetryPolicy { attempts: Some(attempts), ..RetryPolicy::default() };
        Some(Arc::new(Policy { retry, ..Policy::default() }))
    }

    #[test]
    fn a_policy_is_kept_and_stored_once_and_the_empty_one_not_at_all() {
        let mut policies = Policies::default();
        assert_eq!(policies.intern(None), PolicyId(0));
        assert_eq!(policies.intern(Some(&Arc::default())), PolicyId(0));
        let ids = [5, 6, 5].map(|attempts| policies.intern(policy(attempts).as_ref()));
        assert_eq!(ids, [1, 2, 1].map(PolicyId));
        let (made, dropped) = policies.take_changes();
        assert_eq!((made.iter().map(|made| made.id.0).collect::<Vec<_>>(), dropped), (vec![1, 2], vec![]));
        assert_eq!(policies.get(PolicyId(2)).unwrap().retry.attempts, Some(6));
    }

    #[test]
    fn what_nobody_has_is_dropped_lowest_first_so_that_numbers_rise_across_restarts() {
        let mut policies = Policies::default();
        let kept = policies.intern(policy(1).as_ref());
        policies.add_user(kept);
        let n = u32::try_from(UNUSED_KEPT).unwrap() + 3;
        for attempts in 2..2 + n {
            let id = policies.intern(policy(attempts).as_ref());
            policies.add_user(id);
            policies.remove_user(id);
            policies.prune();
        }
        let (made, dropped) = policies.take_changes();
        assert_eq!((made.len(), dropped), (n as usize + 1, vec![PolicyId(2), PolicyId(3), PolicyId(4)]));
        assert!(policies.are_counted(&BTreeMap::from([(kept, 1)])));

        let mut restored = Policies::default();
        restored.add_user(kept);
        assert_eq!(restored.missing(), Some(kept));
        for record in made.into_iter().filter(|made| policies.get(made.id).is_some()) {
            assert!(restored.restore(record.clone()) && !restored.restore(record));
        }
        assert_eq!(restored.missing(), None);
        assert!(restored.are_counted(&BTreeMap::from([(kept, 1)])));
        assert_eq!(restored.intern(policy(1_000_000).as_ref()), PolicyId(n + 2));
    }
}
