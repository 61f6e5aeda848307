//! How far the watched jobs are, told beside what changes. It waits in no queue: whenever there is time for it, what is new
//! is read from where the newest stands.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::ids::{FlowId, JobId};
use mycelium_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::{Board, MarkNumber, WatchScope};
use crate::grpc::reports::progressed;

/// How often it is told at most.
const INTERVAL: Duration = Duration::from_millis(250);
/// Of how many jobs it is told at once.
const JOBS_MAX: usize = 64;
/// About what a job takes in a message.
const JOB_BYTES: usize = 320;

/// What a watch has been told of how far jobs are.
#[derive(Debug)]
pub(super) struct ProgressNews(Option<News>);

#[derive(Debug)]
struct News {
    board: Arc<Board>,
    newest: watch::Receiver<MarkNumber>,
    /// Up to where it was told.
    told: MarkNumber,
    /// When it may be told again.
    next: Instant,
}

/// What is to be told now.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) message: v1::WatchJobsResponse,
    /// About how many bytes it takes.
    pub(super) bytes: usize,
}

impl ProgressNews {
    /// Of a watch that wants to be told of what stands on this board; none: it does not.
    pub(super) fn of(board: Option<Arc<Board>>) -> Self {
        Self(board.map(|board| {
            let newest = board.newest();
            News { board, newest, told: MarkNumber::default(), next: Instant::now() }
        }))
    }

    /// Waits until there is something to tell of the watched jobs. For ever if nobody wants to know.
    ///
    /// Cancel safe: what is not returned is told the next time.
    pub(super) async fn next(&mut self, scope: &WatchScope) -> Told {
        match &mut self.0 {
            Some(news) => news.next(scope).await,
            None => pending().await,
        }
    }
}

impl News {
    async fn next(&mut self, scope: &WatchScope) -> Told {
        loop {
            let told = self.told;
            // The board lives as long as its handle, and this watch holds that.
            if self.newest.wait_for(|newest| *newest > told).await.is_err() {
                return pending().await;
            }
            tokio::time::sleep_until(self.next).await;
            let wanted = |job: JobId, flow: FlowId| match scope {
                WatchScope::Flow(watched) => *watched == flow,
                WatchScope::Jobs(jobs) => jobs.contains(&job),
            };
            let (marks, upto) = self.board.since(told, JOBS_MAX, wanted);
            (self.told, self.next) = (upto, Instant::now() + INTERVAL);
            if !marks.is_empty() {
                let bytes = marks.len() * JOB_BYTES;
                let progress = marks.iter().map(|(job, mark)| progressed(*job, mark)).collect();
                let message = v1::WatchJobsResponse { progress, ..v1::WatchJobsResponse::default() };
                return Told { message, bytes };
            }
        }
    }
}
