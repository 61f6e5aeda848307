//! The store as a log, and as what a broker is opened with.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mycelium_core::image::{Image, LiveJob};

use super::{ArangoStore, commit};
use crate::store::{Answer, Batch, Error, Log, Storage};

/// The longest time for which a lease may have run out unnoticed.
const CHECK_EVERY_MAX: Duration = Duration::from_secs(1);

impl Log for ArangoStore {
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image> {
        Answer::coming(async move {
            match self.own().await {
                Ok(()) => {
                    let _writing = self.writing.lock().await;
                    self.leftovers.sweep_all(&self.log, self.lease.epoch()).await?;
                }
                // Nobody else can take it either, and it was ours.
                Err(error) if error.lack().is_some() && self.lease.epoch() > 0 => {
                    self.only_reads.store(true, Ordering::Release);
                    self.recent.clear();
                }
                Err(error) => return Err(error),
            }
            self.read_image(each).await
        })
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, ()> {
        let epoch = self.lease.epoch();
        // Here, where whoever calls expects to be blocked for a moment, and not where it is awaited.
        let variables = match commit::variables(epoch, batch) {
            Ok(variables) => variables,
            Err(error) => return Answer::ready(Err(error)),
        };
        Answer::coming(async move {
            self.store(batch, epoch, &variables).await?;
            self.tidy_up();
            Ok(())
        })
    }

    fn needs_known(&self) -> bool {
        false
    }

    fn check_owner(&self) -> Result<(), Error> {
        self.lease.check()
    }

    fn check_writable(&self) -> Answer<'_, ()> {
        if self.only_reads.load(Ordering::Acquire) {
            return Answer::coming(self.own());
        }
        Answer::ready(self.lease.check())
    }

    fn check_every(&self) -> Option<Duration> {
        Some((self.options.lease / 10).min(CHECK_EVERY_MAX))
    }

    fn close(&self) -> Answer<'_, ()> {
        Answer::coming(async move {
            let _writing = self.writing.lock().await;
            self.leftovers.sweep(&self.log, self.lease.epoch()).await?;
            self.lease.release().await
        })
    }
}

impl Storage for ArangoStore {
    fn kind(&self) -> &'static str {
        "arangodb"
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn blobs_folder(&self) -> Option<PathBuf> {
        Some(self.options.blobs.clone())
    }
}
