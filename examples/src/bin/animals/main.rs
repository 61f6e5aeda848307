//! Six elves in six processes measure animals, keep the measurements in a file, and report on them.
//!
//! ```text
//! cargo build --release --bin animals --bin mycelium && target/release/animals
//! ```
//!
//! One command starts everything: a broker on the folder `./mycelium-data`, the six elves (this program runs itself
//! again in each role), and the orchestrator, which says what is to be done. Run it again: the history stays, and
//! the measurements go on where they ended.
//!
//! | file | what a newcomer finds there |
//! |---|---|
//! | `elves.rs` | the tasks: ordinary methods of ordinary types |
//! | `orchestration.rs` | the flow: 280 jobs, written as a loop of ordinary calls |
//! | `measurements.rs` | how a task stays right when it runs twice |
//! | `processes.rs` | six child processes that never outlive this one |
//! | `summary.rs` | asking the broker what happened |

mod elves;
mod measurements;
mod orchestration;
mod processes;
mod summary;

use std::cell::Cell;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};
use elf_runtime::{Mycelium, shutdown_signal};
use mycelium_examples::mycelium_command;
use mycelium_server::RunningBroker;

use crate::processes::ElfProcesses;

/// Everything the broker knows. It belongs to the broker, which shares it with no other files and no other broker.
const DATA_FOLDER: &str = "./mycelium-data";
/// The measurements, which belong to the elves.
const MEASUREMENTS_FILE: &str = "./animals.json";

/// Measures animals with six elves in six processes.
#[derive(Debug, Parser)]
struct Options {
    /// How many animals to measure. A report is made after every fifth.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(5..=100_000))]
    animals: u32,
    /// The URL of a broker that runs already. Without it the example starts one.
    #[arg(long, env = "MYCELIUM_URL")]
    url: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves one elf: what this program starts itself as, six times.
    #[command(hide = true)]
    Elf {
        /// The elf.
        #[arg(long)]
        name: String,
        /// The broker.
        #[arg(long)]
        url: String,
        /// The file with the measurements.
        #[arg(long)]
        file: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let (who, result) = match options.role {
        // A variable that is set and empty is as good as none.
        None => {
            let url = options.url.filter(|url| !url.is_empty());
            ("animals".to_owned(), run_everything(options.animals, url).await)
        }
        Some(Role::Elf { name, url, file }) => {
            let result = elves::serve(&name, url, file).await;
            (format!("elf `{name}`"), result)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads what we print has seen enough and gone, as `head` does: no reason to complain.
        Err(error) if is_closed_output(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic where standard error cannot be written to.
            let _untold = writeln!(io::stderr(), "{who}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run_everything(animals: u32, url: Option<String>) -> Result<()> {
    let told_to_stop = shutdown_signal();
    let broker = match &url {
        Some(_) => None,
        None => Some(mycelium_examples::broker(Some(DATA_FOLDER)).await?),
    };
    let is_own = broker.is_some();
    let url = url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();
    let on = if is_own { format!(" on {DATA_FOLDER}") } else { String::new() };
    // Not `println!`, which panics if nobody reads it.
    writeln!(io::stdout(), "broker at {url}{on}")?;
    let mut elves = ElfProcesses::start(&url, Path::new(MEASUREMENTS_FILE))?;

    let is_submitted = Cell::new(false);
    let outcome = tokio::select! {
        outcome = orchestrate(url, is_own, animals, &is_submitted) => outcome,
        error = elves.first_to_end() => Err(error),
        () = told_to_stop => Err(interrupted(is_submitted.get(), is_own)),
    };

    // Whatever happened, elves leave while the broker still takes their last words, and the broker leaves last.
    let elves_stopped = elves.stop().await;
    let broker_stopped = match broker {
        Some(broker) => broker.stop().await,
        None => Ok(()),
    };
    outcome?;
    elves_stopped?;
    broker_stopped?;
    Ok(())
}

fn interrupted(is_submitted: bool, is_own: bool) -> anyhow::Error {
    if is_submitted && !is_own {
        anyhow!(
            "told to stop: what was submitted stays with the broker, and continues whenever it has these elves again"
        )
    } else if is_submitted {
        anyhow!(
            "told to stop: what was submitted stays in {DATA_FOLDER}, and continues whenever a broker on that folder has \
             these elves again"
        )
    } else {
        anyhow!("told to stop: nothing was submitted yet")
    }
}

/// This part needs nothing but the URL of the broker: it could be a program of its own, on another host.
async fn orchestrate(url: String, is_own: bool, animals: u32, is_submitted: &Cell<bool>) -> Result<()> {
    let mycelium = Mycelium::connect(url).await?;
    let (flow_id, last_report) = orchestration::run(&mycelium, animals, is_submitted).await?;
    let mut out = io::stdout();
    writeln!(out, "\n{last_report}\n")?;
    summary::tell(&mycelium, flow_id).await?;

    let (elf, command) = (elves::CREATOR, mycelium_command());
    if !is_own {
        writeln!(
            out,
            "\nThe measurements of all runs are in {MEASUREMENTS_FILE}. Look at their history with\n  \
             {command} graph --flow {flow_id}\n  \
             {command} jobs --flow {flow_id}\n  \
             {command} elf \"{elf}\" --source"
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "\nThe measurements of all runs are in {MEASUREMENTS_FILE}, their history is in {DATA_FOLDER}. Look at it with\n  \
         {command} serve --data-dir {DATA_FOLDER}\n\
         and then, in another terminal, with\n  \
         {command} graph --flow {flow_id}\n  \
         {command} jobs --flow {flow_id}\n  \
         {command} elf \"{elf}\" --source"
    )?;
    Ok(())
}
