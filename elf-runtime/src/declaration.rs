//! The declaration that an elf sends when it connects.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use prost::Message as _;
use schemars::JsonSchema;
use sha2::{Digest, Sha256};

use crate::output::Output;
use crate::retry_policy::RetryPolicy;
use crate::retry_policy::to_wire;
use crate::schema::{OutputDeclaration, schema_of};

/// SHA-256 over a source text: the same for the same text, in every process.
pub type Revision = [u8; 32];

/// Computes the revision of a source text.
#[must_use]
pub fn revision_of(source: &str) -> Revision {
    Sha256::digest(source.as_bytes()).into()
}

/// The declaration of an elf: its tasks, documentation, source and revision. `#[machine_elf]` generates it; written by
/// hand it looks like this:
///
/// ```
/// use elf_runtime::{ElfDeclaration, TaskDeclaration};
///
/// let declaration = ElfDeclaration::new("the source text, or any text that changes when the elf does")
///     .docs("Weighs animals.")
///     .task(
///         TaskDeclaration::new("task_weigh", "1")
///             .docs("Picks an animal and weighs it.")
///             .signature("async fn task_weigh(&self, species: String) -> i64")
///             .parameter::<String>("species")
///             .outputs::<i64>(),
///     );
/// declaration.check().unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ElfDeclaration {
    /// The elf without its name and its tasks.
    elf: v1::ElfDeclaration,
    tasks: Vec<TaskDeclaration>,
}

/// The declaration of a task.
#[derive(Debug, Clone)]
pub struct TaskDeclaration(v1::TaskDeclaration);

/// What a broker would refuse in a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// A name is empty or too long.
    #[error("the name `{name}` of {what} has {} bytes, and 1 to {} are allowed", name.len(), limits::NAME_BYTES_MAX)]
    InvalidName {
        /// What bears the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A task's name does not begin with `task_`.
    #[error("the name of the task `{0}` does not begin with `task_`")]
    NotATask(String),
    /// A name is declared more than once.
    #[error("{what} `{name}` is declared twice")]
    Duplicate {
        /// What bears the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There are more than allowed.
    #[error("{what}: there are {count}, and at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: String,
        /// How many there are.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A text is too long.
    #[error("{what} takes {bytes} bytes, and at most {} are allowed", limits::SOURCE_BYTES_MAX)]
    TextTooLong {
        /// Which text.
        what: String,
        /// Its size.
        bytes: usize,
    },
    /// All of it together is too large.
    #[error(
        "the elf takes {bytes} bytes with its tasks, signatures and schemas alone, and at most {} are allowed",
        limits::ELF_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl ElfDeclaration {
    /// A declaration without tasks, with the source text. The revision is the digest of that text.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        let source = source.into();
        let mut declaration = Self::without_source(revision_of(&source));
        declaration.elf.source = source;
        declaration
    }

    /// A declaration of an elf that does not send its source, only its revision.
    #[must_use]
    pub fn without_source(revision: Revision) -> Self {
        let revision = Bytes::copy_from_slice(&revision);
        let elf =
            v1::ElfDeclaration { revision, language: "rust".to_owned(), ..v1::ElfDeclaration::default() };
        Self { elf, tasks: Vec::new() }
    }

    /// Sets the documentation (Markdown).
    #[must_use]
    pub fn docs(mut self, docs: impl Into<String>) -> Self {
        self.elf.docs = docs.into();
        self
    }

    /// Adds a task.
    #[must_use]
    pub fn task(mut self, task: TaskDeclaration) -> Self {
        self.tasks.push(task);
        self
    }

    /// Its tasks, in order.
    #[must_use]
    pub fn tasks(&self) -> &[TaskDeclaration] {
        &self.tasks
    }

    /// Its source text; empty if it does not send it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.elf.source
    }

    /// Its revision: 32 bytes.
    #[must_use]
    pub fn revision(&self) -> &[u8] {
        &self.elf.revision
    }

    /// Its documentation.
    #[must_use]
    pub fn documentation(&self) -> &str {
        &self.elf.docs
    }

    /// Checks what a broker would check. A worker does so before it connects. Source texts and documentation count only
    /// each by itself: the worker leaves out those of an elf that takes too much with them.
    ///
    /// # Errors
    /// The first thing that a broker would refuse.
    pub fn check(&self) -> Result<(), DeclarationError> {
        check_count("tasks of the elf", self.tasks.len(), limits::TASKS_PER_ELF_MAX)?;
        check_text("the documentation of the elf", &self.elf.docs)?;
        check_text("the source of the elf", &self.elf.source)?;
        check_distinct("the task", self.tasks.iter().map(TaskDeclaration::name))?;
        self.tasks.iter().try_for_each(TaskDeclaration::check)?;
        // With the name, which is not known here, at its longest.
        let mut least = self.clone().into_wire("");
        leave_out_sources(&mut least);
        leave_out_docs(&mut least);
        let bytes = least.encoded_len() + limits::NAME_BYTES_MAX + 3;
        if bytes > limits::ELF_BYTES_MAX { Err(DeclarationError::TooLarge { bytes }) } else { Ok(()) }
    }

    pub(crate) fn into_wire(self, name: &str) -> v1::ElfDeclaration {
        let tasks = self.tasks.into_iter().map(|TaskDeclaration(task)| task).collect();
        v1::ElfDeclaration { name: name.to_owned(), tasks, ..self.elf }
    }
}

impl TaskDeclaration {
    /// A declaration without parameters and outputs, with the source text. The revision is the digest of that text.
    #[must_use]
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        let source = source.into();
        let mut declaration = Self::without_source(name, revision_of(&source));
        declaration.0.source = source;
        declaration
    }

    /// A declaration of a task of an elf that does not send its source, only revisions.
    #[must_use]
    pub fn without_source(name: impl Into<String>, revision: Revision) -> Self {
        let revision = Bytes::copy_from_slice(&revision);
        Self(v1::TaskDeclaration { name: name.into(), revision, ..v1::TaskDeclaration::default() })
    }

    /// Sets the documentation (Markdown).
    #[must_use]
    pub fn docs(mut self, docs: impl Into<String>) -> Self {
        self.0.docs = docs.into();
        self
    }

    /// Sets the signature, as its author would write it.
    #[must_use]
    pub fn signature(mut self, signature: impl Into<String>) -> Self {
        self.0.signature = signature.into();
        self
    }

    /// Sets how long its jobs may wait to be begun, as far as they do not say ([`Job::queue_timeout`](crate::Job::queue_timeout)).
    /// As all of its timeouts from 1 ms to 366 days: a broker refuses the elf otherwise.
    #[must_use]
    pub fn queue_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.queue = Some(to_wire(timeout)))
    }

    /// Sets how long one attempt of its jobs may run, as far as they do not say
    /// ([`Job::run_timeout`](crate::Job::run_timeout)).
    #[must_use]
    pub fn run_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.run = Some(to_wire(timeout)))
    }

    /// Sets how long its jobs may take from submission to end, as far as they do not say
    /// ([`Job::total_timeout`](crate::Job::total_timeout)).
    #[must_use]
    pub fn total_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.total = Some(to_wire(timeout)))
    }

    /// Sets how long one attempt of its jobs may go on without saying how far it is, as far as they do not say
    /// ([`Job::progress_timeout`](crate::Job::progress_timeout)).
    #[must_use]
    pub fn progress_timeout(self, timeout: Duration) -> Self {
        self.change_timeouts(|timeouts| timeouts.progress = Some(to_wire(timeout)))
    }

    fn change_timeouts(mut self, change: impl FnOnce(&mut v1::Timeouts)) -> Self {
        change(self.0.timeouts.get_or_insert_default());
        self
    }

    /// Adds a parameter that every job gives.
    #[must_use]
    pub fn parameter<T: JsonSchema>(self, name: impl Into<String>) -> Self {
        self.with_parameter::<T>(name.into(), false)
    }

    /// Adds a parameter that a job may leave out.
    #[must_use]
    pub fn optional_parameter<T: JsonSchema>(self, name: impl Into<String>) -> Self {
        self.with_parameter::<T>(name.into(), true)
    }

    fn with_parameter<T: JsonSchema>(mut self, name: String, optional: bool) -> Self {
        self.0.parameters.push(v1::ParameterDeclaration { name, schema: schema_of::<T>(), optional });
        self
    }

    /// Sets the outputs: those of the type that the task returns.
    #[must_use]
    pub fn outputs<T: Output>(mut self) -> Self {
        let to_wire =
            |OutputDeclaration { name, schema }| v1::OutputDeclaration { name: name.into(), schema };
        self.0.outputs = T::declarations().into_iter().map(to_wire).collect();
        self
    }

    /// Sets by which rules its jobs are tried again, as far as they leave it open. A broker refuses rules out of their range.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.0.retry = Some(policy.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its documentation.
    #[must_use]
    pub fn documentation(&self) -> &str {
        &self.0.docs
    }

    /// Its signature, for people.
    #[must_use]
    pub fn signature_text(&self) -> &str {
        &self.0.signature
    }

    /// Its source text; empty if the elf does not send it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Its revision: 32 bytes.
    #[must_use]
    pub fn revision(&self) -> &[u8] {
        &self.0.revision
    }

    /// Its parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[v1::ParameterDeclaration] {
        &self.0.parameters
    }

    /// Its outputs, in order.
    #[must_use]
    pub fn output_declarations(&self) -> &[v1::OutputDeclaration] {
        &self.0.outputs
    }

    fn check(&self) -> Result<(), DeclarationError> {
        let v1::TaskDeclaration { name, docs, signature, source, parameters, outputs, .. } = &self.0;
        if !name.starts_with("task_") {
            return Err(DeclarationError::NotATask(name.clone()));
        }
        let of = |what: &str| format!("{what} of the task `{name}`");
        check_text(&of("the documentation"), docs)?;
        check_text(&of("the source"), source)?;
        check_text(&of("the signature"), signature)?;
        check_count(&of("parameters"), parameters.len(), limits::PARAMETERS_MAX)?;
        check_count(&of("outputs"), outputs.len(), limits::OUTPUTS_MAX)?;
        check_distinct("the parameter", parameters.iter().map(|parameter| parameter.name.as_str()))?;
        check_distinct("the output", outputs.iter().map(|output| output.name.as_str()))
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), DeclarationError> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        return Err(DeclarationError::InvalidName { what, name: name.to_owned() });
    }
    Ok(())
}

fn check_distinct<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), DeclarationError> {
    let mut seen = HashSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(DeclarationError::Duplicate { what, name: name.to_owned() });
        }
    }
    Ok(())
}

/// Leaves out source texts. Revisions stay what they are: digests of the full text.
pub(crate) fn leave_out_sources(declaration: &mut v1::ElfDeclaration) {
    declaration.source.clear();
    declaration.tasks.iter_mut().for_each(|task| task.source.clear());
}

/// Leaves out documentation.
pub(crate) fn leave_out_docs(declaration: &mut v1::ElfDeclaration) {
    declaration.docs.clear();
    declaration.tasks.iter_mut().for_each(|task| task.docs.clear());
}

fn check_count(what: &str, count: usize, max: usize) -> Result<(), DeclarationError> {
    if count > max {
        return Err(DeclarationError::TooMany { what: what.to_owned(), count, max });
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), DeclarationError> {
    if text.len() > limits::SOURCE_BYTES_MAX {
        return Err(DeclarationError::TextTooLong { what: what.to_owned(), bytes: text.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &'static str) -> TaskDeclaration {
        TaskDeclaration::new(name, "source")
    }

    #[test]
    fn revisions_are_the_digest_of_the_source_whether_it_is_sent_or_not() {
        let with = ElfDeclaration::new("source");
        let without = ElfDeclaration::without_source(revision_of("source"));
        let (with, without) = (with.into_wire("elf"), without.into_wire("elf"));
        assert_eq!(with.revision, without.revision);
        assert_eq!((with.source.as_str(), without.source.as_str()), ("source", ""));
    }

    #[test]
    fn parameters_and_outputs_carry_schemas() {
        let wire = ElfDeclaration::new("")
            .task(
                task("task_weigh")
                    .parameter::<String>("species")
                    .optional_parameter::<u8>("n")
                    .outputs::<i64>(),
            )
            .into_wire("scale");
        let task = &wire.tasks[0];
        assert!(task.parameters[0].schema.contains(r#""type":"string""#), "{}", task.parameters[0].schema);
        assert!(!task.parameters[0].optional);
        assert!(task.parameters[1].optional);
        assert_eq!(task.outputs[0].name, "value");
        assert!(task.outputs[0].schema.contains(r#""format":"int64""#), "{}", task.outputs[0].schema);
    }

    #[test]
    fn what_a_broker_would_refuse_is_found_before() {
        let check = |task| ElfDeclaration::new("").task(task).check().unwrap_err();
        assert_eq!(check(task("weigh")), DeclarationError::NotATask("weigh".to_owned()));
        assert_eq!(
            check(task("task_a").parameter::<i64>("x").parameter::<i64>("x")),
            DeclarationError::Duplicate { what: "the parameter", name: "x".to_owned() }
        );
        assert!(matches!(check(task("task_a").parameter::<i64>("")), DeclarationError::InvalidName { .. }));
        let long = "x".repeat(limits::SOURCE_BYTES_MAX + 1);
        assert!(matches!(check(task("task_a").docs(long)), DeclarationError::TextTooLong { .. }));
        let twice = ElfDeclaration::new("").task(task("task_a")).task(task("task_a")).check();
        assert!(matches!(twice, Err(DeclarationError::Duplicate { what: "the task", .. })));
        let mut many = ElfDeclaration::new("");
        for n in 0..=limits::TASKS_PER_ELF_MAX {
            many = many.task(TaskDeclaration::new(format!("task_{n}"), ""));
        }
        assert!(matches!(many.check(), Err(DeclarationError::TooMany { .. })));
        let half = || "x".repeat(limits::SOURCE_BYTES_MAX);
        let large = ElfDeclaration::new("")
            .task(task("task_a").signature(half()))
            .task(task("task_b").signature(half()))
            .check()
            .unwrap_err();
        assert!(matches!(large, DeclarationError::TooLarge { .. }), "{large}");
        assert!(large.to_string().ends_with("and at most 2097152 are allowed"), "{large}");
        // What may be left out is no reason to refuse an elf.
        let with_texts =
            ElfDeclaration::new(half()).docs(half()).task(TaskDeclaration::new("task_a", half()));
        assert_eq!(with_texts.check(), Ok(()));
    }
}
