//! What a program shows to a broker, and what it trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::codegen::http::HeaderValue;

use crate::error::Error;

/// For how long a token that was read is used, before its file is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The variables of the environment that say it.
const TOKEN: &str = "MYCELIUM_TOKEN";
const TOKEN_FILE: &str = "MYCELIUM_TOKEN_FILE";
const AUTHORITIES: &str = "MYCELIUM_CA";
const CERTIFICATE: &str = "MYCELIUM_CLIENT_CERT";
const KEY: &str = "MYCELIUM_CLIENT_KEY";
const INSECURE: &str = "MYCELIUM_INSECURE";

/// What a program shows to a broker, and whom it trusts to be one. It shows nothing of secrets to logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) token: Option<Token>,
    /// A file of certificates (PEM) of authorities that are trusted beside those that everybody trusts.
    pub(crate) authorities: Option<PathBuf>,
    /// The files of its own certificate and key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Whether a token may be sent where others can read it.
    pub(crate) may_be_seen: bool,
}

/// The secret that a program shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Text(String),
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("***"),
            Self::File(path) => fmt::Debug::fmt(path, f),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, authorities, certificate, .. } = self;
        f.debug_struct("Credentials")
            .field("token", token)
            .field("authorities", authorities)
            .field("certificate", &certificate.as_ref().map(|(certificate, _)| certificate))
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// What the environment says, where nothing else was said.
    ///
    /// # Errors
    /// If it says two things at once, or half of one.
    pub(crate) fn or_of_environment(self) -> Result<Self, Error> {
        self.or_of(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn or_of(mut self, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self, Error> {
        let invalid = |message: String| Err(Error::InvalidCredentials { message });
        let path = |name| variable(name).map(PathBuf::from);
        if self.token.is_none() {
            self.token = match (variable(TOKEN), path(TOKEN_FILE)) {
                (Some(_), Some(_)) => {
                    return invalid(format!("{TOKEN} and {TOKEN_FILE} are both set; one of them is meant"));
                }
                (Some(text), None) => match text.into_string() {
                    Ok(text) => Some(Token::Text(text)),
                    Err(_) => return invalid(format!("{TOKEN} is no text")),
                },
                (None, file) => file.map(Token::File),
            };
        }
        if self.certificate.is_none() {
            self.certificate = match (path(CERTIFICATE), path(KEY)) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                _ => {
                    return invalid(format!(
                        "{CERTIFICATE} and {KEY} belong together, and one of them is missing"
                    ));
                }
            };
        }
        self.authorities = self.authorities.or_else(|| path(AUTHORITIES));
        let insecure = variable(INSECURE).is_some_and(|value| {
            !["false", "f", "no", "n", "off", "0"].iter().any(|off| value.eq_ignore_ascii_case(off))
        });
        self.may_be_seen |= insecure;
        Ok(self)
    }

    /// Refuses to send a token where everybody on the way can read it.
    ///
    /// # Errors
    /// If it would be.
    pub(crate) fn check(&self, is_private: bool, url: &str) -> Result<(), Error> {
        if self.token.is_some() && !is_private && !self.may_be_seen {
            let message = format!(
                "the token would be sent to {url} in clear, where others can read it; use https://, or accept that with \
                 {INSECURE}=1"
            );
            return Err(Error::InvalidCredentials { message });
        }
        Ok(())
    }
}

/// The header that shows a token, made anew when its file has been read again.
#[derive(Debug)]
pub(crate) struct Authorization {
    token: Option<Token>,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Authorization {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self { token, read: Mutex::default() }
    }

    /// The file is read again for what comes next: a new connection.
    pub(crate) fn read_again(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The header; none if there is no token.
    ///
    /// # Errors
    /// If the token cannot be read, or cannot be one.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, Status> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((header, at)) = &*read
            && (matches!(token, Token::Text(_)) || at.elapsed() < READ_AGAIN_AFTER)
        {
            return Ok(Some(header.clone()));
        }
        let header = match token {
            Token::Text(text) => header_of(text).ok_or_else(|| not_one(TOKEN))?,
            Token::File(path) => header_of_file(path)?,
        };
        *read = Some((header.clone(), Instant::now()));
        Ok(Some(header))
    }
}

fn header_of(text: &str) -> Option<HeaderValue> {
    let text = text.trim();
    if text.is_empty() || !text.is_ascii() {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn header_of_file(path: &Path) -> Result<HeaderValue, Status> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Status::unauthenticated(format!("the token file `{shown}` cannot be read: {error}"))
    })?;
    header_of(&text).ok_or_else(|| not_one(&format!("the file `{shown}`")))
}

fn not_one(place: &str) -> Status {
    Status::unauthenticated(format!("{place} has no token: one line of ASCII characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Credentials, String> {
        let variable =
            |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| value.into());
        Credentials::default().or_of(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_says_what_nothing_else_says() {
        assert_eq!(of(&[]), Ok(Credentials::default()));
        let all =
            of(&[(TOKEN_FILE, "t"), (AUTHORITIES, "a"), (CERTIFICATE, "c"), (KEY, "k"), (INSECURE, "1")]);
        let expected = Credentials {
            token: Some(Token::File("t".into())),
            authorities: Some("a".into()),
            certificate: Some(("c".into(), "k".into())),
            may_be_seen: true,
        };
        assert_eq!(all, Ok(expected));
        assert!(!of(&[(INSECURE, "False")]).unwrap().may_be_seen);
        assert!(of(&[(TOKEN, "a"), (TOKEN_FILE, "t")]).unwrap_err().contains("are both set"));
        assert!(of(&[(KEY, "k")]).unwrap_err().contains("belong together"));
        let own = Credentials { token: Some(Token::Text("own".to_owned())), ..Credentials::default() };
        let kept = own.clone().or_of(|name| (name == TOKEN).then(|| "other".into())).unwrap();
        assert_eq!(kept, own);
    }

    #[test]
    fn tokens_are_not_shown_and_not_sent_where_others_read() {
        let token = Credentials { token: Some(Token::Text("secret-1".to_owned())), ..Credentials::default() };
        assert!(!format!("{token:?}").contains("secret-1"));
        let refused = token.check(false, "http://far").unwrap_err().to_string();
        assert!(refused.contains("in clear") && !refused.contains("secret-1"), "{refused}");
        assert!(token.check(true, "https://far").is_ok());
        assert!(Credentials { may_be_seen: true, ..token }.check(false, "http://far").is_ok());
        assert!(Credentials::default().check(false, "http://far").is_ok());
        let header = Authorization::new(Some(Token::Text("secret-2".to_owned()))).header().unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer secret-2");
        assert!(!format!("{header:?}").contains("secret-2"));
    }

    #[test]
    fn files_of_tokens_are_read_for_each_connection() {
        let dir = std::env::temp_dir().join(format!("elf-runtime-token-{}", std::process::id()));
        let authorization = Authorization::new(Some(Token::File(dir.clone())));
        let message = authorization.header().unwrap_err().message().to_owned();
        assert!(message.contains("cannot be read"), "{message}");
        let text = |authorization: &Authorization| authorization.header().unwrap().unwrap();
        std::fs::write(&dir, "one\n").unwrap();
        assert_eq!(text(&authorization).to_str().unwrap(), "Bearer one");
        std::fs::write(&dir, "two\n").unwrap();
        authorization.read_again();
        assert_eq!(text(&authorization).to_str().unwrap(), "Bearer two");
        for no_token in ["", " \n", "zwölf", "a\nb"] {
            std::fs::write(&dir, no_token).unwrap();
            authorization.read_again();
            assert!(authorization.header().is_err(), "{no_token:?}");
        }
        std::fs::remove_file(&dir).unwrap();
    }
}
