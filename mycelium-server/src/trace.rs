//! Spans that hang on those of somebody else (<https://www.w3.org/TR/trace-context/>): what is done for a call, and for a job.
//!
//! The broker begins no trace by itself, and makes a span only of what is recorded where its trace began. So what is not
//! traced costs nothing. Whether spans leave the process is up to whoever has set up `tracing`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use mycelium_core::ids::{JobId, Timestamp, Token};
use mycelium_proto::limits;
use mycelium_proto::trace::{TraceParent, is_trace_state};
use mycelium_proto::v1;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId};
use tracing::field::Empty;
use tracing::{Level, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// For so long after its submission the spans of a job are children of the span in which it was submitted. Later they are linked
/// to it: a trace that goes on for days is shown by nobody.
const CHILD_WITHIN: Duration = Duration::from_secs(60);
/// The most attempts of a session that have a span.
const ATTEMPTS_MAX: usize = 16_384;

/// What is wrong with a context: the field, and the problem.
pub(crate) fn check(context: &v1::TraceContext) -> Result<(), (&'static str, String)> {
    if context.parent().is_none() {
        let problem = "must be a `traceparent` of version 00, such as \
                       00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        return Err(("trace_parent", problem.to_owned()));
    }
    if !is_trace_state(&context.trace_state) {
        let max = limits::TRACE_STATE_BYTES_MAX;
        return Err(("trace_state", format!("must be at most {max} bytes of printable ASCII")));
    }
    Ok(())
}

/// The context of a call. As the specification asks, a `traceparent` that is malformed is ignored, with what came beside it, and
/// so is a `tracestate` that is malformed.
pub(crate) fn of_headers(headers: &HeaderMap) -> Option<v1::TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    // Of several, none is known to be right.
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let trace_parent = TraceParent::of_header(parent.to_str().ok()?)?.to_string();
    let state = headers.get("tracestate").and_then(|state| state.to_str().ok());
    let trace_state = state.filter(|state| is_trace_state(state)).unwrap_or_default().to_owned();
    Some(v1::TraceContext { trace_parent, trace_state })
}

/// The span of a call that comes with this context.
pub(crate) fn of_call(context: Option<&v1::TraceContext>, path: &str, peer: Option<SocketAddr>) -> Span {
    span_in(context, false, |trace_id| {
        info_span!(
            parent: None,
            "call",
            otel.name = path,
            otel.kind = "server",
            peer = peer.map(tracing::field::display),
            trace_id,
            rpc.grpc.status_code = Empty,
            otel.status_code = Empty,
        )
    })
}

/// A call was answered with this code of gRPC, and whether the broker is to blame.
pub(crate) fn answered(call: &Span, code: i32, is_failure: bool) {
    call.record("rpc.grpc.status_code", code);
    if is_failure {
        call.record("otel.status_code", "ERROR");
    }
}

/// The span in which a job was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    context: v1::TraceContext,
    /// Whether that was so long ago that others are linked to it.
    is_old: bool,
}

impl Origin {
    /// That of a job, as its specification has it.
    pub(crate) fn of(spec: &v1::JobSpec, submitted_at: Timestamp, now: Timestamp) -> Option<Self> {
        let is_old = now.since(submitted_at) > CHILD_WITHIN;
        spec.trace.clone().map(|context| Self { context, is_old })
    }

    /// The span of deciding how its job goes on.
    pub(crate) fn evaluation(&self, job: JobId) -> Span {
        span_in(
            Some(&self.context),
            self.is_old,
            |trace_id| info_span!(parent: None, "evaluate", job_id = %job, trace_id),
        )
    }

    /// The span of an attempt, from when its job is assigned.
    pub(crate) fn attempt(&self, token: Token, elf: &str, task: &str) -> Span {
        let Token { job, attempt } = token;
        span_in(Some(&self.context), self.is_old, |trace_id| {
            info_span!(
                parent: None,
                "attempt",
                job_id = %job,
                attempt = attempt.0,
                elf,
                task,
                trace_id,
                outcome = Empty,
                otel.status_code = Empty,
            )
        })
    }

    /// What the elf is told that its own span hangs on: that of the attempt, where it leaves the process. And whether it is
    /// linked to it.
    pub(crate) fn told(self, attempt: &Span) -> (v1::TraceContext, bool) {
        match context_of(attempt) {
            Some(context) => (context, false),
            None => (self.context, self.is_old),
        }
    }
}

/// The span of a step of what this span is of.
pub(crate) fn dispatch(attempt: &Span) -> Span {
    if attempt.is_disabled() { Span::none() } else { info_span!(parent: attempt, "dispatch") }
}

/// The span of waiting until something is durable, if it is done for something that is traced.
pub(crate) fn commit() -> Span {
    let current = Span::current();
    if is_traced(&current) { info_span!(parent: &current, "commit") } else { Span::none() }
}

/// Whether it is one of the spans above: all others are for those who debug.
fn is_traced(span: &Span) -> bool {
    span.metadata().is_some_and(|of| *of.level() == Level::INFO && of.target() == module_path!())
}

fn span_in(context: Option<&v1::TraceContext>, is_linked: bool, make: impl FnOnce(&str) -> Span) -> Span {
    let parsed = context.and_then(|context| Some((context, context.parent()?, context.trace_id()?)));
    let Some((context, parent, trace_id)) = parsed.filter(|(_, parent, _)| parent.is_sampled()) else {
        return Span::none();
    };
    let span = make(trace_id);
    let (trace, id) = (TraceId::from(parent.trace), SpanId::from(parent.span));
    let state = context.trace_state.parse().unwrap_or_default();
    let remote = SpanContext::new(trace, id, TraceFlags::new(parent.flags), true, state);
    if is_linked {
        span.add_link(remote);
    } else {
        // It fails where spans do not leave the process.
        let _only_logged = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
    }
    span
}

/// The context of a span that leaves the process.
fn context_of(span: &Span) -> Option<v1::TraceContext> {
    let context = span.context();
    let span = context.span();
    let of = Some(span.span_context()).filter(|of| of.is_valid())?;
    let (trace, id) =
        (u128::from_be_bytes(of.trace_id().to_bytes()), u64::from_be_bytes(of.span_id().to_bytes()));
    let flags = u8::from(of.is_sampled());
    Some(v1::TraceContext {
        trace_parent: TraceParent { trace, span: id, flags }.to_string(),
        trace_state: Some(of.trace_state().header())
            .filter(|state| is_trace_state(state))
            .unwrap_or_default(),
    })
}

/// The spans of the attempts of a session, until what became of them is durable. Each stream of the session goes on with those
/// of the one before it.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    under_way: Mutex<HashMap<Token, UnderWay>>,
}

#[derive(Debug)]
struct UnderWay {
    attempt: Span,
    /// From when its outcome has come.
    commit: Span,
}

impl Attempts {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Token, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, token: Token, attempt: &Span) {
        let mut under_way = self.lock();
        if !attempt.is_disabled() && under_way.len() < ATTEMPTS_MAX {
            under_way.insert(token, UnderWay { attempt: attempt.clone(), commit: Span::none() });
        }
    }

    /// Its elf has said what became of it.
    pub(crate) fn came_to(&self, token: Token, outcome: &'static str, is_failure: bool) {
        if let Some(UnderWay { attempt, commit }) = self.lock().get_mut(&token) {
            record(attempt, outcome, is_failure);
            *commit = info_span!(parent: &*attempt, "commit");
        }
    }

    /// It is over.
    pub(crate) fn end(&self, tokens: impl IntoIterator<Item = Token>) {
        let mut under_way = self.lock();
        if !under_way.is_empty() {
            tokens.into_iter().for_each(|token| drop(under_way.remove(&token)));
        }
    }

    /// The session has come back on another stream, whose attempts are these from now on.
    pub(crate) fn go_on_with(&self, before: &Self) {
        let under_way = std::mem::take(&mut *before.lock());
        self.lock().extend(under_way);
    }

    /// Its elf still holds these, and has never had or has let go of the others.
    pub(crate) fn keep(&self, held: &[Token]) {
        let held: HashSet<&Token> = held.iter().collect();
        self.end_those("undelivered", false, |token| !held.contains(token));
    }

    /// Its elf has left in order: what it still had goes back.
    pub(crate) fn hand_back(&self) {
        self.end_those("released", false, |_| true);
    }

    /// Its elf is lost, and all that it had with it.
    pub(crate) fn lose(&self) {
        self.end_those("lost", true, |_| true);
        self.lock().clear();
    }

    /// Ends those of which nobody has said what became of them.
    fn end_those(&self, outcome: &'static str, is_failure: bool, which: impl Fn(&Token) -> bool) {
        let over = |token: &Token, of: &mut UnderWay| of.commit.is_disabled() && which(token);
        for (_, UnderWay { attempt, .. }) in self.lock().extract_if(over) {
            record(&attempt, outcome, is_failure);
        }
    }
}

fn record(attempt: &Span, outcome: &'static str, is_failure: bool) {
    attempt.record("outcome", outcome);
    if is_failure {
        attempt.record("otel.status_code", "ERROR");
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use mycelium_core::ids::Attempt;
    use tracing::field::Field;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_wrong_with_a_context_is_said_of_its_field() {
        let context = |trace_parent: &str, trace_state: &str| v1::TraceContext {
            trace_parent: trace_parent.to_owned(),
            trace_state: trace_state.to_owned(),
        };
        let field = |context| check(&context).map_err(|(field, _)| field);
        assert_eq!(field(context(PARENT, "a=1,b=2")), Ok(()));
        assert_eq!(field(context(PARENT, "a=\n")), Err("trace_state"));
        assert_eq!(field(context("", "a=1")), Err("trace_parent"));
    }

    #[test]
    fn what_is_malformed_among_headers_is_ignored() {
        let of = |parent: &str, state: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent.parse().unwrap());
            headers.insert("tracestate", state.parse().unwrap());
            of_headers(&headers).map(|context| (context.trace_parent, context.trace_state))
        };
        assert_eq!(of(PARENT, "a=1"), Some((PARENT.to_owned(), "a=1".to_owned())));
        assert_eq!(of(PARENT, &"x".repeat(513)), Some((PARENT.to_owned(), String::new())));
        assert_eq!(of("00-nonsense", "a=1"), None);
        let later = PARENT.replacen("00", "cc", 1);
        for known in [later.clone(), format!("{later}-more")] {
            assert_eq!(of(&known, ""), Some((PARENT.to_owned(), String::new())), "{known}");
        }
        for unknown in [format!("{later}more"), format!("{PARENT}-more"), PARENT.replacen("00", "ff", 1)] {
            assert_eq!(of(&unknown, ""), None, "{unknown}");
        }
        let mut two = HeaderMap::new();
        for _ in 0..2 {
            two.append("traceparent", PARENT.parse().unwrap());
        }
        assert_eq!(of_headers(&two), None);
        assert_eq!(of_headers(&HeaderMap::new()), None);
    }

    /// What is recorded of spans once they are there, each by its number and field.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<(u64, String)>>>);

    impl Recorded {
        fn take(&self) -> Vec<(u64, String)> {
            let mut recorded = std::mem::take(&mut *self.0.lock().unwrap());
            recorded.sort();
            recorded
        }
    }

    /// Numbers spans from 1.
    #[derive(Default)]
    struct Recorder {
        spans: AtomicU64,
        recorded: Recorded,
    }

    impl Subscriber for Recorder {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn record(&self, span: &Id, values: &Record<'_>) {
            values.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                self.recorded.0.lock().unwrap().push((span.into_u64(), format!("{field}={value:?}")));
            });
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// What is recorded while this runs.
    fn recorded(run: impl FnOnce(&Recorded)) {
        let recorder = Recorder::default();
        let recorded = recorder.recorded.clone();
        tracing::subscriber::with_default(recorder, || run(&recorded));
    }

    fn lines<const N: usize>(lines: [(u64, &str); N]) -> Vec<(u64, String)> {
        lines.map(|(span, line)| (span, line.to_owned())).into()
    }

    fn context() -> v1::TraceContext {
        v1::TraceContext { trace_parent: PARENT.to_owned(), trace_state: String::new() }
    }

    #[test]
    fn a_call_has_failed_if_the_broker_is_to_blame() {
        recorded(|recorded| {
            let call = of_call(Some(&context()), "/call", None);
            answered(&call, 5, false);
            assert_eq!(recorded.take(), lines([(1, "rpc.grpc.status_code=5")]));
            answered(&call, 14, true);
            let failed = [(1, "otel.status_code=\"ERROR\""), (1, "rpc.grpc.status_code=14")];
            assert_eq!(recorded.take(), lines(failed));
        });
    }

    #[test]
    fn what_became_of_an_attempt_is_said_once_whatever_becomes_of_its_session() {
        let origin = Origin { context: context(), is_old: false };
        let token = |n| Token { job: JobId::new([n; 16]), attempt: Attempt(1) };
        recorded(|recorded| {
            let (before, after) = (Attempts::default(), Attempts::default());
            for n in 1..=4 {
                before.begin(token(n), &origin.attempt(token(n), "elf", "task"));
            }
            before.came_to(token(1), "returned", false);
            assert_eq!(recorded.take(), lines([(1, "outcome=\"returned\"")]));
            // Its stream is cut, and it comes back without the second.
            after.go_on_with(&before);
            after.keep(&[token(3), token(4)]);
            assert_eq!(recorded.take(), lines([(2, "outcome=\"undelivered\"")]));
            after.came_to(token(3), "failed", true);
            let failed = lines([(3, "otel.status_code=\"ERROR\""), (3, "outcome=\"failed\"")]);
            assert_eq!(recorded.take(), failed);
            after.end([token(3)]);
            after.lose();
            let lost = lines([(4, "otel.status_code=\"ERROR\""), (4, "outcome=\"lost\"")]);
            assert_eq!(recorded.take(), lost);
            before.lose();
            after.lose();
            assert_eq!(recorded.take(), []);

            after.begin(token(5), &origin.attempt(token(5), "elf", "task"));
            after.hand_back();
            after.lose();
            let handed_back = recorded.take();
            assert!(handed_back.len() == 1 && handed_back[0].1 == "outcome=\"released\"", "{handed_back:?}");
        });
    }
}
