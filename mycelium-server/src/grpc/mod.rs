//! The services: they convert a request, call the broker, and convert what it answers.

mod backup;
mod blob_service;
mod connect;
mod convert;
mod declare;
mod elf_service;
mod jobs;
mod mycelium_service;
mod operations;
mod outcomes;
mod reads;
mod status;
mod submit;
mod transport;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Handle;
use crate::error::Error;

pub(crate) use backup::StoreServer;
pub(crate) use blob_service::BlobServer;
pub(crate) use elf_service::ElfServer;
pub(crate) use mycelium_service::MyceliumServer;
pub(crate) use status::with_reason;
pub(crate) use transport::server;

/// The mycelia that a broker hosts, by name.
#[derive(Debug, Clone)]
pub(crate) struct Mycelia {
    by_name: Arc<BTreeMap<String, Handle>>,
}

impl Mycelia {
    pub(crate) fn new(by_name: BTreeMap<String, Handle>) -> Self {
        Self { by_name: Arc::new(by_name) }
    }

    /// The mycelium of that name; empty means `default`.
    fn get(&self, name: &str) -> Result<&Handle, Error> {
        let name = if name.is_empty() { "default" } else { name };
        self.by_name.get(name).ok_or_else(|| {
            let mut name = name.to_owned();
            crate::broker::cut(&mut name, mycelium_proto::limits::NAME_BYTES_MAX);
            Error::MyceliumNotFound(name)
        })
    }
}
