//! The handle on one mycelium of a broker.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mycelium_proto::v1;

use super::own::Own;

use crate::blobs::Blobs;
use crate::error::Error;
use crate::ids::JobId;
use crate::retry::Retry;
use crate::transport::{Address, Answer, CallLine, Line, RawClient};

/// The least time that a call is given to answer.
const CALL_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// A handle on one mycelium of a broker. Cloning it is cheap; clones share one connection.
///
/// The connection is made when it is first needed and again after every cut; so is a second one, for values above
/// 64 KiB, which are written and read beside the calls that name them. Calls that the broker cannot take at
/// the moment, or that a broken connection interrupts, are repeated with growing, jittered pauses for as long as the
/// handle's *patience* lasts (30 s by default). That is harmless: every call of the contract may be repeated.
#[derive(Clone)]
pub struct Mycelium {
    inner: Arc<Inner>,
    /// The attempt whose task has it, if a task has.
    on_behalf_of: Option<v1::AttemptName>,
    /// The trace that this attempt goes on with.
    trace: Option<Arc<v1::TraceContext>>,
}

struct Inner {
    address: Address,
    line: CallLine,
    name: String,
    patience: Duration,
    blobs: Blobs,
    own: Own,
}

impl fmt::Debug for Mycelium {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mycelium")
            .field("url", &self.url())
            .field("name", &self.inner.name)
            .field("patience", &self.inner.patience)
            .finish_non_exhaustive()
    }
}

impl Mycelium {
    /// Must be called within a tokio runtime.
    pub(super) fn new(address: Address, name: String, patience: Duration, blobs: Blobs) -> Self {
        let line = CallLine::new(&address);
        let inner = Arc::new(Inner { address, line, name, patience, blobs, own: Own::default() });
        Self { inner, on_behalf_of: None, trace: None }
    }

    /// The same client for the task of an attempt: what is submitted with it names the attempt.
    pub(crate) fn on_behalf_of_attempt(self, job: JobId, attempt: u32) -> Self {
        let on_behalf_of = Some(v1::AttemptName { job_id: job.to_wire(), attempt });
        Self { on_behalf_of, ..self }
    }

    pub(crate) fn on_behalf_of(&self) -> Option<&v1::AttemptName> {
        self.on_behalf_of.as_ref()
    }

    /// The same client for what goes on with a trace.
    pub(crate) fn in_trace(self, trace: Option<v1::TraceContext>) -> Self {
        Self { trace: trace.map(Arc::new), ..self }
    }

    /// The trace that goes on with what is submitted.
    pub(crate) fn trace(&self) -> Option<v1::TraceContext> {
        self.trace.as_deref().cloned()
    }

    /// As requests name it; empty for the default.
    pub(super) fn name_on_wire(&self) -> &str {
        &self.inner.name
    }

    /// The broker's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.inner.line.url()
    }

    /// The name of the mycelium.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.inner.name.is_empty() { "default" } else { &self.inner.name }
    }

    /// Where the broker is, and what it is shown.
    pub(crate) fn address(&self) -> &Address {
        &self.inner.address
    }

    /// A connection of its own, for the generated client of another service of the contract. It carries the credentials of
    /// this handle, and connects when it is first used.
    #[must_use]
    pub fn line(&self) -> Line {
        self.inner.address.line()
    }

    /// The generated client on the shared connection: no repeating, and the mycelium is named in each request by
    /// hand.
    #[must_use]
    pub fn raw(&self) -> RawClient {
        self.inner.line.client()
    }

    /// Where values go that are too large to travel inline.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// What this program does with the mycelium beside calling it.
    pub(crate) fn own(&self) -> &Own {
        &self.inner.own
    }

    /// How long calls are repeated.
    pub(crate) fn patience(&self) -> Duration {
        self.inner.patience
    }

    pub(super) fn calls(&self) -> &CallLine {
        &self.inner.line
    }

    /// Makes a call, and repeats it while that may help. `request` makes the request anew for each try.
    pub(crate) async fn call<Req, Resp, Call, Answered>(
        &self,
        request: impl Fn() -> Req,
        call: Call,
    ) -> Result<Resp, Error>
    where
        Call: Fn(RawClient, Req) -> Answered,
        Answered: Future<Output = Answer<Resp>>,
    {
        self.call_with_patience(self.inner.patience, request, call).await
    }

    pub(super) async fn call_with_patience<Req, Resp, Call, Answered>(
        &self,
        patience: Duration,
        request: impl Fn() -> Req,
        call: Call,
    ) -> Result<Resp, Error>
    where
        Call: Fn(RawClient, Req) -> Answered,
        Answered: Future<Output = Answer<Resp>>,
    {
        let mut retry = Retry::new(patience);
        loop {
            // A call that hangs is given as long as one that is repeated, and never less than a slow commit may take.
            let time = retry.time_left().max(CALL_TIMEOUT_MIN);
            let answer = tokio::time::timeout(time, call(self.raw(), request())).await;
            match self.inner.line.answer(answer) {
                Ok(response) => return Ok(response),
                Err(error) => retry.pause_or_give_up(error).await?,
            }
        }
    }
}
