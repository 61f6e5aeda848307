//! Blobs that were written not long ago, in memory: most are read soon after, by the elf or the client that they were
//! written for.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::BlobDigest;

/// What all of them may take, in bytes, together with those that are still being written.
const BYTES_MAX: usize = 48 * 1024 * 1024;
/// The largest that is remembered, in bytes.
pub(super) const BLOB_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a blob in the parts they came in.
pub(super) type Parts = Vec<Bytes>;

/// The newest blobs, as far as there is room.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_digest: HashMap<BlobDigest, Parts>,
    /// Oldest first.
    order: VecDeque<BlobDigest>,
    /// What those take that are remembered.
    bytes: usize,
    /// What those take that are being written.
    unfinished: usize,
}

/// A blob that is being written, as far as it has come.
#[derive(Debug)]
pub(super) struct Unfinished {
    recent: Arc<Mutex<Recent>>,
    parts: Parts,
    bytes: usize,
}

pub(super) fn lock(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

fn len(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

impl Unfinished {
    pub(super) fn new(recent: &Arc<Mutex<Recent>>) -> Self {
        Self { recent: Arc::clone(recent), parts: Parts::new(), bytes: 0 }
    }

    /// Adds bytes at the end. Gives whether there is room for them: not if they are too many for one blob, or if those
    /// that are being written take all there is.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        let has_room = self.bytes + bytes.len() <= BLOB_BYTES_MAX && lock(&self.recent).begin(bytes.len());
        if has_room {
            self.bytes += bytes.len();
            self.parts.push(bytes);
        }
        has_room
    }

    /// Remembers the blob, whose bytes were verified and are durable.
    pub(super) fn finish(mut self, digest: BlobDigest) {
        let parts = std::mem::take(&mut self.parts);
        let mut recent = lock(&self.recent);
        recent.unfinished -= std::mem::take(&mut self.bytes);
        recent.put(digest, parts);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        lock(&self.recent).unfinished -= self.bytes;
    }
}

impl Recent {
    /// Counts bytes of a blob that is being written, for which the oldest make room.
    fn begin(&mut self, bytes: usize) -> bool {
        let has_room = self.unfinished + bytes <= BYTES_MAX;
        if has_room {
            self.unfinished += bytes;
            self.make_room();
        }
        has_room
    }

    fn put(&mut self, digest: BlobDigest, parts: Parts) {
        if self.by_digest.contains_key(&digest) {
            return;
        }
        self.bytes += len(&parts);
        self.by_digest.insert(digest, parts);
        self.order.push_back(digest);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes + self.unfinished > BYTES_MAX
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

    /// Bytes that are remembered, and of blobs that are being written.
    fn held(recent: &Mutex<Recent>) -> (usize, usize) {
        let recent = lock(recent);
        (recent.bytes, recent.unfinished)
    }

    fn largest() -> Bytes {
        Bytes::from(vec![0; BLOB_BYTES_MAX])
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
        let recent = Arc::default();
        let write = |n| {
            let mut blob = Unfinished::new(&recent);
            assert!(blob.push(largest()));
            blob.finish(digest(n));
        };
        let has = |n| lock(&recent).get(digest(n), &(0..1)).is_some();
        (1..=4).for_each(write);
        assert_eq!([1, 2, 3, 4].map(has), [false, true, true, true]);
        lock(&recent).forget(digest(3));
        write(5);
        assert_eq!([2, 4, 5].map(has), [true; 3]);
        // Kept once, whoever writes it again; room is made while it comes.
        write(5);
        assert_eq!([2, 4, 5].map(has), [false, true, true]);
        assert_eq!(held(&recent), (2 * BLOB_BYTES_MAX, 0));
    }

    #[test]
    fn what_is_being_written_counts_until_it_is_finished_or_given_up() {
        let recent = Arc::default();
        let mut blobs: Vec<Unfinished> =
            (0..BYTES_MAX / BLOB_BYTES_MAX).map(|_| Unfinished::new(&recent)).collect();
        assert!(blobs.iter_mut().all(|blob| blob.push(largest())));
        assert!(!blobs[0].push(Bytes::from_static(b"a")), "too large");
        assert!(!Unfinished::new(&recent).push(Bytes::from_static(b"a")), "no room");
        drop(blobs.remove(0));
        blobs.remove(0).finish(digest(1));
        assert_eq!(held(&recent), (BLOB_BYTES_MAX, BLOB_BYTES_MAX));
        // What is remembered makes room for what comes.
        let mut more = [Unfinished::new(&recent), Unfinished::new(&recent)];
        assert!(more.iter_mut().all(|blob| blob.push(largest())));
        assert_eq!(lock(&recent).get(digest(1), &(0..3)), None);
        drop((more, blobs));
        assert_eq!(held(&recent), (0, 0));
    }
}
