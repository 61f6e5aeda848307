//! A blob: bytes that are named by their digest.

use bytes::Bytes;
use mycelium_proto::v1;
use sha2::{Digest as _, Sha256};

/// How much is hashed before others get their turn on the thread.
const HASH_STEP_BYTES: usize = 256 * 1024;

/// SHA-256 of a blob's bytes.
pub(crate) type Digest = [u8; 32];

/// Bytes, and their name.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

impl Blob {
    /// Finds the name, which takes a while for large ones.
    pub(crate) async fn of(bytes: Bytes) -> Self {
        let mut hasher = Sha256::new();
        for step in bytes.chunks(HASH_STEP_BYTES) {
            hasher.update(step);
            if bytes.len() > HASH_STEP_BYTES {
                tokio::task::yield_now().await;
            }
        }
        Self { digest: hasher.finalize().into(), bytes }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn to_wire(&self) -> v1::BlobRef {
        v1::BlobRef { digest: Bytes::copy_from_slice(&self.digest), size: self.bytes.len() as u64 }
    }
}

/// A digest in hexadecimal digits.
pub(super) fn hex(digest: &Digest) -> String {
    format!("{:x}", Bytes::copy_from_slice(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_is_named_by_the_sha_256_of_all_its_bytes() {
        let bytes = Bytes::from(vec![7; 3 * HASH_STEP_BYTES + 1]);
        let blob = Blob::of(bytes.clone()).await;
        assert_eq!(blob.digest.as_slice(), Sha256::digest(&bytes).as_slice());
        assert_eq!(blob.to_wire().size, bytes.len() as u64);
        let empty = Blob::of(Bytes::new()).await;
        assert!(hex(&empty.digest).starts_with("e3b0c442"), "{}", hex(&empty.digest));
    }
}
