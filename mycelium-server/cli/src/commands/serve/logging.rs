//! What the broker logs, to standard error.

mod limits;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

pub(super) use self::limits::Limits;
use super::settings::{LogFormat, Settings};
use super::traces::Traces;

/// Starts logging, for the rest of the process. Gives what says how much is left out.
pub(super) fn start(settings: &Settings, traces: &Traces) -> anyhow::Result<Limits> {
    let filter = EnvFilter::try_new(&settings.log)?;
    let limits = Limits::default();
    // A log line that cannot be written is lost. Reporting that on standard error too, as is the default, would panic
    // there: a full disk, or a reader that has gone, must not end the broker.
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let lines = match settings.log_format {
        LogFormat::Pretty => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    // What is exported is not chosen by what is logged.
    let logged = registry().with(lines.with_filter(filter.and(limits.clone())));
    let started = match traces.layer() {
        None => logged.try_init(),
        Some(spans) => logged.with(spans).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(limits)
}
