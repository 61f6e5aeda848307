//! What the tests of whole programs stand on beside `mycelium-testing`: an elf whose tasks write down what they do, as a
//! process that can be killed, a flow that must not notice what else happens, and examples run as people run them.

mod bystander;
mod certificates;
mod diary;
#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod disk;
mod elf;
pub mod example;
mod flows;
pub mod orders;
#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod power;
mod process;
pub mod programs;
mod wall_clock;

pub use bystander::Bystander;
pub use certificates::{Authority, DAY, Pair, PairFiles};
pub use diary::{Diary, Entry, Event};
pub use elf::Tester;
pub use flows::{counts, flow_id_bytes, jobs_of, read_number};
pub use mycelium_testing::{BrokerProcess, DEADLINE, Direction, Proxy, Worker, must, until, wire};
pub use process::{ElfOptions, ElfProcess};
pub use wall_clock::WallClock;
