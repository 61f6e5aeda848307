//! Who we are: tokens that are renewed before they expire, and by one request however many wait for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
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

/// Sends requests in the name of a user.
#[derive(Debug)]
pub(super) struct Session {
    login: Option<Login>,
    /// What requests are sent with. `None` before the first login, and after one that expired.
    credentials: Mutex<Option<Arc<Credentials>>>,
    /// Held by the one who logs in.
    logging_in: tokio::sync::Mutex<()>,
}

/// What a request is sent with.
#[derive(Debug)]
struct Credentials {
    /// `None` if the server asks for none.
    header: Option<HeaderValue>,
    /// From when on it is better to log in again.
    renew_at: Option<Instant>,
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login, credentials: Mutex::new(None), logging_in: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// Sends a request, and once more with a new token if the one it had has expired. `what` says what it does.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        request: &Request,
        what: &str,
        shown: &str,
    ) -> Result<Bytes, Failure> {
        let Some(login) = &self.login else {
            return success(transport.send(request.clone(), shown).await?, what);
        };
        let credentials = self.credentials(transport, request, login, None, shown).await?;
        let with = |credentials: &Credentials| Request {
            authorization: credentials.header.clone(),
            ..request.clone()
        };
        match success(transport.send(with(&credentials), shown).await?, what) {
            Err(failure) if failure.kind() == Kind::NotLoggedIn => {
                let renewed = self.credentials(transport, request, login, Some(&credentials), shown).await?;
                success(transport.send(with(&renewed), shown).await?, what)
            }
            answered => answered,
        }
    }

    /// What to send a request with, other than what was `refused`.
    async fn credentials(
        &self,
        transport: &Transport,
        request: &Request,
        login: &Login,
        refused: Option<&Arc<Credentials>>,
        shown: &str,
    ) -> Result<Arc<Credentials>, Failure> {
        let is_good = |known: &Arc<Credentials>| {
            known.renew_at.is_none_or(|at| Instant::now() < at)
                && !refused.is_some_and(|refused| Arc::ptr_eq(refused, known))
        };
        if let Some(known) = self.known().filter(is_good) {
            return Ok(known);
        }
        let _one = self.logging_in.lock().await;
        // Somebody else may have logged in meanwhile.
        if let Some(known) = self.known().filter(is_good) {
            return Ok(known);
        }
        let new = Arc::new(log_in(transport, request, login, shown).await?);
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&new));
        Ok(new)
    }

    fn known(&self) -> Option<Arc<Credentials>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

async fn log_in(
    transport: &Transport,
    request: &Request,
    login: &Login,
    shown: &str,
) -> Result<Credentials, Failure> {
    let what = format!("login of {} at {shown}", login.user);
    let mut url = request.url.clone();
    url.set_path("/_open/auth");
    url.set_query(None);
    let body = serde_json::to_vec(&Ask { username: &login.user, password: &login.password })
        .map_err(|error| Failure::new(Kind::Refused, format!("{what}: {error}")))?;
    let ask = Request {
        method: Method::POST,
        url,
        body: Some(Bytes::from(body)),
        timeout: LOGIN_TIMEOUT,
        answer_bytes_max: LOGIN_BYTES_MAX,
        authorization: None,
    };
    let asked = Instant::now();
    match success(transport.send(ask, shown).await?, &what) {
        Ok(answer) => {
            let Token { jwt } = serde_json::from_slice(&answer)
                .map_err(|_| Failure::new(Kind::NotArango, format!("{what}: no token in the answer")))?;
            let renew_at = life_of(&jwt).and_then(|life| asked.checked_add(life / 5 * 4));
            Ok(Credentials { header: Some(secret(&format!("bearer {jwt}"), &what)?), renew_at })
        }
        // The server asks for no login.
        Err(failure) if failure.status() == Some(404) && failure.error_num().is_some() => {
            Ok(Credentials { header: None, renew_at: None })
        }
        // Something before the server does not pass logins on. It knows user and password as well.
        Err(failure) if matches!(failure.status(), Some(403..=405 | 501)) => {
            let pair = STANDARD.encode(format!("{}:{}", login.user, login.password));
            Ok(Credentials { header: Some(secret(&format!("Basic {pair}"), &what)?), renew_at: None })
        }
        Err(failure) => Err(failure.of_login()),
    }
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
