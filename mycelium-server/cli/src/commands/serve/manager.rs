//! What the service manager is told, if there is one that wants to know (`NOTIFY_SOCKET`, as systemd sets it).

use sd_notify::NotifyState;

/// The broker answers.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The broker has been told to stop, and does what is left to do.
pub(super) fn stopping(signal: &str) {
    let status = format!("stopping after {signal}: calls under way may end, then the store is written out");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// A manager that cannot be told does what it does with one that never says anything; the broker serves all the same.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
