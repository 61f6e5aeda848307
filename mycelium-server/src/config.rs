//! What can be set about a broker. Each setting is declared once, with its type, default and range; whoever offers them
//! to people ([`Config::SETTINGS`]) needs to know none by name.

use std::fmt;
use std::time::Duration;

use mycelium_proto::limits::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

use self::Range::{Any, AtLeast, Between};
use crate::retention::Retention;

/// The most that [`Config::queue_max`] and [`Config::batch_max`] may be. Far beyond what is of use, and far below what
/// the channels that they size can take.
const QUEUE_MAX: usize = 1 << 20;
/// The least that [`Config::receiving_bytes_max`] and [`Config::answers_bytes_max`] may be: one peer may hold three eighths
/// of it, which is then more than the largest message.
const BUDGET_MIN: usize = 64 * 1024 * 1024;

const GIB: u64 = 1024 * 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// The least of what must not be zero.
const INSTANT: Duration = Duration::from_nanos(1);

/// A setting: its name and documentation; its type; its default; its range.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $range:expr;)+) => {
        /// Settings of a broker. [`Config::default`] suits one machine.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`; range: `", stringify!($range), "`.")]
                pub $name: $type,
            )+
            /// Where the scheduler runs. Default: on a thread of its own.
            pub scheduler: SchedulerPlace,
            /// How long finished flows are kept. Default: for ever.
            pub retention: Retention,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ scheduler: SchedulerPlace::OwnThread, retention: Retention::default() }
            }
        }

        impl Config {
            /// All settings but [`scheduler`](Self::scheduler) and [`retention`](Self::retention), in the order of the fields.
            pub const SETTINGS: &'static [Setting] = &[$(
                Setting {
                    name: stringify!($name),
                    help: concat!($($doc),+),
                    range: $range,
                    get: |config| config.$name.into(),
                    set: |config, value| {
                        config.$name = value.try_into()?;
                        Ok(())
                    },
                },
            )+];
        }
    };
}

settings! {
    /// How long a session of an elf lives without a sign of life.
    lease: Duration = Duration::from_secs(30), Between(Value::Time(SECOND), Value::Time(HOUR));
    /// How much of its lease a session keeps at most when its stream breaks, or is closed without a goodbye.
    lease_after_reset: Duration = Duration::from_secs(6), AtLeast(Value::Time(INSTANT));
    /// How often elves are asked for a sign of life; at most a third of the lease.
    heartbeat_interval: Duration = Duration::from_secs(5), AtLeast(Value::Time(INSTANT));
    /// The oldest version of the protocol that elves may speak. With 1, whoever knows of a session of version 1 can take
    /// it over; with 2, it takes the session's secret.
    protocol_min: u32 = PROTOCOL_VERSION_MIN, Between(
        Value::Number(PROTOCOL_VERSION_MIN as u64), Value::Number(PROTOCOL_VERSION as u64)
    );
    /// How many elves a job may be lost with while nothing else ran in their process before it ends FAILED.
    elves_lost_max: u32 = 2, Between(Value::Number(1), Value::Number(255));
    /// How much longer than its run timeout an attempt may run, or than its progress timeout report nothing, before the broker
    /// ends it. Elves do that themselves, and grant
    /// their tasks a grace (5 s unless set otherwise), which this has to be longer than.
    run_margin: Duration = Duration::from_secs(15), AtLeast(Value::Time(INSTANT));
    /// The most unfinished jobs; beyond it submissions are refused with `BACKLOG_FULL`.
    unfinished_max: u64 = 10_000_000, AtLeast(Value::Number(1));
    /// The most unfinished jobs of all mycelia that are open together; beyond it submissions to any of them are refused with
    /// `BACKLOG_FULL`.
    unfinished_total_max: u64 = 20_000_000, AtLeast(Value::Number(1));
    /// How long an unsealed submission is kept without a further part.
    submission_idle_max: Duration = Duration::from_secs(600), AtLeast(Value::Time(INSTANT));
    /// The most sessions of elves at once; beyond it `Connect` is refused with `BROKER_BUSY`.
    sessions_max: usize = 10_000, AtLeast(Value::Number(1));
    /// The most watches at once; beyond it `WatchJobs` is refused with `BROKER_BUSY`.
    watches_max: usize = 10_000, AtLeast(Value::Number(1));
    /// The most requests and reports that wait for the scheduler. While it is full, streams of elves are read no further,
    /// and requests wait for up to 5 s, and are then refused with `BROKER_BUSY`.
    queue_max: usize = 1_024, Between(Value::Number(1), Value::Number(QUEUE_MAX as u64));
    /// About how many jobs and outcomes go into one commit.
    batch_max: usize = 2_048, Between(Value::Number(1), Value::Number(QUEUE_MAX as u64));
    /// How long a large value that no job names is kept after it was written or asked for.
    blob_grace: Duration = HOUR, AtLeast(Value::Time(SECOND));
    /// How often certificates and identities are looked at for changes.
    reload_interval: Duration = SECOND, AtLeast(Value::Time(Duration::from_millis(10)));
    /// How long streams go on whose caller's credentials have expired, or are not taken any more.
    access_grace: Duration = Duration::from_secs(5), Any;
    /// How long a stop waits for streams and calls to end.
    drain_grace: Duration = Duration::from_secs(10), Any;
    /// The most connections at once; fewer if this process may not have as many files open. Beyond it, a connection that
    /// has said nothing yet or has nothing under way gives way to a new one, or the new one is closed.
    connections_max: usize = 10_000, AtLeast(Value::Number(1));
    /// The most calls that one connection may have under way; further ones wait with the client.
    calls_per_connection_max: u32 = 1_024, AtLeast(Value::Number(1));
    /// The most calls under way in all, with streams; beyond it they are refused with `BROKER_BUSY`.
    calls_max: usize = 50_000, AtLeast(Value::Number(1));
    /// How many bytes all messages that are being received may take, of which one connection may hold three eighths.
    receiving_bytes_max: usize = BUDGET_MIN, AtLeast(Value::Bytes(BUDGET_MIN as u64));
    /// How many bytes all answers may take that are being made, or that nobody has taken yet, of which one connection may
    /// hold three eighths.
    answers_bytes_max: usize = BUDGET_MIN, AtLeast(Value::Bytes(BUDGET_MIN as u64));
    /// How long a mycelium in a database stays that of a broker that is not heard of; then another one may take it over.
    /// Renewed every third of it. Of no use to the other stores.
    store_lease: Duration = Duration::from_secs(15), Between(Value::Time(SECOND), Value::Time(HOUR));
    /// How large the store of a mycelium, with its large values, may become before the log warns of it, every ten minutes;
    /// 0: never. Of no use to a store that is not in the data folder.
    store_size_alarm: u64 = 10 * GIB, Any;
    /// The most mycelia; beyond it none is made (`MYCELIA_FULL`).
    mycelia_max: usize = 10_000, AtLeast(Value::Number(1));
    /// The most mycelia that are open at once, beside `default`; when as many are in use, calls to another are refused with
    /// `BROKER_BUSY`. Each takes up to some 60 files and 80 MiB.
    mycelia_open_max: usize = 64, AtLeast(Value::Number(1));
    /// How long a mycelium that nobody uses stays open.
    mycelium_idle: Duration = Duration::from_secs(60), AtLeast(Value::Time(Duration::from_millis(10)));
    /// Whether a mycelium is made by the first submission, large value or `Hello` that names it. Where other machines can
    /// reach the broker, or callers say who they are, the default of `mycelium serve` is false.
    auto_create: bool = true, Any;
}

/// Where the scheduler of a broker runs, and with it the commits that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulerPlace {
    /// On a thread of its own, so that commits never keep other tasks of the program from running.
    #[default]
    OwnThread,
    /// As a task of the runtime in which the broker is started. While a commit waits for the disk, the runtime goes on on
    /// its other threads. Saves two wake-ups of threads a commit; for programs that do nothing but serve. In a runtime of the kind `current_thread`, which cannot go on elsewhere, the same as
    /// [`OwnThread`](Self::OwnThread).
    Runtime,
}

/// One setting of a broker, for whoever offers it to people.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The field of [`Config`].
    pub name: &'static str,
    /// What it does: sentences, of which the first says most.
    pub help: &'static str,
    /// What it may be by itself.
    pub range: Range,
    get: fn(&Config) -> Value,
    set: fn(&mut Config, Value) -> Result<(), UnfitValue>,
}

impl Setting {
    /// What it is in a configuration.
    pub fn get(&self, config: &Config) -> Value {
        (self.get)(config)
    }

    /// Sets it. Its range is checked by [`Config::validate`], with those of all others.
    ///
    /// # Errors
    /// If the value is of another kind, or more than its type holds.
    pub fn set(&self, config: &mut Config, value: Value) -> Result<(), UnfitValue> {
        (self.set)(config, value)
    }
}

/// The value of a setting. Its text is for people: `30 s`, `1024`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Value {
    /// A time.
    Time(Duration),
    /// A number.
    Number(u64),
    /// A number of bytes; wherever a number is expected, the same.
    Bytes(u64),
    /// Whether something holds.
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] = [(3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
        match self {
            Self::Time(time) => {
                let millis = time.as_millis();
                // The largest unit of which there is a whole number.
                let unit = UNITS.iter().find(|(unit, _)| millis > 0 && millis % unit == 0);
                match unit {
                    Some((unit, name)) => write!(f, "{} {name}", millis / unit),
                    None => write!(f, "{time:?}"),
                }
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// All that its type holds.
    Any,
    /// This and more.
    AtLeast(Value),
    /// From the one to the other.
    Between(Value, Value),
}

impl Range {
    fn contains(&self, value: Value) -> bool {
        // Numbers of bytes are compared with numbers.
        let amount = |value: Value| match value {
            Value::Bytes(bytes) => Value::Number(bytes),
            value => value,
        };
        match self {
            Any => true,
            AtLeast(least) => amount(value) >= amount(*least),
            Between(least, most) => (amount(*least)..=amount(*most)).contains(&amount(value)),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Any => write!(f, "may be anything"),
            AtLeast(Value::Time(INSTANT)) => write!(f, "must not be zero"),
            AtLeast(least) => write!(f, "must be at least {least}"),
            Between(least, most) => write!(f, "must be between {least} and {most}"),
        }
    }
}

/// The value does not fit the type of the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the setting cannot be as much")]
pub struct UnfitValue;

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl TryFrom<Value> for Duration {
    type Error = UnfitValue;

    fn try_from(value: Value) -> Result<Self, UnfitValue> {
        if let Value::Time(time) = value { Ok(time) } else { Err(UnfitValue) }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl TryFrom<Value> for bool {
    type Error = UnfitValue;

    fn try_from(value: Value) -> Result<Self, UnfitValue> {
        if let Value::Flag(flag) = value { Ok(flag) } else { Err(UnfitValue) }
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(
            impl From<$type> for Value {
                fn from(number: $type) -> Self {
                    Self::Number(number as u64)
                }
            }

            impl TryFrom<Value> for $type {
                type Error = UnfitValue;

                fn try_from(value: Value) -> Result<Self, UnfitValue> {
                    match value {
                        Value::Number(number) | Value::Bytes(number) => {
                            number.try_into().map_err(|_too_large| UnfitValue)
                        }
                        Value::Time(_) | Value::Flag(_) => Err(UnfitValue),
                    }
                }
            }
        )+
    };
}

numbers!(u32, u64, usize);

impl Config {
    /// Checks every range and relation.
    ///
    /// # Errors
    /// All problems at once, as sentences.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let is_out = |setting: &&Setting| !setting.range.contains(setting.get(self));
        let problem =
            |setting: &Setting| ConfigProblem { field: setting.name, problem: setting.range.to_string() };
        let mut problems: Vec<_> = Self::SETTINGS.iter().filter(is_out).map(problem).collect();
        // What is wrong by itself is not held against the other.
        let is_sound = |field: &str| problems.iter().all(|problem| problem.field != field);
        let Self { lease, heartbeat_interval, .. } = *self;
        if is_sound("lease") && is_sound("heartbeat_interval") && heartbeat_interval > lease / 3 {
            let problem = format!(
                "must be at most a third of the lease, and {heartbeat_interval:?} is more than that of {lease:?}"
            );
            problems.push(ConfigProblem { field: "heartbeat_interval", problem });
        }
        if problems.is_empty() { Ok(()) } else { Err(InvalidConfig { problems }) }
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", sentences(problems))]
pub struct InvalidConfig {
    /// What is wrong.
    pub problems: Vec<ConfigProblem>,
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field of [`Config`].
    pub field: &'static str,
    /// What is wrong with it: the rest of a sentence that begins with its name.
    pub problem: String,
}

fn sentences(problems: &[ConfigProblem]) -> String {
    let sentences = problems.iter().map(|ConfigProblem { field, problem }| format!("{field} {problem}"));
    sentences.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &Config) -> Vec<&'static str> {
        let problems = config.validate().map_or_else(|error| error.problems, |()| Vec::new());
        problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn defaults_are_valid_and_every_problem_is_named_at_once() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { lease: Duration::ZERO, batch_max: 0, elves_lost_max: 0, ..Config::default() };
        assert_eq!(problems(&bad), ["lease", "elves_lost_max", "batch_max"], "and no consequence of another");
        let text = bad.validate().unwrap_err().to_string();
        assert!(
            text.contains("lease must be between 1 s and 1 h; elves_lost_max must be between 1 and 255"),
            "{text}"
        );
    }

    #[test]
    fn lease_and_heartbeat_have_to_fit_each_other() {
        let endless = Config { heartbeat_interval: Duration::MAX, ..Config::default() };
        assert_eq!(problems(&endless), ["heartbeat_interval"]);
        let just = Config { heartbeat_interval: Duration::from_secs(10), ..Config::default() };
        assert_eq!(just.validate(), Ok(()));
    }

    #[test]
    fn protocol_versions_are_those_that_are_spoken() {
        for version in [0, PROTOCOL_VERSION + 1] {
            assert_eq!(problems(&Config { protocol_min: version, ..Config::default() }), ["protocol_min"]);
        }
        assert_eq!(Config { protocol_min: 2, ..Config::default() }.validate(), Ok(()));
    }

    #[test]
    fn settings_are_read_and_set_by_their_names() {
        let mut config = Config::default();
        for setting in Config::SETTINGS {
            let value = setting.get(&config);
            assert_eq!(setting.set(&mut config, value), Ok(()), "{}", setting.name);
            let other = if matches!(value, Value::Time(_)) { Value::Number(7) } else { Value::Time(HOUR) };
            assert_eq!(setting.set(&mut config, other), Err(UnfitValue), "{}", setting.name);
        }
        assert_eq!(config, Config::default());
        let of = |name: &str| Config::SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        of("protocol_min").set(&mut config, Value::Number(1 << 32)).unwrap_err();
        of("protocol_min").set(&mut config, Value::Number(2)).unwrap();
        of("blob_grace").set(&mut config, Value::Time(SECOND)).unwrap();
        assert_eq!(config, Config { protocol_min: 2, blob_grace: SECOND, ..Config::default() });
    }

    #[test]
    fn values_and_ranges_are_told_in_units() {
        let text = |time| Value::Time(time).to_string();
        assert_eq!(
            [text(HOUR), text(90 * SECOND), text(HOUR / 6), text(SECOND / 2), text(Duration::ZERO)],
            ["1 h", "90 s", "10 min", "500 ms", "0ns"]
        );
        assert_eq!(AtLeast(Value::Time(INSTANT)).to_string(), "must not be zero");
        assert_eq!(AtLeast(Value::Bytes(8)).to_string(), "must be at least 8 bytes");
    }

    #[test]
    fn sizes_of_queues_are_bounded() {
        for size in [QUEUE_MAX + 1, usize::MAX] {
            let endless = Config { queue_max: size, batch_max: size, ..Config::default() };
            assert_eq!(problems(&endless), ["queue_max", "batch_max"]);
        }
        let large = Config { queue_max: QUEUE_MAX, batch_max: QUEUE_MAX, ..Config::default() };
        assert_eq!(large.validate(), Ok(()));
        // Whether channels can be as large.
        drop(tokio::sync::mpsc::channel::<()>(large.queue_max));
    }
}
