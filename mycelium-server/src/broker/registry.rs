//! What the elves have declared: what submissions are held against.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use mycelium_proto::v1::{self, payload, value_node};

use mycelium_values::json::is_json_encoding;

/// The signatures of all elves ever seen.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    elves: RwLock<HashMap<String, Arc<ElfSignature>>>,
}

/// The tasks of an elf.
#[derive(Debug, Default)]
pub(crate) struct ElfSignature {
    tasks: BTreeMap<String, TaskSignature>,
}

#[derive(Debug, Default)]
struct TaskSignature {
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: String,
    optional: bool,
    /// Judges literals; `None` if the elf gave no schema, or one that cannot be read.
    schema: Option<jsonschema::Validator>,
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameter").field("name", &self.name).field("optional", &self.optional).finish()
    }
}

/// How a job does not fit the task it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("elf `{elf}` has no task `{task}`; it has {}", tasks.join(", "))]
    TaskNotFound { elf: String, task: String, tasks: Vec<String> },
    #[error("{}", violations.iter().map(|(field, problem)| format!("{field}: {problem}")).collect::<Vec<_>>().join("; "))]
    Arguments { violations: Vec<(String, String)> },
}

impl Registry {
    pub(crate) fn elf(&self, name: &str) -> Option<Arc<ElfSignature>> {
        // A poisoned lock is no harm: signatures are put in whole.
        self.elves.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn put(&self, declaration: &v1::ElfDeclaration) {
        let tasks = declaration.tasks.iter().map(|task| (task.name.clone(), TaskSignature::new(task)));
        let signature = Arc::new(ElfSignature { tasks: tasks.collect() });
        let mut elves = self.elves.write().unwrap_or_else(PoisonError::into_inner);
        elves.insert(declaration.name.clone(), signature);
    }
}

impl TaskSignature {
    fn new(task: &v1::TaskDeclaration) -> Self {
        let parameters = task.parameters.iter().map(|parameter| Parameter {
            name: parameter.name.clone(),
            optional: parameter.optional,
            schema: validator(&parameter.schema),
        });
        Self { parameters: parameters.collect() }
    }
}

/// Reads a schema. Its patterns run on the engine whose time is linear: schemas come from elves.
fn validator(schema: &str) -> Option<jsonschema::Validator> {
    let schema = serde_json::from_str(schema).ok()?;
    jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex()).build(&schema).ok()
}

impl ElfSignature {
    /// Holds a job against the task it names. `spec` has passed [`check_spec`](crate::values::check_spec).
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
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let error = schema.validate(&value).err()?;
        Some(format!("parameter `{}` does not take this value: {error}", self.name))
    }
}
