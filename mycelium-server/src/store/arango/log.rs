//! The store as a log, and as what a broker is opened with.

use std::path::PathBuf;

use mycelium_core::image::{Image, LiveJob};

use super::{ArangoStore, commit};
use crate::store::{Answer, Batch, Error, Log, Storage};

impl Log for ArangoStore {
    fn load<'a>(&'a self, each: &'a mut (dyn FnMut(LiveJob) + Send)) -> Answer<'a, Image> {
        Answer::coming(async move {
            self.own().await?;
            let _writing = self.writing.lock().await;
            self.leftovers.sweep_all(&self.log, self.lease.epoch()).await?;
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
        Answer::ready(self.lease.check())
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
