//! What a request is refused with: the number by which clients decide, and the status that the server pairs with it.

use std::fmt;

/// A refusal in the form of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Status of the HTTP answer.
    pub(crate) status: u16,
    /// `errorNum` of the answer, the status where the server has no number of its own.
    pub(crate) number: u32,
    /// `errorMessage` of the answer.
    pub(crate) message: String,
    /// The double does not know what it was asked for, so that a server may well answer otherwise.
    pub(crate) unknown: bool,
}

/// What an operation of the double gives.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A refusal with the status that belongs to its number.
    pub(crate) fn new(number: u32, message: impl Into<String>) -> Self {
        Self { status: status_of(number), number, message: message.into(), unknown: false }
    }

    /// The double met something that it does not know.
    pub(crate) fn unknown(number: u32, message: impl Into<String>) -> Self {
        Self { unknown: true, ..Self::new(number, format!("unknown to the double: {}", message.into())) }
    }

    /// A syntax error.
    pub(crate) fn parse(message: impl fmt::Display) -> Self {
        Self::new(1501, format!("AQL: syntax error, {message}"))
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn conflict(key: &str) -> Self {
        Self::new(1200, format!("conflict, timeout waiting to lock key; key: {key}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.number, self.status, self.message)
    }
}

impl std::error::Error for Failure {}

/// The statuses that the server documents for its numbers.
fn status_of(number: u32) -> u16 {
    match number {
        11 => 401,
        4 | 18 | 28 | 29 | 32 | 1302 | 1303 | 1457 | 1464 | 1474 | 1521 | 1577 => 500,
        30 | 38 | 1429 | 1465 | 1478 | 1481 | 1491 | 1495 | 1496 | 21003 => 503,
        1004 | 1230 | 403 => 403,
        1200 | 1207 | 1210 | 1702 | 1921 | 1925 => 409,
        404 | 1202 | 1203 | 1212 | 1228 | 1600 | 1655 | 1703 | 1924 | 1930 => 404,
        405 => 405,
        1500 | 1654 => 410,
        21004 => 412,
        _ => 400,
    }
}
