//! Which blobs must stay although nothing in the store names them yet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::store::BlobDigest;

/// The pinned blobs. A pin is 100 bytes or so, and a blob is large: there are few.
#[derive(Debug, Default)]
pub(super) struct Pins {
    by_digest: HashMap<BlobDigest, Pin>,
    /// In the order they run out. A pin that was renewed has older entries too.
    order: VecDeque<(Instant, BlobDigest)>,
}

#[derive(Debug, Clone, Copy)]
struct Pin {
    until: Instant,
    size: u64,
}

impl Pins {
    pub(super) fn pin(&mut self, digest: BlobDigest, size: u64, grace: Duration) {
        let until = Instant::now() + grace;
        self.by_digest.insert(digest, Pin { until, size });
        self.order.push_back((until, digest));
    }

    /// Pins a blob again that is pinned, and tells its size.
    pub(super) fn renew(&mut self, digest: BlobDigest, grace: Duration) -> Option<u64> {
        let pin = self.by_digest.get_mut(&digest)?;
        let until = Instant::now() + grace;
        let size = pin.size;
        // Renewed by a tenth of the grace period at least, so that one that is asked for often has few entries.
        if until.duration_since(pin.until) > grace / 10 {
            pin.until = until;
            self.order.push_back((until, digest));
        }
        Some(size)
    }

    pub(super) fn is_pinned(&self, digest: BlobDigest) -> bool {
        self.by_digest.contains_key(&digest)
    }

    /// Takes out those that have run out, at most `limit`.
    pub(super) fn take_expired(&mut self, now: Instant, limit: usize) -> Vec<BlobDigest> {
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(&(until, digest)) = self.order.front()
            && until <= now
        {
            self.order.pop_front();
            if self.by_digest.get(&digest).is_some_and(|pin| pin.until == until) {
                self.by_digest.remove(&digest);
                expired.push(digest);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_runs_out_once_and_not_before_it_was_last_renewed() {
        let grace = Duration::from_secs(3600);
        let [a, b] = [1, 2].map(|n| BlobDigest::new([n; 32]));
        let mut pins = Pins::default();
        pins.pin(a, 7, grace);
        pins.pin(b, 8, grace);
        let first = Instant::now() + grace;
        assert_eq!(pins.renew(a, grace), Some(7));
        assert_eq!(pins.renew(BlobDigest::new([3; 32]), grace), None);
        assert_eq!(pins.take_expired(first - grace, 9), []);
        pins.pin(a, 7, 2 * grace);
        assert_eq!(pins.take_expired(first, 9), [b]);
        assert!(pins.is_pinned(a) && !pins.is_pinned(b));
        assert_eq!(pins.take_expired(first + 2 * grace, 0), []);
        assert_eq!(pins.take_expired(first + 2 * grace, 9), [a]);
        assert_eq!(pins.take_expired(first + 2 * grace, 9), []);
    }
}
