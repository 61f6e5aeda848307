//! What an elf says of itself when it connects.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use mycelium_proto::{limits, v1};
use prost::Message as _;
use schemars::JsonSchema;
use sha2::{Digest, Sha256};

use crate::output::Output;
use crate::schema::{OutputDeclaration, schema_of};

/// SHA-256 over a source text: the same for the same text, in every process.
pub type Revision = [u8; 32];

/// Computes the revision of a source text.
#[must_use]
pub fn revision_of(source: &str) -> Revision {
    Sha256::digest(source.as_bytes()).into()
}

/// What an elf says of itself: its tasks, documentation, source and revision. `#[machine_elf]` writes it; by hand
/// it reads like this:
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
    docs: Cow<'static, str>,
    source: Cow<'static, str>,
    revision: Revision,
    tasks: Vec<TaskDeclaration>,
}

/// What an elf says of one of its tasks.
#[derive(Debug, Clone)]
pub struct TaskDeclaration {
    name: Cow<'static, str>,
    docs: Cow<'static, str>,
    signature: Cow<'static, str>,
    source: Cow<'static, str>,
    revision: Revision,
    parameters: Vec<ParameterDeclaration>,
    outputs: Vec<OutputDeclaration>,
}

/// A parameter of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDeclaration {
    /// Its name.
    pub name: Cow<'static, str>,
    /// JSON Schema (draft 2020-12) of its values, as JSON text; empty for any.
    pub schema: String,
    /// Whether a job may leave it out.
    pub optional: bool,
}

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
    /// A name is there twice.
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
    pub fn new(source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        Self { docs: Cow::Borrowed(""), revision: revision_of(&source), source, tasks: Vec::new() }
    }

    /// A declaration of an elf that does not send its source, only its revision.
    #[must_use]
    pub const fn without_source(revision: Revision) -> Self {
        Self { docs: Cow::Borrowed(""), source: Cow::Borrowed(""), revision, tasks: Vec::new() }
    }

    /// Sets the documentation (Markdown).
    #[must_use]
    pub fn docs(mut self, docs: impl Into<Cow<'static, str>>) -> Self {
        self.docs = docs.into();
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
        &self.source
    }

    /// Its revision.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Its documentation.
    #[must_use]
    pub fn documentation(&self) -> &str {
        &self.docs
    }

    /// Checks what a broker would check. A worker does so before it connects. Source texts and documentation count only
    /// each by itself: the worker leaves out those of an elf that takes too much with them.
    ///
    /// # Errors
    /// The first thing that a broker would refuse.
    pub fn check(&self) -> Result<(), DeclarationError> {
        check_count("tasks of the elf", self.tasks.len(), limits::TASKS_PER_ELF_MAX)?;
        check_text("the documentation of the elf", &self.docs)?;
        check_text("the source of the elf", &self.source)?;
        check_distinct("the task", self.tasks.iter().map(|task| &task.name))?;
        self.tasks.iter().try_for_each(TaskDeclaration::check)?;
        // With the name, which is not known here, at its longest.
        let mut least = self.to_wire("");
        leave_out_sources(&mut least);
        leave_out_docs(&mut least);
        let bytes = least.encoded_len() + limits::NAME_BYTES_MAX + 3;
        if bytes > limits::ELF_BYTES_MAX { Err(DeclarationError::TooLarge { bytes }) } else { Ok(()) }
    }

    pub(crate) fn to_wire(&self, name: &str) -> v1::ElfDeclaration {
        v1::ElfDeclaration {
            name: name.to_owned(),
            docs: self.docs.clone().into_owned(),
            source: self.source.clone().into_owned(),
            revision: Bytes::copy_from_slice(&self.revision),
            tasks: self.tasks.iter().map(TaskDeclaration::to_wire).collect(),
            language: "rust".to_owned(),
        }
    }
}

impl TaskDeclaration {
    /// A declaration without parameters and outputs, with the source text. The revision is the digest of that text.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, source: impl Into<Cow<'static, str>>) -> Self {
        let source = source.into();
        let revision = revision_of(&source);
        Self { source, ..Self::without_source(name, revision) }
    }

    /// A declaration of a task of an elf that does not send its source, only revisions.
    #[must_use]
    pub fn without_source(name: impl Into<Cow<'static, str>>, revision: Revision) -> Self {
        Self {
            name: name.into(),
            docs: Cow::Borrowed(""),
            signature: Cow::Borrowed(""),
            source: Cow::Borrowed(""),
            revision,
            parameters: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Sets the documentation (Markdown).
    #[must_use]
    pub fn docs(mut self, docs: impl Into<Cow<'static, str>>) -> Self {
        self.docs = docs.into();
        self
    }

    /// Sets the signature, as its author would write it.
    #[must_use]
    pub fn signature(mut self, signature: impl Into<Cow<'static, str>>) -> Self {
        self.signature = signature.into();
        self
    }

    /// Adds a parameter that every job gives.
    #[must_use]
    pub fn parameter<T: JsonSchema>(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with_parameter::<T>(name.into(), false)
    }

    /// Adds a parameter that a job may leave out.
    #[must_use]
    pub fn optional_parameter<T: JsonSchema>(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with_parameter::<T>(name.into(), true)
    }

    fn with_parameter<T: JsonSchema>(mut self, name: Cow<'static, str>, optional: bool) -> Self {
        self.parameters.push(ParameterDeclaration { name, schema: schema_of::<T>(), optional });
        self
    }

    /// Sets the outputs: those of the type that the task returns.
    #[must_use]
    pub fn outputs<T: Output>(mut self) -> Self {
        self.outputs = T::declarations();
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its documentation.
    #[must_use]
    pub fn documentation(&self) -> &str {
        &self.docs
    }

    /// Its signature, for people.
    #[must_use]
    pub fn signature_text(&self) -> &str {
        &self.signature
    }

    /// Its source text; empty if the elf does not send it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its revision.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Its parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[ParameterDeclaration] {
        &self.parameters
    }

    /// Its outputs, in order.
    #[must_use]
    pub fn output_declarations(&self) -> &[OutputDeclaration] {
        &self.outputs
    }

    fn check(&self) -> Result<(), DeclarationError> {
        if !self.name.starts_with("task_") {
            return Err(DeclarationError::NotATask(self.name.clone().into_owned()));
        }
        let of = |what: &str| format!("{what} of the task `{}`", self.name);
        check_text(&of("the documentation"), &self.docs)?;
        check_text(&of("the source"), &self.source)?;
        check_text(&of("the signature"), &self.signature)?;
        check_count(&of("parameters"), self.parameters.len(), limits::PARAMETERS_MAX)?;
        check_count(&of("outputs"), self.outputs.len(), limits::OUTPUTS_MAX)?;
        check_distinct("the parameter", self.parameters.iter().map(|parameter| &parameter.name))?;
        check_distinct("the output", self.outputs.iter().map(|output| &output.name))
    }

    fn to_wire(&self) -> v1::TaskDeclaration {
        v1::TaskDeclaration {
            name: self.name.clone().into_owned(),
            docs: self.docs.clone().into_owned(),
            signature: self.signature.clone().into_owned(),
            source: self.source.clone().into_owned(),
            revision: Bytes::copy_from_slice(&self.revision),
            parameters: self
                .parameters
                .iter()
                .map(|parameter| v1::ParameterDeclaration {
                    name: parameter.name.clone().into_owned(),
                    schema: parameter.schema.clone(),
                    optional: parameter.optional,
                })
                .collect(),
            outputs: self
                .outputs
                .iter()
                .map(|output| v1::OutputDeclaration {
                    name: output.name.clone().into_owned(),
                    schema: output.schema.clone(),
                })
                .collect(),
        }
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
    names: impl Iterator<Item = &'a Cow<'static, str>>,
) -> Result<(), DeclarationError> {
    let mut seen = HashSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(DeclarationError::Duplicate { what, name: name.clone().into_owned() });
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
        assert_eq!(with.to_wire("elf").revision, without.to_wire("elf").revision);
        assert_eq!(with.to_wire("elf").source, "source");
        assert_eq!(without.to_wire("elf").source, "");
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
            .to_wire("scale");
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
