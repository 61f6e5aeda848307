//! What becomes of errors and panics: the broker records each with its type, place and causes, and the jobs that
//! needed the result end UPSTREAM_FAILED.
//!
//! ```text
//! cargo run --bin failures                                # with a broker of its own, on ./mycelium-data
//! cargo run --bin failures -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::num::ParseIntError;
use std::process::ExitCode;

use clap::Parser;
use elf_runtime::{Error, Job, JobFailure, Mycelium, Output, Run, TaskError, machine_elf};
use mycelium_examples::mycelium_command;
use mycelium_server::RunningBroker;

const DATA_FOLDER: &str = "./mycelium-data";

/// An ordinary error with a source. Nothing in it knows of elves.
#[derive(Debug, thiserror::Error)]
#[error("the scale shows `{shown}`, which is no weight")]
struct ReadingError {
    shown: String,
    source: ParseIntError,
}

fn grams_of(shown: &str) -> Result<i64, ReadingError> {
    shown.parse().map_err(|source| ReadingError { shown: shown.to_owned(), source })
}

struct Kitchen;

/// Weighs a cake and shares it out.
#[machine_elf]
impl Kitchen {
    /// Reads the scale. The `?` turns the error into the failure of the job: its type, the file and line of the `?`,
    /// and the whole chain of sources.
    async fn task_weigh(&self, shown: String) -> Result<i64, TaskError> {
        Ok(grams_of(&shown)?)
    }

    /// Cuts the cake. Without guests this panics, and the panic is a failure of this job alone: elf and process go on.
    async fn task_cut(&self, grams: i64, guests: i64) -> i64 {
        grams / guests
    }

    /// Serves the pieces.
    async fn task_serve(&self, piece: i64) -> String {
        format!("a piece of {piece} g each")
    }
}

/// Shows what the broker records of errors and panics.
#[derive(Debug, Parser)]
struct Options {
    /// The URL of a broker that runs already. Without it the example starts one, on the folder ./mycelium-data.
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
        None => Some(mycelium_examples::broker(Some(DATA_FOLDER)).await?),
    };
    let url = url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();

    let mycelium = Mycelium::connect(url).await?;
    let mut outcome = Ok(());
    let worker = mycelium.serve().elf("kitchen", Kitchen);
    worker.run_until(async { outcome = orchestrate(&mycelium).await }).await?;

    let is_own = broker.is_some();
    if let Some(broker) = broker {
        broker.stop().await?;
    }
    outcome?;
    let command = mycelium_command();
    if is_own {
        writeln!(io::stdout(), "\nThe failures stay. Look at them again, equal ones as one, with")?;
        writeln!(io::stdout(), "  {command} serve --data-dir {DATA_FOLDER}")?;
    } else {
        writeln!(io::stdout(), "\nLook at the failures again, equal ones as one, with")?;
    }
    writeln!(io::stdout(), "  {command} failures")?;
    Ok(())
}

async fn orchestrate(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("failures");
    let kitchen = Kitchen::tasks(&flow, "kitchen");

    let mut jobs = Vec::new();
    for (what, shown, guests) in [
        ("a cake for five", "1250", 5),
        ("a scale that shows a letter", "125O", 5),
        // The same failure once more: another message, but the same type, place and causes.
        ("a scale that shows another letter", "l250", 5),
        ("a cake for nobody", "1250", 0),
    ] {
        let weighed = kitchen.task_weigh(shown);
        let cut = kitchen.task_cut(&weighed, guests);
        let served = kitchen.task_serve(&cut);
        jobs.push((what, weighed, cut, served));
    }

    // That jobs fail is no error of `submit` or `wait`: it is something to ask for.
    let run = flow.submit().await?;
    let counts = run.wait().await?;
    for (what, weighed, cut, served) in &jobs {
        writeln!(io::stdout(), "\n{what}")?;
        tell(&run, "weigh", weighed).await?;
        tell(&run, "cut", cut).await?;
        tell(&run, "serve", served).await?;
    }
    writeln!(
        io::stdout(),
        "\n{} jobs DONE, {} FAILED, {} UPSTREAM_FAILED",
        counts.done,
        counts.failed,
        counts.upstream_failed
    )?;
    Ok(())
}

/// Prints how a job ended. Only *its failing* is expected here; any other error is returned.
async fn tell<T: Output + Debug>(run: &Run, name: &str, job: &Job<T>) -> anyhow::Result<()> {
    match run.result(job).await {
        Ok(result) => writeln!(io::stdout(), "  {name:<6} DONE             {result:?}")?,
        Err(Error::JobFailed(failure)) => tell_failure(name, &failure)?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn tell_failure(name: &str, JobFailure { cause, failure, .. }: &JobFailure) -> io::Result<()> {
    if let Some(cause) = cause {
        writeln!(
            io::stdout(),
            "  {name:<6} UPSTREAM_FAILED  because of {}, job {}",
            cause.task,
            cause.job_id
        )?;
        return Ok(());
    }
    writeln!(io::stdout(), "  {name:<6} FAILED")?;
    let Some(failure) = failure else { return Ok(()) };
    writeln!(io::stdout(), "    {}: {}", failure.r#type, failure.message)?;
    for frame in &failure.frames {
        // In release builds the function may be unknown.
        let place = format!("{}:{} {}", frame.file, frame.line, frame.function);
        writeln!(io::stdout(), "    at {}", place.trim_end())?;
    }
    for cause in &failure.causes {
        writeln!(io::stdout(), "    caused by {}: {}", cause.r#type, cause.message)?;
    }
    Ok(())
}
