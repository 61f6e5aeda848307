//! Two elves, two tasks, one value between them.
//!
//! ```text
//! cargo run --bin hello                                # with a broker of its own, in memory
//! cargo run --bin hello -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use elf_runtime::{Mycelium, machine_elf};
use mycelium_server::RunningBroker;

/// An elf is a type of yours. Each method whose name begins with `task_` is a task.
struct Sender;

/// Writes messages.
#[machine_elf]
impl Sender {
    /// Writes a greeting.
    async fn task_greet(&self, name: String) -> String {
        format!("Hello, {name}!")
    }
}

struct Printer;

/// Prints messages.
#[machine_elf]
impl Printer {
    /// Prints one, and returns how many letters that were.
    async fn task_print(&self, message: String) -> u64 {
        println!("{message}");
        message.chars().filter(|character| character.is_alphabetic()).count() as u64
    }
}

/// Sends a greeting from one elf to another.
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

    // A worker serves elves, each under a name. Here both are served by this process, until the flow has ended;
    // they could as well be processes of their own, on other hosts: then only the URL is shared.
    let mycelium = Mycelium::connect(url).await?;
    let worker = mycelium.serve().elf("sender", Sender).elf("printer", Printer);
    let mut outcome = Ok(());
    worker.run_until(async { outcome = orchestrate(&mycelium).await }).await?;

    if let Some(broker) = broker {
        broker.stop().await?;
    }
    outcome
}

/// Says what is to be done. This part could be a third program.
async fn orchestrate(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("hello");
    let sender = Sender::tasks(&flow, "sender");
    let printer = Printer::tasks(&flow, "printer");

    // These calls run nothing: they record two jobs. `message` is a value that is not there yet, and because the
    // second job takes it, the broker starts that one after the first.
    let message = sender.task_greet("mycelium");
    let letters = printer.task_print(message);

    // One call stores both jobs, all or nothing. From here on they run even if this program ends.
    let run = flow.submit().await?;
    writeln!(io::stdout(), "{} letters were printed", run.result(&letters).await?)?;
    Ok(())
}
