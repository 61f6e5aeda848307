//! Where a server is as the environment says it, and who we are there. Passwords are taken from where other users of the
//! machine cannot read them.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::Address;

/// The variable with the URL.
const URL: &str = "MYCELIUM_STORE";
const USER: &str = "MYCELIUM_STORE_USER";
const PASSWORD: &str = "MYCELIUM_STORE_PASSWORD";
const PASSWORD_FILE: &str = "MYCELIUM_STORE_PASSWORD_FILE";
const CA: &str = "MYCELIUM_STORE_CA";
/// The longest password in a file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// What is wrong with what the environment says of a server: one line that shows no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEnvironment(String);

impl Address {
    /// The server that `MYCELIUM_STORE` names, with the user and the password that the environment gives
    /// ([`with_credentials_of_environment`](Self::with_credentials_of_environment)), and the file of certificates in
    /// `MYCELIUM_STORE_CA`. `None` if it names none: it is not set, or no URL.
    ///
    /// # Errors
    /// If the URL or something else is wrong.
    pub fn of_environment() -> Result<Option<Self>, BadEnvironment> {
        let Some(url) = text(URL, &variable)?.filter(|url| Self::is_url(url)) else { return Ok(None) };
        let address = Self::parse(&url).map_err(|error| BadEnvironment(error.to_string()))?;
        let address = address.with_credentials_of_environment()?;
        Ok(Some(match variable(CA) {
            Some(file) => address.with_ca(file),
            None => address,
        }))
    }

    /// Logs in as the user in `MYCELIUM_STORE_USER`, if there is one, with the password in `MYCELIUM_STORE_PASSWORD`, or in
    /// the file that `MYCELIUM_STORE_PASSWORD_FILE` names.
    ///
    /// # Errors
    /// If something is given twice and not alike, there is a password without a user, or the file cannot be read.
    pub fn with_credentials_of_environment(self) -> Result<Self, BadEnvironment> {
        with_credentials(self, &variable)
    }

    /// Whether a text that may also be the path of a folder, or a word, is meant as a URL.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }
}

/// A variable, unless it is empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str, variable: &impl Fn(&str) -> Option<OsString>) -> Result<Option<String>, BadEnvironment> {
    let value = variable(name).map(OsString::into_string).transpose();
    value.map_err(|_| BadEnvironment(format!("{name} is not UTF-8")))
}

fn with_credentials(
    address: Address,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Address, BadEnvironment> {
    let password = match (text(PASSWORD, variable)?, variable(PASSWORD_FILE)) {
        (Some(_), Some(_)) => {
            return Err(BadEnvironment(format!("{PASSWORD} and {PASSWORD_FILE} are both set: unset one")));
        }
        (None, Some(file)) => Some(read_password(Path::new(&file))?),
        (password, None) => password,
    };
    if password.is_some() && address.has_password() {
        return Err(BadEnvironment(format!(
            "a password stands in the URL and in {PASSWORD} or {PASSWORD_FILE}: give it once"
        )));
    }
    let user = match (text(USER, variable)?, address.user()) {
        (Some(one), Some(other)) if one != other => {
            return Err(BadEnvironment(format!(
                "the user is `{other}` in the URL and `{one}` in {USER}: give one"
            )));
        }
        // One that is the same may have its password in the URL.
        (Some(_), Some(_)) | (None, _) => address.user().map(str::to_owned),
        (user, None) => user,
    };
    match (user, password) {
        (Some(user), Some(password)) => Ok(address.with_credentials(user, password)),
        (None, Some(_)) => Err(BadEnvironment(format!("a password is set, and no user: set {USER}"))),
        (Some(user), None) if address.user().is_none() => Ok(address.with_credentials(user, "")),
        (_, None) => Ok(address),
    }
}

/// The password in a file, without the end of its line.
fn read_password(file: &Path) -> Result<String, BadEnvironment> {
    let unusable = |why: String| BadEnvironment(format!("{PASSWORD_FILE}: `{}` {why}", file.display()));
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

    fn given(url: &str, variables: &[(&str, &str)]) -> Result<(Option<String>, bool), String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let address = Address::parse(url).unwrap();
        let address = with_credentials(address, &variable).map_err(|error| error.to_string())?;
        Ok((address.user().map(str::to_owned), address.has_password()))
    }

    #[test]
    fn user_and_password_are_given_once() {
        let ok = |user: &str, has_password| Ok((Some(user.to_owned()), has_password));
        assert_eq!(given("http://h", &[]), Ok((None, false)));
        assert_eq!(given("http://u@h", &[]), ok("u", false));
        assert_eq!(given("http://u:secret@h", &[]), ok("u", true));
        assert_eq!(given("http://u:secret@h", &[(USER, "u")]), ok("u", true));
        assert_eq!(given("http://u@h", &[(PASSWORD, "secret")]), ok("u", true));
        assert_eq!(given("http://h", &[(USER, "u")]), ok("u", false));
        assert_eq!(given("http://h", &[(USER, "u"), (PASSWORD, "secret")]), ok("u", true));
        for (url, variables, part) in [
            ("http://u@h", &[(USER, "v")][..], "the user is `u` in the URL and `v`"),
            ("http://h", &[(PASSWORD, "secret")], "and no user"),
            ("http://u:secret@h", &[(PASSWORD, "secret")], "give it once"),
            ("http://u@h", &[(PASSWORD, "secret"), (PASSWORD_FILE, "f")], "unset one"),
            ("http://u@h", &[(PASSWORD_FILE, "/not/there")], "cannot be read"),
        ] {
            let refused = given(url, variables).unwrap_err();
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
