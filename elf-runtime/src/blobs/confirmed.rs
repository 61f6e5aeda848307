//! Blobs that the broker is known to have.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::blob::Digest;

/// How long a confirmation of the broker holds. It keeps a blob that no job names for an hour, and the caller is about to
/// name it.
const RELIED_ON_FOR: Duration = Duration::from_secs(30 * 60);
/// The most that are remembered; beyond that the oldest are dropped.
const CONFIRMED_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct Confirmed {
    since: HashMap<Digest, Instant>,
    /// In the order they were confirmed. May name some that were confirmed again later, or removed.
    order: VecDeque<(Instant, Digest)>,
}

impl Confirmed {
    pub(super) fn contains(&self, digest: &Digest, now: Instant) -> bool {
        self.since.get(digest).is_some_and(|since| now.saturating_duration_since(*since) < RELIED_ON_FOR)
    }

    pub(super) fn insert(&mut self, digest: Digest, since: Instant) {
        self.since.insert(digest, since);
        self.order.push_back((since, digest));
        while self.order.len() > CONFIRMED_MAX {
            let Some((since, digest)) = self.order.pop_front() else { break };
            if self.since.get(&digest) == Some(&since) {
                self.since.remove(&digest);
            }
        }
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.since.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_has_is_relied_on_for_half_an_hour() {
        let mut confirmed = Confirmed::default();
        let begun = Instant::now();
        confirmed.insert([1; 32], begun);
        assert!(confirmed.contains(&[1; 32], begun + RELIED_ON_FOR - Duration::from_secs(1)));
        assert!(!confirmed.contains(&[1; 32], begun + RELIED_ON_FOR));
        confirmed.insert([1; 32], begun + RELIED_ON_FOR);
        assert!(confirmed.contains(&[1; 32], begun + RELIED_ON_FOR));
        confirmed.remove(&[1; 32]);
        assert!(!confirmed.contains(&[1; 32], begun));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut confirmed = Confirmed::default();
        let now = Instant::now();
        let name = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        for n in 0..=CONFIRMED_MAX {
            confirmed.insert(name(n), now);
        }
        assert!(!confirmed.contains(&name(0), now) && confirmed.contains(&name(1), now));
        assert_eq!(confirmed.since.len(), CONFIRMED_MAX);
    }
}
