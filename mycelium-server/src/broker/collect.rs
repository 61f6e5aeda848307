//! Removes blobs that nothing uses.
//!
//! A blob is looked at when its pin runs out, which is when those who wrote it have had time enough to name it. All are
//! looked at one grace period after the start (pins of an earlier process are gone), and once a day, for those that
//! lost their last use since.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use mycelium_core::ids::JobId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::message::CallError;
use crate::defect;
use crate::report::Report;
use crate::store::{BlobDigest, BlobRole, BlobUse, Reads};

/// How often all blobs are looked at, beyond the first time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The longest pause before expired pins are looked for; a twentieth of the grace period if that is shorter.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How many blobs are looked at together.
const BLOBS_AT_ONCE: usize = 256;
/// How many uses of blobs are read at once.
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
        if handle.takes_look_for_blobs() {
            // Whoever is about to name one has as long as for one that was just written.
            next_sweep = next_sweep.min(Instant::now() + grace);
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
    let mut blobs = handle.blobs().list().ready_chunks(BLOBS_AT_ONCE);
    while let Some(listed) = blobs.next().await {
        if stop.is_cancelled() {
            return Ok(());
        }
        let listed: Vec<BlobDigest> =
            listed.into_iter().map(|blob| blob.map(|blob| blob.digest)).collect::<Result<_, _>>()?;
        look_at(handle, &listed).await?;
    }
    Ok(())
}

async fn look_at_expired(handle: &Handle, stop: &CancellationToken) -> Result<(), CallError> {
    loop {
        let expired = handle.blobs().expired(BLOBS_AT_ONCE);
        if expired.is_empty() || stop.is_cancelled() {
            return Ok(());
        }
        look_at(handle, &expired).await?;
    }
}

/// Removes those of some blobs that nothing uses. What goes wrong with one keeps that one, and no other.
async fn look_at(handle: &Handle, digests: &[BlobDigest]) -> Result<(), CallError> {
    let judged = defect::catch_async("the uses of blobs", judge(&**handle.store(), digests)).await;
    let alone = |digest| async move {
        let judged = defect::catch_async("the uses of a blob", judge(&**handle.store(), &[digest])).await;
        judged.unwrap_or_else(|defect| Err(defect.into()))
    };
    let mut verdicts = match judged.unwrap_or_else(|defect| Err(defect.into())) {
        Ok(verdicts) => verdicts,
        Err(error) if digests.len() > 1 && keeps_one(&error) => {
            let mut verdicts = HashMap::new();
            for digest in digests {
                match alone(*digest).await {
                    Err(error) if keeps_one(&error) => keep(handle, *digest, &error).await?,
                    verdict => verdicts.extend(verdict?),
                }
            }
            verdicts
        }
        Err(error) => match digests {
            [digest] if keeps_one(&error) => {
                keep(handle, *digest, &error).await?;
                HashMap::new()
            }
            _ => return Err(error),
        },
    };
    for digest in digests {
        let Some(verdict) = verdicts.remove(digest) else { continue };
        let acted = defect::catch_async("the removal of a blob", act_on(handle, *digest, verdict)).await;
        match acted.unwrap_or_else(|defect| Err(defect.into())) {
            Err(error) if keeps_one(&error) => keep(handle, *digest, &error).await?,
            acted => acted?,
        }
    }
    Ok(())
}

/// Whether what went wrong is about one blob, so that others can be looked at all the same.
fn keeps_one(error: &CallError) -> bool {
    match error {
        CallError::Defect(_) => true,
        CallError::Read(error) => error.is_damage(),
        _ => false,
    }
}

/// What cannot be judged stays, and is pinned, so that it is looked at again.
async fn keep(handle: &Handle, digest: BlobDigest, error: &CallError) -> Result<(), CallError> {
    // A defect is in the log already.
    if !matches!(error, CallError::Defect(_)) {
        tracing::error!(blob = %digest, error = %Report(error), "cannot tell whether a blob is used; it is kept");
    }
    handle.blobs().find(digest).await?;
    Ok(())
}

async fn act_on(handle: &Handle, digest: BlobDigest, verdict: Verdict) -> Result<(), CallError> {
    match verdict {
        Verdict::Kept => {}
        Verdict::InUse => {
            // Pins it again, so that it is looked at when that may have ended.
            handle.blobs().find(digest).await?;
        }
        Verdict::Unused(ended) => {
            // Judged again while nobody can name it: somebody may have, after the first judgement.
            let is_unused = async || {
                let verdicts = judge(&**handle.store(), &[digest]).await;
                matches!(verdicts.map(|mut verdicts| verdicts.remove(&digest)), Ok(Some(Verdict::Unused(_))))
            };
            if handle.blobs().remove_if(digest, is_unused).await? {
                tracing::debug!(blob = %digest, "removed a blob that nothing uses");
                handle.change_blob_uses(Vec::new(), ended).await?;
            }
        }
    }
    Ok(())
}

/// What becomes of blobs.
async fn judge(store: &dyn Reads, digests: &[BlobDigest]) -> Result<HashMap<BlobDigest, Verdict>, CallError> {
    let mut verdicts: HashMap<BlobDigest, Verdict> =
        digests.iter().map(|digest| (*digest, Verdict::Unused(Vec::new()))).collect();
    // Those of which it is known that they stay are not asked about any more.
    let mut open = digests.to_vec();
    let mut after = None;
    while !open.is_empty() {
        let uses = store.blob_uses(&open, after, USES_AT_ONCE).await?;
        let jobs: Vec<JobId> = uses.iter().map(|used| used.job).collect();
        let known = store.outlines(&jobs).await?;
        let needed: Vec<BlobUse> =
            uses.iter().zip(known).filter(|(_, known)| known.is_some()).map(|(used, _)| *used).collect();
        let arguments = needed.iter().filter(|used| used.role == BlobRole::Argument);
        let arguments: Vec<JobId> = arguments.map(|used| used.job).collect();
        let ended: HashSet<JobId> =
            store.finished(&arguments).await?.into_iter().flatten().map(|record| record.head.id).collect();
        let needed: HashSet<BlobUse> = needed
            .into_iter()
            .filter(|used| used.role == BlobRole::Kept || !ended.contains(&used.job))
            .collect();
        for used in &uses {
            let Some(verdict) = verdicts.get_mut(&used.blob) else { continue };
            match (&mut *verdict, used.role) {
                (Verdict::Kept, _) => {}
                (_, BlobRole::Kept) if needed.contains(used) => *verdict = Verdict::Kept,
                (_, BlobRole::Argument) if needed.contains(used) => *verdict = Verdict::InUse,
                (Verdict::Unused(ended), _) => ended.push(*used),
                (Verdict::InUse, _) => {}
            }
        }
        if uses.len() < USES_AT_ONCE {
            break;
        }
        after = uses.last().copied();
        open.retain(|digest| verdicts.get(digest) != Some(&Verdict::Kept));
    }
    Ok(verdicts)
}
