//! Where the ArangoDB server is that keeps mycelia, and who we are there: the URL, and what stands beside it in the
//! environment. Passwords are taken from where other users of the machine cannot read them.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mycelium_server::store::arango::Address;

use crate::errors::Misuse;

/// The variable with the URL.
const URL: &str = "MYCELIUM_STORE";
const USER: &str = "MYCELIUM_STORE_USER";
const PASSWORD: &str = "MYCELIUM_STORE_PASSWORD";
const PASSWORD_FILE: &str = "MYCELIUM_STORE_PASSWORD_FILE";
/// The longest password in a file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Whose certificates are trusted.
#[derive(Debug, clap::Args)]
pub(crate) struct Trust {
    /// A file of certificates (PEM) to trust, beside those that everybody trusts, when ArangoDB is reached with https.
    #[arg(long, env = "MYCELIUM_STORE_CA", value_name = "FILE")]
    pub(crate) store_ca: Option<PathBuf>,
}

/// Where a URL was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// As an argument, which other users of the machine can read.
    InArgument,
    /// In the environment or in a file.
    Elsewhere,
}

/// Whether a text that may also be the path of a folder, or a word, is meant as a URL.
pub(crate) fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// The address of the server that an argument names, or if there is none, `MYCELIUM_STORE`.
///
/// # Errors
/// If there is none, it is wrong, or a password stands in the argument.
pub(crate) fn address(argument: Option<&str>, trust: &Trust) -> Result<Address, Misuse> {
    match argument {
        Some(url) => read(url, Given::InArgument, trust),
        None => match text(URL, &variable)?.filter(|url| is_url(url)) {
            Some(url) => read(&url, Given::Elsewhere, trust),
            None => Err(Misuse(format!(
                "name an ArangoDB server by its URL, http://HOST:8529, as an argument or in {URL}"
            ))),
        },
    }
}

/// The address of the server at a URL, with the user and the password that the environment gives.
///
/// # Errors
/// If the URL or something in the environment is wrong, or a password stands in an argument.
pub(crate) fn read(url: &str, given: Given, trust: &Trust) -> Result<Address, Misuse> {
    let address = with_credentials(url, given, &variable)?;
    Ok(match &trust.store_ca {
        Some(file) => address.with_ca(file),
        None => address,
    })
}

/// A variable, unless it is empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str, variable: &impl Fn(&str) -> Option<OsString>) -> Result<Option<String>, Misuse> {
    let value = variable(name).map(OsString::into_string).transpose();
    value.map_err(|_| Misuse(format!("{name} is not UTF-8")))
}

fn with_credentials(
    url: &str,
    given: Given,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Address, Misuse> {
    let address = Address::parse(url).map_err(|error| Misuse(error.to_string()))?;
    if given == Given::InArgument && address.has_password() {
        return Err(Misuse(format!(
            "a password does not belong in an argument, which others can read: set {USER} and {PASSWORD} or \
             {PASSWORD_FILE}, or the whole URL as {URL}"
        )));
    }
    let password = match (text(PASSWORD, variable)?, variable(PASSWORD_FILE)) {
        (Some(_), Some(_)) => {
            return Err(Misuse(format!("{PASSWORD} and {PASSWORD_FILE} are both set: unset one")));
        }
        (None, Some(file)) => Some(read_password(Path::new(&file))?),
        (password, None) => password,
    };
    if password.is_some() && address.has_password() {
        return Err(Misuse(format!(
            "a password stands in the URL and in {PASSWORD} or {PASSWORD_FILE}: give it once"
        )));
    }
    let user = match (text(USER, variable)?, address.user()) {
        (Some(one), Some(other)) if one != other => {
            return Err(Misuse(format!("the user is `{other}` in the URL and `{one}` in {USER}: give one")));
        }
        // One that is the same may have its password in the URL.
        (Some(_), Some(_)) | (None, _) => address.user().map(str::to_owned),
        (user, None) => user,
    };
    match (user, password) {
        (Some(user), Some(password)) => Ok(address.with_credentials(user, password)),
        (None, Some(_)) => Err(Misuse(format!("a password is set, and no user: set {USER}"))),
        (Some(user), None) if address.user().is_none() => Ok(address.with_credentials(user, "")),
        (_, None) => Ok(address),
    }
}

/// The password in a file, without the end of its line.
fn read_password(file: &Path) -> Result<String, Misuse> {
    let unusable = |why: String| Misuse(format!("{PASSWORD_FILE}: `{}` {why}", file.display()));
    let mut text = String::new();
    let opened =
        File::open(file).and_then(|file| file.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text));
    opened.map_err(|error| unusable(format!("cannot be read: {error}")))?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(unusable(format!("is no password: it has more than {PASSWORD_BYTES_MAX} bytes")));
    }
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn given(url: &str, given: Given, variables: &[(&str, &str)]) -> Result<(Option<String>, bool), String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let address = with_credentials(url, given, &variable).map_err(|error| error.to_string())?;
        Ok((address.user().map(str::to_owned), address.has_password()))
    }

    #[test]
    fn user_and_password_are_given_once_and_never_in_an_argument() {
        use Given::{Elsewhere, InArgument};
        let ok = |user: &str, has_password| Ok((Some(user.to_owned()), has_password));
        assert_eq!(given("http://h", InArgument, &[]), Ok((None, false)));
        assert_eq!(given("http://u@h", InArgument, &[]), ok("u", false));
        assert_eq!(given("http://u:secret@h", Elsewhere, &[]), ok("u", true));
        assert_eq!(given("http://u:secret@h", Elsewhere, &[(USER, "u")]), ok("u", true));
        assert_eq!(given("http://u@h", InArgument, &[(PASSWORD, "secret")]), ok("u", true));
        assert_eq!(given("http://h", InArgument, &[(USER, "u")]), ok("u", false));
        assert_eq!(given("http://h", InArgument, &[(USER, "u"), (PASSWORD, "secret")]), ok("u", true));
        for (url, place, variables, part) in [
            ("http://u:secret@h", InArgument, &[][..], "does not belong in an argument"),
            ("http://u@h", InArgument, &[(USER, "v")], "the user is `u` in the URL and `v`"),
            ("http://h", InArgument, &[(PASSWORD, "secret")], "and no user"),
            ("http://u:secret@h", Elsewhere, &[(PASSWORD, "secret")], "give it once"),
            ("http://u@h", Elsewhere, &[(PASSWORD, "secret"), (PASSWORD_FILE, "f")], "unset one"),
            ("http://u@h", Elsewhere, &[(PASSWORD_FILE, "/not/there")], "cannot be read"),
            ("http://u:secret@h/path", Elsewhere, &[], "it has a path"),
        ] {
            let refused = given(url, place, variables).unwrap_err();
            assert!(refused.contains(part) && !refused.contains("secret"), "{part}: {refused}");
        }
    }

    #[test]
    fn a_password_in_a_file_ends_with_its_line() {
        let written = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            read_password(file.path()).map_err(|error| error.to_string())
        };
        for text in ["a b", "a b\n", "a b\r\n"] {
            assert_eq!(written(text).as_deref(), Ok("a b"));
        }
        assert_eq!(written("a\n\n").as_deref(), Ok("a\n"));
        assert!(written(&"a".repeat(1 + (64 << 10))).unwrap_err().contains("more than 65536 bytes"));
    }
}
