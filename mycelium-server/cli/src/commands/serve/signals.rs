//! When the broker is told to stop.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::manager;

/// SIGTERM and SIGINT, and SIGHUP.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether SIGHUP says that the terminal is gone. To others it says that files have changed.
    has_terminal: bool,
}

impl Signals {
    /// Listens for them from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hang_up] = kinds.map(signal);
        let has_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hang_up: hang_up?, has_terminal })
    }

    /// Returns with the first signal that comes before the broker has begun.
    pub(super) async fn before_begun(&mut self) {
        let name = self.next().await.0;
        tracing::info!(signal = name, "stopped before it had begun");
        manager::stopping(name);
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

    /// The name and number of the next signal that stops it.
    async fn next(&mut self) -> (&'static str, i32) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return ("SIGTERM", SignalKind::terminate().as_raw_value()),
                _ = self.interrupt.recv() => return ("SIGINT", SignalKind::interrupt().as_raw_value()),
                _ = self.hang_up.recv() => {
                    if self.has_terminal {
                        return ("SIGHUP", SignalKind::hangup().as_raw_value());
                    }
                    tracing::info!(
                        signal = "SIGHUP",
                        "nothing to do: certificates, keys and identities are read again whenever they change"
                    );
                }
            }
        }
    }
}
