//! What the owner of a core does when a commit failed or the broker contradicted itself: it starts again from the store.

use std::future::{Future as _, poll_fn};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::image::Counters;

use super::refusals::Found;
use super::{Driver, DriverError, Setback};
use crate::broker::message::{CallError, Message};
use crate::broker::progress::{Progress, StoreState};
use crate::broker::start::{StartError, load_core};
use crate::broker::watch::Watches;
use crate::report::Report;
use crate::store;

/// The first pause before a store that failed is read again; it doubles up to [`REBUILD_PAUSE_MAX`].
const REBUILD_PAUSE_MIN: Duration = Duration::from_millis(50);
const REBUILD_PAUSE_MAX: Duration = Duration::from_secs(5);
/// As many questions wait for a store that is read again; more are refused.
const ASKED_MAX: usize = 1_024;
/// How many turns in a row may come to a defect that no message brings, before it is clear that starting again from the
/// store does not help.
pub(super) const DEFECTS_MAX: u32 = 3;

impl Driver {
    /// Memory may be ahead of the disk or behind it, or wrong. Forgets all of it, and starts from the store as at the very
    /// beginning.
    pub(super) async fn rebuild(&mut self, setback: Setback) -> Result<(), DriverError> {
        let found = match &setback {
            Setback::Store(store::Error::Refused { .. }) => Some(self.refusals.on_refused()),
            Setback::Store(_) | Setback::Defect(_) => None,
        };
        match &setback {
            Setback::Store(error) => {
                tracing::error!(error = %Report(error), "the store failed; starting again from it");
                let state = StoreState::after(error);
                self.counting.store_failed(if found.is_some() { "refused" } else { state.name() });
                self.set_state(state);
                match found {
                    Some(Found::Call) => self.requests.fail_all(&CallError::StoreRefuses),
                    Some(Found::Nothing | Found::Half | Found::Part) | None => {}
                }
                self.refuse_all();
            }
            Setback::Defect(defect) => {
                self.progress.send_modify(|progress| progress.defect = Some(*defect));
                self.counting.defect();
                self.set_state(StoreState::Unavailable);
                self.answer_all(&CallError::Defect(*defect));
            }
        }
        self.streams.drop_all();
        self.board.clear();
        self.to_evaluate.clear();
        match setback {
            // What is refused comes again in smaller batches, or fails, unless it is the core's own.
            Setback::Store(error)
                if !error.is_retryable() && found.is_none_or(|found| found == Found::Nothing) =>
            {
                return Err(DriverError::Store(error));
            }
            // Where what is stored leads to it, and no message, starting again leads nowhere.
            Setback::Defect(defect) if self.defects == DEFECTS_MAX => {
                return Err(DriverError::Defect(defect));
            }
            Setback::Defect(_) if !self.has_messages => self.defects += 1,
            Setback::Defect(_) | Setback::Store(_) => {}
        }
        let mut pause = REBUILD_PAUSE_MIN;
        loop {
            let mut asked = Vec::new();
            let ControlFlow::Continue(loaded) = self.load(&mut asked).await else { return Ok(()) };
            match loaded {
                Ok((core, counters)) => {
                    self.core = core;
                    self.counting.begin(&self.core);
                    self.registry.begin(self.core.sessions());
                    // Leases began anew while it was read.
                    self.turns.forget();
                    self.commit = counters.commit;
                    self.watches = Watches::new(counters.commit);
                    asked.into_iter().for_each(|question| self.answer_question(question));
                    if self.wait_until_writable().await.is_break() {
                        return Ok(());
                    }
                    if self.disk.log().check_writable().await.is_ok() {
                        self.set_state(StoreState::Writable);
                        tracing::info!(commit = %self.commit, "started again from the store");
                        return Ok(());
                    }
                }
                Err(StartError::Store(error)) if error.is_retryable() => {
                    self.set_state(StoreState::Unavailable);
                    tracing::warn!(error = %Report(&error), "the store is still unavailable");
                }
                Err(error) => return Err(DriverError::Start(error)),
            }
            if self.refuse_while(pause).await.is_break() {
                return Ok(());
            }
            pause = (pause * 2).min(REBUILD_PAUSE_MAX);
        }
    }

    /// Reads the store, and refuses meanwhile what comes in: one that is far away may take long, or not answer. Questions
    /// wait for it in `asked` if only writing failed. Breaks if it is told to stop.
    async fn load(
        &mut self,
        asked: &mut Vec<Message>,
    ) -> ControlFlow<(), Result<(Core, Counters), StartError>> {
        let (store, config, clock) = (self.disk.store(), self.config.clone(), self.clock.clone());
        let last_evaluation = self.core.last_evaluation();
        let checkpointed = Arc::clone(&self.checkpointed);
        let mut load = Box::pin(async {
            let loaded = load_core(&*store, &config, &clock, last_evaluation).await?;
            checkpointed.load(&*store).await?;
            Ok(loaded)
        });
        loop {
            // On a disk of this machine the call itself may block.
            let loading = poll_fn(|context| self.disk.block(|| load.as_mut().poll(context)));
            tokio::select! {
                biased;
                loaded = loading => return ControlFlow::Continue(loaded),
                message = self.inbox.recv() => match message {
                    // What the core knows until then may never have been stored. Of too many, the last are refused.
                    Some(question @ (Message::Query(_) | Message::Watch(_))) if self.is_readable() => {
                        asked.push(question);
                        asked.truncate(ASKED_MAX);
                    }
                    message => self.refuse(message)?,
                },
            }
        }
    }

    /// Waits while the disk is full or read-only, and answers those who ask what is stored: the core knows just that.
    /// Nothing else happens meanwhile, or it could not be stored. Breaks if it is told to stop.
    async fn wait_until_writable(&mut self) -> ControlFlow<()> {
        let mut pause = REBUILD_PAUSE_MIN;
        let mut told = StoreState::Writable;
        loop {
            let Err(error) = self.disk.log().check_writable().await else {
                return ControlFlow::Continue(());
            };
            if error.lack().is_none() {
                // It has to be loaded again.
                return ControlFlow::Continue(());
            }
            let state = StoreState::after(&error);
            self.set_state(state);
            if told != state {
                told = state;
                tracing::error!(error = %Report(&error), "nothing can be stored; reads go on");
            }
            self.refuse_while(pause).await?;
            pause = (pause * 2).min(REBUILD_PAUSE_MAX);
        }
    }

    fn set_state(&self, state: StoreState) {
        let commit = self.commit;
        self.progress.send_modify(|progress| *progress = Progress { commit, store: state, ..*progress });
    }

    /// Refuses all that comes in for a while, but for questions that can be answered. Breaks if it is told to stop.
    async fn refuse_while(&mut self, pause: Duration) -> ControlFlow<()> {
        let until = tokio::time::Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, self.inbox.recv()).await {
                Err(_elapsed) => return ControlFlow::Continue(()),
                Ok(message) => self.refuse(message)?,
            }
        }
    }

    /// Refuses a message, unless it is a question that can be answered. Breaks if it is told to stop, or all its callers are
    /// gone.
    fn refuse(&mut self, message: Option<Message>) -> ControlFlow<()> {
        match message {
            Some(Message::Stop) | None => {
                self.stopping = true;
                return ControlFlow::Break(());
            }
            Some(question @ (Message::Query(_) | Message::Watch(_))) if self.is_readable() => {
                self.answer_question(question);
            }
            Some(message) => {
                self.waiting.push_back(message);
                self.refuse_all();
            }
        }
        ControlFlow::Continue(())
    }

    /// Answers a question from the core, which knows just what is stored.
    fn answer_question(&mut self, question: Message) {
        match question {
            Message::Query(query) => query(&self.core, self.commit),
            Message::Watch(start) => {
                self.watches.forget_closed();
                self.watches.start(start, self.commit, &self.core);
            }
            // Nothing else is asked.
            _ => {}
        }
    }

    fn is_readable(&self) -> bool {
        self.progress.borrow().store.is_readable()
    }

    /// Answers everybody who waits that the store takes nothing.
    fn refuse_all(&mut self) {
        let refusal = self.progress.borrow().store.refusal();
        self.answer_all(&refusal.unwrap_or(CallError::StoreUnavailable));
    }
}
