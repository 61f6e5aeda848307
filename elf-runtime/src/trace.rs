//! The traces (<https://www.w3.org/TR/trace-context/>) that submissions and attempts belong to.
//!
//! A task passes on the trace of its attempt in any case. With the feature `otel` submissions name the current span of
//! OpenTelemetry, and attempts are spans of it.

use mycelium_proto::v1;
use tracing::Span;

use crate::ids::JobId;

/// Which trace an attempt goes on with.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) context: v1::TraceContext,
    /// Whether its span is linked to that one, and no child of it.
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "spans are nobody's but OpenTelemetry's"))]
    is_linked: bool,
}

impl Trace {
    pub(crate) fn of(context: Option<v1::TraceContext>, is_linked: bool) -> Option<Box<Self>> {
        context.map(|context| Box::new(Self { context, is_linked }))
    }

    /// By which all its spans are found.
    fn id(&self) -> &str {
        self.context.trace_id().unwrap_or_default()
    }
}

/// The span of an attempt. It is there for whoever debugs the runtime, and with a trace for those who look at that.
pub(crate) fn span_of_attempt(
    job_id: JobId,
    attempt: u32,
    elf: &str,
    task: &str,
    trace: Option<&Trace>,
) -> Span {
    let Some(trace) = trace else {
        return tracing::debug_span!("attempt", %job_id, attempt, elf, task);
    };
    let span =
        tracing::info_span!(parent: None, "attempt", %job_id, attempt, elf, task, trace_id = trace.id());
    #[cfg(feature = "otel")]
    otel::attach(&span, trace);
    span
}

/// The span that others are to hang on: the current one, where there is one.
#[cfg(feature = "otel")]
pub(crate) fn current() -> Option<v1::TraceContext> {
    otel::current()
}

/// The span that others are to hang on: none is known without OpenTelemetry.
#[cfg(not(feature = "otel"))]
pub(crate) fn current() -> Option<v1::TraceContext> {
    None
}

#[cfg(feature = "otel")]
mod otel {
    use mycelium_proto::trace::{TraceParent, is_trace_state};
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    use super::{Span, Trace, v1};

    pub(super) fn attach(span: &Span, trace: &Trace) {
        let Some(remote) = from_wire(&trace.context) else { return };
        if trace.is_linked {
            span.add_link(remote);
        } else {
            // It fails where the program has no layer of OpenTelemetry, or its filter leaves the span out.
            let _untraced = span.set_parent(Context::new().with_remote_span_context(remote));
        }
    }

    /// That of `tracing`, or else that of OpenTelemetry itself.
    pub(super) fn current() -> Option<v1::TraceContext> {
        let of = |context: Context| Some(context.span().span_context().clone()).filter(SpanContext::is_valid);
        let current = of(Span::current().context()).or_else(|| of(Context::current()))?;
        Some(to_wire(&current))
    }

    fn to_wire(context: &SpanContext) -> v1::TraceContext {
        let parent = TraceParent {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: u8::from(context.is_sampled()),
        };
        let state = Some(context.trace_state().header()).filter(|state| is_trace_state(state));
        // The state is of use to some, and in the way of nothing if it is not there.
        v1::TraceContext { trace_parent: parent.to_string(), trace_state: state.unwrap_or_default() }
    }

    /// None if the broker says what makes no sense.
    fn from_wire(context: &v1::TraceContext) -> Option<SpanContext> {
        let TraceParent { trace, span, flags } = context.parent()?;
        let state = context.trace_state.parse().unwrap_or_default();
        Some(SpanContext::new(trace.into(), span.into(), TraceFlags::new(flags), true, state))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_context_comes_back_from_the_wire_as_it_was() {
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let context =
                v1::TraceContext { trace_parent: parent.to_owned(), trace_state: "a=1,b=2".to_owned() };
            let read = from_wire(&context).unwrap();
            assert!(read.is_sampled() && read.is_remote());
            assert_eq!(to_wire(&read), context);
            assert_eq!(from_wire(&v1::TraceContext::default()), None);
        }
    }
}
