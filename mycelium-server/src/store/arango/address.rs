//! Where an ArangoDB server is, who we are there, and which of its databases are mycelia.

mod environment;

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::name::is_name;

pub use self::environment::BadEnvironment;

/// What the names of the databases of mycelia begin with.
const DATABASE_PREFIX: &str = "BLUMYC_";
/// The port of a server whose address names none.
const PORT: u16 = 8529;

/// The address of an ArangoDB server, with the user to log in as. Neither of its texts shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Scheme, host and port; no user and no path.
    url: Url,
    login: Option<Login>,
    ca: Option<PathBuf>,
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown} is not the address of an ArangoDB server, which is http://HOST:PORT or https://HOST:PORT: {why}"
)]
pub struct BadAddress {
    /// The address without what could be a secret.
    shown: String,
    why: String,
}

impl Address {
    /// Reads an address: `http://[USER[:PASSWORD]@]HOST[:PORT]`, or with `https`. The port is 8529 if none is given. What
    /// cannot stand in a URL as it is, in user and password, is percent-encoded.
    ///
    /// # Errors
    /// If it is none, or one with more than that: a path, a query, a fragment.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        // Nothing of a text that cannot be taken apart is shown, since any of it may be the password.
        let bad = |shown: &str, why: &str| BadAddress { shown: shown.to_owned(), why: why.to_owned() };
        let given = Url::parse(text).map_err(|error| bad("what is given", &error.to_string()))?;
        let (Some(host), true) = (given.host_str(), matches!(given.scheme(), "http" | "https")) else {
            return Err(bad("what is given", &format!("{}: is neither http nor https", given.scheme())));
        };
        // A port that is that of the scheme is not kept by the parser.
        let port = given.port().or_else(|| names_port(text).then(|| given.port_or_known_default()).flatten());
        let shown = format!("{}://{host}:{}", given.scheme(), port.unwrap_or(PORT));
        for (is_there, what) in [
            (!matches!(given.path(), "" | "/"), "it has a path"),
            (given.query().is_some(), "it has a query"),
            (given.fragment().is_some(), "it has a fragment"),
            (given.username().is_empty() && given.password().is_some(), "it has a password and no user"),
        ] {
            if is_there {
                return Err(bad(&shown, what));
            }
        }
        let decoded = |text: &str| {
            let decoded =
                percent_decoded(text).ok_or_else(|| bad(&shown, "its user or password is not UTF-8"))?;
            Ok::<_, BadAddress>(decoded)
        };
        let login = match given.username() {
            "" => None,
            user => {
                Some(Login { user: decoded(user)?, password: decoded(given.password().unwrap_or_default())? })
            }
        };
        let url = Url::parse(&shown).map_err(|error| bad(&shown, &error.to_string()))?;
        Ok(Self { url, login, ca: None })
    }

    /// Logs in as this user, whoever stands in the address.
    #[must_use]
    pub fn with_credentials(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { login: Some(Login { user: user.into(), password: password.into() }), ..self }
    }

    /// Trusts the certificates in this file too (PEM), beside those that everybody trusts.
    #[must_use]
    pub fn with_ca(self, file: impl Into<PathBuf>) -> Self {
        Self { ca: Some(file.into()), ..self }
    }

    /// Who logs in. `None`: nobody, requests are sent without credentials.
    pub fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// Whether there is a password that is not empty.
    pub fn has_password(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.password.is_empty())
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    pub(super) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

/// Without the user.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port_or_known_default().unwrap_or(PORT);
        write!(f, "{}://{}:{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("url", &self.to_string())
            .field("user", &self.user())
            .field("ca", &self.ca)
            .finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The name of the database of a mycelium. `None` if a mycelium cannot have that name.
pub fn database_of(mycelium: &str) -> Option<String> {
    is_name(mycelium).then(|| format!("{DATABASE_PREFIX}{mycelium}"))
}

/// The name of the mycelium of a database. `None` if it is not one of a mycelium.
pub fn mycelium_of(database: &str) -> Option<&str> {
    database.strip_prefix(DATABASE_PREFIX).filter(|name| is_name(name))
}

/// Whether an address that parses names its port.
fn names_port(text: &str) -> bool {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.rsplit_once(']').map_or(host, |(_, port)| port).contains(':')
}

/// What a percent-encoded text means. `None` if that is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = escaped.and_then(|[high, low]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Address::parse(text) {
            Ok(address) => format!("{address} {:?}", address.login().map(|it| (&*it.user, &*it.password))),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port_with_a_user_before_it() {
        for (text, expected) in [
            ("http://localhost:8529", "http://localhost:8529 None"),
            ("http://localhost", "http://localhost:8529 None"),
            ("https://db.example.org/", "https://db.example.org:8529 None"),
            ("http://localhost:80", "http://localhost:80 None"),
            ("https://localhost:443/", "https://localhost:443 None"),
            ("https://u@localhost:80", "https://localhost:80 Some((\"u\", \"\"))"),
            ("http://[::1]", "http://[::1]:8529 None"),
            ("http://[::1]:80", "http://[::1]:80 None"),
            ("http://u:p@[fe80::1]:8530", "http://[fe80::1]:8530 Some((\"u\", \"p\"))"),
            ("http://a%40b:p%3A%2F%25%c3%a4@h", "http://h:8529 Some((\"a@b\", \"p:/%ä\"))"),
            ("http://u:%zz@h", "http://h:8529 Some((\"u\", \"%zz\"))"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_one_line_that_shows_no_secret() {
        for (text, why) in [
            ("http://u:secret@h/_db/x", "it has a path"),
            ("http://u:secret@h?x", "it has a query"),
            ("http://u:secret@h#x", "it has a fragment"),
            ("http://:secret@h", "it has a password and no user"),
            ("http://u:%ff@h", "its user or password is not UTF-8"),
            ("ftp://u:secret@h", "ftp: is neither http nor https"),
            ("secret", "relative URL without a base"),
            ("http://u:secret@h:99999", "invalid port number"),
            ("http://", "empty host"),
            ("localhost:8529", "localhost: is neither http nor https"),
        ] {
            let refused = parsed(text);
            assert!(refused.ends_with(why), "{text}: {refused}");
            assert!(!refused.contains("secret") && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn no_text_of_an_address_shows_its_password() {
        let address = Address::parse("http://user:secret@h").unwrap();
        assert!(address.has_password());
        let shown = format!("{address} {address:?} {:?}", address.login());
        assert!(shown.contains("user") && !shown.contains("secret"), "{shown}");
        let other = address.with_credentials("other", "");
        assert_eq!((other.user(), other.has_password()), (Some("other"), false));
    }

    #[test]
    fn a_database_has_the_name_of_its_mycelium_and_back() {
        assert_eq!(database_of("default").as_deref(), Some("BLUMYC_default"));
        assert_eq!(database_of("Default"), None);
        assert_eq!(database_of(""), None);
        assert_eq!(mycelium_of("BLUMYC_a_b-1"), Some("a_b-1"));
        for other in ["_system", "BLUMYC_", "BLUMYC_A", "blumyc_a", "a"] {
            assert_eq!(mycelium_of(other), None, "{other}");
        }
    }
}
