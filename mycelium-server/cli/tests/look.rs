//! The commands that look: what they show is what the broker holds, for people and for programs.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

#[path = "look/graphs.rs"]
mod graphs;
#[path = "look/lists.rs"]
mod lists;
#[path = "look/refusals.rs"]
mod refusals;
mod support;
#[path = "look/values.rs"]
mod values;

use elf_runtime::Mycelium;
use support::Broker;
use support::scale::Served;

/// Names that are hard to quote.
const FLOW: &str = "the \"daily\" \\ report\\n";
const ELF: &str = "scale \"A\" -> {b};";

/// A broker, and an elf that it knows under this name, with room for so many jobs.
async fn start(elf: &str, room: u32) -> (Broker, Mycelium, Served) {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, elf, room).await;
    (broker, mycelium, served)
}

async fn connect(broker: &Broker) -> Mycelium {
    Mycelium::connect(broker.url()).await.unwrap()
}

/// The end of an id.
fn short(id: &elf_runtime::JobId) -> String {
    let digits = id.to_string().replace('-', "");
    digits[digits.len() - 8..].to_owned()
}
