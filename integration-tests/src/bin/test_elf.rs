//! Serves the elf of the tests until it is told to stop. Prints a line when it is ready.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Parser;
use elf_runtime::{Mycelium, shutdown_signal};
use integration_tests::{Diary, Tester};

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
    /// The file to write down in what tasks do.
    #[arg(long)]
    diary: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let stop = shutdown_signal();
    let tester = match &args.diary {
        Some(path) => Tester::with_diary(Diary::open(path)?),
        None => Tester::default(),
    };
    // A broker that is away is waited for, as by any worker.
    let mycelium = Mycelium::builder(args.url).connect_lazy()?;
    mycelium
        .serve()
        .elf(args.name, tester)
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
