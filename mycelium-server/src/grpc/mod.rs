//! The services: they convert a request, call the broker, and convert what it answers.

mod about;
mod actions;
mod audit;
mod backup;
mod blob_service;
mod connect;
mod convert;
mod declare;
mod door;
mod drain;
mod elf_service;
mod health;
mod jobs;
mod mycelia;
mod mycelium_service;
mod operations;
mod outcomes;
mod pauses;
mod read_logs;
mod reads;
mod reports;
mod status;
mod submit;
mod transport;
mod watch;

pub(crate) use backup::StoreServer;
pub(crate) use blob_service::BlobServer;
pub(crate) use door::Door;
pub(crate) use elf_service::ElfServer;
pub(crate) use health::{set_health, set_stopping, tell_health};
pub(crate) use mycelium_service::MyceliumServer;
pub(crate) use status::with_reason;
pub(crate) use transport::server;
