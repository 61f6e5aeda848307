//! Blobs that may be needed again.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::blob::Digest;

/// The least recently used blobs are evicted first. One that takes more than a quarter of the capacity is not cached.
pub(super) struct Cache {
    entries: HashMap<Digest, Entry>,
    /// The blobs by when they were used, oldest first.
    order: BTreeMap<u64, Digest>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Entry {
    bytes: Bytes,
    used: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    pub(super) fn get(&mut self, digest: &Digest) -> Option<Bytes> {
        let entry = self.entries.get_mut(digest)?;
        self.order.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.order.insert(self.uses, *digest);
        Some(entry.bytes.clone())
    }

    pub(super) fn insert(&mut self, digest: Digest, bytes: Bytes) {
        if bytes.len() > self.bytes_max / 4 || self.get(&digest).is_some() {
            return;
        }
        self.bytes += bytes.len();
        self.uses += 1;
        self.order.insert(self.uses, digest);
        self.entries.insert(digest, Entry { bytes, used: self.uses });
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            let removed = self.entries.remove(&oldest);
            self.bytes -= removed.map_or(0, |entry| entry.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_makes_room_and_the_very_large_is_not_kept() {
        let mut cache = Cache::new(100);
        let of = |size: usize| Bytes::from(vec![0; size]);
        for n in 0..4 {
            cache.insert([n; 32], of(25));
        }
        cache.insert([9; 32], of(26));
        assert!(cache.get(&[9; 32]).is_none(), "more than a quarter");
        assert!(cache.get(&[0; 32]).is_some());
        // Inserted again it counts once.
        cache.insert([2; 32], of(25));
        cache.insert([4; 32], of(20));
        assert!(cache.get(&[1; 32]).is_none(), "the oldest by use");
        assert!([0, 2, 3, 4].iter().all(|n| cache.get(&[*n; 32]).is_some()));
        assert_eq!((cache.bytes, cache.order.len(), cache.entries.len()), (95, 4, 4));
    }
}
