//! Error messages of commands, and exit codes.
//!
//! 0: done. 1: it could not be done. 2: the command line or the settings are wrong, and nothing was tried.
//! A failure is one line on standard error.

use std::process::ExitCode;

use elf_runtime::Error as ClientError;
use mycelium_proto::reason;

use crate::output;

/// The exit code of a failure.
const FAILED: u8 = 1;
/// The exit code of a wrong command line or wrong settings; clap's own is the same.
const MISUSED: u8 = 2;

/// The command line, or the settings, cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

/// It could not be done, and the log says why.
#[derive(Debug, thiserror::Error)]
#[error("the log says why")]
pub(crate) struct Logged;

/// Prints a failure, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if matches!(error.downcast_ref(), Some(output::Error::Closed)) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Logged>() {
        return ExitCode::from(FAILED);
    }
    output::note(&format!("error: {}", sentence(error)));
    ExitCode::from(if is_misuse(error) { MISUSED } else { FAILED })
}

fn is_misuse(error: &anyhow::Error) -> bool {
    error.is::<Misuse>()
        || matches!(
            error.downcast_ref(),
            Some(ClientError::InvalidUrl { .. } | ClientError::InvalidCredentials { .. })
        )
}

/// A failure on one line: what was attempted, and each cause that says something new.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let (text, is_whole_story) = match cause.downcast_ref::<ClientError>() {
            Some(error) => (of_client(error), true),
            None => (cause.to_string(), false),
        };
        // Some errors repeat their source in their own text.
        if !sentence.contains(&text) {
            if !sentence.is_empty() {
                sentence.push_str(": ");
            }
            sentence.push_str(&text);
        }
        if is_whole_story {
            break;
        }
    }
    output::format::one_line(&sentence)
}

/// What went wrong between this program and the broker, and what to do about it.
fn of_client(error: &ClientError) -> String {
    match error {
        // What is wrong with it says more than what one looks like.
        ClientError::InvalidUrl { source, .. } => format!("{error}: {source}"),
        // A violation that says the same as the message is of a field that people did not write.
        ClientError::Refused { reason, message, violations, .. }
            if violations.iter().all(|violation| violation.description == *message) =>
        {
            match hint(reason) {
                Some(hint) => format!("{message}; {hint}"),
                None if reason.is_empty() => message.clone(),
                None => format!("{message} ({reason})"),
            }
        }
        other => other.to_string(),
    }
}

/// What helps with a refusal.
fn hint(refusal: &str) -> Option<&'static str> {
    match refusal {
        reason::FLOW_NOT_FOUND => Some("see: mycelium flows"),
        reason::JOB_NOT_FOUND => Some("see: mycelium jobs"),
        reason::ELF_NOT_FOUND => Some("see: mycelium elves"),
        reason::FAILURE_NOT_FOUND => Some("see: mycelium failures"),
        reason::JOB_NOT_RETRYABLE => Some("only jobs that have ended without a result can be retried"),
        reason::NOT_PERMITTED => Some("what its token allows says the file of identities of the broker"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anyhow::Context as _;
    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn a_broker_that_does_not_run_is_told_with_the_way_to_start_it() {
        let source = Arc::new(Status::unavailable("tcp connect error"));
        let error = ClientError::Unreachable { url: "http://127.0.0.1:7420".to_owned(), source };
        assert_eq!(
            sentence(&anyhow::Error::new(error)),
            "no broker answers at http://127.0.0.1:7420; start one with `mycelium serve`, or give the URL of one that runs"
        );
    }

    #[test]
    fn what_tls_met_is_told_as_it_is() {
        let source = Arc::new(std::io::Error::other("the broker's certificate has expired"));
        let error = ClientError::Unreachable { url: "https://broker".to_owned(), source };
        assert_eq!(
            sentence(&anyhow::Error::new(error)),
            "cannot connect to https://broker: the broker's certificate has expired"
        );
    }

    #[test]
    fn a_refusal_says_where_to_look() {
        let error = |reason: &str| ClientError::Refused {
            code: Code::NotFound,
            reason: reason.to_owned(),
            message: "no such thing".to_owned(),
            violations: Vec::new(),
        };
        assert_eq!(of_client(&error(reason::FLOW_NOT_FOUND)), "no such thing; see: mycelium flows");
        assert_eq!(of_client(&error(reason::INTERNAL)), "no such thing (INTERNAL)");
    }

    #[test]
    fn a_failure_is_one_line_that_repeats_nothing() {
        let error = anyhow::anyhow!("it\nsnapped").context("cannot weigh: it\nsnapped").context("no report");
        assert_eq!(sentence(&error), "no report: cannot weigh: it snapped");
        let error = Err::<(), _>(Misuse("no".to_owned())).context("serve").unwrap_err();
        assert!(error.is::<Misuse>(), "context keeps the exit code");
    }
}
