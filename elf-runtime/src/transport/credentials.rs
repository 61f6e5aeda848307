//! What a program shows to a broker, and what it trusts.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::codegen::http::HeaderValue;

use crate::error::Error;

/// For how long a token that was read is used, before its file is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What a token follows in its header.
const SCHEME: &str = "Bearer ";
/// The longest token, in bytes: with the scheme, the 8 KiB that a broker looks at. Longer ones would come to nothing that
/// tells why.
const TOKEN_BYTES_MAX: usize = 8 * 1024 - SCHEME.len();

/// What the secrets begin with that `mycelium token new` makes.
const SECRET_PREFIX: &str = "myc_";

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

/// Why nothing can be shown to a broker. It is met before anything is sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unshowable(pub(super) String);

impl From<Unshowable> for Status {
    fn from(problem: Unshowable) -> Self {
        let mut status = Status::unauthenticated(problem.0.clone());
        status.set_source(Arc::new(problem));
        status
    }
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
                    Ok(text) => match header_of(&text, TOKEN) {
                        Ok(_) => Some(Token::Text(text)),
                        Err(Unshowable(problem)) => return invalid(problem),
                    },
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
        if let Some(text) = variable(INSECURE) {
            let text = text.to_string_lossy();
            match boolean(&text) {
                Some(insecure) => self.may_be_seen |= insecure,
                None => return invalid(format!("{INSECURE}: `{text}` is neither true nor false")),
            }
        }
        Ok(self)
    }

    /// Refuses a text that can be no token, and to send one where everybody on the way can read it.
    ///
    /// # Errors
    /// If it is, or would be.
    pub(crate) fn check(&self, is_private: bool, url: &str) -> Result<(), Error> {
        if let Some(Token::Text(text)) = &self.token {
            header_of(text, "the program")
                .map_err(|Unshowable(message)| Error::InvalidCredentials { message })?;
        }
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

/// What a text says, in the words that settings of the broker take. It is not empty.
fn boolean(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 6]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "t", "yes", "y", "on", "1"]) {
        Some(true)
    } else {
        is_one_of(["false", "f", "no", "n", "off", "0"]).then_some(false)
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
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, Unshowable> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((header, at)) = &*read
            && (matches!(token, Token::Text(_)) || at.elapsed() < READ_AGAIN_AFTER)
        {
            return Ok(Some(header.clone()));
        }
        let header = match token {
            Token::Text(text) => header_of(text, "the program")?,
            Token::File(path) => header_of_file(path)?,
        };
        *read = Some((header.clone(), Instant::now()));
        Ok(Some(header))
    }
}

/// The header of a token that was found at a place, which is named if it is none. The token is not.
fn header_of(text: &str, place: &str) -> Result<HeaderValue, Unshowable> {
    let text = text.trim();
    if text.len() > TOKEN_BYTES_MAX {
        let problem =
            format!("{place} has a token of more than {TOKEN_BYTES_MAX} bytes, which no broker takes");
        return Err(Unshowable(problem));
    }
    let none = || Unshowable(format!("{place} has no token: one line of ASCII characters"));
    if text.is_empty() || !text.is_ascii() {
        return Err(none());
    }
    let mut header = HeaderValue::try_from(format!("{SCHEME}{text}")).map_err(|_no_header| none())?;
    header.set_sensitive(true);
    Ok(header)
}

fn header_of_file(path: &Path) -> Result<HeaderValue, Unshowable> {
    // Whoever mistakes the one variable for the other has given a secret, which is not to be shown.
    let shown = path.display().to_string();
    let shown = if shown.starts_with(SECRET_PREFIX) { format!("{SECRET_PREFIX}***") } else { shown };
    let mut bytes = Vec::new();
    // More than a token, and nothing that has no end.
    let read =
        File::open(path).and_then(|file| file.take(2 * TOKEN_BYTES_MAX as u64).read_to_end(&mut bytes));
    read.map_err(|error| Unshowable(format!("the token file `{shown}` cannot be read: {error}")))?;
    header_of(&String::from_utf8_lossy(&bytes), &format!("the file `{shown}`"))
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
        for (text, expected) in [("False", false), ("off", false), ("0", false), ("YES", true), ("on", true)]
        {
            assert_eq!(of(&[(INSECURE, text)]).unwrap().may_be_seen, expected, "{text}");
        }
        for text in ["disabled", "2", " "] {
            let refused = of(&[(INSECURE, text)]).unwrap_err();
            assert!(refused.contains(INSECURE) && refused.contains("neither true nor false"), "{refused}");
        }
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
    fn tokens_that_no_broker_looks_at_are_not_sent() {
        let [longest, longer] = [TOKEN_BYTES_MAX, TOKEN_BYTES_MAX + 1].map(|length| "x".repeat(length));
        let header = |text: &str| Authorization::new(Some(Token::Text(text.to_owned()))).header();
        assert_eq!(header(&longest).unwrap().unwrap().len(), 8 * 1024);
        assert!(of(&[(TOKEN, &longest)]).is_ok());
        let endless = "x".repeat(300_000);
        for token in [longer.as_str(), &endless] {
            let refused = of(&[(TOKEN, token)]).unwrap_err();
            let expected = "what is shown to the broker, or trusted, cannot be used: MYCELIUM_TOKEN has a token of more than 8185 bytes, which no broker takes";
            assert_eq!(refused, expected);
            let own = Credentials { token: Some(Token::Text(token.to_owned())), ..Credentials::default() };
            let refused = own.check(true, "https://far").unwrap_err().to_string();
            assert!(refused.contains("more than 8185 bytes") && !refused.contains("xx"), "{refused}");
        }
        let refused = of(&[(TOKEN, "zwölf")]).unwrap_err();
        assert!(refused.contains("MYCELIUM_TOKEN has no token") && !refused.contains("zw"), "{refused}");
    }

    #[test]
    fn files_of_tokens_are_read_for_each_connection() {
        let dir = std::env::temp_dir().join(format!("elf-runtime-token-{}", std::process::id()));
        let authorization = Authorization::new(Some(Token::File(dir.clone())));
        let message = authorization.header().unwrap_err().to_string();
        assert!(message.contains("cannot be read"), "{message}");
        let secret = Authorization::new(Some(Token::File("myc_0123".into()))).header().unwrap_err();
        assert!(secret.to_string().starts_with("the token file `myc_***` cannot be read"), "{secret}");
        let text = |authorization: &Authorization| authorization.header().unwrap().unwrap();
        std::fs::write(&dir, "one\n").unwrap();
        assert_eq!(text(&authorization).to_str().unwrap(), "Bearer one");
        std::fs::write(&dir, "two\n").unwrap();
        authorization.read_again();
        assert_eq!(text(&authorization).to_str().unwrap(), "Bearer two");
        for (no_token, problem) in [
            (b"".as_slice(), "has no token"),
            (b" \n", "has no token"),
            ("zwölf".as_bytes(), "has no token"),
            (b"\xff", "has no token"),
            (b"a\nb", "has no token"),
            (&[b'x'; 17_000], "more than 8185 bytes"),
            (&[b'x'; 300_000], "more than 8185 bytes"),
        ] {
            std::fs::write(&dir, no_token).unwrap();
            authorization.read_again();
            let refused = authorization.header().unwrap_err().to_string();
            assert!(refused.contains(problem) && refused.contains("elf-runtime-token-"), "{refused}");
            assert!(!refused.contains("xxx"), "{refused}");
        }
        std::fs::remove_file(&dir).unwrap();
    }
}
