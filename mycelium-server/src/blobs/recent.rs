//! Blobs that were written not long ago, in memory: most are read soon after, by the elf or the client that they were
//! written for.

use std::collections::{HashMap, VecDeque};
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

    /// Bytes of a blob from an offset on, as far as they came together; none at its end or if it is not remembered.
    ///
    /// A reader asks for one piece after the other. If it held all of them, as many blobs as it has readers would stay
    /// in memory for as long as those please.
    pub(super) fn get(&self, digest: BlobDigest, offset: u64) -> Option<Bytes> {
        let mut offset = usize::try_from(offset).ok()?;
        for part in self.by_digest.get(&digest)? {
            if offset < part.len() {
                return Some(part.slice(offset..));
            }
            offset -= part.len();
        }
        None
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
    fn a_blob_is_given_from_any_offset_to_the_end_of_its_part() {
        let mut recent = Recent::default();
        recent.put(digest(1), ["abc", "", "de"].map(|part| Bytes::from_static(part.as_bytes())).to_vec());
        let text = |offset| recent.get(digest(1), offset);
        assert_eq!([0, 2, 3, 4].map(text), ["abc", "c", "de", "e"].map(|text| Some(Bytes::from(text))));
        assert_eq!([5, u64::MAX].map(text), [None, None]);
        assert_eq!(recent.get(digest(2), 0), None);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let recent = Arc::default();
        let write = |n| {
            let mut blob = Unfinished::new(&recent);
            assert!(blob.push(largest()));
            blob.finish(digest(n));
        };
        let has = |n| lock(&recent).get(digest(n), 0).is_some();
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
        assert_eq!(lock(&recent).get(digest(1), 0), None);
        drop((more, blobs));
        assert_eq!(held(&recent), (0, 0));
    }
}
