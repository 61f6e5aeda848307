//! `mycelium job`.

use std::fmt::Write as _;

use anyhow::Context as _;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::{
    Attempt, Failure, FailureGroup, GetFailureRequest, GetFlowRequest, GetJobRequest, Job, JobSpec,
    JobStatus, JobValues, ListAttemptsRequest, NamedOutput, TraceContext, get_flow_request,
};

use super::{client, failure};
use crate::output::format::{self, count};
use crate::output::{Json, Output};
use crate::views::{Outline, Payload, status_name, values_json, values_of, view, views};

/// The most characters of one value that people are shown; programs get all of it.
const VALUE_CHARS_MAX: usize = 1_000;
/// How many of the jobs that its values come from people are shown.
const ORIGINS_MAX: usize = 20;
/// How many of a failure's latest occurrences are searched for the job's own, if the broker is of an earlier version and
/// does not answer with it.
const OCCURRENCES_MAX: u32 = 50;

/// Shows a job: how it stands, what it was given, what it returned, and why it failed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Values are written as expressions: `heavy = weight * 2   where weight = scale.task_weigh#1a2b3c4d.weight`, \
    where the digits are the end of the job's id; below stands what they come to, once that can be known.\n\n\
    JSON: a job as in `mycelium jobs`, and arguments: [{parameter, node}], nodes, values: [{kind (VALUE, CONDITION or \
    ELEMENT), parameter, node, expression, outputs: [{name, job_id, output}], encoding, bytes, begin, value, error, \
    origin_job_ids}], origins: [job], after: [job_id], spec_truncated (true if nodes or after are \
    incomplete because there is too much of them), run_if (null or node), for_each (null or {list: node}), element_of \
    (null or {job_id, index}), trace (null or {trace_parent, trace_state}), outputs: [{name, encoding, bytes, value, blob}], failure (null, or as in `mycelium \
    failures`, with the message of this job), attempts (null unless asked for: [{number, session, instance_id, revision, build, \
    assigned_at, ended_at, end}], where end is RETURNED, FAILED, CANCELLED, HANDED_BACK, NOT_HELD, ELF_LOST, \
    ELF_LOST_BEFORE, or null while it is under way). Nodes are {kind: literal, encoding, bytes, value, blob}, {kind: output, \
    job_id, output}, {kind: list, items: [node]}, {kind: map, entries: [{key, node}]}, {kind: operation, name, inputs: \
    [node], body (null, or {nodes, result})} or, in a body, {kind: body_input, input} (outside of a body: 0 is the \
    element that a job with for_each is run for, 1 its index), where a node is an index into nodes. A value is null if \
    its encoding is not application/json, or if it is large: then blob is the SHA-256 of its bytes, and else null."
)]
pub(crate) struct Args {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Shows its attempts too: who ran it when, and how each ended.
    #[arg(long)]
    attempts: bool,
}

/// What is shown of a job.
struct Details {
    job: Job,
    spec: JobSpec,
    /// Whether something of it is left out.
    is_spec_cut: bool,
    values: JobValues,
    outputs: Vec<NamedOutput>,
    failure: Option<FailureGroup>,
    /// Set if they were asked for.
    attempts: Option<Vec<Attempt>>,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let details = fetch(mycelium, &args).await?;
    if output.is_json() {
        return Ok(output.json(&json(&details))?);
    }
    let flow = get_flow_request::Flow::FlowId(details.job.flow_id.clone());
    let request = GetFlowRequest { flow: Some(flow), ..GetFlowRequest::default() };
    let flow = mycelium.get_flow(request).await?.flow.unwrap_or_default();
    Ok(output.text(&describe(&details, &flow.name))?)
}

async fn fetch(mycelium: &Mycelium, args: &Args) -> anyhow::Result<Details> {
    let id = args.job;
    let request = GetJobRequest {
        job_id: client::job_bytes(id),
        include_spec: true,
        include_values: true,
        // As much as the client takes.
        answer_bytes_max: u32::try_from(limits::MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
        ..GetJobRequest::default()
    };
    let answer = mycelium.get_job(request).await?;
    let job = answer.job.context("the broker's answer lacks the job")?;
    let spec = answer.spec.unwrap_or_default();
    let values = answer.values.unwrap_or_default();
    let outputs = match job.status() {
        JobStatus::Done => mycelium.outputs_unread(id).await?.outputs,
        JobStatus::Unspecified
        | JobStatus::Pending
        | JobStatus::Ready
        | JobStatus::Assigned
        | JobStatus::Running
        | JobStatus::Failed
        | JobStatus::UpstreamFailed
        | JobStatus::Cancelled
        | JobStatus::Expired
        | JobStatus::Skipped => Vec::new(),
    };
    let failure =
        if job.failure_id.is_empty() { None } else { own_failure(mycelium, &job, answer.failure).await? };
    let attempts = if args.attempts {
        let request = ListAttemptsRequest { job_id: client::job_bytes(id), ..ListAttemptsRequest::default() };
        Some(mycelium.list_attempts(request).await?.attempts)
    } else {
        None
    };
    Ok(Details { job, spec, is_spec_cut: answer.spec_bytes > 0, values, outputs, failure, attempts })
}

/// The failure of a job and how often it was seen, with the message of the job's own occurrence.
async fn own_failure(
    mycelium: &Mycelium,
    job: &Job,
    own: Option<Failure>,
) -> anyhow::Result<Option<FailureGroup>> {
    let request = GetFailureRequest {
        failure_id: job.failure_id.clone(),
        page_size: if own.is_some() { 1 } else { OCCURRENCES_MAX },
        ..GetFailureRequest::default()
    };
    let answer = mycelium.get_failure(request).await?;
    let Some(mut group) = answer.failure else { return Ok(None) };
    if own.is_some() {
        group.failure = own;
        return Ok(Some(group));
    }
    let own = answer.occurrences.into_iter().find(|occurrence| occurrence.job_id == job.job_id);
    if let (Some(failure), Some(own)) = (&mut group.failure, own) {
        failure.message = own.message;
        failure.details = own.details;
    }
    Ok(Some(group))
}

fn json(details: &Details) -> Json {
    let failure = details.failure.as_ref().filter(|group| group.failure.is_some());
    // The fields of the job win over those of its specification: they are current.
    view(&details.job)
        .and(view(&details.spec))
        .with("values", values_json(&details.values, Some(&details.spec.nodes)))
        .with("origins", views(&details.values.origins))
        .with("spec_truncated", details.is_spec_cut)
        .with("outputs", views(&details.outputs))
        .with("failure", failure.map(view))
        .with("attempts", details.attempts.as_deref().map(views))
}

fn describe(details: &Details, flow_name: &str) -> String {
    let Details { job, spec, is_spec_cut, values, outputs, failure, attempts } = details;
    let mut text = format!("{} of {}\n", format::one_line(&job.task), format::one_line(&job.elf));
    let mut field = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<11}{}", format::one_line(&value));
    };
    field("job", format::id(&job.job_id));
    field("flow", format!("{} ({})", format::id(&job.flow_id), format::name(flow_name)));
    field("status", status_name(job.status()).to_owned());
    if job.waiting_for > 0 {
        field("waits for", count(job.waiting_for.into(), "job"));
    }
    if job.priority != 0 {
        field("priority", job.priority.to_string());
    }
    for (key, value) in &job.labels {
        field("label", format!("{key}={value}"));
    }
    field("attempt", job.attempt.to_string());
    if job.elves_lost > 0 {
        field("elves lost", job.elves_lost.to_string());
    }
    if job.failed_attempts > 0 {
        field("failed", count(job.failed_attempts.into(), "attempt"));
    }
    field("submitted", format!("{} UTC", format::utc(job.submitted_at.as_ref())));
    if job.not_before.is_some() {
        field("not before", format!("{} UTC", format::utc(job.not_before.as_ref())));
    }
    if job.expires_at.is_some() {
        field("expires", format!("{} UTC", format::utc(job.expires_at.as_ref())));
    }
    if job.started_at.is_some() {
        field("started", format!("{} UTC", format::utc(job.started_at.as_ref())));
    }
    if let Some(progress) = &job.progress {
        let at = format::utc(progress.reported_at.as_ref());
        field("progress", format!("{}, at {at} UTC", format::progress(progress)));
    }
    if job.finished_at.is_some() {
        let ran = format::between(job.started_at.as_ref(), job.finished_at.as_ref());
        field("finished", format!("{} UTC, ran {ran}", format::utc(job.finished_at.as_ref())));
    }
    if !job.revision.is_empty() {
        field("revision", format::short_digest(&job.revision));
    }
    if !job.build.is_empty() {
        field("build", job.build.clone());
    }
    if let Some(cause) = format::id_if_any(&job.cause_job_id) {
        field("because of", cause);
    }
    for after in &spec.after {
        field("after", format::id(after));
    }
    if let Some(element) = &spec.element_of {
        field("element", format!("{} of the list of {}", element.index, format::id(&element.job_id)));
    }
    if let Some(elements) = job.elements {
        field("elements", elements.to_string());
    }
    if *is_spec_cut {
        field("", "its specification is too large to be shown whole".to_owned());
    }
    if let Some(trace) = spec.trace.as_ref().and_then(TraceContext::trace_id) {
        field("trace", trace.to_owned());
    }
    for attempt in attempts.iter().flatten() {
        field(&format!("attempt {}", attempt.number), attempt_line(attempt));
    }
    push_values(&mut text, job, spec, values);
    for output in outputs {
        let value = output.payload.as_ref().map(|payload| Payload::from(payload).text()).unwrap_or_default();
        push_value(&mut text, "returned", &output.name, &value);
    }
    if let Some((group, of)) = failure.as_ref().and_then(|group| Some((group, group.failure.as_ref()?))) {
        let _infallible =
            write!(text, "\nfailure {}\n{}", format::id(&group.failure_id), failure::describe(of));
    }
    text
}

/// How an attempt went, in one line.
fn attempt_line(attempt: &Attempt) -> String {
    let how = match attempt.end.map(|_| attempt.end().as_str_name()) {
        Some(name) => name.strip_prefix("ATTEMPT_END_").unwrap_or(name).replace('_', " ").to_lowercase(),
        None if attempt.started_at.is_none() => "not begun yet".to_owned(),
        None => "under way".to_owned(),
    };
    let assigned = format::utc(attempt.assigned_at.as_ref());
    let after = match (&attempt.started_at, &attempt.ended_at) {
        (Some(started_at), Some(ended_at)) => {
            format!(" after {}", format::between(Some(started_at), Some(ended_at)))
        }
        (None, Some(ended_at)) => {
            let held = format::between(attempt.assigned_at.as_ref(), Some(ended_at));
            format!(" {held} after it was assigned")
        }
        (_, None) => String::new(),
    };
    let session = match attempt.session {
        // It was not stored, long ago.
        0 => String::new(),
        session => format!("session {session} of "),
    };
    let instance = format::id(&attempt.instance_id);
    let build = if attempt.build.is_empty() { String::new() } else { format!(", build {}", attempt.build) };
    let failure =
        format::id_if_any(&attempt.failure_id).map(|id| format!(", failure {id}")).unwrap_or_default();
    format!("{how}{after}, assigned {assigned} UTC to {session}instance {instance}{build}{failure}")
}

/// What it was given, or will be, and the jobs that comes from.
fn push_values(text: &mut String, job: &Job, spec: &JobSpec, values: &JobValues) {
    let jobs = Outline::of(values.origins.iter().chain([job]));
    for value in values_of(values, Some(&spec.nodes)) {
        let _infallible = writeln!(text, "  {:<11}{}", "takes", value.definition(&jobs, VALUE_CHARS_MAX));
        if let Some(result) = value.result(VALUE_CHARS_MAX) {
            let _infallible = writeln!(text, "  {:<11}  {result}", "");
        }
    }
    for origin in values.origins.iter().take(ORIGINS_MAX) {
        let (name, status) = (jobs.name(&origin.job_id), status_name(origin.status()));
        let _infallible = writeln!(text, "  {:<11}{name}  {status}  {}", "from", format::id(&origin.job_id));
    }
    if let Some(more) = values.origins.len().checked_sub(ORIGINS_MAX).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "  {:<11}{more} more", "from");
    }
}

fn push_value(text: &mut String, verb: &str, name: &str, value: &str) {
    let (name, value) = (format::one_line(name), format::shorten(value, VALUE_CHARS_MAX));
    let _infallible = writeln!(text, "  {verb:<11}{name} = {value}");
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{
        self, Argument, ElementOf, ForEach, JobEdgeKind, JobValue, OutputRef, ValueNode, payload,
        value_node::Kind,
    };
    use serde_json::json;

    use super::*;

    fn details() -> Details {
        let node = |kind| ValueNode { kind: Some(kind) };
        let content = Some(payload::Content::Inline("true".into()));
        let list = OutputRef { job_id: vec![0x11; 16].into(), name: String::new() };
        let spec = JobSpec {
            nodes: vec![
                node(Kind::BodyInput(0)),
                node(Kind::Literal(v1::Payload { content, ..v1::Payload::default() })),
                node(Kind::Output(list)),
            ],
            arguments: vec![Argument { parameter: "species".to_owned(), node: 0 }],
            run_if: Some(1),
            for_each: Some(ForEach { list: 2 }),
            element_of: Some(ElementOf { job_id: vec![0x22; 16].into(), index: 3 }),
            ..JobSpec::default()
        };
        let job = Job { status: JobStatus::Skipped.into(), elements: Some(4), ..Job::default() };
        let value = |kind: JobEdgeKind, parameter: &str, node| JobValue {
            kind: kind.into(),
            parameter: parameter.to_owned(),
            node,
            ..JobValue::default()
        };
        let values = vec![
            value(JobEdgeKind::Value, "species", 0),
            value(JobEdgeKind::Condition, "", 1),
            value(JobEdgeKind::Element, "", 2),
        ];
        let values = JobValues { values, ..JobValues::default() };
        let outputs = Vec::new();
        Details { job, spec, is_spec_cut: false, values, outputs, failure: None, attempts: None }
    }

    #[test]
    fn attempts_are_shown_if_they_are_asked_for() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let attempt = |number, end: Option<v1::AttemptEnd>| Attempt {
            number,
            session: 5,
            instance_id: vec![0x33; 16].into(),
            assigned_at: at(60),
            started_at: at(61),
            ended_at: end.and_then(|_| at(63)),
            end: end.map(Into::into),
            ..Attempt::default()
        };
        let unstarted = Attempt { started_at: None, ..attempt(3, Some(v1::AttemptEnd::NotHeld)) };
        let waiting = Attempt { started_at: None, ..attempt(4, None) };
        let attempts =
            vec![attempt(1, Some(v1::AttemptEnd::HandedBack)), attempt(2, None), unstarted, waiting];
        let details = Details { attempts: Some(attempts), ..details() };
        let text = describe(&details, "daily");
        let who = "assigned 1970-01-01 00:01:00 UTC to session 5 of instance 33333333-3333-3333-3333-333333333333\n";
        for line in [
            format!("  attempt 1  handed back after 2.0 s, {who}"),
            format!("  attempt 2  under way, {who}"),
            format!("  attempt 3  not held 3.0 s after it was assigned, {who}"),
            format!("  attempt 4  not begun yet, {who}"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        let shown = serde_json::to_value(super::json(&details)).unwrap_or_default();
        assert_eq!(shown["attempts"][0]["end"], json!("HANDED_BACK"));
        assert_eq!(
            (&shown["attempts"][1]["number"], &shown["attempts"][1]["end"]),
            (&json!(2), &json!(null))
        );
    }

    #[test]
    fn conditions_lists_and_elements_are_shown() {
        let text = describe(&details(), "daily");
        for line in [
            "  status     SKIPPED\n",
            "  element    3 of the list of 22222222-2222-2222-2222-222222222222\n",
            "  elements   4\n",
            "  takes      run_if = true\n",
            "  takes      for_each = value   where value = #11111111-1111-1111-1111-111111111111\n",
            "  takes      species = element\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let details = details();
        let shown = serde_json::to_value(super::json(&details)).unwrap_or_default();
        assert_eq!((&shown["status"], &shown["elements"]), (&json!("SKIPPED"), &json!(4)));
        assert_eq!((&shown["run_if"], &shown["for_each"]), (&json!(1), &json!({"list": 2})));
        assert_eq!(
            shown["element_of"],
            json!({"job_id": "22222222-2222-2222-2222-222222222222", "index": 3})
        );
    }
}
