//! Settings as they are given on the command line, in the environment, and in a file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};
use mycelium_server::{Config, Setting, SettingRange, SettingValue};

use super::settings::{self, Own, size};
use crate::commands::token;

/// The settings that were given, by name.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<&'static str, GivenValue>);

/// The given value of one setting.
#[derive(Debug)]
struct GivenValue {
    text: OsString,
    /// `--lease`, `MYCELIUM_LEASE`, or ``lease in `FILE` ``.
    place: String,
    is_argument: bool,
}

/// The flag of a setting: `--queue-max`.
fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Its variable: `MYCELIUM_QUEUE_MAX`.
fn variable(name: &str) -> String {
    format!("MYCELIUM_{}", name.to_uppercase())
}

impl Given {
    /// The value of a setting.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.text.to_str()
    }

    /// The same as a path, which may be any bytes.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(PathBuf::from(&self.0.get(name)?.text))
    }

    /// Where it was given, for whoever has to change it.
    pub(super) fn place(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| flag(name), |given| given.place.clone())
    }

    /// Whether it was given as an argument, which other users of the machine can read.
    pub(super) fn is_argument(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|given| given.is_argument)
    }

    /// A text about them, without those that are secrets: of tokens, where the name of a file belongs. So may be the name of
    /// the file of settings.
    pub(super) fn without_secrets(&self, text: String, config: Option<&Path>) -> String {
        let given = self.0.values().filter_map(|given| given.text.to_str());
        let given = given.chain(config.and_then(Path::to_str));
        let secrets = given.filter(|value| value.starts_with(token::PREFIX));
        secrets.fold(text, |text, secret| text.replace(secret, &format!("{}***", token::PREFIX)))
    }

    /// Takes a setting from what was handed over to this process, whatever else was given.
    pub(super) fn hand_over(&mut self, name: &'static str, text: String) {
        let place = "LISTEN_FDS".to_owned();
        self.0.insert(name, GivenValue { text: text.into(), place, is_argument: false });
    }

    /// Adds the settings of a file that were not given before.
    pub(super) fn add_file(&mut self, file: &Path, problems: &mut Vec<String>) {
        let shown = file.display();
        let table = match std::fs::read_to_string(file) {
            Ok(text) => text.parse::<toml::Table>().map_err(|error| {
                let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                format!("`{shown}` is no TOML: line {line}: {}", error.message())
            }),
            Err(error) => Err(format!("`{shown}` cannot be read: {error}")),
        };
        let table = match table {
            Ok(table) => table,
            Err(problem) => return problems.push(format!("--config: {problem}")),
        };
        for (key, value) in table {
            let Some(name) = names().find(|name| *name == key) else {
                problems.push(format!("`{shown}`: there is no setting `{key}`"));
                continue;
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                other => {
                    let kind = other.type_str();
                    problems.push(format!(
                        "`{shown}`: {key} is neither a text, a whole number, true nor false: {kind}"
                    ));
                    continue;
                }
            };
            let place = format!("{name} in `{shown}`");
            self.0.entry(name).or_insert(GivenValue { text: text.into(), place, is_argument: false });
        }
    }
}

/// The names of all settings.
fn names() -> impl Iterator<Item = &'static str> {
    settings::own().map(|own| own.name).chain(Config::SETTINGS.iter().map(|setting| setting.name))
}

/// The argument of a setting.
fn argument(name: &'static str, unit: &'static str, help: String) -> Arg {
    let argument = Arg::new(name).long(name.replace('_', "-")).env(variable(name));
    let argument = argument.value_name(unit).help(help);
    if unit == "BOOL" {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    }
}

fn of_program(own: &'static Own) -> Arg {
    let default = if own.default.is_empty() { "none" } else { own.default };
    let argument = argument(own.name, own.unit, format!("{} Default: {default}.", own.help));
    let choices = (own.choices)();
    match own.unit {
        // A password may stand in it.
        "STORE" => argument.hide_env_values(true),
        "DIR" | "FILE" => argument.value_parser(clap::value_parser!(PathBuf)),
        _ if choices.is_empty() => argument,
        _ => argument.value_parser(Shown(choices)),
    }
}

/// Choices that help and completions show. Whether it is one of them is found out with all other problems.
#[derive(Debug, Clone)]
struct Shown(Vec<PossibleValue>);

impl TypedValueParser for Shown {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().cloned()))
    }
}

fn of_broker(setting: &'static Setting) -> Arg {
    let default = settings::value_of(setting, &Config::default());
    let unit = match default {
        SettingValue::Time(_) => "TIME",
        SettingValue::Flag(_) => "BOOL",
        SettingValue::Bytes(_) => "SIZE",
        SettingValue::Number(_) => "NUMBER",
    };
    let default = match default {
        SettingValue::Bytes(bytes) => size::written(bytes),
        other => other.to_string(),
    };
    let help = format!("{} Default: {default}{}.", setting.help.trim(), range_of(setting));
    argument(setting.name, unit, help)
}

/// What a setting may be, as the end of a sentence.
pub(super) fn range_of(setting: &Setting) -> String {
    match setting.range {
        SettingRange::Any => String::new(),
        SettingRange::AtLeast(SettingValue::Bytes(least)) => {
            format!("; must be at least {}", size::written(least))
        }
        range => format!("; {range}"),
    }
}

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(settings::own().map(of_program)).args(Config::SETTINGS.iter().map(of_broker))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in names() {
            let (place, is_argument) = match matches.value_source(name) {
                Some(ValueSource::CommandLine) => (flag(name), true),
                Some(ValueSource::EnvVariable) => (variable(name), false),
                _ => continue,
            };
            let text = matches.get_raw(name).and_then(|mut values| values.next_back());
            if let Some(text) = text {
                let given = GivenValue { text: text.to_owned(), place, is_argument };
                self.0.insert(name, given);
            }
        }
        Ok(())
    }
}
