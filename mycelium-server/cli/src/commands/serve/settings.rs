//! The settings of the broker: defaults, then a file, then the environment, then flags.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use mycelium_server::store::arango::Address;
use mycelium_server::{
    Config, ConfigProblem, Retention, SchedulerPlace, Setting, SettingRange, SettingValue,
};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::secure::Secured;
use super::given::Given;
use crate::errors::Misuse;
use crate::output::{self, Output};
use crate::store_address;

/// The longest time that a setting can be. Those with limits of their own say so.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Runs the broker.
///
/// When it answers it prints one line to standard output, `mycelium ready: listening on ADDRESS, store embedded in
/// DIR, pid PID` (or `store memory`, or `store arangodb at URL`), and nothing else; logs go to standard error. SIGTERM or SIGINT stops it in good
/// order: elves keep what they run for the next broker. A second signal stops it at once. Flags win over the
/// environment, which wins over the file, which wins over the defaults.
///
/// A socket that a service manager hands over (LISTEN_FDS) is listened on in the place of --listen, and the manager is told
/// (NOTIFY_SOCKET) when the broker answers and when it stops.
///
/// With the URL of an ArangoDB server, each mycelium is a database there, which is created if it is not there and the user
/// may. User and password come from MYCELIUM_STORE_USER and MYCELIUM_STORE_PASSWORD or MYCELIUM_STORE_PASSWORD_FILE, or
/// stand in the URL if that is in MYCELIUM_STORE or in the file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are written like 30s, 500ms or 10m, and sizes like 64MiB, 500kB or 67108864.\n\n\
    The file is TOML: a line for each setting, such as `lease = \"30s\"` or `queue_max = 1024`; --print-config prints one.\n\n\
    Examples:\n  mycelium serve\n  mycelium serve --data-dir /var/lib/mycelium --listen 127.0.0.1:7421\n  \
    mycelium serve --store memory --listen 127.0.0.1:0\n  \
    MYCELIUM_STORE_USER=mycelium MYCELIUM_STORE_PASSWORD_FILE=password.txt mycelium serve --store http://localhost:8529"
)]
pub(crate) struct Args {
    /// A file with settings.
    #[arg(long, env = "MYCELIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    /// Prints the settings that result, and starts nothing.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Says whether the settings are right, and starts nothing.
    #[arg(long, conflicts_with = "print_config")]
    pub(super) check_config: bool,
    /// Prints a file with all settings, what each does, and its default. Reads no settings, and starts nothing.
    #[arg(long, conflicts_with_all = ["print_config", "check_config"])]
    pub(super) sample_config: bool,
}

/// A setting of this program, beside those of the broker.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    /// What it may be, if that can be listed.
    pub(super) choices: fn() -> Vec<PossibleValue>,
}

const ANY: fn() -> Vec<PossibleValue> = Vec::new;

/// The data folder if none is named.
pub(crate) const DATA_DIR: &str = "./mycelium-data";

/// The settings of this program.
pub(super) fn own() -> impl Iterator<Item = &'static Own> {
    OWN.iter().chain(&secure::OWN)
}

/// Those that are not about security.
const OWN: &[Own] = &[
    Own {
        name: "data_dir",
        unit: "DIR",
        default: DATA_DIR,
        help: "The folder that holds everything, or large values alone if the rest is kept in a database; it is made if it is \
               not there.",
        choices: ANY,
    },
    Own {
        name: "listen",
        unit: "ADDRESS",
        default: "127.0.0.1:7420",
        help: "The address to listen on; port 0 takes any that is free.",
        choices: ANY,
    },
    Own {
        name: "admin_listen",
        unit: "ADDRESS",
        default: "",
        help: "The address of the admin listener, which answers over plain HTTP whether the broker takes jobs (/livez, /readyz) \
               and with what it counts (/metrics), such as 127.0.0.1:7422. It tells numbers and names of elves and mycelia alone, \
               so that any address may be one.",
        choices: ANY,
    },
    Own {
        name: "store",
        unit: "STORE",
        default: "embedded",
        help: "Where jobs, values, failures and elves are kept: `embedded` (in the data folder), `memory` (until the broker \
               stops: for trials and tests), or the URL of an ArangoDB server, such as http://localhost:8529.",
        choices: ANY,
    },
    Own {
        name: "store_ca",
        unit: "FILE",
        default: "",
        help: "A file of certificates (PEM) to trust, beside those that everybody trusts, when ArangoDB is reached with https.",
        choices: ANY,
    },
    Own {
        name: "retention",
        unit: "RULES",
        default: "",
        help: "How long finished flows are kept, by rules such as `nightly*:any=1d, done=7d, failed=30d`: [NAME:]ENDING=AGE, with \
               the endings done, failed, cancelled and any, of which the first that fits counts. What none fits is kept.",
        choices: ANY,
    },
    Own {
        name: "log",
        unit: "FILTER",
        default: "info,fjall=warn,lsm_tree=warn",
        help: "What is logged, such as `warn` or `warn,mycelium_server=debug`. The default leaves out what the embedded \
               store's own crates say of their work.",
        choices: ANY,
    },
    Own {
        name: "log_format",
        unit: "FORMAT",
        default: "pretty",
        help: "How logs are written.",
        choices: names::<LogFormat>,
    },
];

fn names<T: ValueEnum>() -> Vec<PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// In the data folder.
    Embedded,
    /// In memory, until the broker stops: for trials and tests.
    Memory,
    /// In ArangoDB.
    Database(Address),
}

impl StoreKind {
    fn read(text: &str, given: store_address::Given) -> anyhow::Result<Self> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "memory" => Ok(Self::Memory),
            url if Address::is_url(url) => Ok(Self::Database(store_address::read(url, given)?)),
            // It is not shown: a password may stand in it.
            _ => bail!(
                "it is neither `embedded`, `memory`, nor the URL of an ArangoDB server, http://HOST:8529"
            ),
        }
    }
}

/// As it is given; without user and password.
impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Memory => f.write_str("memory"),
            Self::Database(address) => address.fmt(f),
        }
    }
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
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) secured: Secured,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) store: StoreKind,
    pub(super) store_ca: Option<PathBuf>,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) config: Config,
}

impl Settings {
    /// Reads the settings and checks them. The address of a socket that was handed over stands in for `listen`.
    ///
    /// # Errors
    /// All problems at once, with those that were found elsewhere.
    pub(super) fn read(
        args: Args,
        handed: Option<SocketAddr>,
        elsewhere: Vec<String>,
    ) -> Result<Self, Misuse> {
        let mut given = args.given;
        if let Some(address) = handed {
            given.hand_over("listen", address.to_string());
        }
        let mut problems = elsewhere;
        if let Some(file) = &args.config {
            given.add_file(file, &mut problems);
        }
        let mut reader = Reader { given: &given, problems };
        let place = if reader.given.is_argument("store") {
            store_address::Given::InArgument
        } else {
            store_address::Given::Elsewhere
        };
        let mut settings = Self {
            data_dir: reader.data_dir(),
            secured: secure::read(&mut reader),
            admin_listen: reader.own("admin_listen", read_admin_listen).flatten(),
            store: reader.own("store", |text| StoreKind::read(text, place)).unwrap_or(StoreKind::Embedded),
            store_ca: secure::store_ca(&mut reader),
            log: reader.own("log", read_log).unwrap_or_default(),
            log_format: reader.own("log_format", read_log_format).unwrap_or(LogFormat::Pretty),
            config: reader.config(),
        };
        settings.config.retention =
            reader.own("retention", |text| Ok(text.parse::<Retention>()?)).unwrap_or_default();
        if let Some(admin) = settings.admin_listen.filter(|admin| overlap(*admin, settings.secured.listen)) {
            let place = reader.given.place("admin_listen");
            reader.problems.push(format!("{place}: {admin} is where clients and elves are listened for"));
        }
        if let (StoreKind::Database(address), Some(file)) = (&settings.store, &settings.store_ca) {
            settings.store = StoreKind::Database(address.clone().with_ca(file));
        }
        if given.text("auto_create").is_none() {
            // Elsewhere a misspelt name should not become a mycelium; and where callers say who they are, making one is for some.
            let Secured { listen, access, .. } = &settings.secured;
            settings.config.auto_create = listen.ip().is_loopback() && !access.asks();
        }
        if reader.problems.is_empty() {
            Ok(settings)
        } else {
            let problems = given.without_secrets(reader.problems.join("; "), args.config.as_deref());
            Err(Misuse(format!("invalid settings: {problems}")))
        }
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
        let name = |value: Option<PossibleValue>| json!(value.map(|value| value.get_name().to_owned()));
        let given =
            |own: &Own| (own.name, json!(self.secured.shown.get(own.name).map_or("", String::as_str)));
        let own = [
            ("data_dir", json!(self.data_dir.to_string_lossy())),
            ("listen", json!(self.secured.listen)),
            ("admin_listen", json!(self.admin_listen.map(|address| address.to_string()).unwrap_or_default())),
            ("store", json!(self.store.to_string())),
            ("store_ca", json!(self.store_ca.as_deref().unwrap_or(Path::new("")).to_string_lossy())),
            ("retention", json!(self.config.retention.to_string())),
            ("log", json!(self.log)),
            ("log_format", name(self.log_format.to_possible_value())),
        ];
        let of_broker = |setting: &Setting| (setting.name, as_toml(value_of(setting, &self.config)));
        let secured = secure::OWN.iter().filter(|own| own.name != "insecure").map(given);
        let insecure = [("insecure", json!(self.secured.insecure))];
        own.into_iter().chain(secured).chain(insecure).chain(Config::SETTINGS.iter().map(of_broker)).collect()
    }
}

/// The value of a setting; in bytes, if that is what it counts.
pub(super) fn value_of(setting: &Setting, config: &Config) -> SettingValue {
    let is_size = match setting.range {
        SettingRange::AtLeast(SettingValue::Bytes(_)) | SettingRange::Between(SettingValue::Bytes(_), _) => {
            true
        }
        // Any size is right, so that its range does not tell.
        _ => setting.name == "store_size_alarm",
    };
    match setting.get(config) {
        SettingValue::Number(number) if is_size => SettingValue::Bytes(number),
        value => value,
    }
}

/// A value as a file has it. JSON writes it as TOML does.
pub(super) fn as_toml(value: SettingValue) -> Value {
    match value {
        SettingValue::Time(time) => json!(humantime::format_duration(time).to_string().replace(' ', "")),
        SettingValue::Number(number) => json!(number),
        SettingValue::Bytes(bytes) => json!(size::written(bytes)),
        SettingValue::Flag(flag) => json!(flag),
    }
}

/// The default of a setting of this program.
fn default_of(name: &str) -> &'static str {
    own().find(|own| own.name == name).map_or("", |own| own.default)
}

/// Reads values, and collects what is wrong with them.
struct Reader<'a> {
    given: &'a Given,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// A setting of this program; `None` if it cannot be read.
    fn own<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> anyhow::Result<T>) -> Option<T> {
        let text = self.given.text(name).unwrap_or_else(|| default_of(name));
        let problem = match read(text) {
            Ok(value) => return Some(value),
            Err(problem) => format!("{}: {problem}", self.given.place(name)),
        };
        self.problems.push(problem);
        None
    }

    /// The data folder, whose name may be any bytes.
    fn data_dir(&mut self) -> PathBuf {
        let folder = self.given.path("data_dir").unwrap_or_else(|| PathBuf::from(default_of("data_dir")));
        if folder.as_os_str().is_empty() {
            self.problems.push(format!("{}: names no folder", self.given.place("data_dir")));
        }
        folder
    }

    /// The broker's own settings. What cannot be read is a problem, and so is what does not go together.
    fn config(&mut self) -> Config {
        let mut config = Config { scheduler: SchedulerPlace::Runtime, ..Config::default() };
        let mut unread = Vec::new();
        for setting in Config::SETTINGS {
            let Some(text) = self.given.text(setting.name) else { continue };
            let read = read_value(value_of(setting, &config), text);
            let set = read.and_then(|value| {
                let problem = |error| anyhow!("`{text}` is not a number that is possible here: {error}");
                setting.set(&mut config, value).map_err(problem)
            });
            if let Err(problem) = set {
                self.problems.push(format!("{}: {problem}", self.given.place(setting.name)));
                unread.push(setting.name);
            }
        }
        let is_given = |name| self.given.text(name).is_some();
        // Whoever asks for a short lease alone need not know of the heartbeat.
        let third = config.lease / 3;
        if !is_given("heartbeat_interval") && !third.is_zero() {
            config.heartbeat_interval = config.heartbeat_interval.min(third);
        }
        for ConfigProblem { field, problem } in
            config.validate().err().map(|error| error.problems).unwrap_or_default()
        {
            // What cannot be read is not held against another.
            let is_of_both = field == "heartbeat_interval" && problem.contains("third");
            if is_of_both && unread.iter().any(|name| ["lease", "heartbeat_interval"].contains(name)) {
                continue;
            }
            let default = if is_of_both && !is_given("lease") { ", the default of --lease" } else { "" };
            self.problems.push(format!("{} {problem}{default}", self.given.place(field)));
        }
        config
    }
}

/// Reads a value of the kind that a setting has.
fn read_value(kind: SettingValue, text: &str) -> anyhow::Result<SettingValue> {
    match kind {
        SettingValue::Time(_) => match humantime::parse_duration(text) {
            Ok(time) if time <= TIME_MAX => Ok(SettingValue::Time(time)),
            Ok(_) => bail!("`{text}` is more than 365 days"),
            Err(_) => bail!("`{text}` is not a time such as 30s, 500ms or 10m"),
        },
        SettingValue::Bytes(_) => size::read(text).map(SettingValue::Bytes),
        SettingValue::Number(_) => {
            let problem = |error| anyhow!("`{text}` is not a number that is possible here: {error}");
            text.parse().map(SettingValue::Number).map_err(problem)
        }
        SettingValue::Flag(_) => boolean(text).map(SettingValue::Flag),
    }
}

fn boolean(text: &str) -> anyhow::Result<bool> {
    match text.to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => bail!("`{text}` is neither true nor false"),
    }
}

fn read_log(text: &str) -> anyhow::Result<String> {
    // A word by itself would be a target, and all others silent: a misspelt level is more likely.
    let mut words = text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':']));
    if let Some(word) = words.find(|word| !word.is_empty() && word.parse::<LevelFilter>().is_err()) {
        bail!(
            "`{word}` is no level (off, error, warn, info, debug, trace); of a target write `{word}=LEVEL`"
        );
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => bail!("`{text}` is not a filter: {error}"),
    }
}

fn read_log_format(text: &str) -> anyhow::Result<LogFormat> {
    let unread = |_unknown| {
        let choices: Vec<_> =
            names::<LogFormat>().iter().map(|choice| format!("`{}`", choice.get_name())).collect();
        anyhow!("`{text}` is no format of logs: it is one of {}", choices.join(", "))
    };
    LogFormat::from_str(text, false).map_err(unread)
}

fn read_address(text: &str, example: &str) -> anyhow::Result<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let unread = |_unparsable| anyhow!("`{text}` is not an address with a port, such as {example}");
    numeric.parse().map_err(unread)
}

fn read_admin_listen(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() { Ok(None) } else { read_address(text, "127.0.0.1:7422").map(Some) }
}

/// Whether two addresses cannot both be listened on.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // All addresses of version 6 are those of version 4 too.
    let takes_all =
        |all: SocketAddr, of: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || of.is_ipv4());
    let is_same_place = one.ip() == other.ip() || takes_all(one, other) || takes_all(other, one);
    one.port() == other.port() && one.port() != 0 && is_same_place
}

mod secure;
pub(super) mod size;
#[cfg(test)]
mod tests;
