//! When the broker is told to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::manager;

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for them from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt? })
    }

    /// Tells `stop` of the first signal, and returns with the second: 128 and its number, the exit code of a process that
    /// ends at once.
    pub(super) async fn twice(mut self, stop: oneshot::Sender<()>) -> i32 {
        let name = self.next().await.0;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        manager::stopping(name);
        // If the broker has stopped by itself, nobody waits for it.
        let _stopped = stop.send(());
        let (name, number) = self.next().await;
        tracing::warn!(signal = name, "stopped at once");
        128 + number
    }

    /// The name and number of the next signal.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}
