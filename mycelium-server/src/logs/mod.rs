//! What attempts log. It is kept beside the store, in no commit, and written by a task of its own: it may be lost, and is in
//! the way of nothing.

mod files;
mod lines;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mycelium_core::Core;
use mycelium_core::ids::{FlowId, JobId, SessionId, Token};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::files::{End, Files};
pub(crate) use self::lines::Piece;
use self::lines::bytes_of;
use crate::broker::{CallError, Handle};
use crate::report::Report;
use crate::store::isolate;

/// The folder of the logs of a mycelium, beside that of its blobs.
const FOLDER: &str = "logs";
/// How many messages may wait to be written, and how many bytes. What comes beyond that is left out.
const QUEUED_MAX: usize = 1_024;
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of how many attempts it is remembered how far their files have come. Of others it is found out again.
const OPEN_MAX: usize = 4_096;

/// What an attempt has logged.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) token: Token,
    pub(crate) piece: Piece,
}

enum Item {
    Lines {
        session: SessionId,
        logged: Vec<Logged>,
        bytes: usize,
    },
    /// Told once all that came before is written.
    Flush(oneshot::Sender<()>),
    Remove(FlowId, oneshot::Sender<Result<(), CallError>>),
}

/// The logs of a mycelium.
#[derive(Debug)]
pub(crate) struct Logs {
    files: Arc<Files>,
    queue: mpsc::Sender<Item>,
    queued_bytes: AtomicUsize,
    /// For the task that writes.
    items: Mutex<Option<mpsc::Receiver<Item>>>,
    /// How many lines found no room.
    left_out: AtomicU64,
    /// Counts what was written.
    news: watch::Sender<u64>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lines { .. } => "Lines",
            Self::Flush(_) => "Flush",
            Self::Remove(..) => "Remove",
        })
    }
}

impl Logs {
    /// Those of a mycelium whose blobs are in this folder; in memory if they are.
    pub(crate) fn beside(blobs: Option<PathBuf>) -> Self {
        let files = match blobs {
            Some(blobs) => Files::Folder(blobs.with_file_name(FOLDER)),
            None => Files::Memory(Mutex::default()),
        };
        let (queue, items) = mpsc::channel(QUEUED_MAX);
        Self {
            files: Arc::new(files),
            queue,
            queued_bytes: AtomicUsize::new(0),
            items: Mutex::new(Some(items)),
            left_out: AtomicU64::new(0),
            news: watch::Sender::new(0),
        }
    }

    /// Takes what attempts of a session have logged, if there is room.
    pub(crate) fn offer(&self, session: SessionId, logged: Vec<Logged>) {
        let lines = || logged.iter().flat_map(|logged| &logged.piece.lines);
        let (bytes, n) = (lines().map(bytes_of).sum(), lines().count());
        if bytes == 0 {
            return;
        }
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let item = Item::Lines { session, logged, bytes };
        if queued > QUEUED_BYTES_MAX || self.queue.try_send(item).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if self.left_out.fetch_add(n as u64, Ordering::Relaxed) == 0 {
                tracing::warn!("attempts log more than is written: lines are left out");
            }
        }
    }

    /// What is kept of an attempt.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) async fn read(
        &self,
        handle: &Handle,
        flow: FlowId,
        token: Token,
    ) -> Result<Vec<Piece>, CallError> {
        let files = Arc::clone(&self.files);
        let read = move || files.read(flow, token).map_err(|error| unreadable(token.job, &error));
        handle.aside(read).await
    }

    /// Waits until all that has come is written.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            // If it has stopped, nothing more will be written.
            let _stopped = is_done.await;
        }
    }

    /// Removes what attempts of a flow have logged.
    ///
    /// # Errors
    /// If that cannot be removed.
    pub(crate) async fn remove(&self, flow: FlowId) -> Result<(), CallError> {
        let (done, is_done) = oneshot::channel();
        self.queue.send(Item::Remove(flow, done)).await.map_err(|_closed| CallError::Stopping)?;
        is_done.await.unwrap_or(Err(CallError::Stopping))
    }

    /// Counts what was written, as that changes.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

fn unreadable(job: JobId, error: &std::io::Error) -> CallError {
    CallError::Unreadable(format!("what job {job} has logged: {error}"))
}

/// How far an attempt has come, whose lines are written.
#[derive(Debug, Clone, Copy)]
struct Open {
    flow: FlowId,
    session: SessionId,
    end: End,
}

/// Writes what attempts log, until it is told to stop.
pub(crate) async fn write_logs(handle: Handle, stop: CancellationToken) {
    let items = handle.logs().items.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut items) = items else { return };
    let mut writer = Writer { handle, open: HashMap::new(), has_failed: false };
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            n = items.recv_many(&mut taken, QUEUED_MAX) => if n == 0 { break },
        }
        writer.write(&mut taken).await;
    }
    // What has come until then; those who wait for the rest see that nothing will come.
    items.close();
    while let Ok(item) = items.try_recv() {
        taken.push(item);
    }
    writer.write(&mut taken).await;
}

struct Writer {
    handle: Handle,
    open: HashMap<Token, Open>,
    /// Whether that was said.
    has_failed: bool,
}

impl Writer {
    async fn write(&mut self, items: &mut Vec<Item>) {
        let mut lines = Vec::new();
        for item in items.drain(..) {
            match item {
                Item::Lines { session, logged, bytes } => {
                    self.handle.logs().queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    lines.push((session, logged));
                }
                Item::Flush(done) => {
                    self.write_lines(std::mem::take(&mut lines)).await;
                    // Who does not wait any more does not want to know.
                    let _gone = done.send(());
                }
                Item::Remove(flow, done) => {
                    self.write_lines(std::mem::take(&mut lines)).await;
                    self.open.retain(|_, open| open.flow != flow);
                    let files = Arc::clone(&self.handle.logs().files);
                    let remove = move || {
                        let gone = |error: std::io::Error| {
                            CallError::Unreadable(format!(
                                "the logs of flow {flow} cannot be removed: {error}"
                            ))
                        };
                        files.remove(flow).map_err(gone)
                    };
                    let _gone = done.send(self.handle.aside(remove).await);
                }
            }
        }
        self.write_lines(lines).await;
    }

    async fn write_lines(&mut self, lines: Vec<(SessionId, Vec<Logged>)>) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.try_write(lines).await {
            if !std::mem::replace(&mut self.has_failed, true) {
                tracing::warn!(error = %Report(&error), "what attempts log cannot be written, and is left out");
            }
            // Nobody knows how far their files have come.
            self.open.clear();
        } else {
            self.has_failed = false;
        }
        self.handle.logs().news.send_modify(|news| *news += 1);
    }

    async fn try_write(&mut self, lines: Vec<(SessionId, Vec<Logged>)>) -> Result<(), CallError> {
        self.open_all(&lines).await?;
        let mut appends: Vec<(Open, Logged)> = Vec::new();
        for (session, logged) in lines {
            for logged in logged {
                // What others say of an attempt is not its log.
                if let Some(open) = self.open.get(&logged.token).filter(|open| open.session == session) {
                    appends.push((*open, logged));
                }
            }
        }
        let files = Arc::clone(&self.handle.logs().files);
        let ends = self.handle.aside(move || append_all(&files, appends)).await?;
        for (token, end) in ends {
            if let Some(open) = self.open.get_mut(&token) {
                open.end = end;
            }
        }
        Ok(())
    }

    /// Finds out who holds, or has held, the attempts of which nothing is known yet, and how far their files have come.
    async fn open_all(&mut self, lines: &[(SessionId, Vec<Logged>)]) -> Result<(), CallError> {
        if self.open.len() > OPEN_MAX {
            self.open.clear();
        }
        let said = lines
            .iter()
            .flat_map(|(session, logged)| logged.iter().map(move |logged| (*session, logged.token)));
        let new: HashSet<(SessionId, Token)> = said
            .filter(|(session, token)| self.open.get(token).is_none_or(|open| open.session != *session))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let new: Vec<_> = new.into_iter().collect();
        let asked = new.clone();
        let held = self.handle.query(move |core, _| {
            asked.into_iter().map(|(session, token)| flow_in_core(core, session, token)).collect::<Vec<_>>()
        });
        let held = held.await?;
        let ended: Vec<JobId> = (new.iter().zip(&held))
            .filter_map(|((_, token), flow)| flow.is_none().then_some(token.job))
            .collect();
        // Of a job whose record is damaged nothing is known.
        let records = isolate(&ended, |jobs| self.handle.store().finished(jobs)).await?;
        let records = records.into_iter().filter_map(|record| record.ok().flatten());
        let finished: HashMap<JobId, _> = records.map(|record| (record.head.id, record)).collect();
        let mut known = Vec::new();
        for ((session, token), flow) in new.into_iter().zip(held) {
            let of_finished = || {
                let record = finished.get(&token.job)?;
                let attempts = record.all_attempts();
                let is_its = |held: SessionId, number| held == session && number == token.attempt;
                attempts.iter().any(|past| is_its(past.held.session, past.number)).then_some(record.head.flow)
            };
            if let Some(flow) = flow.or_else(of_finished) {
                known.push((session, token, flow));
            }
        }
        let files = Arc::clone(&self.handle.logs().files);
        let find = move || {
            let find = |(session, token, flow): (SessionId, Token, FlowId)| {
                let end = files.end(flow, token).map_err(|error| unreadable(token.job, &error))?;
                Ok((token, Open { flow, session, end }))
            };
            known.into_iter().map(find).collect::<Result<Vec<_>, CallError>>()
        };
        self.open.extend(self.handle.aside(find).await?);
        Ok(())
    }
}

/// The flow of an attempt that the session holds or has held, if its job is unfinished.
fn flow_in_core(core: &Core, session: SessionId, token: Token) -> Option<FlowId> {
    if let Some(flow) = core.token_flow(session, token) {
        return Some(flow);
    }
    let past = core.attempts(token.job)?;
    let is_its = past.iter().any(|past| past.held.session == session && past.number == token.attempt);
    is_its.then(|| core.job(token.job).map(|view| view.head.flow))?
}

/// Adds lines to the files of their attempts, in their order. Those that were written before are passed over.
fn append_all(files: &Files, appends: Vec<(Open, Logged)>) -> Result<Vec<(Token, End)>, CallError> {
    let mut ends: HashMap<Token, End> = HashMap::new();
    for (open, Logged { token, mut piece }) in appends {
        let end = ends.entry(token).or_insert(open.end);
        let known = usize::try_from(end.next.saturating_sub(piece.first)).unwrap_or(usize::MAX);
        piece.lines.drain(..known.min(piece.lines.len()));
        piece.first = piece.first.max(end.next);
        if !piece.lines.is_empty() {
            let appended = files.append(open.flow, token, &piece, *end);
            *end = appended.map_err(|error| {
                CallError::Unreadable(format!("what job {} logs cannot be written: {error}", token.job))
            })?;
        }
    }
    Ok(ends.into_iter().collect())
}
