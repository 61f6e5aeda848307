//! The command line.

use clap::{Parser, Subcommand};

use crate::bench;
use crate::commands::{
    cancel, elf, elves, failure, failures, flows, graph, job, jobs, retry, serve, watch, why,
};
use crate::output::Format;

/// Durable graphs of jobs: the broker, and commands that look at one and steer it.
#[derive(Debug, Parser)]
#[command(name = "mycelium", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 it could not be done, 2 the command line or the settings are wrong."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands that talk to a broker take.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// The broker to talk to.
    #[arg(
        long,
        global = true,
        env = "MYCELIUM_URL",
        default_value = "http://127.0.0.1:7420",
        value_name = "URL"
    )]
    #[arg(help_heading = "Broker and output")]
    pub(crate) url: String,
    /// The mycelium of that broker.
    #[arg(
        long,
        global = true,
        default_value = "default",
        value_name = "NAME",
        help_heading = "Broker and output"
    )]
    pub(crate) mycelium: String,
    /// Whether to print for people or for programs. Times in JSON are RFC 3339, ids strings, and what is not set is
    /// null; the help of each command names the shape.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Broker and output")]
    pub(crate) output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<serve::Args>),
    Jobs(jobs::Args),
    Job(job::Args),
    Graph(graph::Args),
    Flows(flows::Args),
    Elves(elves::Args),
    Elf(elf::Args),
    Failures(failures::Args),
    Failure(failure::Args),
    Why(why::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Watch(watch::Args),
    Bench(bench::Args),
    /// Serves the elf of `mycelium bench`, which starts this command itself.
    #[command(hide = true)]
    BenchElf(bench::ElfArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it does");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {argument} says what it is");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
