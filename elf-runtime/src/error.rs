//! Errors between a program and the broker, by what the program can do about them.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mycelium_proto::v1::{Failure, JobStatus};

use crate::ids::{FlowId, JobId};
use crate::problem::FlowError;
use crate::transport::Code;

/// An error of any kind, as a source.
pub type SourceError = Arc<dyn StdError + Send + Sync>;

/// An error between a program and the broker.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or the configuration of the connection cannot be right. Correct it.
    #[error("`{url}` is not the URL of a broker (one looks like http://127.0.0.1:7420)")]
    InvalidUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: SourceError,
    },
    /// What is to be shown to the broker, or trusted, cannot be right, or must not be sent where others can read it. Nothing
    /// was sent. Correct it.
    #[error("what is shown to the broker, or trusted, cannot be used: {message}")]
    InvalidCredentials {
        /// What is wrong.
        message: String,
    },
    /// Nobody answers, or the connection broke and could not be made again in time. Whether a call that was on its
    /// way had its effect is not known; repeating it is harmless.
    #[error("{}", no_answer(.url, .source))]
    Unreachable {
        /// The broker's URL.
        url: String,
        /// What the connection met in the end, such as a refused connection.
        #[source]
        source: SourceError,
    },
    /// The broker answers, but cannot take the call now. Nothing was done; repeat it later.
    #[error("broker cannot take the call now: {message} ({reason})")]
    Busy {
        /// `ErrorInfo.reason`, one of [`mycelium_proto::reason`]; empty if the answer carries none.
        reason: String,
        /// For people.
        message: String,
        /// How long to wait before the next try, if the broker said so.
        retry_after: Option<Duration>,
    },
    /// The broker refused the call; nothing was done, and repeating it changes nothing.
    #[error("broker refused the call: {message} ({reason}){}", ViolationList(.message, .violations))]
    Refused {
        /// The status code.
        code: Code,
        /// `ErrorInfo.reason`, one of [`mycelium_proto::reason`]; empty if the answer carries none.
        reason: String,
        /// For people.
        message: String,
        /// What is wrong with which field.
        violations: Vec<Violation>,
    },
    /// The job whose result was asked for ended without one.
    #[error("{0}")]
    JobFailed(Box<JobFailure>),
    /// The job whose result was asked for was SKIPPED, which is no failure: its condition was not met, or it needs a
    /// value of a job that was SKIPPED. [`Run::maybe`](crate::Run::maybe) gives none in its place.
    #[error("job {job_id} (`{task}` of elf `{elf}`) was skipped, and has no result")]
    JobSkipped {
        /// Its id.
        job_id: JobId,
        /// Its elf.
        elf: String,
        /// Its task.
        task: String,
    },
    /// The job is of another flow than the run that was asked for it, which would wait for ever. Ask the run of its own
    /// flow, [`Mycelium::run`](crate::Mycelium::run).
    #[error(
        "job {job_id} is of flow {flow_id}, and the run that was asked for it is of flow {asked}; ask the run of its own flow"
    )]
    JobOfAnotherFlow {
        /// Its id.
        job_id: JobId,
        /// Its flow.
        flow_id: FlowId,
        /// The flow of the run that was asked.
        asked: FlowId,
    },
    /// The job was recorded and not submitted: after the last [`Flow::submit`](crate::Flow::submit), or that one
    /// failed. Submit its flow again, which submits only what is new.
    #[error(
        "job {job_id} was recorded and is not submitted yet; submit its flow (again) before waiting for the job"
    )]
    JobNotSubmitted {
        /// Its id.
        job_id: JobId,
    },
    /// The flow was recorded with mistakes, such as a value over the limit. Nothing was sent.
    #[error(transparent)]
    InvalidFlow(#[from] FlowError),
    /// The flow has no broker: it was made with [`Flow::detached`](crate::Flow::detached). Make it with
    /// [`Mycelium::flow`](crate::Mycelium::flow).
    #[error("the flow has no broker to be submitted to")]
    NoBroker,
    /// A result is there, but is not of the type asked for.
    #[error("cannot decode {what}")]
    Decode {
        /// What was to be decoded.
        what: String,
        /// Why it could not be.
        #[source]
        source: SourceError,
    },
    /// The broker's answer breaks the contract; the two sides do not fit together.
    #[error("broker's answer breaks the contract: {message}")]
    Protocol {
        /// What is wrong with it.
        message: String,
    },
    /// A blob, which holds a value above 64 KiB, is not what its name says: it was damaged where the broker keeps it, or
    /// on its way. Nothing of it is used.
    #[error("blob {digest} is damaged: {problem}")]
    DamagedBlob {
        /// The SHA-256 that its bytes should have, in hexadecimal digits.
        digest: String,
        /// What is wrong.
        problem: String,
    },
    /// A worker has left, and could not hand over everything first: its grace was over, or the connection to the
    /// broker was. The broker returns what the worker still held to the queue.
    #[error("worker left with {} still running and {} not acknowledged by the broker, which gives those jobs out again",
        Count(*.running, "task"), Count(*.outcomes, "outcome"))]
    DrainIncomplete {
        /// How long it would have waited at most.
        grace: Duration,
        /// How many outcomes the broker did not acknowledge.
        outcomes: usize,
        /// How many tasks still ran.
        running: usize,
    },
    /// A worker was set up in a way that cannot work. Nothing was started.
    #[error("worker cannot serve: {message}")]
    InvalidWorker {
        /// What is wrong.
        message: String,
    },
    /// The operating system refused something a worker needs, such as a thread.
    #[error("cannot run the worker")]
    Worker {
        /// What the operating system says.
        #[source]
        source: Arc<std::io::Error>,
    },
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `jobs[3].arguments[0].parameter`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// `1 task`, `2 tasks`.
pub(crate) struct Count<N>(pub(crate) N, pub(crate) &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(formatter, "{number} {noun}{}", if *number == N::from(1) { "" } else { "s" })
    }
}

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(String);

/// Those that the message does not tell.
struct ViolationList<'a>(&'a str, &'a [Violation]);

impl fmt::Display for ViolationList<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(message, violations) = self;
        for Violation { field, description } in *violations {
            let violation = format!("{field}: {description}");
            if !message.contains(&violation) {
                write!(formatter, "\n  {violation}")?;
            }
        }
        Ok(())
    }
}

/// How a job ended that has no result to give.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFailure {
    /// The job whose result was asked for.
    pub job: FailedJob,
    /// If it ended UPSTREAM_FAILED: the job that is to blame. None if that was brought back, without this one.
    pub cause: Option<FailedJob>,
    /// The failure of `cause`, or else of `job`. None if that one was cancelled, or has expired.
    pub failure: Option<Failure>,
}

/// A job that did not end DONE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    /// Its id.
    pub job_id: JobId,
    /// Its elf.
    pub elf: String,
    /// Its task.
    pub task: String,
    /// How it ended: FAILED, CANCELLED, EXPIRED or UPSTREAM_FAILED.
    pub status: JobStatus,
}

impl fmt::Display for FailedJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "job {} (`{}` of elf `{}`)", self.job_id, self.task, self.elf)
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.job)?;
        let last = match &self.cause {
            Some(cause) => {
                write!(formatter, "could not run because {cause} ")?;
                cause
            }
            None => &self.job,
        };
        match last.status {
            JobStatus::Cancelled => return formatter.write_str("was cancelled"),
            JobStatus::Expired => return formatter.write_str("expired: its time was over before it ended"),
            JobStatus::UpstreamFailed if self.cause.is_none() => {
                return formatter.write_str("could not run because another job did not end well");
            }
            _ => {}
        }
        formatter.write_str("failed")?;
        match &self.failure {
            Some(failure) => write!(formatter, ": {}: {}", failure.r#type, failure.message),
            None => Ok(()),
        }
    }
}

/// That nobody answers, or what TLS has met, since then mostly somebody has answered.
fn no_answer(url: &str, source: &SourceError) -> String {
    let source = source.to_string();
    if url.starts_with("https:") || source.contains("https://") {
        format!("cannot connect to {url}: {source}")
    } else {
        format!(
            "no broker answers at {url}; start one with `mycelium serve`, or give the URL of one that runs"
        )
    }
}

impl Error {
    /// Whether the error is transient: repeating the same call later may succeed. All others are permanent.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// The broker's reason, one of [`mycelium_proto::reason`], if it is the broker that speaks.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        if let Self::Busy { reason, .. } | Self::Refused { reason, .. } = self { Some(reason) } else { None }
    }

    /// How long the broker asks to wait before the call is repeated.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Nobody answers, and why.
    pub(crate) fn unreachable(url: &str, why: impl Into<String>) -> Self {
        Self::Unreachable { url: url.to_owned(), source: Arc::new(NoAnswer(why.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIL: JobId = JobId::from_bytes([0; 16]);

    #[test]
    fn a_worker_that_left_too_early_says_what_it_left_behind() {
        let error = Error::DrainIncomplete { grace: Duration::from_secs(2), outcomes: 1, running: 0 };
        assert_eq!(
            error.to_string(),
            "worker left with 0 tasks still running and 1 outcome not acknowledged by the broker, which gives those \
             jobs out again"
        );
    }

    #[test]
    fn a_failed_job_names_its_cause() {
        let job = |task: &str, status| FailedJob {
            job_id: NIL,
            elf: "scale".to_owned(),
            task: task.to_owned(),
            status,
        };
        let failure =
            Failure { r#type: "Broken".to_owned(), message: "it snapped".to_owned(), ..Failure::default() };
        let mut error = JobFailure {
            job: job("task_save", JobStatus::UpstreamFailed),
            cause: Some(job("task_weigh", JobStatus::Failed)),
            failure: Some(failure),
        };
        let nil = NIL;
        assert_eq!(
            error.to_string(),
            format!(
                "job {nil} (`task_save` of elf `scale`) could not run because job {nil} (`task_weigh` of elf \
                 `scale`) failed: Broken: it snapped"
            )
        );
        error.cause = Some(job("task_weigh", JobStatus::Cancelled));
        assert!(error.to_string().ends_with("was cancelled"), "{error}");
        error.cause = Some(job("task_weigh", JobStatus::Expired));
        assert!(error.to_string().ends_with(" expired: its time was over before it ended"), "{error}");
        (error.cause, error.failure) = (None, None);
        assert!(
            error.to_string().ends_with(") could not run because another job did not end well"),
            "{error}"
        );
    }
}
