//! Short names of types.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};

/// The type's name without its path: `ScaleError`, `io::Error`, `Vec<Option<String>>`. A name that says nothing alone
/// (`Error`) keeps the nearest module that does.
pub(crate) fn short(full: &str) -> String {
    let mut name = String::with_capacity(full.len());
    let mut path = String::new();
    for character in full.chars() {
        if character.is_alphanumeric() || character == '_' || character == ':' {
            path.push(character);
        } else {
            push_short_path(&mut name, &path);
            path.clear();
            name.push(character);
        }
    }
    push_short_path(&mut name, &path);
    name
}

fn push_short_path(name: &mut String, path: &str) {
    let mut segments = path.rsplit("::");
    let last = segments.next().unwrap_or_default();
    if last == "Error"
        && let Some(module) = segments.find(|module| !matches!(*module, "error" | "errors"))
    {
        name.push_str(module);
        name.push_str("::");
    }
    name.push_str(last);
}

/// The type of an error that is known only as `dyn Error`, as far as it can be told: the language keeps no name for
/// it. The most common errors of the standard library are recognised; of others the word that their `Debug` text
/// begins with is taken, which is the name of the struct or of the variant where `Debug` is derived.
pub(crate) fn of_error(error: &(dyn StdError + 'static)) -> String {
    macro_rules! recognise {
        ($($known:ty),* $(,)?) => {
            $(if error.is::<$known>() {
                return short(std::any::type_name::<$known>());
            })*
        };
    }
    recognise!(
        std::io::Error,
        fmt::Error,
        std::num::ParseIntError,
        std::num::ParseFloatError,
        std::num::TryFromIntError,
        std::str::Utf8Error,
        std::string::FromUtf8Error,
        std::str::ParseBoolError,
        std::time::SystemTimeError,
        std::env::VarError,
        std::net::AddrParseError,
        serde_json::Error,
    );
    debug_word(error).unwrap_or_else(|| "Error".to_owned())
}

/// The short name of the type with this path, and the variant if it is an enum of which `Debug` is derived. Variants of the
/// standard library's are details of it.
pub(crate) fn with_variant(path: &str, named: String, error: &(dyn StdError + 'static)) -> String {
    let is_std = ["std::", "core::", "alloc::"].iter().any(|library| path.starts_with(library));
    match debug_word(error).filter(|_| !is_std) {
        Some(word) if named.rsplit("::").next() != Some(&word) && !named.ends_with('>') => {
            format!("{named}::{word}")
        }
        Some(_) | None => named,
    }
}

/// The identifier that the `Debug` text begins with, if it looks like the name of a type or a variant.
fn debug_word(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut start = Start(String::new());
    // The writer refuses everything after its limit, so that a huge `Debug` text costs little; that it then says
    // "error" is what we asked for.
    let _stopped = write!(start, "{error:?}");
    let word: String = start.0.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = &start.0[word.len()..];
    let ends_like_derived =
        rest.is_empty() || rest.starts_with('(') || rest.starts_with(" {") || rest.starts_with("::");
    (word.starts_with(char::is_uppercase) && ends_like_derived).then_some(word)
}

/// Keeps the first bytes of what is written to it.
struct Start(String);

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const BYTES_MAX: usize = 128;
        self.0.push_str(text);
        if self.0.len() > BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_paths_and_stay_telling() {
        for (full, expected) in [
            ("animals::scale::ScaleError", "ScaleError"),
            ("std::io::error::Error", "io::Error"),
            ("serde_json::error::Error", "serde_json::Error"),
            ("anyhow::Error", "anyhow::Error"),
            ("alloc::vec::Vec<core::option::Option<alloc::string::String>>", "Vec<Option<String>>"),
            ("i64", "i64"),
            ("Error", "Error"),
        ] {
            assert_eq!(short(full), expected);
        }
    }

    #[test]
    fn enums_are_named_with_their_variants_and_nothing_else_is() {
        #[derive(Debug, thiserror::Error)]
        #[error("x")]
        enum ReadError {
            NotFound,
            Cut { at: u64 },
            Io(#[from] fmt::Error),
        }
        #[derive(Debug, thiserror::Error)]
        #[error("x")]
        struct Plain {
            at: u64,
        }
        #[derive(thiserror::Error)]
        #[error("x")]
        struct Worded;
        impl fmt::Debug for Worded {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Nothing was found")
            }
        }
        fn named<E: StdError + 'static>(error: E) -> String {
            let path = std::any::type_name::<E>();
            with_variant(path, short(path), &error)
        }
        assert_eq!(named(ReadError::NotFound), "ReadError::NotFound");
        assert_eq!(named(ReadError::Cut { at: 3 }), "ReadError::Cut");
        assert_eq!(named(ReadError::Io(fmt::Error)), "ReadError::Io");
        assert_eq!(named(Plain { at: 3 }), "Plain");
        assert_eq!(named(Worded), "Worded");
        assert_eq!(named(std::io::Error::other("x")), "io::Error");
        assert_eq!(named(std::env::VarError::NotPresent), "VarError");
    }

    #[test]
    fn errors_behind_a_pointer_are_named_as_far_as_can_be_told() {
        #[derive(Debug, thiserror::Error)]
        enum Trouble {
            #[error("x")]
            Broken { part: &'static str },
        }
        assert_eq!(of_error(&Trouble::Broken { part: "leg" }), "Broken");
        assert_eq!(of_error(&std::io::Error::other("x")), "io::Error");
        let text: Box<dyn StdError + Send + Sync> = "just Text".into();
        assert_eq!(of_error(&*text), "Error");
    }
}
