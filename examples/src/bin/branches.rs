//! Jobs that run only if a value says so, and jobs for each element of a list that a job returns.
//!
//! ```text
//! cargo run --bin branches                                # with a broker of its own, in memory
//! cargo run --bin branches -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use elf_runtime::{Job, Mycelium, Value, machine_elf};
use mycelium_server::RunningBroker;

struct Zoo;

/// Knows the animals.
#[machine_elf]
impl Zoo {
    /// The animals that move to another zoo.
    async fn task_list(&self) -> Vec<String> {
        ["ant", "bee", "elephant"].map(str::to_owned).to_vec()
    }

    /// Weighs one of them, in kilograms.
    async fn task_weigh(&self, species: String) -> i64 {
        if species == "elephant" { 5_000 } else { 1 }
    }
}

struct Transport;

/// Moves animals.
#[machine_elf]
impl Transport {
    /// For heavy loads.
    async fn task_drive_lorry(&self, load: i64) -> String {
        format!("a lorry with {load} kg")
    }

    /// For light ones.
    async fn task_ride_bicycle(&self, load: i64) -> String {
        format!("a bicycle with {load} kg")
    }

    /// Sweeps the yard.
    async fn task_sweep(&self) -> String {
        "swept".to_owned()
    }

    /// Says what arrives.
    async fn task_welcome(&self, arrival: String) -> String {
        format!("welcome, {arrival}!")
    }
}

/// Moves a zoo, with what its weight asks for.
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
    let worker = mycelium.serve().elf("zoo", Zoo).elf("transport", Transport);
    let mut outcome = Ok(());
    worker.run_until(async { outcome = orchestrate(&mycelium).await }).await?;

    if let Some(broker) = broker {
        broker.stop().await?;
    }
    outcome
}

async fn orchestrate(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("branches");
    let zoo = Zoo::tasks(&flow, "zoo");
    let transport = Transport::tasks(&flow, "transport");

    // How many animals there are is not known yet. The closure is called once, with an animal that stands for all, and
    // the broker makes a job of each when the list is there.
    let animals = zoo.task_list();
    let weights: Job<Vec<i64>> = flow.for_each(&animals, |animal| zoo.task_weigh(animal));
    let load = weights.value().sum();

    // One of these two runs, and the other one ends SKIPPED: the broker decides when it knows the load.
    let is_heavy = load.greater_than(100);
    let lorry = transport.task_drive_lorry(&load).run_if(&is_heavy);
    let bicycle = transport.task_ride_bicycle(&load).run_if(!&is_heavy);

    // This one takes the value of the one that has run. A job that took `bicycle` alone would be SKIPPED like it.
    let welcome = transport.task_welcome(Value::select(&is_heavy, &lorry, &bicycle));
    // And this one takes no value of either, but waits for both: it runs in any case.
    let sweep = transport.task_sweep().after(&lorry).after(&bicycle);

    let run = flow.submit().await?;
    // `println!` would panic where nobody reads it.
    let mut out = io::stdout();
    let animals = run.result(&animals).await?;
    writeln!(out, "{} weigh {:?} kg", animals.join(", "), run.result(&weights).await?)?;
    for (name, job) in [("lorry", &lorry), ("bicycle", &bicycle)] {
        // A job that was skipped has no result, and has not failed.
        let moved = run.maybe(job).await?;
        writeln!(out, "{name}: {}", moved.as_deref().unwrap_or("skipped"))?;
    }
    writeln!(out, "{}", run.result(&welcome).await?)?;
    writeln!(out, "the yard is {}", run.result(&sweep).await?)?;

    let counts = run.wait().await?;
    writeln!(out, "{} jobs DONE, {} SKIPPED", counts.done, counts.skipped)?;
    Ok(())
}
