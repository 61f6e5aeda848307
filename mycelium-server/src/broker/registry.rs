//! What the elves have declared: what submissions and outputs are held against.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::json::is_json_encoding;
use mycelium_values::schema::{Schema, SchemaError};
use sha2::{Digest as _, Sha256};

use super::outputs::names;

/// The schemas of an elf may take about so much memory, compiled, in bytes.
const SCHEMA_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The signatures of all elves ever seen.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    elves: RwLock<HashMap<String, Arc<ElfSignature>>>,
    /// Signatures that somebody uses: the schemas of a revision are compiled once, however many instances serve it.
    shared: Mutex<HashMap<[u8; 32], Weak<ElfSignature>>>,
}

/// The tasks of an elf.
#[derive(Debug, Default)]
pub(crate) struct ElfSignature {
    tasks: BTreeMap<String, Arc<TaskSignature>>,
}

/// The signatures of the elves of an instance, by name.
pub(crate) type Signatures = BTreeMap<String, Arc<ElfSignature>>;

/// What a task takes and gives.
#[derive(Debug, Default)]
pub(crate) struct TaskSignature {
    pub(crate) elf: String,
    pub(crate) task: String,
    parameters: Vec<Parameter>,
    pub(crate) outputs: Vec<OutputSignature>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    optional: bool,
    /// Judges literals; `None` if anything is taken.
    schema: Option<Schema>,
}

/// An output that a task declares.
#[derive(Debug)]
pub(crate) struct OutputSignature {
    pub(crate) name: String,
    /// Judges what is inline; `None` if anything is taken.
    pub(crate) schema: Option<Schema>,
}

/// How a job does not fit the task it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("elf `{elf}` has no task `{task}`; it has {}", tasks.join(", "))]
    TaskNotFound { elf: String, task: String, tasks: Vec<String> },
    #[error("{}", violations.iter().map(|(field, problem)| format!("{field}: {problem}")).collect::<Vec<_>>().join("; "))]
    Arguments { violations: Vec<(String, String)> },
}

/// A schema of a declaration that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct BadSchema {
    /// The field it is about, as a path within the declaration.
    pub(crate) field: String,
    pub(crate) problem: String,
}

impl Registry {
    pub(crate) fn elf(&self, name: &str) -> Option<Arc<ElfSignature>> {
        // A poisoned lock is no harm: signatures are put in whole.
        self.elves.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The newest signature of an elf.
    pub(crate) fn put(&self, elf: &str, signature: Arc<ElfSignature>) {
        let mut elves = self.elves.write().unwrap_or_else(PoisonError::into_inner);
        elves.insert(elf.to_owned(), signature);
    }

    /// The signature of a declaration, if it is in use already.
    pub(crate) fn shared(&self, declaration: &v1::ElfDeclaration) -> Option<Arc<ElfSignature>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get(&digest(declaration))?.upgrade()
    }

    /// Reads the signature of a declaration, whose schemas may take their time to compile.
    pub(crate) fn read(&self, declaration: &v1::ElfDeclaration) -> Result<Arc<ElfSignature>, BadSchema> {
        if let Some(signature) = self.shared(declaration) {
            return Ok(signature);
        }
        let signature = Arc::new(ElfSignature::new(declaration, Err)?);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, signature| signature.strong_count() > 0);
        shared.insert(digest(declaration), Arc::downgrade(&signature));
        Ok(signature)
    }

    /// Reads a declaration that was stored, perhaps by a broker that took what is no schema: that judges nothing.
    pub(crate) fn restore(&self, declaration: &v1::ElfDeclaration) {
        let Ok(signature) = ElfSignature::new(declaration, |error| {
            tracing::warn!(elf = declaration.name, field = error.field, %error, "a stored schema judges nothing");
            Ok::<_, Infallible>(None)
        });
        self.put(&declaration.name, Arc::new(signature));
    }
}

/// Digest of what makes a signature.
fn digest(declaration: &v1::ElfDeclaration) -> [u8; 32] {
    let mut digest = Sha256::new();
    // Each text goes in with its length, so that no two declarations read the same.
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(&declaration.name);
    for task in &declaration.tasks {
        text(&task.name);
        for parameter in &task.parameters {
            text(if parameter.optional { "optional" } else { "required" });
            text(&parameter.name);
            text(&parameter.schema);
        }
        for output in &task.outputs {
            text("output");
            text(&output.name);
            text(&output.schema);
        }
        text("");
    }
    digest.finalize().into()
}

impl ElfSignature {
    /// Compiles the schemas of a declaration. `refuse` says what is to become of those that are none.
    fn new<E>(
        declaration: &v1::ElfDeclaration,
        mut refuse: impl FnMut(BadSchema) -> Result<Option<Schema>, E>,
    ) -> Result<Self, E> {
        let mut bytes = 0;
        let mut compile = |field: String, of: String, text: &str| {
            let compiled = Schema::compile(text).and_then(|schema| {
                bytes += schema.bytes();
                if bytes <= SCHEMA_BYTES_MAX {
                    return Ok(schema);
                }
                let problem = "the schemas of the elf take more memory than they may".to_owned();
                Err(SchemaError { place: String::new(), problem })
            });
            match compiled {
                Ok(schema) => Ok(Some(schema).filter(|schema| !schema.is_any())),
                Err(error) => refuse(BadSchema {
                    field,
                    problem: format!("{of} of elf `{}` has no valid schema: {error}", declaration.name),
                }),
            }
        };
        let mut tasks = BTreeMap::new();
        for (t, task) in declaration.tasks.iter().enumerate() {
            let mut signature = TaskSignature {
                elf: declaration.name.clone(),
                task: task.name.clone(),
                ..TaskSignature::default()
            };
            for (p, parameter) in task.parameters.iter().enumerate() {
                let field = format!("tasks[{t}].parameters[{p}].schema");
                let of = format!("parameter `{}` of task `{}`", parameter.name, task.name);
                signature.parameters.push(Parameter {
                    name: parameter.name.clone(),
                    optional: parameter.optional,
                    schema: compile(field, of, &parameter.schema)?,
                });
            }
            for (o, output) in task.outputs.iter().enumerate() {
                let field = format!("tasks[{t}].outputs[{o}].schema");
                let of = format!("output `{}` of task `{}`", output.name, task.name);
                let schema = compile(field, of, &output.schema)?;
                signature.outputs.push(OutputSignature { name: output.name.clone(), schema });
            }
            tasks.insert(task.name.clone(), Arc::new(signature));
        }
        Ok(Self { tasks })
    }

    /// What a task takes and gives.
    pub(crate) fn task(&self, task: &str) -> Option<&Arc<TaskSignature>> {
        self.tasks.get(task)
    }

    /// Holds a job against the task it names. `spec` has passed the checks of what can be judged by itself.
    pub(crate) fn fit(&self, spec: &v1::JobSpec) -> Result<(), Misfit> {
        let Some(task) = self.tasks.get(&spec.task) else {
            return Err(Misfit::TaskNotFound {
                elf: spec.elf.clone(),
                task: spec.task.clone(),
                tasks: self.tasks.keys().cloned().collect(),
            });
        };
        let mut violations = Vec::new();
        for (index, argument) in spec.arguments.iter().enumerate() {
            match task.parameters.iter().find(|parameter| parameter.name == argument.parameter) {
                None => violations.push((
                    format!("arguments[{index}].parameter"),
                    format!("task `{}` has no parameter `{}`", spec.task, argument.parameter),
                )),
                Some(parameter) => {
                    if let Some(problem) = parameter.judge(spec, argument) {
                        violations.push((format!("arguments[{index}]"), problem));
                    }
                }
            }
        }
        for parameter in task.parameters.iter().filter(|parameter| !parameter.optional) {
            if !spec.arguments.iter().any(|argument| argument.parameter == parameter.name) {
                violations.push((
                    "arguments".to_owned(),
                    format!("parameter `{}` of task `{}` is missing", parameter.name, spec.task),
                ));
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Misfit::Arguments { violations }) }
    }

    /// What is wrong with naming an output of a job of this elf.
    pub(crate) fn refuse_output(&self, task: &str, output: &str) -> Option<String> {
        let declared = &self.tasks.get(task)?.outputs;
        if declared.iter().any(|declared| declared.name == output) {
            return None;
        }
        Some(format!("task `{task}` has no output `{output}`; it declares {}", names(declared)))
    }
}

impl Parameter {
    /// What is wrong with an argument, as far as it is known already.
    fn judge(&self, spec: &v1::JobSpec, argument: &v1::Argument) -> Option<String> {
        let schema = self.schema.as_ref()?;
        let Some(value_node::Kind::Literal(literal)) = &spec.nodes.get(argument.node as usize)?.kind else {
            return None;
        };
        let Some(payload::Content::Inline(bytes)) = &literal.content else { return None };
        if !is_json_encoding(&literal.encoding) {
            return None;
        }
        let misfit = schema.judge(bytes).err()?;
        Some(format!("parameter `{}` does not take this value: {misfit}", self.name))
    }
}

#[cfg(test)]
mod tests;
