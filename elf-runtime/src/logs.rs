//! What tasks log, for people who ask what an attempt did: it goes to the broker, which keeps the first 64 KiB and the last
//! 192 KiB of each attempt, and `mycelium logs JOB` shows it.
//!
//! A task logs with [`TaskContext::log`](crate::TaskContext::log), or as any program does with `tracing`, through a
//! [`TaskLogLayer`].

use std::fmt::{self, Write as _};

use mycelium_proto::{limits, v1};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::reports;

/// A layer of `tracing` that sends what tasks log to the broker. What is logged outside of tasks passes by.
///
/// An event belongs to the attempt of the task that is polled, or whose blocking function runs, when it happens. What a task
/// spawns by itself belongs to it within [`TaskContext::logging`](crate::TaskContext::logging). Best effort: it is in the
/// way of nothing, and of what is too much the beginning and the end are kept. Events can be chosen by a filter, as with any
/// layer.
///
/// ```
/// use elf_runtime::logs::TaskLogLayer;
/// use tracing_subscriber::filter::LevelFilter;
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry()
///     .with(tracing_subscriber::fmt::layer())
///     .with(TaskLogLayer::new().with_filter(LevelFilter::INFO))
///     .init();
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskLogLayer {
    _others_may_come: (),
}

impl TaskLogLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self { _others_may_come: () }
    }
}

impl<S: Subscriber> Layer<S> for TaskLogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let Some(attempt) = reports::current() else { return };
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        attempt.log(level(*metadata.level()), metadata.target(), &line.text());
    }
}

fn level(level: Level) -> v1::LogLevel {
    match level {
        Level::ERROR => v1::LogLevel::Error,
        Level::WARN => v1::LogLevel::Warn,
        Level::INFO => v1::LogLevel::Info,
        Level::DEBUG => v1::LogLevel::Debug,
        Level::TRACE => v1::LogLevel::Trace,
    }
}

/// An event as a line: its message, and then its fields.
#[derive(Debug, Default)]
struct Line {
    message: Bounded,
    fields: Bounded,
}

impl Line {
    fn text(self) -> String {
        match (self.message.0, self.fields.0) {
            (message, fields) if fields.is_empty() => message,
            (message, fields) if message.is_empty() => fields,
            (message, fields) => format!("{message} {fields}"),
        }
    }

    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // What finds no room is cut.
        let _cut = if field.name() == "message" {
            write!(self.message, "{value}")
        } else {
            let between = if self.fields.0.is_empty() { "" } else { " " };
            write!(self.fields, "{between}{}={value}", field.name())
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.field(field, format_args!("{value}"));
        } else {
            self.field(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.field(field, format_args!("{value}"));
    }
}

/// A text that grows no longer than a line may be, by one part of it.
#[derive(Debug, Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() > limits::LOG_LINE_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}
