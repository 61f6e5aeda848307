//! What programs depend on to serve elves and to orchestrate their tasks.

// The macros write `::elf_runtime::…`, which has to mean this crate in its own tests too.
#[allow(unused_extern_crates, reason = "only the tests that use the macros need it")]
extern crate self as elf_runtime;

mod blobs;
mod call;
mod capture;
mod client;
mod context;
mod declaration;
mod elf;
mod error;
mod flow;
mod frames;
mod ids;
mod json;
pub mod logs;
mod macros;
mod output;
mod problem;
mod recorded;
mod reports;
mod retry;
mod retry_policy;
mod run;
mod schema;
mod service;
mod shutdown;
mod task_error;
mod tasks;
mod threads;
mod trace;
mod transport;
mod type_name;
mod value;
mod worker;

/// The program of the README, as people copy it.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use call::{TaskCall, TaskOutputs};
pub use client::{Builder, JobWatch, LogReader, Mycelium, describe_reason};
pub use context::{TaskContext, TaskContextParts};
pub use declaration::{DeclarationError, ElfDeclaration, Revision, TaskDeclaration, revision_of};
pub use elf::Elf;
pub use error::{Error, FailedJob, JobFailure, SourceError, Violation};
pub use flow::{Flow, Job};
pub use frames::Frame;
pub use ids::{FlowId, InvalidId, JobId};
pub use json::{Mismatch, Unwritable};
pub use macros::{Output, machine_elf};
// The messages of the contract are part of our interface: calls take and return them, errors carry them.
pub use mycelium_proto::{reason, v1};
pub use output::{Element, Fields, Json, NoFields, Output, TaskReturn};
pub use problem::{FlowError, Problem, ProblemKind};
pub use reports::TaskReports;
pub use retry_policy::RetryPolicy;
pub use run::Run;
pub use schema::OutputDeclaration;
pub use service::{BoxElfService, ElfService, TaskRequest, run_attempt};
pub use shutdown::shutdown_signal;
pub use task_error::{BoxError, Cause, ResultExt, TaskError};
pub use transport::{Code, Line};
pub use value::payload::{Payload, PayloadError};
pub use value::{
    AnyPlace, Arguments, Computed, GroupKey, IntoAnyValue, IntoValue, Key, Number, OptionalPlace, Ordered,
    Signed, UseDefault, Value,
};
pub use worker::{Worker, WorkerBuilder};
