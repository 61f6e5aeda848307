//! What the broker logs, to standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use super::settings::{LogFormat, Settings};

/// Starts logging, for the rest of the process.
pub(super) fn start(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log)?;
    // A log line that cannot be written is lost. Reporting that on standard error too, as is the default, would panic
    // there: a full disk, or a reader that has gone, must not end the broker.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let started = match settings.log_format {
        LogFormat::Pretty => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
