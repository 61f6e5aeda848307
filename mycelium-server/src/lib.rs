//! The broker of Mycelium as a library: it keeps jobs, values, failures and elves as a durable graph, decides what can
//! run, and pushes it to the elves.
//!
//! [`Broker`] is the way in: [`Broker::open`] on a folder, [`Broker::in_memory`] for tests.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once"))]

mod access;
mod actions;
mod admin;
mod audit;
mod blobs;
mod broker;
mod clock;
mod compute;
mod config;
mod data_dir;
mod defect;
mod documents;
mod error;
mod fair;
mod grpc;
mod home;
mod logs;
mod metrics;
pub mod moving;
mod mycelia;
mod name;
mod private;
mod queries;
mod report;
mod reservation;
mod retention;
mod seldom;
mod server;
mod spawn;
pub mod store;
mod tls;
mod trace;
mod transport;
mod values;
mod watched;

pub use access::{Access, AccessFiles, Role, UnknownRole};
pub use admin::Admin;
pub use broker::StartError;
pub use config::{
    Config, ConfigProblem, InvalidConfig, Range as SettingRange, SchedulerPlace, Setting, UnfitValue,
    Value as SettingValue,
};
pub use defect::log_panics;
pub use retention::{InvalidRetention, Retention};
pub use server::{Broker, Error, RunningBroker};
pub use tls::{Tls, TlsFiles};
pub use transport::raise_descriptor_limit;
pub use watched::FileProblem;
