//! An elf is upgraded while its jobs are under way: two versions side by side, with the clients of both.
//!
//! ```text
//! cargo run --bin upgrade                                # with a broker of its own, in memory
//! cargo run --bin upgrade -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use elf_runtime::{Error, Job, Mycelium, Run, Worker, machine_elf};
use mycelium_server::RunningBroker;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The elf as it was. In real life this is the program that was deployed last week, and a client that was built with it.
mod old {
    use super::machine_elf;

    pub(crate) struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64) -> String {
            format!("{order} shipped by version 1")
        }
    }
}

/// The elf as it is now: it has to know what to tell customs.
mod new {
    use super::machine_elf;

    pub(crate) struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64, customs: String) -> String {
            format!("{order} shipped by version 2, as {customs}")
        }
    }
}

/// The elf as it should have been: an `Option` may be left out, so it takes the jobs of all clients.
mod both {
    use super::machine_elf;

    pub(crate) struct Shipper;

    #[machine_elf]
    impl Shipper {
        /// Ships an order.
        async fn task_ship(&self, order: u64, customs: Option<String>) -> String {
            let customs = customs.unwrap_or_else(|| "what it is".to_owned());
            format!("{order} shipped by version 3, as {customs}")
        }
    }
}

/// Packs orders, once its door is open.
struct Warehouse {
    is_open: watch::Receiver<bool>,
}

#[machine_elf]
impl Warehouse {
    /// Packs an order.
    async fn task_pack(&self, order: u64) -> u64 {
        let mut is_open = self.is_open.clone();
        // If nobody can open it any more, the program ends.
        let _closed = is_open.wait_for(|is_open| *is_open).await.is_err();
        order
    }
}

/// Upgrades an elf while its jobs are under way.
#[derive(Debug, Parser)]
struct Options {
    /// The URL of a broker that runs already. Without it the example starts one, in memory.
    #[arg(long, env = "MYCELIUM_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic where standard error cannot be written to.
            let _untold = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    // A variable that is set and empty is as good as none.
    let url = options.url.filter(|url| !url.is_empty());
    let broker = match &url {
        Some(_) => None,
        None => Some(mycelium_examples::broker(None).await?),
    };
    let url = url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();
    let mycelium = Mycelium::connect(url).await?;
    upgrade(&mycelium).await?;
    if let Some(broker) = broker {
        broker.stop().await?;
    }
    Ok(())
}

/// A worker that runs beside this program, as one of its own would, until it is told to stop.
struct Process {
    stop: oneshot::Sender<()>,
    ended: JoinSet<Result<(), Error>>,
}

impl Process {
    fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut ended = JoinSet::new();
        ended.spawn(worker.run_until(stopped));
        Self { stop, ended }
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        // One that has ended by itself says why below.
        let _ended = self.stop.send(());
        let ended = self.ended.join_next().await.context("each is stopped once")?;
        Ok(ended??)
    }
}

async fn upgrade(mycelium: &Mycelium) -> anyhow::Result<()> {
    let (door, is_open) = watch::channel(false);
    let warehouse = Process::start(mycelium.serve().elf("warehouse", Warehouse { is_open }));
    let first = Process::start(mycelium.serve().elf("shipper", old::Shipper));

    // The client of the first version, whose orders wait for the warehouse.
    let (old_run, old_orders) = old_client(mycelium, 1..=3).await?;

    // The upgrade begins: both versions serve side by side, and both clients submit. Each order goes where it fits.
    let second = Process::start(mycelium.serve().elf("shipper", new::Shipper));
    let (new_run, new_orders) = new_client(mycelium, 4..=6).await?;
    for order in &new_orders {
        writeln!(io::stdout(), "{}", new_run.result(order).await?)?;
    }
    old_client(mycelium, 7..=7).await.context("the first version is still there")?;

    // The first version goes, with orders under way that only it takes. They are not given to the other, to fail there:
    // they wait, and say why.
    first.stop().await?;
    door.send_replace(true);
    let reason = waiting(mycelium, &old_orders[0]).await?;
    writeln!(io::stdout(), "order 1 is {reason}")?;

    // What nobody takes who is there is refused, before it could fail.
    match old_client(mycelium, 8..=8).await {
        Ok(_) => anyhow::bail!("nobody takes order 8, and it was taken in"),
        Err(error) => writeln!(io::stdout(), "order 8 is refused: {}", first_line(&error))?,
    }

    // A version that takes both ends the wait.
    let third = Process::start(mycelium.serve().elf("shipper", both::Shipper));
    for order in &old_orders {
        writeln!(io::stdout(), "{}", old_run.result(order).await?)?;
    }
    for process in [warehouse, second, third] {
        process.stop().await?;
    }
    Ok(())
}

type Orders = (Run, Vec<Job<String>>);

async fn old_client(mycelium: &Mycelium, orders: std::ops::RangeInclusive<u64>) -> anyhow::Result<Orders> {
    let flow = mycelium.flow("orders");
    let warehouse = Warehouse::tasks(&flow, "warehouse");
    let shipper = old::Shipper::tasks(&flow, "shipper");
    let orders = orders.map(|order| shipper.task_ship(warehouse.task_pack(order))).collect();
    Ok((flow.submit().await?, orders))
}

async fn new_client(mycelium: &Mycelium, orders: std::ops::RangeInclusive<u64>) -> anyhow::Result<Orders> {
    let flow = mycelium.flow("orders");
    let shipper = new::Shipper::tasks(&flow, "shipper");
    let orders = orders.map(|order| shipper.task_ship(order, "toys")).collect();
    Ok((flow.submit().await?, orders))
}

/// Why an order waits, once it waits for nothing but somebody who takes it.
async fn waiting(mycelium: &Mycelium, order: &Job<String>) -> anyhow::Result<String> {
    loop {
        let reason = mycelium.why(order.id()).await?;
        if reason.contains("does not take") {
            return Ok(reason);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
