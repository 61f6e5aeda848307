//! Elves, their tasks and revisions.

use mycelium_proto::v1;
use serde::Serialize;
use serde_json::value::RawValue;

use super::text_if_any;
use crate::output::format;

/// An elf as it stands, without its tasks.
#[derive(Debug, Serialize)]
pub(crate) struct ElfHead<'a> {
    pub(crate) name: &'a str,
    pub(crate) docs: Option<&'a str>,
    pub(crate) language: Option<&'a str>,
    pub(crate) revision: Option<String>,
    pub(crate) first_seen: Option<String>,
    pub(crate) last_seen: Option<String>,
    pub(crate) jobs_ready: u64,
    pub(crate) jobs_running: u64,
    pub(crate) instances: Vec<InstanceView<'a>>,
}

/// An elf in a list.
#[derive(Debug, Serialize)]
pub(crate) struct ElfSummary<'a> {
    #[serde(flatten)]
    pub(crate) elf: ElfHead<'a>,
    /// Names of its tasks, as it declares them.
    pub(crate) tasks: Vec<&'a str>,
}

/// An elf with its tasks.
#[derive(Debug, Serialize)]
pub(crate) struct ElfView<'a> {
    #[serde(flatten)]
    pub(crate) elf: ElfHead<'a>,
    pub(crate) tasks: Vec<TaskView<'a>>,
}

/// A process that serves an elf.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceView<'a> {
    pub(crate) instance_id: String,
    pub(crate) session: u64,
    pub(crate) connected: bool,
    pub(crate) window: u32,
    pub(crate) held: u32,
    pub(crate) process_id: Option<u32>,
    pub(crate) host: Option<&'a str>,
}

/// A task of an elf.
#[derive(Debug, Serialize)]
pub(crate) struct TaskView<'a> {
    pub(crate) name: &'a str,
    pub(crate) docs: Option<&'a str>,
    pub(crate) signature: Option<&'a str>,
    pub(crate) revision: Option<String>,
    pub(crate) parameters: Vec<ParameterView<'a>>,
    pub(crate) outputs: Vec<OutputDeclarationView<'a>>,
}

/// A parameter; `schema` is JSON Schema, null for any value.
#[derive(Debug, Serialize)]
pub(crate) struct ParameterView<'a> {
    pub(crate) name: &'a str,
    pub(crate) optional: bool,
    pub(crate) schema: Option<&'a RawValue>,
}

/// An output; `schema` is JSON Schema, null for any value.
#[derive(Debug, Serialize)]
pub(crate) struct OutputDeclarationView<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: Option<&'a RawValue>,
}

/// The source text of an elf, as it sent it.
#[derive(Debug, Serialize)]
pub(crate) struct SourceView<'a> {
    pub(crate) elf: &'a str,
    pub(crate) language: Option<&'a str>,
    pub(crate) revision: Option<String>,
    pub(crate) source: &'a str,
}

/// A revision of an elf (`task` is null) or of a task of it.
#[derive(Debug, Serialize)]
pub(crate) struct RevisionView<'a> {
    pub(crate) revision: String,
    pub(crate) elf: &'a str,
    pub(crate) task: Option<&'a str>,
    pub(crate) first_seen: Option<String>,
    pub(crate) signature: Option<&'a str>,
}

fn digest_if_any(digest: &[u8]) -> Option<String> {
    (!digest.is_empty()).then(|| format::hex(digest))
}

fn schema(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

impl<'a> ElfView<'a> {
    /// An elf as it stands, and what it said of itself.
    pub(crate) fn new(elf: &'a v1::Elf, declaration: &'a v1::ElfDeclaration) -> Self {
        let tasks = declaration.tasks.iter().map(TaskView::from).collect();
        Self { elf: ElfHead::new(elf, declaration), tasks }
    }
}

impl<'a> ElfSummary<'a> {
    /// An elf as it stands, and what it said of itself.
    pub(crate) fn new(elf: &'a v1::Elf, declaration: &'a v1::ElfDeclaration) -> Self {
        let tasks = declaration.tasks.iter().map(|task| task.name.as_str()).collect();
        Self { elf: ElfHead::new(elf, declaration), tasks }
    }
}

impl<'a> ElfHead<'a> {
    fn new(elf: &'a v1::Elf, declaration: &'a v1::ElfDeclaration) -> Self {
        Self {
            name: &declaration.name,
            docs: text_if_any(&declaration.docs),
            language: text_if_any(&declaration.language),
            revision: digest_if_any(&declaration.revision),
            first_seen: format::rfc3339(elf.first_seen.as_ref()),
            last_seen: format::rfc3339(elf.last_seen.as_ref()),
            jobs_ready: elf.jobs_ready,
            jobs_running: elf.jobs_running,
            instances: elf.instances.iter().map(InstanceView::from).collect(),
        }
    }
}

impl<'a> From<&'a v1::ElfInstance> for InstanceView<'a> {
    fn from(instance: &'a v1::ElfInstance) -> Self {
        Self {
            instance_id: format::id(&instance.instance_id),
            session: instance.session,
            connected: instance.connected,
            window: instance.window,
            held: instance.held,
            process_id: (instance.process_id > 0).then_some(instance.process_id),
            host: text_if_any(&instance.host),
        }
    }
}

impl<'a> From<&'a v1::TaskDeclaration> for TaskView<'a> {
    fn from(task: &'a v1::TaskDeclaration) -> Self {
        let parameter = |parameter: &'a v1::ParameterDeclaration| ParameterView {
            name: &parameter.name,
            optional: parameter.optional,
            schema: schema(&parameter.schema),
        };
        let output = |output: &'a v1::OutputDeclaration| OutputDeclarationView {
            name: &output.name,
            schema: schema(&output.schema),
        };
        Self {
            name: &task.name,
            docs: text_if_any(&task.docs),
            signature: text_if_any(&task.signature),
            revision: digest_if_any(&task.revision),
            parameters: task.parameters.iter().map(parameter).collect(),
            outputs: task.outputs.iter().map(output).collect(),
        }
    }
}

impl<'a> SourceView<'a> {
    pub(crate) fn new(declaration: &'a v1::ElfDeclaration) -> Self {
        Self {
            elf: &declaration.name,
            language: text_if_any(&declaration.language),
            revision: digest_if_any(&declaration.revision),
            source: &declaration.source,
        }
    }
}

impl<'a> From<&'a v1::Revision> for RevisionView<'a> {
    fn from(revision: &'a v1::Revision) -> Self {
        Self {
            revision: format::hex(&revision.revision),
            elf: &revision.elf,
            task: text_if_any(&revision.task),
            first_seen: format::rfc3339(revision.first_seen.as_ref()),
            signature: text_if_any(&revision.signature),
        }
    }
}
