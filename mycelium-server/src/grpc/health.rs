//! What the health service tells.

use mycelium_proto::v1::blob_service_server::BlobServiceServer;
use mycelium_proto::v1::elf_service_server::ElfServiceServer;
use mycelium_proto::v1::mycelium_service_server::MyceliumServiceServer;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::{BlobServer, ElfServer, MyceliumServer};
use crate::broker::{Progress, StoreState};
use crate::defect;

/// Tells the health service whether the store takes changes, until the owner of the core is gone. The process itself goes
/// on serving what can be read.
pub(crate) async fn tell_health(mut progress: watch::Receiver<Progress>, health: HealthReporter) {
    let mut was_writable = true;
    while progress.changed().await.is_ok() {
        let is_writable = progress.borrow_and_update().store == StoreState::Writable;
        if is_writable != was_writable {
            // A defect is in the log already; the next change is told all the same.
            let told = defect::catch_async("the health service", set_health(&health, is_writable)).await;
            if told.is_ok() {
                was_writable = is_writable;
            }
        }
    }
}

pub(crate) async fn set_health(health: &HealthReporter, is_serving: bool) {
    if is_serving {
        health.set_serving::<MyceliumServiceServer<MyceliumServer>>().await;
        health.set_serving::<ElfServiceServer<ElfServer>>().await;
        health.set_serving::<BlobServiceServer<BlobServer>>().await;
    } else {
        health.set_not_serving::<MyceliumServiceServer<MyceliumServer>>().await;
        health.set_not_serving::<ElfServiceServer<ElfServer>>().await;
        health.set_not_serving::<BlobServiceServer<BlobServer>>().await;
    }
}

/// The broker stops: no service takes anything more, and the process is about to go.
pub(crate) async fn set_stopping(health: &HealthReporter) {
    set_health(health, false).await;
    health.set_service_status("", ServingStatus::NotServing).await;
}
