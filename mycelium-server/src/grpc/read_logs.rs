//! `ReadLogs`: what an attempt has logged, and what attempts log from then on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::ids::{Attempt, JobId, Token};
use mycelium_core::status::Status;
use mycelium_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status as RpcStatus;

use super::convert;
use crate::broker::{CallError, Handle, Peer, WatchScope, WatchWants};
use crate::error::{Error, Gone};
use crate::logs::Piece;
use crate::queries::Job;
use crate::queries::jobs::find;
use crate::spawn::{OnStop, guarded};

/// How many messages may wait for who reads them.
const OUTGOING_MAX: usize = 2;
/// How often is looked at most for what was logged.
const INTERVAL: Duration = Duration::from_millis(100);

type Outgoing = mpsc::Sender<Result<v1::ReadLogsResponse, RpcStatus>>;

/// Begins to read.
pub(crate) async fn read_logs(
    handle: Handle,
    drain: CancellationToken,
    peer: Peer,
    request: v1::ReadLogsRequest,
) -> Result<ReceiverStream<Result<v1::ReadLogsResponse, RpcStatus>>, Error> {
    let job = convert::job_id("job_id", &request.job_id)?;
    let permit = handle.admit_watch()?;
    let found = find(&handle, job).await?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let tasks = handle.tasks().clone();
    let mut reading = Reading { handle, job, outgoing: outgoing.clone(), attempt: Attempt(0), next: 0 };
    tasks.spawn("a reader of logs", async move {
        let _permit = permit;
        let read = async {
            match request.follow {
                true => reading.follow(peer, Attempt(request.attempt)).await,
                false => reading.read_one(&found, Attempt(request.attempt)).await,
            }
        };
        let read = guarded("a reader of logs", OnStop::Cut(&drain), read).await;
        let read = read.unwrap_or_else(|unfinished| Err(Ended::Failed(unfinished.into())));
        if let Err(Ended::Failed(error)) = read {
            // Who does not read any more does not want to know.
            let _gone = outgoing.send(Err(Error::from(error).into())).await;
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// Why it does not come to its end.
enum Ended {
    /// Nobody reads any more.
    Gone,
    Failed(CallError),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

struct Reading {
    handle: Handle,
    job: JobId,
    outgoing: Outgoing,
    /// The attempt that is read.
    attempt: Attempt,
    /// The number of its next line.
    next: u64,
}

impl Reading {
    /// What is there of an attempt; 0: the newest.
    async fn read_one(&mut self, job: &Job, attempt: Attempt) -> Result<(), Ended> {
        self.attempt = if attempt.0 > 0 { attempt } else { attempt_of(job) };
        // What its elf has said before is written by then.
        self.handle.logs().flush().await;
        self.tell(job).await
    }

    /// What is logged until the attempt has ended, or if none is named, the job.
    async fn follow(&mut self, peer: Peer, only: Attempt) -> Result<(), Ended> {
        let scope = WatchScope::Jobs(Arc::new(HashSet::from([self.job])));
        let mut news = self.handle.logs().news();
        loop {
            // Before the job is looked at: what changes then is told.
            let watch = self.handle.watch(peer, scope.clone(), None, WatchWants::default()).await?.events;
            loop {
                let job = find(&self.handle, self.job).await?;
                let newest = attempt_of(&job);
                let attempt = if only.0 > 0 { only } else { newest };
                let is_held = matches!(job.status(), Status::Assigned | Status::Running);
                let has_ended = match job.status() {
                    Status::Final(_) => true,
                    _ => only.0 > 0 && (newest > only || (newest == only && !is_held)),
                };
                if has_ended || attempt != self.attempt {
                    // The last lines of an attempt come before its end.
                    self.handle.logs().flush().await;
                }
                if attempt != self.attempt {
                    self.tell(&job).await?;
                    (self.attempt, self.next) = (attempt, 0);
                }
                self.tell(&job).await?;
                if has_ended {
                    return Ok(());
                }
                tokio::select! {
                    piece = watch.next() => match piece {
                        Some(piece) => watch.told(&piece, piece.changes().len()),
                        // It was cut off, and begins again.
                        None => break,
                    },
                    _ = news.changed() => tokio::time::sleep(INTERVAL).await,
                    () = self.outgoing.closed() => return Err(Ended::Gone),
                }
            }
        }
    }

    /// Tells what was not told yet of the attempt that is read.
    async fn tell(&mut self, job: &Job) -> Result<(), Ended> {
        if self.attempt.0 == 0 {
            return Ok(());
        }
        let token = Token { job: self.job, attempt: self.attempt };
        let pieces = self.handle.logs().read(&self.handle, job.head().flow, token).await?;
        for Piece { first, mut lines } in pieces {
            let known = usize::try_from(self.next.saturating_sub(first)).unwrap_or(usize::MAX);
            lines.drain(..known.min(lines.len()));
            if lines.is_empty() {
                continue;
            }
            let first = first.max(self.next);
            let left_out = first - self.next;
            self.next = first + lines.len() as u64;
            let response = v1::ReadLogsResponse { attempt: self.attempt.0, left_out, lines };
            self.outgoing.send(Ok(response)).await.map_err(|_gone| Gone)?;
        }
        Ok(())
    }
}

fn attempt_of(job: &Job) -> Attempt {
    match job {
        Job::Unfinished(view) => view.attempt,
        Job::Finished(record) => record.attempt,
    }
}
