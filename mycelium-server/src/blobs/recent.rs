//! Blobs that were written not long ago, in memory: most are read soon after, by the elf or the client that they were
//! written for.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use crate::store::BlobDigest;

/// What all of them may take, in bytes.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// The largest that is remembered, in bytes.
pub(super) const BLOB_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a blob in the parts they came in.
pub(super) type Parts = Vec<Bytes>;

/// The newest blobs, as far as there is room.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_digest: HashMap<BlobDigest, Parts>,
    /// Oldest first.
    order: VecDeque<BlobDigest>,
    bytes: usize,
}

fn len(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

impl Recent {
    /// Remembers a blob whose bytes were verified and are durable.
    pub(super) fn put(&mut self, digest: BlobDigest, parts: Parts) {
        let bytes = len(&parts);
        if bytes > BLOB_BYTES_MAX || self.by_digest.contains_key(&digest) {
            return;
        }
        self.bytes += bytes;
        self.by_digest.insert(digest, parts);
        self.order.push_back(digest);
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.by_digest.remove(&oldest).map_or(0, |parts| len(&parts));
        }
    }

    pub(super) fn forget(&mut self, digest: BlobDigest) {
        if let Some(parts) = self.by_digest.remove(&digest) {
            self.bytes -= len(&parts);
            self.order.retain(|other| *other != digest);
        }
    }

    /// A range of a blob.
    pub(super) fn get(&self, digest: BlobDigest, range: &Range<u64>) -> Option<Parts> {
        let parts = self.by_digest.get(&digest)?;
        let mut found = Vec::with_capacity(parts.len());
        let mut begin = 0u64;
        for part in parts {
            let end = begin + part.len() as u64;
            let (from, to) = (range.start.max(begin), range.end.min(end));
            if from < to {
                // Within the part, whose length is one of memory.
                found.push(part.slice((from - begin) as usize..(to - begin) as usize));
            }
            begin = end;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> BlobDigest {
        BlobDigest::new([n; 32])
    }

    #[test]
    fn ranges_run_across_parts() {
        let mut recent = Recent::default();
        recent.put(digest(1), ["abc", "", "de"].map(|part| Bytes::from_static(part.as_bytes())).to_vec());
        let text = |range| recent.get(digest(1), &range).unwrap().concat();
        assert_eq!(text(0..5), b"abcde");
        assert_eq!(text(2..4), b"cd");
        assert_eq!(text(3..3), b"");
        assert_eq!(text(4..99), b"e");
        assert_eq!(recent.get(digest(2), &(0..1)), None);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut recent = Recent::default();
        let parts = |bytes: usize| vec![Bytes::from(vec![0; bytes])];
        recent.put(digest(0), parts(BLOB_BYTES_MAX + 1));
        assert_eq!(recent.get(digest(0), &(0..1)), None);
        for n in 1..=5 {
            recent.put(digest(n), parts(BLOB_BYTES_MAX));
        }
        assert_eq!(recent.get(digest(1), &(0..1)), None);
        assert!((2..=5).all(|n| recent.get(digest(n), &(0..1)).is_some()));
        recent.forget(digest(3));
        recent.put(digest(6), parts(BLOB_BYTES_MAX));
        assert!(recent.get(digest(2), &(0..1)).is_some() && recent.bytes == BYTES_MAX);
    }
}
