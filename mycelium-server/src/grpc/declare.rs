//! Checks what an elf says of itself, and turns it into what is kept.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mycelium_core::command::{ElfOffer, Hello, Start, TaskOffer, Window};
use mycelium_core::ids::{
    Attempt, Build, InstanceId, JobId, RequestId, Revision, SecretDigest, SessionId, Timestamp, Token,
};
use mycelium_proto::limits;
use mycelium_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::broker::{BadSchema, CallError, Handle, Signatures, Version, core_signature};
use crate::defect;
use crate::documents::policy::{self, BadPolicy};
use crate::error::Error;
use crate::store::{ElfRecord, RevisionRecord};
use crate::values::check_name;

/// What a `Hello` comes to.
pub(crate) struct Declared {
    pub(crate) hello: Hello,
    /// That of each elf as a whole, in their order.
    elf_revisions: Vec<Revision>,
    pub(crate) elves: Vec<ElfRecord>,
    pub(crate) revisions: Vec<RevisionRecord>,
}

impl Declared {
    /// Which version of each elf this is.
    pub(crate) fn versions(&self) -> BTreeMap<Arc<str>, Arc<Version>> {
        let offers = self.hello.elves.iter().zip(&self.elf_revisions);
        let versions = offers.map(|(offer, revision)| {
            let tasks = offer.tasks.iter();
            let tasks = tasks.map(|task| (Arc::clone(&task.task), (task.revision, task.signature.id())));
            let version = Version { revision: *revision, tasks: tasks.collect() };
            (Arc::clone(&offer.elf), Arc::new(version))
        });
        versions.collect()
    }
}

/// The version of the protocol that is spoken with an elf: the highest that both sides know.
pub(crate) fn protocol(hello: &v1::Hello, ours_min: u32) -> Result<u32, Error> {
    let (min, max, ours_max) = (hello.protocol_min, hello.protocol_max, limits::PROTOCOL_VERSION);
    let spoken = max.min(ours_max);
    if spoken < min.max(ours_min) {
        return Err(Error::ProtocolVersion { min, max, ours_min, ours_max });
    }
    Ok(spoken)
}

/// Gives a revision to elves and tasks that have none: the digest of their source, or of the declaration if they have
/// none of that either.
pub(crate) fn complete_revisions(hello: &mut v1::Hello) {
    for elf in &mut hello.elves {
        for task in &mut elf.tasks {
            if task.revision.is_empty() {
                task.revision = revision_of(&task.source, task);
            }
        }
        if elf.revision.is_empty() {
            elf.revision = revision_of(&elf.source, elf);
        }
    }
}

fn revision_of(source: &str, declaration: &impl prost::Message) -> Bytes {
    let digest = match source {
        "" => Sha256::digest(declaration.encode_to_vec()),
        source => Sha256::digest(source),
    };
    Bytes::copy_from_slice(&digest)
}

/// The digest of a session's secret; `None` if there is none.
pub(crate) fn secret_digest(secret: &[u8]) -> Option<SecretDigest> {
    (!secret.is_empty()).then(|| SecretDigest::new(Sha256::digest(secret).into()))
}

/// Schemas that come to more bytes are compiled on a thread that may block.
const SCHEMAS_HERE_MAX: usize = 16 * 1024;

/// Reads the signatures that a checked `Hello` declares.
pub(crate) async fn signatures(handle: &Handle, elves: &[v1::ElfDeclaration]) -> Result<Signatures, Error> {
    let mut signatures = Signatures::new();
    for (index, elf) in elves.iter().enumerate() {
        let signature = match handle.registry().shared(elf) {
            Some(signature) => signature,
            None if schema_bytes(elf) <= SCHEMAS_HERE_MAX => {
                handle.registry().read(elf).map_err(|error| bad_schema(index, error))?
            }
            None => {
                let (handle, elf) = (handle.clone(), elf.clone());
                let read = move || defect::catch("a declaration", || handle.registry().read(&elf));
                let read =
                    tokio::task::spawn_blocking(read).await.map_err(|_stopping| CallError::Stopping)?;
                read.map_err(CallError::from)?.map_err(|error| bad_schema(index, error))?
            }
        };
        signatures.insert(elf.name.clone(), signature);
    }
    Ok(signatures)
}

fn bad_schema(elf: usize, BadSchema { field, problem }: BadSchema) -> Error {
    Error::field(format!("hello.elves[{elf}].{field}"), problem)
}

fn schema_bytes(elf: &v1::ElfDeclaration) -> usize {
    let parameters = elf.tasks.iter().flat_map(|task| &task.parameters).map(|parameter| &parameter.schema);
    let outputs = elf.tasks.iter().flat_map(|task| &task.outputs).map(|output| &output.schema);
    parameters.chain(outputs).map(String::len).sum()
}

/// Checks all of a `Hello` but the schemas in it.
pub(crate) fn declared(hello: &v1::Hello, now: Timestamp) -> Result<Declared, Error> {
    let instance = InstanceId::from_slice(&hello.instance_id)
        .ok_or_else(|| Error::field("hello.instance_id", "must be 16 bytes"))?;
    at_most("hello.host", hello.host.len(), limits::NAME_BYTES_MAX)?;
    at_most("hello.build", hello.build.len(), limits::BUILD_BYTES_MAX)?;
    if hello.build.chars().any(char::is_control) {
        return Err(Error::field("hello.build", "must not contain control characters"));
    }
    at_most("hello.runtime", hello.runtime.len(), limits::NAME_BYTES_MAX)?;
    let boot_id = hello.process.as_ref().map_or(0, |process| process.boot_id.len());
    at_most("hello.process.boot_id", boot_id, limits::BOOT_ID_BYTES_MAX)?;
    at_most("hello.session_secret", hello.session_secret.len(), limits::SESSION_SECRET_BYTES_MAX)?;
    at_most("hello.elves", hello.elves.len(), limits::ELVES_PER_SESSION_MAX)?;

    let mut declared = Declared {
        hello: Hello {
            request: RequestId::default(),
            instance,
            build: Build::new(&hello.build).unwrap_or_default(),
            resume: (hello.resume_session != 0).then_some(SessionId(hello.resume_session)),
            secret: secret_digest(&hello.session_secret),
            secret_new: None,
            elves: Vec::with_capacity(hello.elves.len()),
            held: tokens("hello.held", &hello.held)?,
            tells_starts: hello.tells_starts,
            knows_recall: hello.knows_recall,
            knows_drain: hello.knows_drain,
            needs_secret: false,
        },
        elf_revisions: Vec::with_capacity(hello.elves.len()),
        elves: Vec::new(),
        revisions: Vec::new(),
    };
    let mut names = HashSet::new();
    let mut windows = BTreeMap::new();
    for (index, window) in hello.windows.iter().enumerate() {
        let field = format!("hello.windows[{index}]");
        if windows.insert(window.elf.as_str(), checked_window(&field, window)?).is_some() {
            return Err(Error::field(field, format!("elf `{}` has a window already", window.elf)));
        }
    }
    for (index, elf) in hello.elves.iter().enumerate() {
        let field = format!("hello.elves[{index}]");
        let name: Arc<str> = Arc::from(elf.name.as_str());
        if !names.insert(Arc::clone(&name)) {
            return Err(Error::field(field, format!("elf `{name}` is declared twice")));
        }
        let offer = check_elf(&field, elf, &name, now, &mut declared)?;
        let window = windows.remove(elf.name.as_str()).unwrap_or_default();
        declared.hello.elves.push(ElfOffer { elf: name, tasks: offer, window });
    }
    if let Some(unknown) = windows.keys().next() {
        return Err(Error::field("hello.windows", format!("elf `{unknown}` is not declared")));
    }
    Ok(declared)
}

pub(crate) fn checked_window(field: &str, window: &v1::SetWindow) -> Result<Window, Error> {
    if window.window > limits::WINDOW_MAX {
        return Err(Error::field(
            format!("{field}.window"),
            format!("must be at most {}", limits::WINDOW_MAX),
        ));
    }
    if window.occupied > window.concurrency {
        return Err(Error::field(format!("{field}.occupied"), "must be at most `concurrency`"));
    }
    Ok(Window { jobs: window.window, concurrency: window.concurrency, occupied: window.occupied })
}

pub(crate) fn tokens(field: &str, tokens: &[v1::Token]) -> Result<Vec<Token>, Error> {
    at_most(field, tokens.len(), limits::HELD_MAX)?;
    tokens
        .iter()
        .enumerate()
        .map(|(index, one)| {
            token(one).ok_or_else(|| Error::field(format!("{field}[{index}].job_id"), "must be 16 bytes"))
        })
        .collect()
}

/// Reads which attempts were started, and how long ago.
pub(crate) fn starts(starts: &[v1::Start]) -> Result<Vec<Start>, Error> {
    at_most("starts", starts.len(), limits::HELD_MAX)?;
    let read = |(index, start): (usize, &v1::Start)| {
        let token = start.token.as_ref().and_then(token);
        let token = token
            .ok_or_else(|| Error::field(format!("starts[{index}].token"), "must name a job of 16 bytes"))?;
        Ok(Start { token, ago: how_long(start.ago).unwrap_or_default() })
    };
    starts.iter().enumerate().map(read).collect()
}

/// Reads for how long something took that an elf has measured; `None` if it does not say, or says what cannot be.
pub(crate) fn how_long(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration?.try_into().ok()
}

/// Reads a token; `None` if its job is not 16 bytes.
pub(crate) fn token(token: &v1::Token) -> Option<Token> {
    Some(Token { job: JobId::from_slice(&token.job_id)?, attempt: Attempt(token.attempt) })
}

fn check_elf(
    field: &str,
    elf: &v1::ElfDeclaration,
    name: &Arc<str>,
    now: Timestamp,
    declared: &mut Declared,
) -> Result<Vec<TaskOffer>, Error> {
    named(&format!("{field}.name"), &elf.name)?;
    let bytes = elf.encoded_len();
    if bytes > limits::ELF_BYTES_MAX {
        let max = limits::ELF_BYTES_MAX;
        return Err(Error::field(
            field,
            format!(
                "elf `{name}` takes {bytes} bytes with all its tasks, documentation, sources and schemas, and at most \
                {max} are allowed"
            ),
        ));
    }
    texts(field, &elf.docs, &elf.source)?;
    at_most(&format!("{field}.language"), elf.language.len(), limits::NAME_BYTES_MAX)?;
    at_most(&format!("{field}.tasks"), elf.tasks.len(), limits::TASKS_PER_ELF_MAX)?;
    let revision = checked_revision(field, &elf.revision, &elf.source)?;
    declared.elf_revisions.push(revision);
    declared.revisions.push(RevisionRecord {
        elf: Arc::clone(name),
        task: Arc::from(""),
        revision,
        first_seen: now,
        body: revision_body(name, "", revision, &elf.docs, "", &elf.source),
    });
    let mut tasks = Vec::with_capacity(elf.tasks.len());
    let mut names = HashSet::new();
    for (index, task) in elf.tasks.iter().enumerate() {
        let field = format!("{field}.tasks[{index}]");
        let revision = check_task(&field, task)?;
        let policy = policy::of_task(task)
            .map_err(|BadPolicy { field: of, problem }| Error::field(format!("{field}.{of}"), problem))?;
        let task_name: Arc<str> = Arc::from(task.name.as_str());
        if !names.insert(Arc::clone(&task_name)) {
            return Err(Error::field(field, format!("task `{task_name}` is declared twice")));
        }
        declared.revisions.push(RevisionRecord {
            elf: Arc::clone(name),
            task: Arc::clone(&task_name),
            revision,
            first_seen: now,
            body: revision_body(name, &task.name, revision, &task.docs, &task.signature, &task.source),
        });
        tasks.push(TaskOffer { task: task_name, revision, signature: core_signature(task), policy });
    }
    declared.elves.push(ElfRecord {
        name: Arc::clone(name),
        body: Bytes::from(elf.encode_to_vec()),
        first_seen: now,
        last_seen: now,
    });
    Ok(tasks)
}

fn check_task(field: &str, task: &v1::TaskDeclaration) -> Result<Revision, Error> {
    named(&format!("{field}.name"), &task.name)?;
    if !task.name.starts_with("task_") {
        return Err(Error::field(format!("{field}.name"), "must begin with `task_`"));
    }
    texts(field, &task.docs, &task.source)?;
    at_most(&format!("{field}.signature"), task.signature.len(), limits::SOURCE_BYTES_MAX)?;
    at_most(&format!("{field}.parameters"), task.parameters.len(), limits::PARAMETERS_MAX)?;
    at_most(&format!("{field}.outputs"), task.outputs.len(), limits::OUTPUTS_MAX)?;
    let parameters = task.parameters.iter().map(|parameter| (&parameter.name, &parameter.schema));
    distinct(&format!("{field}.parameters"), parameters)?;
    let outputs = task.outputs.iter().map(|output| (&output.name, &output.schema));
    distinct(&format!("{field}.outputs"), outputs)?;
    checked_revision(field, &task.revision, &task.source)
}

fn distinct<'a>(
    field: &str,
    named_schemas: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for (index, (name, schema)) in named_schemas.enumerate() {
        let field = format!("{field}[{index}]");
        named(&format!("{field}.name"), name)?;
        at_most(&format!("{field}.schema"), schema.len(), limits::SOURCE_BYTES_MAX)?;
        if !seen.insert(name) {
            return Err(Error::field(field, format!("`{name}` is declared twice")));
        }
    }
    Ok(())
}

fn named(field: &str, name: &str) -> Result<(), Error> {
    check_name(field, name).map_err(|error| Error::field(field, error.to_string()))
}

fn texts(field: &str, docs: &str, source: &str) -> Result<(), Error> {
    at_most(&format!("{field}.docs"), docs.len(), limits::SOURCE_BYTES_MAX)?;
    at_most(&format!("{field}.source"), source.len(), limits::SOURCE_BYTES_MAX)
}

fn at_most(field: &str, n: usize, max: usize) -> Result<(), Error> {
    if n > max { Err(Error::field(field, format!("must be at most {max} long"))) } else { Ok(()) }
}

fn checked_revision(field: &str, revision: &[u8], source: &str) -> Result<Revision, Error> {
    let field = format!("{field}.revision");
    let given = Revision::from_slice(revision)
        .ok_or_else(|| Error::field(field.as_str(), "must be 32 bytes, or empty"))?;
    if !source.is_empty() && Sha256::digest(source.as_bytes()).as_slice() != given.as_bytes() {
        return Err(Error::field(field, "is not the SHA-256 of `source`"));
    }
    Ok(given)
}

fn revision_body(
    elf: &str,
    task: &str,
    revision: Revision,
    docs: &str,
    signature: &str,
    source: &str,
) -> Bytes {
    let body = v1::Revision {
        revision: Bytes::copy_from_slice(revision.as_bytes()),
        elf: elf.to_owned(),
        task: task.to_owned(),
        first_seen: None,
        docs: docs.to_owned(),
        signature: signature.to_owned(),
        source: source.to_owned(),
    };
    Bytes::from(body.encode_to_vec())
}
