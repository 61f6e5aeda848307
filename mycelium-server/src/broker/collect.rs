//! Removes blobs that nothing uses.
//!
//! A blob is looked at when its pin runs out, which is when those who wrote it have had time enough to name it. All are
//! looked at one grace period after the start (pins of an earlier process are gone), and once a day, for those that
//! lost their last use since.

use std::time::Duration;

use futures::StreamExt as _;
use mycelium_core::ids::JobId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::Report;
use super::handle::Handle;
use super::message::CallError;
use crate::defect;
use crate::store::{BlobDigest, BlobRole, BlobUse, Store};

/// How often all blobs are looked at, beyond the first time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The longest pause before expired pins are looked for; a twentieth of the grace period if that is shorter.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How many expired pins are taken at once.
const EXPIRED_AT_ONCE: usize = 256;
/// How many uses of a blob are read at once.
const USES_AT_ONCE: usize = 256;

/// What becomes of a blob.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It has a use for good.
    Kept,
    /// It has a use that will end.
    InUse,
    /// It has none; these have ended.
    Unused(Vec<BlobUse>),
}

/// Removes what is not used, until told to stop.
pub(crate) async fn collect_blobs(handle: Handle, stop: CancellationToken) {
    let grace = handle.config().blob_grace;
    let pause = (grace / 20).min(PAUSE_MAX);
    let mut next_sweep = Instant::now() + grace;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !handle.blobs().may_remove() {
            continue;
        }
        let look = async {
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_INTERVAL;
                sweep(&handle, &stop).await
            } else {
                look_at_expired(&handle, &stop).await
            }
        };
        // After a defect, which is in the log already, the next look comes when it is due.
        if let Ok(Err(error)) = defect::catch_async("a look for unused blobs", look).await
            && !matches!(error, CallError::Defect(_))
        {
            // What was not looked at is, with the next sweep.
            tracing::warn!(error = %Report(&error), "could not look for blobs that nothing uses");
        }
    }
}

async fn sweep(handle: &Handle, stop: &CancellationToken) -> Result<(), CallError> {
    let mut blobs = handle.blobs().list();
    while let Some(blob) = blobs.next().await {
        if stop.is_cancelled() {
            return Ok(());
        }
        look_at(handle, blob?.digest).await?;
    }
    Ok(())
}

async fn look_at_expired(handle: &Handle, stop: &CancellationToken) -> Result<(), CallError> {
    loop {
        let expired = handle.blobs().expired(EXPIRED_AT_ONCE);
        if expired.is_empty() {
            return Ok(());
        }
        for digest in expired {
            if stop.is_cancelled() {
                return Ok(());
            }
            look_at(handle, digest).await?;
        }
    }
}

/// Removes a blob if nothing uses it. A defect on the way keeps this one, and no other.
async fn look_at(handle: &Handle, digest: BlobDigest) -> Result<(), CallError> {
    let removed = defect::catch_async("the removal of a blob", remove_if_unused(handle, digest)).await;
    match removed.unwrap_or_else(|defect| Err(defect.into())) {
        Err(CallError::Defect(_)) => {
            // Pins it again, so that it is looked at again.
            handle.blobs().find(digest).await?;
            Ok(())
        }
        removed => removed,
    }
}

async fn remove_if_unused(handle: &Handle, digest: BlobDigest) -> Result<(), CallError> {
    let verdict = match handle.read(move |store| judge(store, digest)).await {
        Err(CallError::Read(error)) if error.is_damage() => {
            // What cannot be judged stays, and the others are looked at all the same.
            tracing::error!(blob = %digest, error = %Report(&*error), "cannot read whether a blob is used; it is kept");
            Verdict::Kept
        }
        verdict => verdict?,
    };
    match verdict {
        Verdict::Kept => {}
        Verdict::InUse => {
            // Pins it again, so that it is looked at when that may have ended.
            handle.blobs().find(digest).await?;
        }
        Verdict::Unused(ended) => {
            // Judged again while nobody can name it: somebody may have, after the first judgement.
            let is_unused = async || {
                matches!(handle.read(move |store| judge(store, digest)).await, Ok(Verdict::Unused(_)))
            };
            if handle.blobs().remove_if(digest, is_unused).await? {
                tracing::debug!(blob = %digest, "removed a blob that nothing uses");
                handle.change_blob_uses(Vec::new(), ended).await?;
            }
        }
    }
    Ok(())
}

fn judge(store: &dyn Store, digest: BlobDigest) -> Result<Verdict, CallError> {
    let mut ended = Vec::new();
    let mut after = None;
    let mut is_in_use = false;
    loop {
        let uses = store.blob_uses(digest, after.as_ref(), USES_AT_ONCE)?;
        for used in &uses {
            let is_known = store.specs(&[used.job])?.iter().any(Option::is_some);
            match used.role {
                BlobRole::Kept if is_known => return Ok(Verdict::Kept),
                BlobRole::Argument if is_known && !has_ended(store, used.job)? => is_in_use = true,
                BlobRole::Kept | BlobRole::Argument => ended.push(*used),
            }
        }
        match uses.last() {
            Some(last) if uses.len() == USES_AT_ONCE => after = Some(*last),
            Some(_) | None => break,
        }
    }
    Ok(if is_in_use { Verdict::InUse } else { Verdict::Unused(ended) })
}

fn has_ended(store: &dyn Store, job: JobId) -> Result<bool, CallError> {
    Ok(store.finished(&[job])?.iter().any(Option::is_some))
}
