//! What the tests of whole programs stand on: brokers and elves as processes that can be killed, an elf whose tasks
//! tell what they do, a client that speaks the contract by hand, and a proxy that cuts connections.
//!
//! Nothing here sleeps to let something happen: tests wait for conditions, each with a deadline.

mod bystander;
mod diary;
mod elf;
pub mod example;
mod flows;
mod process;
pub mod programs;
mod proxy;
mod wait;
pub mod wire;
mod worker;

pub use bystander::Bystander;
pub use diary::{Diary, Entry, Event};
pub use elf::Tester;
pub use flows::{counts, flow_id_bytes, jobs_of, read_number};
pub use process::{BrokerProcess, ElfOptions, ElfProcess};
pub use proxy::Proxy;
pub use wait::{DEADLINE, must, until};
pub use worker::Worker;
