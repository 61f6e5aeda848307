//! Who may do what: one authoriser, which denies what nothing allows.
//!
//! - `needs` says what each call needs; `grants` what callers have; `table` and `jwt` read the files that say so.
//! - [`Access`] knows the files as they are now, and judges credentials; a [`Caller`] is somebody who was judged, and is
//!   judged again when the files change or something expires; a [`Pass`] is what one call of a caller may do.
//! - Services get at a mycelium by a [`Permitted`] name only, which is had from a pass.
//!
//! A broker without identities lets everybody do everything who reaches it: on this machine alone, unless it is told
//! otherwise. There, `hosts` keeps web pages from reaching it through somebody's browser.

mod grants;
mod hosts;
mod jwt;
mod needs;
mod pass;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::jwt::{Claims, Keys};
use self::table::{Digest, Known, Table};
use crate::defect;
use crate::tls::ClientCertificate;
use crate::watched::{self, FileProblem, Watched};

pub use self::grants::{Role, UnknownRole};
pub(crate) use self::hosts::{ForeignCall, Hosts};
pub(crate) use self::needs::need;
pub(crate) use self::pass::{Caller, Lost, Pass, Permitted};

/// The longest credential that is looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 8 * 1024;

/// Where identities are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessFiles {
    /// The file of identities: TOML, with `[[token]]`, `[[certificate]]` and `[[claim]]`.
    pub identities: PathBuf,
    /// Public keys of JSON Web Tokens (JWKS). Default: none, and no such tokens are taken.
    pub jwt_keys: Option<PathBuf>,
    /// For whom JSON Web Tokens have to be: one of these in `aud`.
    pub jwt_audience: Vec<String>,
    /// By whom they have to be. Default: anybody who has the key.
    pub jwt_issuer: Option<String>,
}

impl AccessFiles {
    /// The file of identities alone.
    pub fn new(identities: impl Into<PathBuf>) -> Self {
        Self { identities: identities.into(), jwt_keys: None, jwt_audience: Vec::new(), jwt_issuer: None }
    }
}

/// Who may do what with a broker. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    /// None: there are no identities, and everybody may do everything.
    files: Option<AccessFiles>,
    current: watch::Sender<Arc<Current>>,
    watched: Mutex<Watched>,
    allowed_hosts: Vec<String>,
}

/// It shows nothing of what the files say.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("files", &self.inner.files).finish_non_exhaustive()
    }
}

/// What the files say now.
#[derive(Debug, Default)]
struct Current {
    table: Table,
    keys: Option<Keys>,
}

impl Current {
    fn read(files: &AccessFiles) -> Result<Self, FileProblem> {
        let mut problems = Vec::new();
        let shown = files.identities.display().to_string();
        let table = watched::read(&files.identities).and_then(|bytes| {
            let text = String::from_utf8(bytes)
                .map_err(|_no_text| FileProblem::one(format!("`{shown}` is no text (UTF-8)")))?;
            Table::read(&text, &shown)
        });
        let keys = files.jwt_keys.as_ref().map(|path| {
            let bytes = watched::read(path)?;
            Keys::read(&bytes, &path.display().to_string(), &files.jwt_audience, files.jwt_issuer.as_deref())
        });
        if files.jwt_keys.is_some() && files.jwt_audience.is_empty() {
            problems.push("tokens (JWT) are to be taken, and not said for whom they have to be".to_owned());
        }
        match (table, keys.transpose()) {
            (Ok(table), Ok(keys)) if problems.is_empty() => Ok(Self { table, keys }),
            (table, keys) => {
                problems.extend(table.err().into_iter().flat_map(|problem| problem.problems));
                problems.extend(keys.err().into_iter().flat_map(|problem| problem.problems));
                Err(FileProblem { problems })
            }
        }
    }
}

/// What somebody shows, in a form in which it can be judged again.
#[derive(Debug, Clone)]
enum Credential {
    /// None is asked for.
    Nothing,
    Token(Digest),
    Certificate(Arc<ClientCertificate>),
    Jwt(Arc<Claims>),
}

/// Why somebody is not let in. Only the log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It shows nothing.
    ShowsNothing,
    /// What it shows is not taken.
    Refused(String),
}

impl Access {
    /// Everybody who reaches the broker may do everything.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self::with(None, Current::default(), Watched::new([]))
    }

    /// Only who is named in these files, and only what they say. They are read again when they change.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn from_files(files: AccessFiles) -> Result<Self, FileProblem> {
        // Seen before they are read: a change in between is found by the first look.
        let mut watched =
            Watched::new(std::iter::once(files.identities.clone()).chain(files.jwt_keys.clone()));
        watched.has_changed();
        let current = Current::read(&files)?;
        Ok(Self::with(Some(files), current, watched))
    }

    fn with(files: Option<AccessFiles>, current: Current, watched: Watched) -> Self {
        let inner = Inner {
            files,
            current: watch::Sender::new(Arc::new(current)),
            watched: Mutex::new(watched),
            allowed_hosts: Vec::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// By which further names the broker may be called where it has no identities: see [`Broker::with_access`].
    ///
    /// [`Broker::with_access`]: crate::Broker::with_access
    #[must_use]
    pub fn with_allowed_hosts(self, hosts: impl IntoIterator<Item = String>) -> Self {
        let Inner { files, current, watched, .. } = &*self.inner;
        let watched =
            std::mem::replace(&mut *watched.lock().unwrap_or_else(PoisonError::into_inner), Watched::new([]));
        let inner = Inner {
            files: files.clone(),
            current: watch::Sender::new(Arc::clone(&current.borrow())),
            watched: Mutex::new(watched),
            allowed_hosts: hosts.into_iter().collect(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether callers have to say who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.inner.files.is_some()
    }

    pub(crate) fn allowed_hosts(&self) -> &[String] {
        &self.inner.allowed_hosts
    }

    /// Reads the files again if they have changed, again and again. Never ends.
    pub(crate) async fn watch(self, every: Duration) {
        if !self.asks() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            let access = self.clone();
            // A defect is in the log, and the next look comes when it is due.
            let _looked = tokio::task::spawn_blocking(move || {
                let _logged = defect::catch("a look at files of identities", || access.look());
            })
            .await;
        }
    }

    /// Whoever waits for what callers may do is to look again: by what certificates are judged has changed.
    pub(crate) fn judge_again(&self) {
        self.inner.current.send_modify(|_| {});
    }

    /// Takes what the files say now, if they have changed and are right.
    fn look(&self) {
        let Some(files) = &self.inner.files else { return };
        let mut watched = self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.has_changed() {
            return;
        }
        match Current::read(files) {
            Ok(current) => {
                watched.taken();
                self.inner.current.send_replace(Arc::new(current));
                tracing::info!("read the file of identities again; what it says holds from now on");
            }
            Err(problem) if watched.refused(&problem) => {
                tracing::error!(%problem, "the file of identities has changed and is not taken; what it said before still holds");
            }
            Err(_told) => {}
        }
    }

    /// Who somebody is, by the header `authorization` or else by its certificate.
    ///
    /// # Errors
    /// If it is nobody.
    pub(crate) fn judge(
        &self,
        authorization: Option<&[u8]>,
        certificate: Option<&Arc<ClientCertificate>>,
    ) -> Result<Caller, Stranger> {
        if !self.asks() {
            return Ok(Caller::new(self.clone(), Credential::Nothing, Arc::from("anybody")));
        }
        let credential = match (authorization, certificate) {
            (Some(authorization), _) => self.read_credential(authorization)?,
            (None, Some(certificate)) => Credential::Certificate(Arc::clone(certificate)),
            (None, None) => return Err(Stranger::ShowsNothing),
        };
        let known = self.known(&credential);
        let Some(entry) = &known.name else {
            return Err(Stranger::Refused(self.why_unknown(&credential)));
        };
        // An entry may be about many.
        let subject = match &credential {
            Credential::Jwt(claims) => claims.subject(),
            Credential::Certificate(certificate) => certificate.names.first().map(String::as_str),
            Credential::Nothing | Credential::Token(_) => None,
        };
        let name = match subject {
            Some(subject) => Arc::from(format!("{entry}/{}", subject.chars().take(128).collect::<String>())),
            None => Arc::clone(entry),
        };
        Ok(Caller::new(self.clone(), credential, name))
    }

    fn read_credential(&self, authorization: &[u8]) -> Result<Credential, Stranger> {
        let refused = |why: &str| Stranger::Refused(why.to_owned());
        if authorization.len() > CREDENTIAL_BYTES_MAX {
            return Err(refused("its token is longer than 8 KiB"));
        }
        let text = std::str::from_utf8(authorization).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| refused("its token has other characters than ASCII"))?;
        let (scheme, secret) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("its `authorization` is no bearer token"));
        }
        let secret = secret.trim();
        let current = Arc::clone(&self.inner.current.borrow());
        match &current.keys {
            // Two dots make a JWT; the secrets of tokens have none.
            Some(keys) if secret.matches('.').count() == 2 => match keys.verify(secret) {
                Ok(claims) => Ok(Credential::Jwt(Arc::new(claims))),
                Err(why) => Err(Stranger::Refused(format!("its JWT is not taken: {why}"))),
            },
            _ => Ok(Credential::Token(Digest(Sha256::digest(secret).into()))),
        }
    }

    fn why_unknown(&self, credential: &Credential) -> String {
        match credential {
            Credential::Token(digest) => match self.inner.current.borrow().table.expired_token(digest) {
                Some(name) => format!("the token `{name}` has expired"),
                None => "no token like its own is known".to_owned(),
            },
            Credential::Certificate(_) => "no entry is about its certificate".to_owned(),
            Credential::Jwt(_) => "no entry is about the claims of its JWT".to_owned(),
            Credential::Nothing => "it shows nothing".to_owned(),
        }
    }

    /// What is known of it now.
    fn known(&self, credential: &Credential) -> Known {
        let now = SystemTime::now();
        let current = Arc::clone(&self.inner.current.borrow());
        let until = |known: Known, end: SystemTime| {
            let expires = Some(known.expires.map_or(end, |expires| expires.min(end)));
            if now < end { Known { expires, ..known } } else { Known::default() }
        };
        match credential {
            Credential::Nothing => Known::default(),
            Credential::Token(digest) => current.table.of_token(digest, now),
            // Its authority may be taken no more.
            Credential::Certificate(certificate) if !certificate.is_trusted() => Known::default(),
            Credential::Certificate(certificate) => {
                until(current.table.of_certificate(&certificate.names, now), certificate.expires)
            }
            Credential::Jwt(claims) => match &current.keys {
                Some(keys) if keys.has(&claims.key) => {
                    until(current.table.of_claims(&claims.all, now), claims.expires)
                }
                _ => Known::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"Bearer test";
    /// Of `test`.
    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// Who somebody with the token is.
    fn name(access: &Access) -> Result<String, Stranger> {
        access.judge(Some(HEADER), None).map(|caller| caller.name().as_ref().to_owned())
    }

    #[test]
    fn a_file_that_is_right_holds_and_one_that_is_not_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.toml");
        let entry =
            |name: &str| format!("[[token]]\nname = \"{name}\"\nsha256 = \"{DIGEST}\"\nroles = [\"read\"]\n");
        std::fs::write(&file, "[[token]]\nname = 7\n").unwrap();
        assert!(Access::from_files(AccessFiles::new(&file)).is_err(), "at the start it is refused");

        std::fs::write(&file, entry("one")).unwrap();
        let access = Access::from_files(AccessFiles::new(&file)).unwrap();
        assert_eq!(name(&access).as_deref(), Ok("one"));
        for wrong in [&entry("two")[..40], "[[token]]\nname = 7\n", "\u{0}"] {
            std::fs::write(&file, wrong).unwrap();
            access.look();
            assert_eq!(name(&access).as_deref(), Ok("one"), "{wrong:?}");
        }
        std::fs::remove_file(&file).unwrap();
        access.look();
        assert_eq!(name(&access).as_deref(), Ok("one"), "it is gone");
        std::fs::write(&file, entry("two")).unwrap();
        access.look();
        assert_eq!(name(&access).as_deref(), Ok("two"));
        std::fs::write(&file, "").unwrap();
        access.look();
        assert!(matches!(name(&access), Err(Stranger::Refused(_))), "nobody is known");
    }

    #[test]
    fn what_is_shown_is_not_in_what_is_logged() {
        let access = Access::unrestricted();
        let shown = format!("{access:?} {:?}", Credential::Token(Digest([0xab; 32])));
        assert!(!shown.contains("171") && !shown.contains("ab, ab"), "{shown}");
    }
}
