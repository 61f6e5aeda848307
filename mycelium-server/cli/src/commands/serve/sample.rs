//! A file with all settings, as `mycelium serve --config` reads it.

use mycelium_server::{Config, Setting};

use super::given::range_of;
use super::settings::{self, Own, as_toml, value_of};

/// How long a line of a comment may be, in characters.
const LINE_MAX: usize = 100;

/// All settings with what they do, each with its default and commented out.
pub(super) fn text() -> String {
    let mut text = String::from(
        "# Settings of `mycelium serve --config FILE`. What is commented out is as it is without it.\n\
         # Variables, such as MYCELIUM_LEASE, win over this file, and flags, such as --lease, over both.\n\
         # Times are written like \"30s\", \"500ms\" or \"10m\", and sizes like \"64MiB\", \"500kB\" or 67108864.\n",
    );
    for Own { name, default, help, choices, .. } in settings::own() {
        let choices = choices();
        let names: Vec<&str> = choices.iter().map(|choice| choice.get_name()).collect();
        let choices =
            if names.is_empty() { String::new() } else { format!(" One of: {}.", names.join(", ")) };
        let is_flag = ["true", "false"].contains(default);
        let value = if is_flag { (*default).to_owned() } else { format!("{default:?}") };
        push(&mut text, &format!("{help}{choices}"), name, &value);
    }
    let defaults = Config::default();
    for setting in Config::SETTINGS {
        let Setting { name, help, .. } = setting;
        let help = help.trim();
        let value = as_toml(value_of(setting, &defaults)).to_string();
        let range = range_of(setting);
        let range = range.strip_prefix("; ").map(|range| format!(" It {range}.")).unwrap_or_default();
        push(&mut text, &format!("{help}{range}"), name, &value);
    }
    text
}

fn push(text: &mut String, help: &str, name: &str, value: &str) {
    text.push('\n');
    let mut line = String::from("#");
    for word in help.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > LINE_MAX {
            text.push_str(&line);
            text.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&format!("{line}\n#{name} = {value}\n"));
}
