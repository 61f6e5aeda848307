//! Writing and reading blobs: each once, however many ask for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures::stream::StreamExt as _;
use mycelium_proto::{limits, v1};

use super::blob::{Blob, Digest, hex};
use super::cache::Cache;
use super::confirmed::Confirmed;
use super::transfer::{Received, TRANSFERS_MAX, Transfers};
use crate::error::Error;
use crate::retry::Retry;
use crate::transport::Address;

/// The most bytes of blobs that are kept because they may be needed again.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A single blob up to this size is sent without asking first whether the broker has it.
const UNASKED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where blobs are written to and read from. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    transfers: Transfers,
    state: Mutex<State>,
}

/// One transfer, which several may wait for. It goes on for as long as one of them does.
type Transfer<T> = Shared<BoxFuture<'static, Result<T, Error>>>;
type Waited<T> = WeakShared<BoxFuture<'static, Result<T, Error>>>;

struct State {
    cache: Cache,
    confirmed: Confirmed,
    reading: HashMap<(Digest, u64), Waited<Bytes>>,
    writing: HashMap<Digest, Waited<()>>,
}

impl Blobs {
    /// Connects when the first blob is written or read. Must be called within a tokio runtime.
    pub(crate) fn new(address: &Address, mycelium: &str) -> Self {
        let state = State {
            cache: Cache::new(CACHE_BYTES_MAX),
            confirmed: Confirmed::default(),
            reading: HashMap::new(),
            writing: HashMap::new(),
        };
        let transfers = Transfers::new(address, mycelium);
        Self { inner: Arc::new(Inner { transfers, state: Mutex::new(state) }) }
    }

    /// Reads a blob whole, and makes sure that it is what its name says.
    ///
    /// # Errors
    /// [`Error::DamagedBlob`]; [`Error::Refused`] if the broker does not have it, and others as of any call.
    pub(crate) async fn read(&self, blob: &v1::BlobRef, mut retry: Retry) -> Result<Bytes, Error> {
        let digest = Digest::try_from(blob.digest.as_ref()).map_err(|_| Error::Protocol {
            message: format!("the name of a blob has {} bytes and not 32", blob.digest.len()),
        })?;
        if blob.size > limits::BLOB_BYTES_MAX {
            let message = format!("blob {} is said to have {} bytes", hex(&digest), blob.size);
            return Err(Error::Protocol { message });
        }
        // What is broken off goes on from there.
        let received = Arc::default();
        loop {
            match self.start_reading(digest, blob.size, &received).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => retry.pause_or_give_up(error).await?,
            }
        }
    }

    fn start_reading(&self, digest: Digest, size: u64, received: &Arc<Mutex<Received>>) -> Transfer<Bytes> {
        let mut state = self.inner.state();
        // One that is cached with another size is read again, which finds the mismatch.
        if let Some(bytes) = state.cache.get(&digest)
            && bytes.len() as u64 == size
        {
            return futures::future::ready(Ok(bytes)).boxed().shared();
        }
        if let Some(transfer) = state.reading.get(&(digest, size)).and_then(WeakShared::upgrade) {
            return transfer;
        }
        let (inner, received) = (Arc::clone(&self.inner), Arc::clone(received));
        let transfer = async move {
            let read = inner.transfers.download(&digest, size, &received).await;
            let mut state = inner.state();
            if let Ok(bytes) = &read {
                state.cache.insert(digest, bytes.clone());
            }
            state.reading.remove(&(digest, size));
            read
        };
        let transfer = transfer.boxed().shared();
        // Transfers that were abandoned leave an entry behind.
        state.reading.retain(|_, waited| waited.upgrade().is_some());
        state.reading.extend(transfer.downgrade().map(|waited| ((digest, size), waited)));
        transfer
    }

    /// Writes blobs. When it returns, the broker has them all, and keeps them for some time yet if nobody names them.
    ///
    /// # Errors
    /// The first that is met, as of any call. Some may have been written.
    pub(crate) async fn write(&self, blobs: &[Blob], mut retry: Retry) -> Result<(), Error> {
        let mut is_first_try = true;
        loop {
            let written = self.write_unconfirmed(blobs, is_first_try).await;
            let Err(error) = written else { return Ok(()) };
            retry.pause_or_give_up(error).await?;
            is_first_try = false;
        }
    }

    async fn write_unconfirmed(&self, blobs: &[Blob], is_first_try: bool) -> Result<(), Error> {
        let mut missing = self.unconfirmed(blobs);
        let is_cheap = match missing.as_slice() {
            [] => return Ok(()),
            [one] => one.bytes.len() <= UNASKED_BYTES_MAX,
            _ => false,
        };
        if !(is_cheap && is_first_try) {
            for asked in missing.chunks(limits::BLOB_DIGESTS_MAX) {
                self.inner.ask_for(asked).await?;
            }
            missing = self.unconfirmed(blobs);
        }
        // A try is not given up for the sake of one that failed before the others have had theirs.
        let written: Vec<Result<(), Error>> = futures::stream::iter(missing)
            .map(|blob| self.start_writing(blob))
            .buffer_unordered(TRANSFERS_MAX)
            .collect()
            .await;
        written.into_iter().collect()
    }

    /// Those that the broker is not known to have, each once.
    fn unconfirmed(&self, blobs: &[Blob]) -> Vec<Blob> {
        let state = self.inner.state();
        let now = Instant::now();
        let mut seen = HashSet::new();
        let is_unknown =
            |blob: &&Blob| !state.confirmed.contains(&blob.digest, now) && seen.insert(blob.digest);
        blobs.iter().filter(is_unknown).cloned().collect()
    }

    fn start_writing(&self, blob: Blob) -> Transfer<()> {
        let mut state = self.inner.state();
        let digest = blob.digest;
        if let Some(transfer) = state.writing.get(&digest).and_then(WeakShared::upgrade) {
            return transfer;
        }
        let inner = Arc::clone(&self.inner);
        let transfer = async move {
            // It is kept from the moment it was written, which is after this.
            let begun = Instant::now();
            let written = inner.transfers.upload(&blob).await;
            let mut state = inner.state();
            if written.is_ok() {
                state.confirmed.insert(digest, begun);
                state.cache.insert(digest, blob.bytes);
            }
            state.writing.remove(&digest);
            written
        };
        let transfer = transfer.boxed().shared();
        state.writing.retain(|_, waited| waited.upgrade().is_some());
        state.writing.extend(transfer.downgrade().map(|waited| (digest, waited)));
        transfer
    }

    /// Forgets that the broker has confirmed these: it no longer has them.
    pub(crate) fn forget(&self, blobs: &[Blob]) {
        let mut state = self.inner.state();
        for blob in blobs {
            state.confirmed.remove(&blob.digest);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks which of these the broker has, and notes it.
    async fn ask_for(&self, blobs: &[Blob]) -> Result<(), Error> {
        let begun = Instant::now();
        let missing = self.transfers.find_missing(blobs.iter().map(Blob::digest)).await?;
        let mut state = self.state();
        for blob in blobs.iter().filter(|blob| !missing.contains(&blob.digest)) {
            state.confirmed.insert(blob.digest, begun);
        }
        Ok(())
    }
}
