//! What a declaration says: what submissions, arguments and outputs are held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use mycelium_core::ids::SignatureId;
use mycelium_core::policy::Timeouts;
use mycelium_core::signature::{self, Shape, Signature};
use mycelium_proto::v1::{self, payload, value_node};
use mycelium_values::json::is_json_encoding;
use mycelium_values::schema::{Schema, SchemaError};
use sha2::{Digest as _, Sha256};

use crate::broker::outputs::names;
use crate::documents::policy;

/// The schemas of an elf may take about so much memory, compiled, in bytes.
const SCHEMA_BYTES_MAX: usize = 16 * 1024 * 1024;

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
    id: SignatureId,
    parameters: Vec<Parameter>,
    pub(crate) outputs: Vec<OutputSignature>,
    /// How long things may take with its jobs, as far as they do not say.
    pub(super) timeouts: Timeouts,
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

impl ElfSignature {
    /// Compiles the schemas of a declaration. `refuse` says what is to become of those that are none.
    pub(super) fn new<E>(
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
                id: signature_id(task),
                // One that cannot be meant was refused when it came.
                timeouts: policy::of_task(task)
                    .ok()
                    .flatten()
                    .map(|of| of.timeouts.clone())
                    .unwrap_or_default(),
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
        let violations = task.misfits(spec);
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

impl TaskSignature {
    /// What tells what it takes from others.
    pub(crate) fn id(&self) -> SignatureId {
        self.id
    }

    /// What of a job's arguments it does not take, as fields with what is wrong. `spec` has passed the checks of what can be
    /// judged by itself.
    pub(crate) fn misfits(&self, spec: &v1::JobSpec) -> Vec<(String, String)> {
        let mut violations = Vec::new();
        for (index, argument) in spec.arguments.iter().enumerate() {
            match self.parameters.iter().find(|parameter| parameter.name == argument.parameter) {
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
        for parameter in self.parameters.iter().filter(|parameter| !parameter.optional) {
            if !spec.arguments.iter().any(|argument| argument.parameter == parameter.name) {
                violations.push((
                    "arguments".to_owned(),
                    format!(
                        "parameter `{}` of task `{}` is missing, and is not declared as one that may be left out (in Rust: \
                         an `Option`, or one with `#[task(default = …)]`)",
                        parameter.name, spec.task
                    ),
                ));
            }
        }
        violations
    }
}

/// The names of a job's arguments.
pub(crate) fn shape_of(spec: &v1::JobSpec) -> Shape {
    Shape::of(spec.arguments.iter().map(|argument| Arc::from(&*argument.parameter)))
}

/// What the scheduler is to know of a task that is declared.
pub(crate) fn core_signature(task: &v1::TaskDeclaration) -> Arc<Signature> {
    let parameters = task.parameters.iter().map(|parameter| signature::Parameter {
        name: Arc::from(&*parameter.name),
        is_required: !parameter.optional,
    });
    Arc::new(Signature::new(signature_id(task), parameters.collect()))
}

fn signature_id(task: &v1::TaskDeclaration) -> SignatureId {
    let mut digest = Sha256::new();
    for parameter in &task.parameters {
        digest.update([u8::from(parameter.optional)]);
        // Each text goes in with its length, so that no two signatures read the same.
        for text in [&parameter.name, &parameter.schema] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    SignatureId::new(id)
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
