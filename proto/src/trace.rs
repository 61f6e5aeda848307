//! Trace contexts, as <https://www.w3.org/TR/trace-context/> has them.

use std::fmt;
use std::str::FromStr;

use crate::limits::{TRACE_PARENT_BYTES, TRACE_STATE_BYTES_MAX};
use crate::v1::TraceContext;

/// What a `traceparent` of version 00 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// Of which the first says whether it is recorded.
    pub flags: u8,
}

/// It is no `traceparent` of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTraceParent;

impl TraceParent {
    /// Whether spans of this trace are recorded.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl TraceParent {
    /// That of a header, which may be of a later version: then what version 00 has of it counts, as the specification asks.
    #[must_use]
    pub fn of_header(text: &str) -> Option<Self> {
        let (version, rest) = text.split_at_checked(2)?;
        let is_later = version.bytes().all(is_digit) && !matches!(version, "00" | "ff");
        let known = match rest.split_at_checked(TRACE_PARENT_BYTES - 2) {
            Some((known, more)) if is_later && (more.is_empty() || more.starts_with('-')) => known,
            _ => return text.parse().ok(),
        };
        format!("00{known}").parse().ok()
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.split('-');
        let mut next = |len| {
            let part = parts.next().filter(|part| part.len() == len && part.bytes().all(is_digit));
            u128::from_str_radix(part.ok_or(NoTraceParent)?, 16).map_err(|_not_hex| NoTraceParent)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        if text.len() != TRACE_PARENT_BYTES || version != 0 || trace == 0 || span == 0 {
            return Err(NoTraceParent);
        }
        let span = u64::try_from(span).map_err(|_too_large| NoTraceParent)?;
        let flags = u8::try_from(flags).map_err(|_too_large| NoTraceParent)?;
        Ok(Self { trace, span, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(formatter, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

impl TraceContext {
    /// What its `trace_parent` says; none if that is malformed.
    #[must_use]
    pub fn parent(&self) -> Option<TraceParent> {
        self.trace_parent.parse().ok()
    }

    /// The id of its trace as text: 32 digits. None if it is malformed.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.parent()?;
        self.trace_parent.get(3..35)
    }
}

/// Whether it can be a `trace_state`.
#[must_use]
pub fn is_trace_state(text: &str) -> bool {
    text.len() <= TRACE_STATE_BYTES_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_what_the_specification_says() {
        let parent: TraceParent = PARENT.parse().expect("it is well-formed");
        assert_eq!((parent.span, parent.is_sampled()), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parent.to_string(), PARENT);
        let unsampled = PARENT.replace("-01", "-02");
        assert!(!unsampled.parse::<TraceParent>().expect("it is well-formed").is_sampled());
        for wrong in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "01", 1),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &PARENT.replace('b', "g"),
            &PARENT.replacen('-', "_", 1),
            &PARENT.replace("319c-b", "319cb-"),
            &PARENT.replace("0af7", "+af7"),
            &format!("{PARENT}-"),
            &PARENT[..54],
            &format!("{}é", &PARENT[..53]),
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(NoTraceParent), "{wrong}");
        }
    }

    #[test]
    fn a_state_is_short_and_printable() {
        assert!(is_trace_state("") && is_trace_state("a=1,b=2") && is_trace_state(&"x".repeat(512)));
        assert!(!is_trace_state(&"x".repeat(513)) && !is_trace_state("a=\n") && !is_trace_state("a=é"));
    }
}
