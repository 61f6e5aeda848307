//! What attempts report while they run, as elves send it and as readers see it.

use bytes::Bytes;
use mycelium_core::ids::{Attempt, JobId, Token};
use mycelium_proto::v1::payload;
use mycelium_proto::{limits, v1};
use prost::Message as _;

use super::convert;
use super::declare::token;
use crate::broker::{Board, CheckpointAnswer, CheckpointSaid, CheckpointVerdict, Mark, Reported};
use crate::documents::cut;
use crate::error::Error;
use crate::logs::{Logged, Piece};

/// How far attempts say that they are. It is best effort: what cannot be read is left out.
pub(super) fn read_progress(progress: Vec<v1::Progress>) -> Vec<(Token, Reported)> {
    let read = |progress: v1::Progress| {
        let token = progress.token.as_ref().and_then(token)?;
        if progress.fraction.is_nan() {
            return None;
        }
        let mut text = progress.text;
        cut(&mut text, limits::PROGRESS_TEXT_BYTES_MAX);
        Some((token, Reported { fraction: progress.fraction.clamp(0.0, 1.0), text }))
    };
    progress.into_iter().take(limits::REPORTS_PER_MESSAGE_MAX).filter_map(read).collect()
}

/// What attempts have logged, in lines of bounded length. It is best effort: what cannot be read is left out.
pub(super) fn read_logs(logs: Vec<v1::LogBatch>) -> Vec<Logged> {
    let read = |batch: v1::LogBatch| {
        let v1::LogBatch { token: named, first, mut lines } = batch;
        let token = named.as_ref().and_then(token)?;
        let mut bytes = 0;
        for line in &mut lines {
            cut(&mut line.text, limits::LOG_LINE_BYTES_MAX);
            cut(&mut line.target, limits::NAME_BYTES_MAX);
        }
        let fits = |line: &&v1::LogLine| {
            bytes += line.text.len() + line.target.len();
            bytes <= limits::LOG_BATCH_BYTES_MAX
        };
        let n = lines.iter().take_while(fits).count();
        lines.truncate(n);
        Some(Logged { token, piece: Piece { first, lines } })
    };
    logs.into_iter().take(limits::REPORTS_PER_MESSAGE_MAX).filter_map(read).collect()
}

/// Checkpoints that attempts have sent. What cannot be kept is answered so.
///
/// # Errors
/// Those of a message that makes no sense: what it speaks of cannot be answered.
pub(super) fn read_checkpoints(checkpoints: Vec<v1::Checkpoint>) -> Result<Vec<CheckpointSaid>, Error> {
    if checkpoints.len() > limits::CHECKPOINTS_PER_MESSAGE_MAX {
        let max = limits::CHECKPOINTS_PER_MESSAGE_MAX;
        return Err(Error::field("checkpoints", format!("must be at most {max}")));
    }
    let read = |(index, checkpoint): (usize, v1::Checkpoint)| {
        let v1::Checkpoint { token: named, number, payload } = checkpoint;
        let token = named.as_ref().and_then(token).ok_or_else(|| {
            Error::field(format!("checkpoints[{index}].token"), "must name a job of 16 bytes")
        })?;
        Ok(CheckpointSaid { token, number, body: checked_body(payload) })
    };
    checkpoints.into_iter().enumerate().map(read).collect()
}

/// What is stored of a checkpoint; or why it cannot be.
fn checked_body(payload: Option<v1::Payload>) -> Result<Bytes, String> {
    let payload = payload.ok_or("it has no payload")?;
    let max = limits::CHECKPOINT_BYTES_MAX;
    match &payload.content {
        Some(payload::Content::Inline(bytes)) if bytes.len() <= max => {}
        Some(payload::Content::Inline(bytes)) => {
            return Err(format!("it takes {} bytes, and at most {max} are kept", bytes.len()));
        }
        Some(payload::Content::Blob(_)) => return Err("it is a blob, and has to be inline".to_owned()),
        None => return Err("its payload is empty".to_owned()),
    }
    if payload.encoding.len() > limits::NAME_BYTES_MAX {
        return Err(format!("its encoding must be at most {} bytes", limits::NAME_BYTES_MAX));
    }
    Ok(payload.encode_to_vec().into())
}

/// What an elf is told of a checkpoint.
pub(super) fn checkpoint_answer(answer: CheckpointAnswer) -> v1::CheckpointAnswer {
    let CheckpointAnswer { token, number, verdict } = answer;
    let (verdict, message) = match verdict {
        CheckpointVerdict::Stored => (v1::CheckpointVerdict::Stored, String::new()),
        CheckpointVerdict::Stale => (v1::CheckpointVerdict::Stale, String::new()),
        CheckpointVerdict::Refused(why) => (v1::CheckpointVerdict::Refused, why),
    };
    v1::CheckpointAnswer { token: Some(convert::token(&token)), number, verdict: verdict.into(), message }
}

/// Shows how far a job is, if it runs and has said.
pub(super) fn show_progress(board: &Board, job: &mut v1::Job) {
    let is_held = matches!(job.status(), v1::JobStatus::Assigned | v1::JobStatus::Running);
    if !is_held {
        return;
    }
    if let Some(id) = JobId::from_slice(&job.job_id) {
        job.progress =
            board.mark(Token { job: id, attempt: Attempt(job.attempt) }).map(|mark| progress(&mark));
    }
}

/// What a watch tells of a job.
pub(super) fn progressed(job: JobId, mark: &Mark) -> v1::JobProgressed {
    v1::JobProgressed { job_id: convert::id(job.as_bytes()), progress: Some(progress(mark)) }
}

fn progress(mark: &Mark) -> v1::JobProgress {
    v1::JobProgress {
        fraction: mark.fraction,
        text: mark.text.as_ref().to_owned(),
        reported_at: Some(convert::timestamp(mark.at)),
        attempt: mark.attempt.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_progress_is_bounded_and_what_means_nothing_is_left_out() {
        let token = |bytes: usize| Some(v1::Token { job_id: vec![7; bytes].into(), attempt: 2 });
        let said = |token, fraction, text: &str| v1::Progress { token, fraction, text: text.to_owned() };
        let read = read_progress(vec![
            said(token(16), 7.5, &"ü".repeat(200)),
            said(token(16), f64::NEG_INFINITY, ""),
            said(token(16), f64::NAN, ""),
            said(token(15), 0.5, ""),
            said(None, 0.5, ""),
        ]);
        let read: Vec<_> = read.into_iter().map(|(_, read)| (read.fraction, read.text.len())).collect();
        assert!(read[0].1 <= limits::PROGRESS_TEXT_BYTES_MAX && read[0].1 > 200);
        assert_eq!((read[0].0, read[1], read.len()), (1.0, (0.0, 0), 2));
    }
}
