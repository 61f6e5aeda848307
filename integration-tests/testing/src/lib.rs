//! For tests of elves, and of programs that orchestrate them.
//!
//! A test of a task calls it ([`DirectCall`]), without a broker. A test of more than that starts a broker ([`TestBroker`] in its
//! own process, with a clock that the test moves; [`BrokerProcess`] as a process that can be killed) and serves elves
//! ([`Worker`]). Between the two it puts what is to go wrong: a [`Proxy`] whose connections it cuts, or [`Faults`], by
//! which attempts and outcomes get lost or take long. Where one side of the contract is to be spoken by hand,
//! [`wire::WireElf`] is an elf that says what a test tells it, and [`fake::FakeBroker`] a broker.
//!
//! Nothing here sleeps to let something happen: tests wait for conditions with [`must`] and [`until`], each with a
//! [`DEADLINE`].
//!
//! ```
//! use elf_runtime::machine_elf;
//! use mycelium_testing::{TestBroker, Worker};
//!
//! struct Scale;
//!
//! #[machine_elf]
//! impl Scale {
//!     async fn task_weigh(&self, species: String) -> usize {
//!         7 * species.len()
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! // In a test: `#[tokio::test]`.
//! let broker = TestBroker::in_memory().await?;
//! let mycelium = broker.client().await?;
//! let worker = Worker::start(mycelium.serve().elf("scale", Scale)).await?;
//!
//! let flow = mycelium.flow("weighing");
//! let weight = Scale::tasks(&flow, "scale").task_weigh("bee");
//! assert_eq!(flow.submit().await?.result(&weight).await?, 21);
//!
//! worker.stop().await?;
//! broker.stop().await?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod command;
mod direct;
pub mod fake;
mod faults;
#[cfg(feature = "broker")]
mod process;
#[cfg(feature = "broker")]
pub mod programs;
mod proxy;
mod wait;
pub mod wire;
mod worker;

#[cfg(feature = "broker")]
pub use broker::TestBroker;
#[cfg(feature = "broker")]
pub use command::{Ended, command, run};
pub use direct::{Called, Calling, DirectCall};
pub use faults::{Faults, HeldOutcome, Which};
#[cfg(feature = "broker")]
pub use process::{BrokerProcess, Process};
pub use proxy::{Direction, Proxy};
pub use wait::{DEADLINE, must, until, within};
pub use worker::Worker;
