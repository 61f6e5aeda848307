//! Where what attempts have reported waits for the connection.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mycelium_proto::{limits, v1};
use tokio::sync::Notify;

use super::logs::Lines;
use super::{Attempt, Progress, checkpoints};
use crate::ids::JobId;

/// How often what has been reported is sent at most.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// About how many bytes of checkpoints go into one message.
const CHECKPOINT_BYTES_TARGET: usize = 1024 * 1024;

/// About how many bytes of logs go into one message.
const LOG_BYTES_TARGET: usize = 1024 * 1024;
/// How many bytes of logs wait in all.
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the attempts of a worker have reported.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Whether anything waits: asked for each message.
    has_news: AtomicBool,
    /// How many bytes of logs wait.
    log_bytes: AtomicUsize,
    state: Mutex<State>,
    /// Told when something waits, and nothing did.
    news: Notify,
}

#[derive(Default)]
struct State {
    /// Those that have reported, until they end.
    attempts: HashMap<Key, Arc<Attempt>>,
    /// Those of which something waits.
    waiting: Vec<Arc<Attempt>>,
    /// Those of which something waits that is to be sent at once.
    urgent: Vec<Arc<Attempt>>,
    /// What attempts that are over have logged last.
    ended: VecDeque<(Key, Box<Lines>)>,
    /// When something was sent last.
    sent: Option<Instant>,
    /// Whether whoever waits has been told, and nothing was taken since.
    is_told: bool,
}

/// What tells an attempt from all others, of the same job too.
type Key = (JobId, u32);

/// What is to be sent.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) progress: Vec<v1::Progress>,
    pub(crate) logs: Vec<v1::LogBatch>,
    pub(crate) checkpoints: Vec<v1::Checkpoint>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.progress.is_empty() && self.logs.is_empty() && self.checkpoints.is_empty()
    }

    /// Adds of the lines of an attempt what there is room for, of which some is taken. Says what room is left.
    fn add_lines(&mut self, of: Key, lines: &mut Lines, room: usize) -> usize {
        let before = lines.bytes();
        for (first, lines) in lines.take(room.min(limits::LOG_BATCH_BYTES_MAX / 2)) {
            self.logs.push(v1::LogBatch { token: Some(token_of(of)), first, lines });
        }
        room.saturating_sub(before - lines.bytes())
    }
}

impl Hub {
    /// Something of an attempt waits, of which nothing did.
    pub(super) fn wait(&self, attempt: &Arc<Attempt>) {
        self.wait_in(attempt, |state| &mut state.waiting);
    }

    /// Something of an attempt waits that is to be sent at once.
    pub(super) fn wait_urgently(&self, attempt: &Arc<Attempt>) {
        self.wait_in(attempt, |state| &mut state.urgent);
    }

    fn wait_in(&self, attempt: &Arc<Attempt>, line: fn(&mut State) -> &mut Vec<Arc<Attempt>>) {
        let mut state = self.state();
        if attempt.state().is_over {
            return;
        }
        state.attempts.insert(key(attempt), Arc::clone(attempt));
        let line = line(&mut state);
        line.push(Arc::clone(attempt));
        if line.len() == 1 {
            self.tell(&mut state);
        }
    }

    /// Whoever sends is to look.
    fn tell(&self, state: &mut State) {
        state.is_told = false;
        let State { waiting, urgent, ended, .. } = &*state;
        let has_news = !waiting.is_empty() || !urgent.is_empty() || !ended.is_empty();
        self.has_news.store(has_news, Ordering::Release);
        self.news.notify_one();
    }

    /// Whether there is room for more lines of logs.
    pub(super) fn has_room_for_logs(&self) -> bool {
        self.log_bytes.load(Ordering::Relaxed) < LOG_BYTES_MAX
    }

    /// The lines of an attempt that wait count other than before.
    pub(super) fn logs_changed(&self, before: usize, now: usize) {
        if now >= before {
            self.log_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.log_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// An attempt that has reported is over. What it has logged last goes with its outcome.
    pub(super) fn forget(&self, attempt: &Attempt, logs: Option<Box<Lines>>) {
        let mut state = self.state();
        let key = key(attempt);
        // It may have been assigned anew meanwhile.
        if state.attempts.get(&key).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), attempt)) {
            state.attempts.remove(&key);
        }
        if let Some(logs) = logs.filter(|logs| logs.bytes() > 0) {
            state.ended.push_back((key, logs));
            self.tell(&mut state);
        }
    }

    /// A stream has begun: what was sent on the one before may be lost.
    pub(crate) fn send_again(&self) {
        let mut state = self.state();
        let State { attempts, waiting, urgent, sent, .. } = &mut *state;
        urgent.clear();
        for attempt in attempts.values() {
            let mut of_attempt = attempt.state();
            of_attempt.is_progress_new = of_attempt.progress.is_some();
            if !std::mem::replace(&mut of_attempt.is_waiting, true) {
                waiting.push(Arc::clone(attempt));
            }
            if let Some(checkpoints) = &mut of_attempt.checkpoints {
                checkpoints.send_again();
                urgent.push(Arc::clone(attempt));
            }
        }
        *sent = None;
        self.tell(&mut state);
    }

    /// The broker says what became of checkpoints.
    pub(crate) fn on_answers(&self, answers: &v1::CheckpointAnswers) {
        let mut state = self.state();
        for answer in &answers.answers {
            let Some(token) = &answer.token else { continue };
            let Ok(job) = JobId::try_from(token.job_id.as_ref()) else { continue };
            let Some(attempt) = state.attempts.get(&(job, token.attempt)).cloned() else { continue };
            let mut of_attempt = attempt.state();
            let Some(checkpoints) = &mut of_attempt.checkpoints else { continue };
            checkpoints.answered(answer.number, &checkpoints::answer(answer));
            if checkpoints.are_waiting() {
                drop(of_attempt);
                state.urgent.push(attempt);
            }
        }
        if !state.urgent.is_empty() {
            self.tell(&mut state);
        }
    }

    /// Waits until something is to be sent, and tells of it once until something was taken. Cancel safe.
    pub(crate) async fn due(&self) {
        loop {
            let due = {
                let mut state = self.state();
                let is_new = !state.is_told && self.has_news.load(Ordering::Acquire);
                let due = state.sent.map(|sent| sent + INTERVAL).filter(|due| Instant::now() < *due);
                if is_new && (due.is_none() || !state.urgent.is_empty() || !state.ended.is_empty()) {
                    state.is_told = true;
                    return;
                }
                due.filter(|_| is_new)
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.news.notified() => {}
                    }
                }
                None => self.news.notified().await,
            }
        }
    }

    /// Takes what is to be sent now.
    pub(crate) fn take(&self, now: Instant) -> Waiting {
        let mut taken = Waiting::default();
        if !self.has_news.load(Ordering::Acquire) {
            return taken;
        }
        let mut state = self.state();
        let mut bytes = 0;
        while bytes < CHECKPOINT_BYTES_TARGET && taken.checkpoints.len() < limits::CHECKPOINTS_PER_MESSAGE_MAX
        {
            let Some(attempt) = state.urgent.pop() else { break };
            let next = attempt.state().checkpoints.as_mut().and_then(|checkpoints| checkpoints.send());
            if let Some((number, payload)) = next {
                bytes += prost::Message::encoded_len(&payload);
                let (token, payload) = (Some(token(&attempt)), Some(payload));
                taken.checkpoints.push(v1::Checkpoint { token, number, payload });
            }
        }
        let mut room = LOG_BYTES_TARGET;
        while room > 0
            && let Some((key, mut lines)) = state.ended.pop_front()
        {
            let before = lines.bytes();
            room = taken.add_lines(key, &mut lines, room);
            self.logs_changed(before, lines.bytes());
            if lines.bytes() > 0 {
                state.ended.push_front((key, lines));
            }
        }
        let is_time = state.sent.is_none_or(|sent| now >= sent + INTERVAL);
        if is_time {
            state.sent = Some(now);
            let n = state.waiting.len().min(limits::REPORTS_PER_MESSAGE_MAX);
            let attempts: Vec<_> = state.waiting.drain(..n).collect();
            for attempt in attempts {
                let mut of_attempt = attempt.state();
                of_attempt.is_waiting = false;
                if of_attempt.is_over {
                    continue;
                }
                if std::mem::take(&mut of_attempt.is_progress_new)
                    && let Some(Progress { fraction, text }) = of_attempt.progress.clone()
                {
                    let token = Some(token(&attempt));
                    taken.progress.push(v1::Progress { token, fraction, text });
                }
                if let Some(lines) = &mut of_attempt.logs {
                    let before = lines.bytes();
                    if room > 0 {
                        room = taken.add_lines(key(&attempt), lines, room);
                        self.logs_changed(before, lines.bytes());
                    }
                    // What finds no room in this message goes with the next.
                    if lines.bytes() > 0 {
                        of_attempt.is_waiting = true;
                        drop(of_attempt);
                        state.waiting.push(attempt);
                    }
                }
            }
        }
        self.tell(&mut state);
        taken
    }

    /// Nobody takes what waits: whatever there is goes.
    pub(crate) fn discard(&self) {
        let mut state = self.state();
        let State { waiting, urgent, ended, .. } = &mut *state;
        for (_, lines) in ended.drain(..) {
            self.logs_changed(lines.bytes(), 0);
        }
        for attempt in waiting.drain(..).chain(urgent.drain(..)) {
            let mut of_attempt = attempt.state();
            of_attempt.is_waiting = false;
            if let Some(lines) = &mut of_attempt.logs {
                self.logs_changed(lines.bytes(), 0);
                drop(lines.take(usize::MAX));
            }
            if let Some(checkpoints) = &mut of_attempt.checkpoints {
                checkpoints.refuse(checkpoints::UNKNOWN);
            }
        }
        self.has_news.store(false, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Attempts lead back here.
        f.debug_struct("State").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

fn key(attempt: &Attempt) -> Key {
    (attempt.parts.job_id, attempt.parts.attempt)
}

fn token(attempt: &Attempt) -> v1::Token {
    token_of(key(attempt))
}

fn token_of((job, attempt): Key) -> v1::Token {
    v1::Token { job_id: job.to_wire(), attempt }
}
