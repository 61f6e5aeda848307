//! Why a request to ArangoDB has not done what it was sent for, and what to do about it.
//!
//! What happened is told by the number of the error (`errorNum`); the status is asked only where there is none, since it
//! is partly a setting of the server.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::store::{Error, TakesNoChanges};

/// As much of what a server says is shown, in characters.
const SHOWN_CHARS_MAX: usize = 300;

/// A request that failed. Its text is one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub(crate) struct Failure {
    kind: Kind,
    status: Option<u16>,
    error_num: Option<u32>,
    /// It is of the login that had to be before the request, which was not sent.
    is_of_login: bool,
    line: String,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server cannot be reached, and has not seen the request.
    Unreachable,
    /// The two cannot agree on TLS, mostly since the certificate is not trusted.
    Certificate,
    /// Something else answers there, or something stands before it.
    NotArango,
    /// User or password are wrong, or missing.
    NotLoggedIn,
    /// The user may not do this.
    NotAllowed,
    /// A database, collection, document, cursor or the like is not there.
    NotThere,
    /// Something of that name is there already.
    AlreadyThere,
    /// Another statement writes the same documents. Nothing was written.
    Conflict,
    /// The server has too much to do, or locks are taken. Nothing was written.
    Busy,
    /// The statement took longer than it may, and was rolled back.
    Killed,
    /// What was sent is too large for one request. Nothing was written.
    TooLarge,
    /// Nothing can be written now: the licence has run out or its limit is passed, the server was made read-only, its disk is
    /// full, or too few replicas are there.
    ReadOnly,
    /// The request may have been executed, or not, or still be running.
    Unknown,
    /// The request is wrong, and will be the next time.
    Refused,
    /// It was executed, and the answer is not one that can be taken.
    Unreadable,
}

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Somebody else is about to be done.
    Conflict,
    /// Servers are starting, or changing places.
    Failover,
}

/// What a server of ArangoDB answers if it does not do something.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refusal {
    pub(super) error: bool,
    pub(super) error_num: u32,
    #[serde(default)]
    pub(super) error_message: String,
}

impl Failure {
    /// A failure of `kind`, with what is to be shown.
    pub(super) fn new(kind: Kind, line: impl Into<String>) -> Self {
        Self { kind, status: None, error_num: None, is_of_login: false, line: one_line(&line.into()) }
    }

    /// What a server answered that does not do it. `what` was to be done.
    pub(super) fn refused(what: &str, status: u16, refusal: &Refusal) -> Self {
        let kind = kind_of(refusal.error_num, status);
        let said = shortened(&refusal.error_message);
        let mut line = format!("{what}: {said} (errorNum {}, status {status})", refusal.error_num);
        if let Some(remedy) = remedy(kind) {
            // Writing to a text does not fail.
            let _ = write!(line, "; {remedy}");
        }
        Self { status: Some(status), error_num: Some(refusal.error_num), ..Self::new(kind, line) }
    }

    /// What something answered that is no server of ArangoDB, or stands before one.
    pub(super) fn foreign(what: &str, status: u16, body: &[u8]) -> Self {
        let said = shortened(&String::from_utf8_lossy(body));
        // A proxy whose server does not answer: the server may have had the request.
        let (kind, from) = match status {
            401 => (Kind::NotLoggedIn, "something before ArangoDB asks for other credentials"),
            413 => (Kind::TooLarge, "something before ArangoDB takes no request of this size"),
            408 | 429 | 500.. => (Kind::Unknown, "something before ArangoDB cannot reach it"),
            _ => (
                Kind::NotArango,
                "what answers is not ArangoDB; check the address, and what stands before it",
            ),
        };
        let said = if said.is_empty() { "nothing".to_owned() } else { format!("`{said}`") };
        let line = format!("{what}: {from} (status {status}, answer {said})");
        Self { status: Some(status), ..Self::new(kind, line) }
    }

    /// A request that is refused though its user has just logged in.
    pub(super) fn not_allowed(self, what: &str, user: &str) -> Self {
        let line =
            format!("{what}: user {user} may not do this; give that user the rights, or use another one");
        Self { kind: Kind::NotAllowed, line: one_line(&line), ..self }
    }

    /// The same, of a login.
    pub(super) fn of_login(self) -> Self {
        Self { is_of_login: true, ..self }
    }

    /// Whether it was not even tried, since the login failed.
    pub(crate) fn is_of_login(&self) -> bool {
        self.is_of_login
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of the error, if a server of ArangoDB gave one.
    pub(crate) fn error_num(&self) -> Option<u32> {
        self.error_num
    }

    /// The status of the answer, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether nothing of the request was done, or all of it was undone.
    pub(crate) fn is_certainly_not_executed(&self) -> bool {
        !self.is_unknown()
    }

    /// Whether the request may have been executed, or may still be.
    pub(crate) fn is_unknown(&self) -> bool {
        // What stands before a server may have passed a request on before it answered itself.
        !self.is_of_login
            && matches!(self.kind, Kind::Unknown | Kind::ReadOnly | Kind::Unreadable | Kind::NotArango)
    }

    /// Whether the same request will be refused again.
    #[cfg(test)]
    pub(crate) fn is_refused(&self) -> bool {
        !self.is_of_login && matches!(self.kind, Kind::Refused | Kind::TooLarge | Kind::AlreadyThere)
    }

    /// Whether it may be answered if less is asked for at once.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self.kind, Kind::TooLarge | Kind::Unreadable)
    }

    /// How to try again, if that may help.
    pub(super) fn pace(&self) -> Option<Pace> {
        match self.kind {
            Kind::Conflict => Some(Pace::Conflict),
            Kind::Unreachable | Kind::Busy | Kind::Killed | Kind::ReadOnly | Kind::Unknown => {
                Some(Pace::Failover)
            }
            Kind::Certificate
            | Kind::NotArango
            | Kind::NotLoggedIn
            | Kind::NotAllowed
            | Kind::NotThere
            | Kind::AlreadyThere
            | Kind::TooLarge
            | Kind::Refused
            | Kind::Unreadable => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let what = failure.to_string();
        match failure.kind {
            // What a login lacks is nothing that is wrong with what was to be stored.
            _ if failure.is_of_login => Self::Unavailable { what, certainly_not_applied: true, source: None },
            Kind::Refused | Kind::TooLarge | Kind::AlreadyThere => Self::Refused { what },
            Kind::Unreadable => Self::Damaged { what },
            Kind::Unreachable
            | Kind::Certificate
            | Kind::NotArango
            | Kind::NotLoggedIn
            | Kind::NotAllowed
            | Kind::NotThere
            | Kind::Conflict
            | Kind::Busy
            | Kind::Killed
            | Kind::ReadOnly
            | Kind::Unknown => Self::Unavailable {
                what,
                certainly_not_applied: failure.is_certainly_not_executed(),
                source: (failure.kind == Kind::ReadOnly).then(|| TakesNoChanges.into()),
            },
        }
    }
}

/// What a number of an error means; of one that is not known, what the status says.
fn kind_of(error_num: u32, status: u16) -> Kind {
    match error_num {
        11 if status == 403 => Kind::NotAllowed,
        11 => Kind::NotLoggedIn,
        1200 => Kind::Conflict,
        18 | 28 | 29 | 1302 | 1303 | 21003 | 21004 => Kind::Busy,
        1500 => Kind::Killed,
        32 => Kind::TooLarge,
        1004 | 1104 => Kind::ReadOnly,
        30 | 38 | 1429 | 1457 | 1464 | 1465 | 1474 | 1478 | 1481 | 1491 | 1495 | 1496 => Kind::Unknown,
        1202 | 1203 | 1212 | 1228 | 1600 | 1655 | 1924 => Kind::NotThere,
        1207 | 1925 => Kind::AlreadyThere,
        // What a statement or a document is refused for, whatever the status: all errors of statements but one for a lock.
        10 | 600 | 1205 | 1208 | 1210 | 1216 | 1221 | 1222 | 1226 | 1227 | 1233 | 1620 => Kind::Refused,
        1501..=1520 | 1522..=1599 => Kind::Refused,
        _ => match status {
            401 => Kind::NotLoggedIn,
            403 => Kind::NotAllowed,
            404 => Kind::NotThere,
            413 => Kind::TooLarge,
            500.. => Kind::Unknown,
            _ => Kind::Refused,
        },
    }
}

/// What whoever reads of a failure can do about it.
fn remedy(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::NotLoggedIn => Some("check user and password"),
        Kind::NotAllowed => Some("give the user the rights, or use another one"),
        Kind::ReadOnly => Some("check the licence, the disk and the replicas of the server"),
        Kind::Certificate
        | Kind::Unreachable
        | Kind::NotArango
        | Kind::NotThere
        | Kind::AlreadyThere
        | Kind::Conflict
        | Kind::Busy
        | Kind::Killed
        | Kind::TooLarge
        | Kind::Unknown
        | Kind::Refused
        | Kind::Unreadable => None,
    }
}

/// A text without line breaks and other control characters.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let mut shown: String = one_line(text).chars().take(SHOWN_CHARS_MAX + 1).collect();
    if shown.chars().count() > SHOWN_CHARS_MAX {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server of ArangoDB refuses a request with.
    fn refused(error_num: u32, status: u16) -> Failure {
        let refusal = Refusal { error: true, error_num, error_message: "no".to_owned() };
        Failure::refused("a request", status, &refusal)
    }

    #[test]
    fn the_number_of_an_error_tells_whether_it_was_executed_and_what_to_do() {
        // Statuses are partly settings of the server: what is told is the same with another.
        for status in [400, 403, 409, 412, 500, 503] {
            for (kind, numbers, unknown, pace) in [
                (Kind::Conflict, &[1_200][..], false, Some(Pace::Conflict)),
                (Kind::Busy, &[18, 28, 29, 1_302, 1_303, 21_003, 21_004], false, Some(Pace::Failover)),
                (Kind::Killed, &[1_500], false, Some(Pace::Failover)),
                (
                    Kind::Unknown,
                    &[30, 38, 1_457, 1_464, 1_465, 1_474, 1_478, 1_481, 1_491, 1_495, 1_496, 1_429],
                    true,
                    Some(Pace::Failover),
                ),
                (Kind::ReadOnly, &[1_004, 1_104], true, Some(Pace::Failover)),
                (Kind::TooLarge, &[32], false, None),
                (Kind::NotThere, &[1_202, 1_203, 1_228, 1_600], false, None),
                (Kind::AlreadyThere, &[1_207, 1_925], false, None),
            ] {
                for number in numbers {
                    let failure = refused(*number, status);
                    let found = (failure.kind(), failure.is_unknown(), failure.pace());
                    assert_eq!(found, (kind, unknown, pace), "{number}, {status}");
                    assert_eq!(failure.is_certainly_not_executed(), !unknown, "{number}, {status}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_stays_wrong() {
        let of_400 = [10, 600, 1_221, 1_226, 1_227, 1_233, 1_501, 1_551, 1_552, 1_573, 1_579];
        let others = [(1_210, 409), (1_921, 409), (1_652, 400), (1_577, 500), (1_216, 500), (1_501, 503)];
        for (number, status) in of_400.map(|number| (number, 400)).into_iter().chain(others) {
            let failure = refused(number, status);
            assert!(failure.is_refused() && failure.is_certainly_not_executed(), "{number}: {failure:?}");
            assert_eq!(failure.pace(), None, "{number}");
            let error = Error::from(failure);
            assert!(matches!(&error, Error::Refused { .. }) && !error.is_retryable(), "{number}: {error:?}");
        }
    }

    #[test]
    fn who_is_not_known_is_told_from_who_may_not() {
        assert_eq!(refused(11, 401).kind(), Kind::NotLoggedIn);
        assert_eq!(refused(11, 403).kind(), Kind::NotAllowed);
        assert_eq!(refused(401, 401).kind(), Kind::NotLoggedIn);
        assert_eq!(refused(4, 500).kind(), Kind::Unknown, "a number that nobody knows");
        assert_eq!(refused(404, 404).kind(), Kind::NotThere);
        let error = Error::from(refused(11, 403));
        assert!(error.is_retryable() && error.is_certainly_not_applied(), "it may be mended: {error:?}");
    }

    #[test]
    fn a_login_that_fails_leaves_no_doubt_about_what_was_to_follow() {
        for failure in [refused(30, 503), refused(400, 400), Failure::foreign("a login", 200, b"<html>")] {
            let failure = failure.of_login();
            assert!(failure.is_certainly_not_executed() && !failure.is_refused(), "{failure:?}");
            let error = Error::from(failure);
            assert!(error.is_retryable() && error.is_certainly_not_applied(), "{error:?}");
        }
    }

    #[test]
    fn a_failure_is_one_line_and_not_a_page() {
        let page = format!("<html>\n<body>\r\n\t{}</body>", "long ".repeat(1_000));
        let shown = Failure::foreign("GET x", 404, page.as_bytes()).to_string();
        assert!(shown.chars().count() < 500 && !shown.contains(['\n', '\r', '\t']), "{shown}");
        assert!(shown.starts_with("GET x: what answers is not ArangoDB") && shown.contains("…`"), "{shown}");
        let silent = Failure::foreign("GET x", 404, b"").to_string();
        assert!(silent.ends_with("(status 404, answer nothing)"), "{silent}");
    }
}
