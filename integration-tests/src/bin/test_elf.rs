//! Serves the elf of the tests until it is told to stop. Prints a line when it is ready.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use elf_runtime::{Elf, Mycelium, shutdown_signal};
use integration_tests::{Diary, Tester, orders};

#[derive(Debug, Parser)]
struct Args {
    /// The broker.
    #[arg(long)]
    url: String,
    /// The name to serve under.
    #[arg(long)]
    name: String,
    /// How many jobs to run at once.
    #[arg(long)]
    concurrency: u32,
    /// How many jobs to hold at once.
    #[arg(long)]
    window: u32,
    /// Which version of the elf for orders to serve, in place of the elf of the tests.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4))]
    orders: Option<u32>,
    /// The file to write down in what tasks do.
    #[arg(long)]
    diary: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let stop = shutdown_signal();
    let elf: Arc<dyn Elf> = match (args.orders, &args.diary) {
        (Some(1), _) => Arc::new(orders::v1::Shipper),
        (Some(2), _) => Arc::new(orders::v2::Shipper),
        (Some(3), _) => Arc::new(orders::v3::Shipper),
        (Some(_), _) => Arc::new(orders::v4::Shipper),
        (None, Some(path)) => Arc::new(Tester::with_diary(Diary::open(path)?)),
        (None, None) => Arc::new(Tester::default()),
    };
    // A broker that is away is waited for, as by any worker.
    let mycelium = Mycelium::builder(args.url).connect_lazy()?;
    mycelium
        .serve()
        .shared_elf(args.name, elf)
        .concurrency(args.concurrency)
        .window(args.window)
        .on_ready(|session| {
            // Whoever started this process reads the line; if it has gone, nobody needs it.
            let _gone = writeln!(std::io::stdout(), "ready: session {session}");
        })
        .run_until(stop)
        .await?;
    Ok(())
}
