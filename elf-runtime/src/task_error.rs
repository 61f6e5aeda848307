//! How a task fails.

use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use mycelium_proto::{limits, v1};

use crate::frames::{Frame, frames_at};
use crate::retry_policy::to_wire;
use crate::type_name;
use crate::value::payload::PayloadError;

/// The types of failures that runtimes make themselves; the contract lists them.
pub(crate) mod failure_type {
    pub(crate) const ARGUMENT: &str = "ArgumentTypeError";
    pub(crate) const RESULT: &str = "ResultTypeError";
    pub(crate) const BLOB: &str = "BlobError";
    pub(crate) const CHECKPOINT: &str = "CheckpointError";
    pub(crate) const TASK_NOT_FOUND: &str = "TaskNotFoundError";
    pub(crate) const PANIC: &str = "Panic";
    pub(crate) const TIMEOUT: &str = "Timeout";
}

/// What a service of an elf fails with. A [`TaskError`] goes in and comes out as it was; errors of layers are
/// recorded as failures of their own types, and an elapsed `tower::timeout` as the type `Timeout`.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a task failed: a type, a message, the place in the source code, and the chain of causes.
///
/// Every error turns into one with `?`, which records the file and the line where that happened, in release builds
/// too. The type of an enum's failure is its variant, `ReadError::NotFound`, if it derives `Debug`: so policies and groups
/// of failures tell them apart. What is no [`std::error::Error`] (a boxed error, a text) gets there through [`ResultExt`].
///
/// ```
/// use elf_runtime::{ResultExt, TaskError};
///
/// fn rows(text: &str) -> Result<u32, TaskError> {
///     let rows: u32 = text.parse()?;
///     if rows == 0 {
///         return Err(TaskError::new("EmptyFileError", "the file has no rows"));
///     }
///     Ok(rows)
/// }
///
/// let error = rows("many").unwrap_err();
/// assert_eq!(error.failure_type(), "ParseIntError");
/// assert!(error.frames()[0].line > 0);
///
/// let error = rows("many").context("cannot count the rows").unwrap_err();
/// assert_eq!(error.to_string(), "cannot count the rows: invalid digit found in string");
/// ```
///
/// Like `anyhow::Error` it is not itself a [`std::error::Error`], so that every such error can turn into one; it
/// turns into a `Box<dyn Error + Send + Sync>` where one is needed.
pub struct TaskError {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    failure_type: String,
    message: String,
    frames: Vec<Frame>,
    causes: Vec<Cause>,
    details: String,
    permanent: bool,
    retry_after: Option<Duration>,
}

/// One link of the chain of causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The type, as far as it can be known.
    pub failure_type: String,
    /// The message.
    pub message: String,
}

impl TaskError {
    /// A failure of a type that its author names, at the place of the call.
    #[must_use]
    #[track_caller]
    pub fn new(failure_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Location::caller(), failure_type.into(), message.into())
    }

    /// A failure with a message only, of the type `TaskError`, at the place of the call.
    #[must_use]
    #[track_caller]
    pub fn message(message: impl Into<String>) -> Self {
        Self::at(Location::caller(), "TaskError".to_owned(), message.into())
    }

    /// A failure that would come again, of a type that its author names, at the place of the call: the job is not tried again,
    /// whatever its policy says.
    #[must_use]
    #[track_caller]
    pub fn permanent(failure_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Location::caller(), failure_type.into(), message.into()).into_permanent()
    }

    /// Says that it would come again: the job is not tried again, whatever its policy says.
    #[must_use]
    pub fn into_permanent(mut self) -> Self {
        self.inner.permanent = true;
        self
    }

    /// Says after how long the job can be tried again, if its policy lets it be tried again at all: that takes the place of
    /// what the policy says of times. At most 366 days.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.inner.retry_after = Some(wait);
        self
    }

    /// The failure that an error of any kind is: a boxed one, one of `anyhow`, a text. A boxed `TaskError` comes back
    /// as it was.
    #[must_use]
    #[track_caller]
    pub fn from_boxed<E: Into<BoxError>>(error: E) -> Self {
        Self::from_boxed_at(Location::caller(), error)
    }

    /// Says what was being attempted when this happened. The error as it was becomes the nearest cause; type and
    /// place stay.
    #[must_use]
    pub fn context(mut self, attempted: impl fmt::Display) -> Self {
        let cause =
            Cause { failure_type: self.inner.failure_type.clone(), message: self.inner.message.clone() };
        self.inner.causes.insert(0, cause);
        self.inner.message = format!("{attempted}: {}", self.inner.message);
        self
    }

    /// Adds details for people: at most 64 KiB are kept.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.inner.details = details.into();
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn failure_type(&self) -> &str {
        &self.inner.failure_type
    }

    /// The message, without its causes.
    #[must_use]
    pub fn message_text(&self) -> &str {
        &self.inner.message
    }

    /// Where it was raised, innermost first.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.inner.frames
    }

    /// The errors that caused it, nearest first.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.inner.causes
    }

    /// Further details, for people.
    #[must_use]
    pub fn details(&self) -> &str {
        &self.inner.details
    }

    /// The failure that the error of a service is. A layer's error has no place in its user's code.
    pub(crate) fn from_service(error: BoxError) -> Self {
        match error.downcast::<BoxedTaskError>() {
            Ok(boxed) => boxed.0,
            Err(other) if other.is::<tower::timeout::error::Elapsed>() => Self::of_runtime(
                failure_type::TIMEOUT,
                "the task did not finish within its time limit".to_owned(),
            ),
            Err(other) => Self::from_parts(
                type_name::of_error(&*other),
                other.to_string(),
                Vec::new(),
                causes_of(&*other),
            ),
        }
    }

    /// A failure that the runtime finds, which has no place in its user's code.
    pub(crate) fn of_runtime(failure_type: &str, message: String) -> Self {
        Self::from_parts(failure_type.to_owned(), message, Vec::new(), Vec::new())
    }

    /// A failure that the runtime finds in what a task takes or returns, at the place of the call: the macro writes it
    /// so that this is the task's.
    #[track_caller]
    pub(crate) fn of_task(failure_type: &str, message: String, function: String) -> Self {
        let mut failure = Self::at(Location::caller(), failure_type.to_owned(), message);
        match failure.inner.frames.first_mut() {
            Some(frame) => frame.function = function,
            None => failure.inner.frames.push(Frame { function, file: String::new(), line: 0 }),
        }
        failure
    }

    pub(crate) fn from_parts(
        failure_type: String,
        message: String,
        frames: Vec<Frame>,
        causes: Vec<Cause>,
    ) -> Self {
        let (details, permanent, retry_after) = (String::new(), false, None);
        let inner = Inner { failure_type, message, frames, causes, details, permanent, retry_after };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn at(location: &Location<'_>, failure_type: String, message: String) -> Self {
        Self::from_parts(failure_type, message, frames_at(location), Vec::new())
    }

    fn from_boxed_at<E: Into<BoxError>>(location: &Location<'_>, error: E) -> Self {
        let boxed: BoxError = error.into();
        match boxed.downcast::<BoxedTaskError>() {
            Ok(boxed) => boxed.0,
            Err(other) => {
                // `E` names the type unless it is a box, which hides it.
                let path = std::any::type_name::<E>();
                let named = type_name::short(path);
                let failure_type = if named.starts_with("Box<") || named == "String" || named == "&str" {
                    type_name::of_error(&*other)
                } else {
                    type_name::with_variant(path, named, &*other)
                };
                let mut failure = Self::at(location, failure_type, other.to_string());
                // What a task writes by hand to return it fails as what the macro writes.
                if let Some(PayloadError::Unwritable(_) | PayloadError::TooLarge { .. }) =
                    other.downcast_ref()
                {
                    failure_type::RESULT.clone_into(&mut failure.inner.failure_type);
                }
                failure.inner.causes = causes_of(&*other);
                failure
            }
        }
    }
}

/// The chain of sources, as far as it is kept: an error may name itself as its source, so the chain needs an end.
fn causes_of(error: &(dyn StdError + 'static)) -> Vec<Cause> {
    std::iter::successors(error.source(), |&cause| cause.source())
        .take(limits::FAILURE_FRAMES_MAX)
        .map(|cause| Cause { failure_type: type_name::of_error(cause), message: cause.to_string() })
        .collect()
}

impl<E: StdError + Send + Sync + 'static> From<E> for TaskError {
    /// The failure that this error is, at the place of the call: where the `?` stands.
    #[track_caller]
    fn from(error: E) -> Self {
        Self::from_boxed_at(Location::caller(), error)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.failure_type, self.inner.message)?;
        for frame in &self.inner.frames {
            write!(f, "\n    at {} {}:{}", frame.function, frame.file, frame.line)?;
        }
        for cause in &self.inner.causes {
            write!(f, "\n  caused by {}: {}", cause.failure_type, cause.message)?;
        }
        Ok(())
    }
}

/// A `TaskError` that travels as a boxed error, through tower layers for example, and comes out as it went in.
struct BoxedTaskError(TaskError);

impl fmt::Display for BoxedTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BoxedTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for BoxedTaskError {}

impl From<TaskError> for BoxError {
    fn from(error: TaskError) -> Self {
        Box::new(BoxedTaskError(error))
    }
}

/// Turns errors of any kind into a [`TaskError`], and says what was being attempted.
pub trait ResultExt<T> {
    /// Turns the error into a [`TaskError`] at the place of the call.
    ///
    /// # Errors
    /// The error, if there is one.
    #[track_caller]
    fn or_fail(self) -> Result<T, TaskError>;

    /// Turns the error into a [`TaskError`] at the place of the call, and says what was being attempted.
    ///
    /// # Errors
    /// The error, if there is one.
    #[track_caller]
    fn context(self, attempted: impl fmt::Display) -> Result<T, TaskError>;

    /// As [`ResultExt::context`], for a text that takes some work: it is made only if there is an error.
    ///
    /// # Errors
    /// The error, if there is one.
    #[track_caller]
    fn with_context<D: fmt::Display>(self, attempted: impl FnOnce() -> D) -> Result<T, TaskError>;
}

impl<T, E: Into<BoxError>> ResultExt<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self) -> Result<T, TaskError> {
        // A `match`, because a closure would be its own caller.
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(TaskError::from_boxed_at(Location::caller(), error)),
        }
    }

    #[track_caller]
    fn context(self, attempted: impl fmt::Display) -> Result<T, TaskError> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(TaskError::from_boxed_at(Location::caller(), error).context(attempted)),
        }
    }

    #[track_caller]
    fn with_context<D: fmt::Display>(self, attempted: impl FnOnce() -> D) -> Result<T, TaskError> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(TaskError::from_boxed_at(Location::caller(), error).context(attempted())),
        }
    }
}

/// Cuts a text at a character so that it takes at most this many bytes, and says at its end that it was cut.
fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let said = format!("… (cut, of {} bytes)", text.len());
        let mark =
            [said.as_str(), "…", ""].into_iter().find(|mark| 4 * mark.len() <= bytes_max).unwrap_or_default();
        let mut end = bytes_max - mark.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(mark);
    }
    text
}

impl From<TaskError> for v1::Failure {
    /// The failure as it travels, cut to the limits of the contract.
    fn from(error: TaskError) -> Self {
        let Inner { failure_type, message, frames, causes, details, permanent, retry_after } = *error.inner;
        // Causes together may take as much as the message, so that no chain grows a message beyond what travels.
        let mut cause_bytes_left = limits::FAILURE_MESSAGE_BYTES_MAX;
        Self {
            r#type: bounded(failure_type, limits::NAME_BYTES_MAX),
            message: bounded(message, limits::FAILURE_MESSAGE_BYTES_MAX),
            frames: frames
                .into_iter()
                .take(limits::FAILURE_FRAMES_MAX)
                .map(|frame| v1::Frame {
                    function: bounded(frame.function, FRAME_TEXT_BYTES_MAX),
                    file: bounded(frame.file, FRAME_TEXT_BYTES_MAX),
                    line: frame.line,
                })
                .collect(),
            causes: causes
                .into_iter()
                .take(limits::FAILURE_FRAMES_MAX)
                .map(|cause| {
                    let message = bounded(cause.message, cause_bytes_left);
                    cause_bytes_left -= message.len();
                    v1::FailureCause { r#type: bounded(cause.failure_type, limits::NAME_BYTES_MAX), message }
                })
                .collect(),
            details: bounded(details, limits::FAILURE_DETAILS_BYTES_MAX),
            permanent,
            retry_after: retry_after.map(to_wire),
        }
    }
}

/// The longest function path and file path that are kept, in bytes.
const FRAME_TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
