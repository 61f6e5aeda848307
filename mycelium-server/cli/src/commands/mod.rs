//! The commands: one file each, with its arguments, its calls and its way of printing.

pub(crate) mod actions;
pub(crate) mod audit;
pub(crate) mod cancel;
mod client;
pub(crate) mod delete;
pub(crate) mod drain;
pub(crate) mod elf;
pub(crate) mod elves;
pub(crate) mod eval;
pub(crate) mod failure;
pub(crate) mod failures;
pub(crate) mod flows;
pub(crate) mod graph;
pub(crate) mod health;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod lineage;
pub(crate) mod logs;
pub(crate) mod manual;
pub(crate) mod moving;
pub(crate) mod mycelia;
pub(crate) mod pause;
pub(crate) mod proto;
pub(crate) mod retry;
mod scope;
pub(crate) mod serve;
pub(crate) mod start_now;
pub(crate) mod store;
pub(crate) mod tls;
pub(crate) mod token;
mod values;
pub(crate) mod watch;
pub(crate) mod why;

use crate::args::{self, Cli, Command};
use crate::bench;
use crate::output::{Output, Table};

/// Runs a command to its end.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    let output = Output::new(cli.client.output);
    let client = cli.client;
    match cli.command {
        Command::Serve(args) => serve::run(*args, output).await,
        Command::Store(args) => store::run(args, &client, output).await,
        Command::Export(args) => moving::export(args, &client, output).await,
        Command::Import(args) => moving::import(args, &client, output).await,
        Command::Bench(args) => {
            let report = bench::run(args).await?;
            if output.is_json() {
                return Ok(output.json_line(&report)?);
            }
            let rows = report.rows();
            let table = Table::new(["MEASURE", "VALUE"]);
            Ok(output.table(table.rows(rows, |(measure, value)| [measure.to_owned(), value]), "")?)
        }
        Command::Eval(args) => eval::run(&args, output),
        Command::Health(args) => health::run(args, output).await,
        Command::Proto(args) => proto::run(&args, output),
        Command::Token(args) => token::run(&args, output),
        Command::Tls(args) => tls::run(&args, output),
        Command::Completions(args) => manual::completions(&args, args::command(), output),
        Command::Man(args) => manual::man(&args, args::command(), output),
        Command::BenchElf(args) => bench::serve_elf(args).await,
        Command::Jobs(args) => jobs::run(args, &client::connect(&client).await?, output).await,
        Command::Job(args) => job::run(args, &client::connect(&client).await?, output).await,
        Command::Graph(args) => {
            let style = args.style(output)?;
            graph::run(args, style, &client::connect(&client).await?, output).await
        }
        Command::Lineage(args) => lineage::run(args, &client::connect(&client).await?, output).await,
        Command::Logs(args) => logs::run(args, &client::connect(&client).await?, output).await,
        Command::Flows(args) => flows::run(args, &client::connect(&client).await?, output).await,
        Command::Mycelia(args) => mycelia::run(args, &client::connect(&client).await?, output).await,
        Command::Elves(args) => elves::run(args, &client::connect(&client).await?, output).await,
        Command::Elf(args) => elf::run(args, &client::connect(&client).await?, output).await,
        Command::Failures(args) => failures::run(args, &client::connect(&client).await?, output).await,
        Command::Failure(args) => failure::run(args, &client::connect(&client).await?, output).await,
        Command::Why(args) => why::run(args, &client::connect(&client).await?, output).await,
        Command::Cancel(args) => cancel::run(args, &client::connect(&client).await?, output).await,
        Command::Retry(args) => retry::run(args, &client::connect(&client).await?, output).await,
        Command::StartNow(args) => start_now::run(args, &client::connect(&client).await?, output).await,
        Command::Delete(args) => delete::delete(args, &client::connect(&client).await?, output).await,
        Command::Pin(args) => delete::pin(args, &client::connect(&client).await?, output).await,
        Command::Pause(args) => pause::pause(args, &client::connect(&client).await?, output).await,
        Command::Resume(args) => pause::resume(args, &client::connect(&client).await?, output).await,
        Command::Pauses(args) => pause::pauses(args, &client::connect(&client).await?, output).await,
        Command::Drain(args) => drain::run(args, &client::connect(&client).await?, output).await,
        Command::Actions(args) => actions::run(args, &client::connect(&client).await?, output).await,
        Command::Audit(args) => {
            let of = client.mycelium.as_deref();
            audit::run(args, of, &client::connect(&client).await?, output).await
        }
        Command::Watch(args) => watch::run(args, &client::connect(&client).await?, output).await,
    }
}
