//! Whether a broker takes jobs, and if not, why.

use tokio::sync::watch;

use crate::broker::{Progress, StoreState};

/// How far a broker is.
#[derive(Debug, Default)]
pub(crate) enum Readiness {
    /// It has no store yet. A store of a database may be another broker's: then it stands by until that one is gone.
    #[default]
    Opening,
    /// It serves, and its store is as this shows.
    Serves(watch::Receiver<Progress>),
    /// It stops.
    Draining,
}

impl Readiness {
    /// What it is, as a line: `Ok` if it takes jobs.
    pub(super) fn told(&self) -> Result<String, String> {
        let progress = match self {
            Self::Opening => {
                return Err("standby: the store is not open yet, or belongs to another broker".to_owned());
            }
            Self::Draining => return Err("draining: the broker is stopping".to_owned()),
            Self::Serves(progress) => progress,
        };
        if progress.has_changed().is_err() {
            return Err("the scheduler has ended".to_owned());
        }
        let Progress { commit, store, .. } = *progress.borrow();
        match store {
            StoreState::Writable => Ok(format!("owner of the store, at commit {commit}")),
            StoreState::Unavailable => Err("the store is unavailable, and is waited for".to_owned()),
            StoreState::Full => Err("the store is full: what is stored can be read".to_owned()),
            StoreState::ReadOnly => Err("the store is read-only: what is stored can be read".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::Commit;

    use super::*;

    #[test]
    fn what_keeps_a_broker_from_taking_jobs_is_told() {
        assert!(Readiness::default().told().unwrap_err().starts_with("standby: "));
        assert!(Readiness::Draining.told().unwrap_err().starts_with("draining: "));
        let (sender, progress) = watch::channel(Progress::of(Commit(7)));
        let serves = Readiness::Serves(progress);
        assert_eq!(serves.told().unwrap(), "owner of the store, at commit 7");
        for (store, problem) in [
            (StoreState::Full, "the store is full"),
            (StoreState::ReadOnly, "the store is read-only"),
            (StoreState::Unavailable, "the store is unavailable"),
        ] {
            sender.send_modify(|progress| progress.store = store);
            let told = serves.told().unwrap_err();
            assert!(told.starts_with(problem), "{told}");
        }
        sender.send_modify(|progress| progress.store = StoreState::Writable);
        assert!(serves.told().is_ok());
        drop(sender);
        assert_eq!(serves.told().unwrap_err(), "the scheduler has ended");
    }
}
