//! Who we are: tokens that are renewed before they expire, and by one request however many wait for it.
//!
//! A server that has no endpoint for logins asks for none, and requests go without credentials. Where something else
//! answers in the place of that endpoint, as a proxy that passes on `/_db` alone, each request carries user and password
//! (basic authentication).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::super::address::Login;
use super::failure::{Failure, Kind, Refusal};
use super::transport::{Answer, Request, Transport};

/// How long a login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer to a login, in bytes.
const LOGIN_BYTES_MAX: usize = 64 << 10;
/// A token is renewed when it has lived for as many fifths of its life.
const RENEWED_AT_FIFTHS: u32 = 4;

/// Sends requests in the name of a user.
#[derive(Debug)]
pub(super) struct Session {
    login: Option<Arc<Login>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the last login gave.
    known: Option<Arc<Credentials>>,
    /// The login that is under way, for all who wait for it.
    coming: Option<Coming>,
}

type Coming = Shared<BoxFuture<'static, Result<Arc<Credentials>, Failure>>>;

/// What a request is sent with.
#[derive(Debug)]
struct Credentials {
    /// `None` if the server asks for none.
    header: Option<HeaderValue>,
    /// When it was given.
    since: Instant,
    /// For how long it is good. `None`: until it is refused.
    life: Option<Duration>,
}

impl Credentials {
    /// Whether it has not lived for that many fifths of its life.
    fn is_within(&self, fifths: u32) -> bool {
        self.life.is_none_or(|life| self.since.elapsed() < life / 5 * fifths)
    }
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login: login.map(Arc::new), state: Arc::default() }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// Sends a request, and once more with a new token if the one it had is refused, which a restart of the server does
    /// as well as time. `what` says what it does.
    pub(super) async fn send(
        &self,
        transport: &Arc<Transport>,
        request: &Request,
        what: &str,
    ) -> Result<Bytes, Failure> {
        let Some(login) = &self.login else {
            return success(transport.send(request.clone()).await?, what).map_err(|failure| {
                match failure.kind() {
                    Kind::NotLoggedIn => Failure::new(
                        Kind::NotLoggedIn,
                        format!("{what}: the server wants a login; give a user and a password"),
                    ),
                    _ => failure,
                }
            });
        };
        let with = |credentials: &Credentials| Request {
            authorization: credentials.header.clone(),
            ..request.clone()
        };
        let credentials = self.credentials(transport, login, None).await?;
        match success(transport.send(with(&credentials)).await?, what) {
            Err(failure) if failure.kind() == Kind::NotLoggedIn => {}
            answered => return answered,
        }
        // Nothing was executed.
        let renewed = self.credentials(transport, login, Some(&credentials)).await?;
        success(transport.send(with(&renewed)).await?, what).map_err(|failure| match failure.kind() {
            // It is not the password: that has just been taken.
            Kind::NotLoggedIn if failure.error_num().is_some() => failure.not_allowed(what, &login.user),
            _ => failure,
        })
    }

    /// What to send a request with, other than what was `refused`.
    async fn credentials(
        &self,
        transport: &Arc<Transport>,
        login: &Arc<Login>,
        refused: Option<&Arc<Credentials>>,
    ) -> Result<Arc<Credentials>, Failure> {
        let not_refused =
            |known: &Arc<Credentials>| !refused.is_some_and(|refused| Arc::ptr_eq(refused, known));
        let (coming, known) = {
            let mut state = locked(&self.state);
            let known = state.known.clone().filter(not_refused);
            if let Some(known) = known.as_ref().filter(|known| known.is_within(RENEWED_AT_FIFTHS)) {
                return Ok(Arc::clone(known));
            }
            let coming = state.coming.get_or_insert_with(|| self.log_in(transport, login));
            (coming.clone(), known)
        };
        match (coming.await, known) {
            (Ok(credentials), _) => Ok(credentials),
            // It is renewed before its time, so that there is time to.
            (Err(_), Some(known)) if known.is_within(5) => Ok(known),
            (Err(failure), _) => Err(failure.of_login()),
        }
    }

    /// Begins a login, whose outcome is kept when it is there.
    fn log_in(&self, transport: &Arc<Transport>, login: &Arc<Login>) -> Coming {
        let (transport, login) = (Arc::clone(transport), Arc::clone(login));
        // It stands in the state itself.
        let state = Arc::downgrade(&self.state);
        let coming = async move {
            let credentials = log_in(&transport, &login).await.map(Arc::new);
            if let Some(state) = state.upgrade() {
                let mut state = locked(&state);
                state.coming = None;
                if let Ok(credentials) = &credentials {
                    state.known = Some(Arc::clone(credentials));
                }
            }
            credentials
        };
        coming.boxed().shared()
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of an answer of success.
fn success(answer: Answer, what: &str) -> Result<Bytes, Failure> {
    if (200..300).contains(&answer.status) {
        return Ok(answer.body);
    }
    Err(match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(refusal) if refusal.error => Failure::refused(what, answer.status, &refusal),
        Ok(_) | Err(_) => Failure::foreign(what, answer.status, &answer.body),
    })
}

#[derive(Serialize)]
struct Ask<'a> {
    username: &'a str,
    password: &'a str,
}

#[derive(Deserialize)]
struct Token {
    jwt: String,
}

async fn log_in(transport: &Transport, login: &Login) -> Result<Credentials, Failure> {
    let what = format!("login of {} at {}", login.user, transport.shown());
    let body = serde_json::to_vec(&Ask { username: &login.user, password: &login.password })
        .map_err(|error| Failure::new(Kind::Refused, format!("{what}: {error}")))?;
    let ask = Request {
        method: Method::POST,
        url: transport.url(["_open", "auth"])?,
        body: Some(Bytes::from(body)),
        timeout: LOGIN_TIMEOUT,
        answer_bytes_max: LOGIN_BYTES_MAX,
        authorization: None,
    };
    let since = Instant::now();
    let (header, life) = match success(transport.send(ask).await?, &what) {
        Ok(answer) => {
            // It may be another secret, and is not shown.
            let Token { jwt } = serde_json::from_slice(&answer).map_err(|_| {
                let line = format!(
                    "{what}: there is no token in the answer, what answers is not ArangoDB; check the address, and what \
                     stands before it"
                );
                Failure::new(Kind::NotArango, line)
            })?;
            (Some(secret(&format!("Bearer {jwt}"), &what)?), life_of(&jwt))
        }
        // The server asks for no login.
        Err(failure) if failure.status() == Some(404) && failure.error_num().is_some() => (None, None),
        // Something before the server does not pass logins on.
        Err(failure)
            if failure.error_num().is_none() && matches!(failure.status(), Some(403..=405 | 501)) =>
        {
            let pair = STANDARD.encode(format!("{}:{}", login.user, login.password));
            (Some(secret(&format!("Basic {pair}"), &what)?), None)
        }
        Err(failure) => return Err(failure),
    };
    Ok(Credentials { header, since, life })
}

fn secret(text: &str, what: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(Kind::NotArango, format!("{what}: the token is not one that can be sent"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// How long a token lives, from when it was given. `None` if it does not say.
fn life_of(jwt: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        iat: Option<f64>,
    }
    let payload = jwt.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let Claims { exp, iat } = serde_json::from_slice(&claims).ok()?;
    // By the clock of the server, if it tells: it may not be ours.
    let given = match iat {
        Some(at) => at,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64(),
    };
    Duration::try_from_secs_f64(exp - given).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_life_of_a_token_is_by_the_clock_that_gave_it() {
        let life = |claims: &str| life_of(&token(claims)).map(|life| life.as_secs());
        assert_eq!(life(r#"{"exp": 1000, "iat": 400, "iss": "arangodb"}"#), Some(600));
        // As ArangoDB's documentation shows one.
        assert_eq!(life(r#"{"exp": 1540381557, "iat": 1537789.55727901}"#), Some(1_538_843_767));
        assert_eq!(life(r#"{"exp": 1000}"#), None, "it expired long ago");
        assert_eq!(life(r#"{"exp": 400, "iat": 1000}"#), None);
        let hour = SystemTime::now() + Duration::from_secs(3_600);
        let exp = hour.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(matches!(life(&format!(r#"{{"exp": {exp}}}"#)), Some(3_590..=3_600)));
    }

    #[test]
    fn a_token_that_does_not_say_is_good_until_it_is_refused() {
        for claims in ["{}", r#"{"exp": "soon"}"#, r#"{"exp": 1e300, "iat": 0}"#, "nonsense", ""] {
            assert_eq!(life_of(&token(claims)), None, "{claims}");
        }
        for token in ["", "a", "a.b", "a.!.c", "..."] {
            assert_eq!(life_of(token), None, "{token}");
        }
        let credentials = |life| Credentials { header: None, since: Instant::now(), life };
        assert!(credentials(None).is_within(RENEWED_AT_FIFTHS));
        assert!(!credentials(Some(Duration::ZERO)).is_within(5));
    }
}
