//! The settings of the broker: defaults, then the environment, then flags.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::BoolishValueParser;
use mycelium_server::{Config, ConfigProblem, SchedulerPlace};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::errors::Misuse;
use crate::output::{self, Output};

/// The longest time that a setting can be. Those with limits of their own say so.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Runs the broker.
///
/// When it answers it prints one line to standard output, `mycelium ready: listening on ADDRESS, store embedded in
/// DIR, pid PID` (or `store memory`), and nothing else; logs go to standard error. SIGTERM or SIGINT stops it in good
/// order: elves keep what they run for the next broker. A second signal stops it at once. Flags win over the
/// environment, which wins over the defaults.
#[derive(Debug, clap::Args)]
#[command(after_help = "Times are written like 30s, 500ms or 10m.\n\n\
    Examples:\n  mycelium serve\n  mycelium serve --data-dir /var/lib/mycelium --listen 127.0.0.1:7421\n  \
    mycelium serve --store memory --listen 127.0.0.1:0")]
pub(crate) struct Args {
    /// The folder that holds everything; it is made if it is not there.
    #[arg(long, env = "MYCELIUM_DATA_DIR", default_value = "./mycelium-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The address to listen on; port 0 takes any that is free.
    #[arg(long, env = "MYCELIUM_LISTEN", default_value = "127.0.0.1:7420", value_name = "ADDRESS")]
    listen: String,
    /// Where jobs, values, failures and elves are kept.
    #[arg(long, env = "MYCELIUM_STORE", value_enum, default_value_t = StoreKind::Embedded)]
    store: StoreKind,
    /// Listens on an address that other machines can reach, although whoever reaches it may do everything.
    #[arg(long, env = "MYCELIUM_INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,
    /// How long a process that serves elves is waited for when nothing is heard of it. Default: 30s; 1s to 1h.
    #[arg(long, env = "MYCELIUM_LEASE", value_name = "TIME")]
    lease: Option<String>,
    /// How often such a process gives a sign of life; at most a third of the lease. Default: 5s, or a third of a lease
    /// that is shorter than 15s.
    #[arg(long, env = "MYCELIUM_HEARTBEAT_INTERVAL", value_name = "TIME")]
    heartbeat_interval: Option<String>,
    /// The oldest version of the protocol that processes which serve elves may speak, 1 or 2. With 1, whoever knows of a
    /// session of version 1 can take it over; with 2, it takes the session's secret. Default: 1.
    #[arg(long, env = "MYCELIUM_PROTOCOL_MIN", value_name = "NUMBER")]
    protocol_min: Option<String>,
    /// How many processes a job may be lost with before it ends FAILED. Default: 5.
    #[arg(long, env = "MYCELIUM_ELVES_LOST_MAX", value_name = "NUMBER")]
    elves_lost_max: Option<String>,
    /// The most unfinished jobs. Default: 10000000.
    #[arg(long, env = "MYCELIUM_UNFINISHED_MAX", value_name = "NUMBER")]
    unfinished_max: Option<String>,
    /// How long a submission in parts is kept without a further part. Default: 10m.
    #[arg(long, env = "MYCELIUM_SUBMISSION_IDLE_MAX", value_name = "TIME")]
    submission_idle_max: Option<String>,
    /// The most processes that serve elves at once. Default: 10000.
    #[arg(long, env = "MYCELIUM_SESSIONS_MAX", value_name = "NUMBER")]
    sessions_max: Option<String>,
    /// The most watches at once. Default: 10000.
    #[arg(long, env = "MYCELIUM_WATCHES_MAX", value_name = "NUMBER")]
    watches_max: Option<String>,
    /// The most requests that wait for the scheduler. Default: 1024; at most 1048576.
    #[arg(long, env = "MYCELIUM_QUEUE_MAX", value_name = "NUMBER")]
    queue_max: Option<String>,
    /// About how many jobs go into one commit. Default: 2048; at most 1048576.
    #[arg(long, env = "MYCELIUM_BATCH_MAX", value_name = "NUMBER")]
    batch_max: Option<String>,
    /// How long a large value that no job names is kept after it was written or asked for. Default: 1h.
    #[arg(long, env = "MYCELIUM_BLOB_GRACE", value_name = "TIME")]
    blob_grace: Option<String>,
    /// How long a stop waits for calls that are under way. Default: 10s.
    #[arg(long, env = "MYCELIUM_DRAIN_GRACE", value_name = "TIME")]
    drain_grace: Option<String>,
    /// The most connections at once. Default: 10000, or fewer if the system lets this process have fewer files open.
    #[arg(long, env = "MYCELIUM_CONNECTIONS_MAX", value_name = "NUMBER")]
    connections_max: Option<String>,
    /// The most calls that one connection may have under way. Default: 1024.
    #[arg(long, env = "MYCELIUM_CALLS_PER_CONNECTION_MAX", value_name = "NUMBER")]
    calls_per_connection_max: Option<String>,
    /// The most calls under way in all. Default: 50000.
    #[arg(long, env = "MYCELIUM_CALLS_MAX", value_name = "NUMBER")]
    calls_max: Option<String>,
    /// How many bytes all messages that are being received may take. Default and least: 67108864; one connection may take
    /// three eighths of it.
    #[arg(long, env = "MYCELIUM_RECEIVING_BYTES_MAX", value_name = "BYTES")]
    receiving_bytes_max: Option<String>,
    /// How many bytes all answers may take that nobody has taken yet. Default and least: 67108864; one connection may take
    /// three eighths of it.
    #[arg(long, env = "MYCELIUM_ANSWERS_BYTES_MAX", value_name = "BYTES")]
    answers_bytes_max: Option<String>,
    /// What is logged, such as `warn` or `warn,mycelium_server=debug`. The default leaves out what the embedded
    /// store's own crates say of their work.
    #[arg(
        long,
        env = "MYCELIUM_LOG",
        default_value = "info,fjall=warn,lsm_tree=warn",
        value_name = "FILTER"
    )]
    log: String,
    /// How logs are written.
    #[arg(long, env = "MYCELIUM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Pretty)]
    log_format: LogFormat,
    /// Prints the settings that result, and starts nothing.
    #[arg(long)]
    pub(super) print_config: bool,
}

/// Where everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StoreKind {
    /// In the data folder.
    Embedded,
    /// In memory, until the broker stops: for trials and tests.
    Memory,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line for people.
    Pretty,
    /// A JSON object a line, for programs.
    Json,
}

/// Settings that go together.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) store: StoreKind,
    pub(super) insecure: bool,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) config: Config,
}

impl Settings {
    /// Reads the settings and checks them.
    ///
    /// # Errors
    /// All problems at once.
    pub(super) fn read(args: Args) -> Result<Self, Misuse> {
        let mut problems = Vec::new();
        let config = read_config(&args, &mut problems);
        let listen = read_listen(&args.listen, args.insecure).unwrap_or_else(|problem| {
            problems.push(problem);
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        if let Err(error) = EnvFilter::try_new(&args.log) {
            problems.push(format!("--log: `{}` is not a filter: {error}", args.log));
        }
        if !problems.is_empty() {
            return Err(Misuse(format!("invalid settings: {}", problems.join("; "))));
        }
        let Args { data_dir, store, insecure, log, log_format, .. } = args;
        Ok(Self { data_dir, listen, store, insecure, log, log_format, config })
    }

    /// Prints them: as lines of TOML, or as a JSON object.
    pub(super) fn print(&self, output: Output) -> Result<(), output::Error> {
        let entries = self.entries();
        if output.is_json() {
            let object = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
            return output.json(&object.collect::<serde_json::Map<_, _>>());
        }
        let lines = entries.iter().map(|(name, value)| format!("{name} = {value}\n"));
        output.text(&lines.collect::<String>())
    }

    fn entries(&self) -> Vec<(&'static str, Value)> {
        // Every field by name, so that a new one cannot be forgotten.
        let Config {
            lease,
            heartbeat_interval,
            protocol_min,
            elves_lost_max,
            unfinished_max,
            submission_idle_max,
            sessions_max,
            watches_max,
            queue_max,
            batch_max,
            blob_grace,
            drain_grace,
            connections_max,
            calls_per_connection_max,
            calls_max,
            receiving_bytes_max,
            answers_bytes_max,
            // Not for people to set: this program does nothing but serve.
            scheduler: _,
        } = self.config;
        let time = |time| json!(humantime::format_duration(time).to_string().replace(' ', ""));
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            json!(value().map(|value| value.get_name().to_owned()))
        };
        vec![
            ("data_dir", json!(self.data_dir.to_string_lossy())),
            ("listen", json!(self.listen)),
            ("store", name(&|| self.store.to_possible_value())),
            ("insecure", json!(self.insecure)),
            ("lease", time(lease)),
            ("heartbeat_interval", time(heartbeat_interval)),
            ("protocol_min", json!(protocol_min)),
            ("elves_lost_max", json!(elves_lost_max)),
            ("unfinished_max", json!(unfinished_max)),
            ("submission_idle_max", time(submission_idle_max)),
            ("sessions_max", json!(sessions_max)),
            ("watches_max", json!(watches_max)),
            ("queue_max", json!(queue_max)),
            ("batch_max", json!(batch_max)),
            ("blob_grace", time(blob_grace)),
            ("drain_grace", time(drain_grace)),
            ("connections_max", json!(connections_max)),
            ("calls_per_connection_max", json!(calls_per_connection_max)),
            ("calls_max", json!(calls_max)),
            ("receiving_bytes_max", json!(receiving_bytes_max)),
            ("answers_bytes_max", json!(answers_bytes_max)),
            ("log", json!(self.log)),
            ("log_format", name(&|| self.log_format.to_possible_value())),
        ]
    }
}

/// Reads the broker's own settings. What cannot be read is added to `problems`, and so is what does not go together.
fn read_config(args: &Args, problems: &mut Vec<String>) -> Config {
    let default = Config::default();
    let mut reader = Reader { problems };
    let lease = reader.time("--lease", args.lease.as_deref(), default.lease);
    // Whoever asks for a short lease alone need not know of the heartbeat.
    let third = lease.map(|lease| lease / 3).filter(|third| !third.is_zero());
    let heartbeat_default =
        third.map_or(default.heartbeat_interval, |third| third.min(default.heartbeat_interval));
    let heartbeat =
        reader.time("--heartbeat-interval", args.heartbeat_interval.as_deref(), heartbeat_default);
    // Lease and heartbeat have to fit each other: what cannot be read is not held against the other.
    let (lease, heartbeat_interval) =
        lease.zip(heartbeat).unwrap_or((default.lease, default.heartbeat_interval));
    let config = Config {
        lease,
        heartbeat_interval,
        protocol_min: reader.number("--protocol-min", args.protocol_min.as_deref(), default.protocol_min),
        elves_lost_max: reader.number(
            "--elves-lost-max",
            args.elves_lost_max.as_deref(),
            default.elves_lost_max,
        ),
        unfinished_max: reader.number(
            "--unfinished-max",
            args.unfinished_max.as_deref(),
            default.unfinished_max,
        ),
        submission_idle_max: reader
            .time("--submission-idle-max", args.submission_idle_max.as_deref(), default.submission_idle_max)
            .unwrap_or(default.submission_idle_max),
        sessions_max: reader.number("--sessions-max", args.sessions_max.as_deref(), default.sessions_max),
        watches_max: reader.number("--watches-max", args.watches_max.as_deref(), default.watches_max),
        queue_max: reader.number("--queue-max", args.queue_max.as_deref(), default.queue_max),
        batch_max: reader.number("--batch-max", args.batch_max.as_deref(), default.batch_max),
        blob_grace: reader
            .time("--blob-grace", args.blob_grace.as_deref(), default.blob_grace)
            .unwrap_or(default.blob_grace),
        drain_grace: reader
            .time("--drain-grace", args.drain_grace.as_deref(), default.drain_grace)
            .unwrap_or(default.drain_grace),
        connections_max: reader.number(
            "--connections-max",
            args.connections_max.as_deref(),
            default.connections_max,
        ),
        calls_per_connection_max: reader.number(
            "--calls-per-connection-max",
            args.calls_per_connection_max.as_deref(),
            default.calls_per_connection_max,
        ),
        calls_max: reader.number("--calls-max", args.calls_max.as_deref(), default.calls_max),
        receiving_bytes_max: reader.number(
            "--receiving-bytes-max",
            args.receiving_bytes_max.as_deref(),
            default.receiving_bytes_max,
        ),
        answers_bytes_max: reader.number(
            "--answers-bytes-max",
            args.answers_bytes_max.as_deref(),
            default.answers_bytes_max,
        ),
        scheduler: SchedulerPlace::Runtime,
    };
    // Every field of the configuration has the flag of its name.
    for ConfigProblem { field, problem } in
        config.validate().err().map(|error| error.problems).unwrap_or_default()
    {
        let mut sentence = format!("--{} {problem}", field.replace('_', "-"));
        if field == "heartbeat_interval" && !heartbeat_interval.is_zero() && args.lease.is_none() {
            sentence.push_str(", the default of --lease");
        }
        problems.push(sentence);
    }
    config
}

/// Reads values, and collects what is wrong with them.
struct Reader<'a> {
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// A time, or the default; `None` if it cannot be read.
    fn time(&mut self, flag: &str, text: Option<&str>, default: Duration) -> Option<Duration> {
        let Some(text) = text else { return Some(default) };
        let problem = match humantime::parse_duration(text) {
            Ok(time) if time <= TIME_MAX => return Some(time),
            Ok(_) => format!("{flag}: `{text}` is more than 365 days"),
            Err(_) => format!("{flag}: `{text}` is not a time such as 30s, 500ms or 10m"),
        };
        self.problems.push(problem);
        None
    }

    /// A number, or the default.
    fn number<T: FromStr<Err: Display>>(&mut self, flag: &str, text: Option<&str>, default: T) -> T {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|error| {
            self.problems.push(format!("{flag}: `{text}` is not a number that is possible here: {error}"));
            default
        })
    }
}

/// Reads the address, and sees to it that nobody is let in by accident.
fn read_listen(text: &str, insecure: bool) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr = numeric.parse().map_err(|_unparsable| {
        format!("--listen: `{text}` is not an address with a port, such as 127.0.0.1:7420")
    })?;
    if address.ip().is_loopback() || insecure {
        return Ok(address);
    }
    Err(format!(
        "--listen: other machines can reach {address}, and whoever reaches it may do everything, since TLS and tokens \
         are not there yet; use a loopback address such as 127.0.0.1:7420, or accept that with --insecure"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &[&str]) -> Result<Settings, Misuse> {
        let args = ["serve"].iter().chain(flags);
        Settings::read(Cli::try_parse_from(args).expect("flags that clap takes").args)
    }

    #[test]
    fn without_flags_everything_is_as_the_library_has_it() {
        let settings = read(&[]).unwrap();
        let expected = Config { scheduler: SchedulerPlace::Runtime, ..Config::default() };
        assert_eq!(settings.config, expected);
        assert_eq!(settings.listen, "127.0.0.1:7420".parse().unwrap());
        assert_eq!(settings.data_dir, PathBuf::from("./mycelium-data"));
        assert_eq!(settings.store, StoreKind::Embedded);
    }

    #[test]
    fn every_setting_has_a_flag() {
        let settings = read(&[
            "--lease=9s",
            "--heartbeat-interval=500ms",
            "--protocol-min=2",
            "--elves-lost-max=2",
            "--unfinished-max=3",
            "--submission-idle-max=4m",
            "--sessions-max=5",
            "--watches-max=6",
            "--queue-max=7",
            "--batch-max=8",
            "--blob-grace=9s",
            "--drain-grace=0s",
            "--connections-max=10",
            "--calls-per-connection-max=11",
            "--calls-max=12",
            "--receiving-bytes-max=67108865",
            "--answers-bytes-max=67108866",
        ])
        .unwrap();
        let expected = Config {
            lease: Duration::from_secs(9),
            heartbeat_interval: Duration::from_millis(500),
            protocol_min: 2,
            elves_lost_max: 2,
            unfinished_max: 3,
            submission_idle_max: Duration::from_secs(240),
            sessions_max: 5,
            watches_max: 6,
            queue_max: 7,
            batch_max: 8,
            blob_grace: Duration::from_secs(9),
            drain_grace: Duration::ZERO,
            connections_max: 10,
            calls_per_connection_max: 11,
            calls_max: 12,
            receiving_bytes_max: 67_108_865,
            answers_bytes_max: 67_108_866,
            scheduler: SchedulerPlace::Runtime,
        };
        assert_eq!(settings.config, expected);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let flags = ["--lease=soon", "--queue-max=0", "--batch-max=-1", "--listen=0.0.0.0:1", "--log=a=b=c"];
        let problem = read(&flags).unwrap_err().to_string();
        for part in ["`soon`", "--queue-max must be between", "`-1`", "--insecure", "`a=b=c`"] {
            assert!(problem.contains(part), "{part} is missing: {problem}");
        }
        assert!(!problem.contains("heartbeat"), "an unreadable lease is not held against others: {problem}");
    }

    #[test]
    fn relations_are_checked_and_endless_times_refused() {
        let problem = |flags: &[&str]| read(flags).unwrap_err().0;
        assert_eq!(
            problem(&["--lease=9s", "--heartbeat-interval=4s"]),
            "invalid settings: --heartbeat-interval must be at most a third of the lease, and 4s is more than that of 9s"
        );
        assert_eq!(
            problem(&["--heartbeat-interval=20s"]),
            "invalid settings: --heartbeat-interval must be at most a third of the lease, and 20s is more than that of \
             30s, the default of --lease"
        );
        assert_eq!(
            problem(&["--lease=2h"]),
            "invalid settings: --lease must be between 1 s and 1 h",
            "and no consequence of it"
        );
        assert_eq!(
            problem(&["--protocol-min=3"]),
            "invalid settings: --protocol-min must be between 1 and 2"
        );
        assert_eq!(problem(&["--lease=0s"]), "invalid settings: --lease must be between 1 s and 1 h");
        assert_eq!(
            problem(&["--heartbeat-interval=0s"]),
            "invalid settings: --heartbeat-interval must not be zero"
        );
        assert!(
            read(&["--heartbeat-interval=500000000000y"]).unwrap_err().0.contains("--heartbeat-interval")
        );
    }

    #[test]
    fn a_short_lease_shortens_the_heartbeat_that_nobody_asked_for() {
        assert_eq!(read(&["--lease=3s"]).unwrap().config.heartbeat_interval, Duration::from_secs(1));
        assert_eq!(read(&["--lease=1h"]).unwrap().config.heartbeat_interval, Duration::from_secs(5));
    }

    #[test]
    fn sizes_without_measure_are_refused() {
        let problem = read(&["--queue-max=18446744073709551615", "--batch-max=1048577"]).unwrap_err().0;
        for flag in ["--queue-max", "--batch-max"] {
            assert!(problem.contains(&format!("{flag} must be between 1 and 1048576")), "{problem}");
        }
    }

    #[test]
    fn only_this_machine_is_let_in_unless_told_otherwise() {
        assert!(read_listen("localhost:0", false).unwrap().ip().is_loopback());
        assert!(read_listen("[::1]:7420", false).is_ok());
        assert!(read_listen("192.0.2.1:7420", false).unwrap_err().contains("--insecure"));
        assert!(read_listen("192.0.2.1:7420", true).is_ok());
        assert!(read_listen("7420", false).unwrap_err().contains("such as 127.0.0.1:7420"));
    }
}
