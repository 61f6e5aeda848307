//! The command line.

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgMatches, Command as ClapCommand, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
};

use crate::bench;
use crate::commands::{
    actions, audit, cancel, delete, drain, elf, elves, eval, failure, failures, flows, graph, health, job,
    jobs, lineage, logs, manual, moving, mycelia, pause, proto, retry, serve, start_now, store, tls, token,
    watch, why,
};
use crate::output::Format;

/// Durable graphs of jobs: the broker, and commands that inspect and control one.
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
    /// The mycelium of that broker: `default` if none is named, and for the commands of `store` all of them.
    #[arg(
        long,
        global = true,
        env = "MYCELIUM_NAME",
        value_name = "NAME",
        help_heading = "Broker and output"
    )]
    pub(crate) mycelium: Option<String>,
    /// Whether to print for people or for programs. Times in JSON are RFC 3339, ids strings, and what is not set is
    /// null; the help of each command names the shape.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Broker and output")]
    pub(crate) output: Format,
}

/// Commands that do not talk to the broker that the options name: they start their own, or need none.
const LOCAL_COMMANDS: [&str; 9] =
    ["serve", "health", "bench", "eval", "proto", "token", "tls", "completions", "man"];

impl Cli {
    /// Reads the command line and the environment, or ends the process with what is wrong with them.
    pub(crate) fn read() -> Self {
        Self::try_read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn try_read(
        arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let Some((name, own)) = matches.subcommand() else { return Self::from_arg_matches(&matches) };
        if LOCAL_COMMANDS.contains(&name)
            && let Some(option) = CLIENT_OPTIONS.into_iter().find(|option| is_given(&matches, own, option))
        {
            let problem = match name {
                "bench" => {
                    format!("`{name}` takes no --{option}; the broker to measure is named with --connect")
                }
                "health" => {
                    format!("`{name}` takes no --{option}; the broker's admin listener is named with --admin")
                }
                _ => format!("`{name}` takes no --{option}: it is for commands that talk to a broker"),
            };
            return Err(command.error(ErrorKind::ArgumentConflict, problem));
        }
        Self::from_arg_matches(&matches)
    }
}

/// The options of [`ClientArgs`] that say which broker is meant.
const CLIENT_OPTIONS: [&str; 2] = ["url", "mycelium"];

fn is_given(matches: &ArgMatches, own: &ArgMatches, option: &str) -> bool {
    [matches, own].iter().any(|matches| matches.value_source(option) == Some(ValueSource::CommandLine))
}

/// The command line as it is read, which differs in two things from what is derived: a variable that is set and empty
/// counts as one that is not set, and commands that make no use of the options of [`ClientArgs`] do not show them.
pub(crate) fn command() -> ClapCommand {
    fn without_empty_variables(command: ClapCommand) -> ClapCommand {
        let is_empty = |argument: &clap::Arg| {
            argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
        };
        command
            .mut_args(|argument| if is_empty(&argument) { argument.env(Resettable::Reset) } else { argument })
            .mut_subcommands(without_empty_variables)
    }
    let mut command = without_empty_variables(Cli::command());
    for name in LOCAL_COMMANDS {
        // An argument of the command's own takes the place of the one that all commands have.
        command = command.mut_subcommand(name, |own| {
            own.args(CLIENT_OPTIONS.map(|option| clap::Arg::new(option).long(option).hide(true)))
        });
    }
    command
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<serve::Args>),
    Jobs(jobs::Args),
    Job(job::Args),
    Graph(graph::Args),
    Lineage(lineage::Args),
    Logs(logs::Args),
    Flows(flows::Args),
    Mycelia(mycelia::Args),
    Elves(elves::Args),
    Elf(elf::Args),
    Failures(failures::Args),
    Failure(failure::Args),
    Why(why::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    StartNow(start_now::Args),
    Delete(delete::DeleteArgs),
    Pin(delete::PinArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Pauses(pause::PausesArgs),
    Drain(drain::Args),
    Actions(actions::Args),
    Audit(audit::Args),
    Watch(watch::Args),
    Store(store::Args),
    Export(moving::ExportArgs),
    Import(moving::ImportArgs),
    Health(health::Args),
    Eval(eval::Args),
    Proto(proto::Args),
    Token(token::Args),
    Tls(tls::Args),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
    Bench(bench::Args),
    /// Serves the elf of `mycelium bench`, which starts this command itself.
    #[command(hide = true)]
    BenchElf(bench::ElfArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn commands_that_start_their_own_broker_refuse_to_be_told_of_another() {
        for arguments in [
            &["mycelium", "serve", "--url", "http://127.0.0.1:1"][..],
            &["mycelium", "--url", "http://127.0.0.1:1", "serve"],
            &["mycelium", "bench", "--mycelium", "default", "chain"],
        ] {
            let error = Cli::try_read(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            assert!(error.to_string().contains("` takes no --"), "{error}");
        }
        let own = ["mycelium", "bench-elf", "--url", "http://127.0.0.1:1", "--concurrency=1", "--window=1"];
        assert!(Cli::try_read(own).is_ok());
        let flows = Cli::try_read(["mycelium", "flows", "--url", "http://127.0.0.1:1"]).unwrap();
        assert_eq!(flows.client.url, "http://127.0.0.1:1");
    }

    #[test]
    fn the_output_of_a_lineage_is_an_output_of_the_job() {
        let id = uuid::Uuid::nil().to_string();
        let read = |arguments: &[&str]| Cli::try_read([&["mycelium"], arguments].concat()).unwrap();
        let format = |arguments: &[&str]| read(arguments).client.output;
        assert_eq!(format(&["lineage", &id, "--output", "json"]), Format::Table, "an output named json");
        assert_eq!(format(&["lineage", &id, "--output", "weight", "--format", "json"]), Format::Json);
        assert_eq!(format(&["--output", "json", "lineage", &id]), Format::Json);
        assert_eq!(format(&["lineage", &id, "--format", "text"]), Format::Table);
        assert_eq!(format(&["jobs", "--output", "json"]), Format::Json, "as ever");
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
