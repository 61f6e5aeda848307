//! How a mycelium is deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::open::OpenError;
use super::{Mycelia, Slot, State, cannot, checked};
use crate::access::Permitted;
use crate::broker::CallError;
use crate::error::Error;
use crate::name::DEFAULT;

/// How long a deletion without force waits for those who use a mycelium that no elf serves.
const DELETABLE_WITHIN: Duration = Duration::from_secs(1);

/// How long those who use a mycelium that is deleted have to let go of it.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

impl Mycelia {
    /// Deletes a mycelium with all that is in it, and says whether it was there.
    ///
    /// # Errors
    /// [`Error::MyceliumInUse`] if an elf serves it or it has unfinished jobs, unless `force`; [`Error::MyceliumFixed`]
    /// for `default`; and if it cannot be removed.
    pub(crate) async fn delete(&self, name: Permitted<'_>, force: bool) -> Result<bool, Error> {
        let name = checked(name.name())?;
        if name == DEFAULT || !self.shared.home.can_make() {
            return Err(Error::MyceliumFixed);
        }
        let Some((slot, state)) = self.locked(name).await else { return Ok(false) };
        let mycelia = self.clone();
        let deleting = async move { mycelia.delete_slot(&slot, state, force).await };
        self.shared.tasks.run("the deletion of a mycelium", deleting).await.map_err(CallError::from)?
    }

    /// Whether it may be deleted without force: nobody uses it, no elf serves it, and all its jobs have ended. While it is
    /// locked, nobody begins to use it.
    async fn is_deletable(&self, slot: &Slot, state: &mut State) -> Result<bool, Error> {
        if let State::Closed = state {
            drop(self.open_slot(slot, state).await?);
        }
        let State::Open(open) = state else { return Ok(true) };
        let counts = open.handle.query(|core, _| core.status()).await?;
        if counts.sessions > 0 || !open.is_let_go_of(DELETABLE_WITHIN).await {
            return Ok(false);
        }
        // Who has let go of it may have brought jobs.
        let counts = open.handle.query(|core, _| core.status()).await?;
        Ok(counts.sessions == 0 && counts.pending + counts.ready + counts.assigned + counts.running == 0)
    }

    async fn delete_slot(
        &self,
        slot: &Slot,
        mut state: OwnedMutexGuard<State>,
        force: bool,
    ) -> Result<bool, Error> {
        if !force && !self.is_deletable(slot, &mut state).await? {
            return Err(Error::MyceliumInUse(slot.name.as_ref().to_owned()));
        }
        match std::mem::replace(&mut *state, State::Closed) {
            State::Absent => {
                *state = State::Absent;
                return Ok(false);
            }
            State::Closed => {}
            State::Open(open) => {
                open.close_for_all(LET_GO_WITHIN).await;
            }
        }
        let (home, name) = (self.shared.home.clone(), Arc::clone(&slot.name));
        let removed = tokio::task::spawn_blocking(move || home.remove(&name)).await;
        if let Err(error) = removed.map_err(OpenError::from).and_then(|removed| Ok(removed?)) {
            return Err(cannot("deleted", slot, &error));
        }
        *state = State::Absent;
        self.slots().remove(&slot.name);
        tracing::info!(mycelium = %slot.name, "deleted a mycelium");
        Ok(true)
    }
}
