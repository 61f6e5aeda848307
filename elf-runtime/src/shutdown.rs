//! Shutdown signals of the operating system.

use std::future::Future;

/// Completes when the process is told to stop: by SIGINT (Ctrl-C) or SIGTERM, which service managers and containers send
/// at every deployment; where there are no such signals, by Ctrl-C alone. Made for
/// [`Worker::run_until`](crate::Worker::run_until).
///
/// It listens from the call on, and from then on these signals no longer end the process by themselves, so whoever calls
/// it has to await it. Further signals change nothing. Must be called within a tokio runtime.
///
/// If the system does not let it listen, this is logged, and the signals end the process as by default.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let listening = listen();
    if let Err(error) = &listening {
        tracing::error!(error = %error, "cannot listen for signals: they will end this process at once");
    }
    async move {
        match listening {
            Ok(signal) => signal.await,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
fn listen() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "told to stop");
    })
}

#[cfg(windows)]
fn listen() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        tracing::info!("told to stop");
    })
}

#[cfg(not(any(unix, windows)))]
fn listen() -> std::io::Result<std::future::Pending<()>> {
    Err(std::io::ErrorKind::Unsupported.into())
}
