//! What jobs have in common beside their task: their labels and their policy.

use std::collections::BTreeMap;

use crate::ids::PolicyId;
use crate::image::JobHead;
use crate::index::{Arena, Idx, TraitsIdx, of};
use crate::labels::Labels;
use crate::policy::Policies;

/// Each set of them is kept once. Most jobs have the index 0: no labels, and the policy of their task.
#[derive(Debug)]
pub(crate) struct TraitSets {
    by_index: Arena<of::Traits, TraitSet>,
    by_content: BTreeMap<(Labels, PolicyId), TraitsIdx>,
    policies: Policies,
}

impl Default for TraitSets {
    fn default() -> Self {
        let mut by_index = Arena::default();
        by_index.insert(TraitSet::default());
        Self { by_index, by_content: BTreeMap::new(), policies: Policies::default() }
    }
}

#[derive(Debug, Default)]
struct TraitSet {
    labels: Labels,
    policy: PolicyId,
    /// How many unfinished jobs have it. Of index 0 they are not counted: it stays.
    users: u64,
}

impl TraitSets {
    const PLAIN: TraitsIdx = Idx::MIN;

    /// The index of what a job has, with one more user.
    pub(crate) fn use_of(&mut self, head: &JobHead) -> TraitsIdx {
        if head.labels.is_empty() && head.policy == PolicyId::default() {
            return Self::PLAIN;
        }
        let content = (head.labels.clone(), head.policy);
        let index = *self.by_content.entry(content).or_insert_with_key(|(labels, policy)| {
            self.policies.add_user(*policy);
            self.by_index.insert(TraitSet { labels: labels.clone(), policy: *policy, users: 0 })
        });
        self.by_index[index].users += 1;
        index
    }

    /// One user less; it goes with the last one.
    pub(crate) fn unuse(&mut self, index: TraitsIdx) {
        if index == Self::PLAIN {
            return;
        }
        let entry = &mut self.by_index[index];
        entry.users -= 1;
        if entry.users == 0
            && let Some(TraitSet { labels, policy, .. }) = self.by_index.remove(index)
        {
            self.by_content.remove(&(labels, policy));
            self.policies.remove_user(policy);
        }
    }

    pub(crate) fn labels(&self, index: TraitsIdx) -> &Labels {
        &self.by_index[index].labels
    }

    pub(crate) fn policy(&self, index: TraitsIdx) -> PolicyId {
        self.by_index[index].policy
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(crate) fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    /// Compares with the number of jobs that have each.
    pub(crate) fn are_counted(&self, users: &BTreeMap<TraitsIdx, u64>) -> bool {
        let mut of_sets: BTreeMap<PolicyId, u64> = BTreeMap::new();
        for (_, set) in self.by_index.iter().filter(|(_, set)| set.policy != PolicyId::default()) {
            *of_sets.entry(set.policy).or_default() += 1;
        }
        self.policies.are_counted(&of_sets)
            && self.by_content.len() + 1 == self.by_index.len()
            && users.keys().all(|index| self.by_index.get(*index).is_some())
            && self.by_index.iter().filter(|(index, _)| *index != Self::PLAIN).all(|(index, set)| {
                let content = (set.labels.clone(), set.policy);
                set.users > 0
                    && users.get(&index) == Some(&set.users)
                    && self.by_content.get(&content) == Some(&index)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>().into()
    }

    #[test]
    fn what_jobs_have_in_common_is_kept_once_and_goes_with_the_last_of_them() {
        let mut sets = TraitSets::default();
        let total = crate::policy::Timeouts { total: Some(std::time::Duration::MAX), ..Default::default() };
        let own = std::sync::Arc::new(crate::policy::Policy { timeouts: total, ..Default::default() });
        assert_eq!(sets.policies_mut().intern(Some(&own)), PolicyId(1));
        let head =
            |pairs, policy| JobHead { labels: labels(pairs), policy: PolicyId(policy), ..JobHead::default() };
        let plain = sets.use_of(&head(&[], 0));
        let one = sets.use_of(&head(&[("a", "1")], 0));
        assert_eq!(sets.use_of(&head(&[("a", "1")], 0)), one);
        let other = sets.use_of(&head(&[("a", "1")], 1));
        assert!(plain != one && one != other);
        assert_eq!((sets.labels(other), sets.policy(other)), (&labels(&[("a", "1")]), PolicyId(1)));
        assert!(sets.are_counted(&BTreeMap::from([(plain, 1), (one, 2), (other, 1)])));
        for index in [plain, one, other] {
            sets.unuse(index);
        }
        assert!(sets.are_counted(&BTreeMap::from([(one, 1)])));
        sets.unuse(one);
        assert!(sets.are_counted(&BTreeMap::new()));
    }
}
