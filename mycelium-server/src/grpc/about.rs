//! What a call that changes something is about, in the words of the audit. Requests are not checked yet, and what they name need
//! not be there.

use std::fmt::Display;

use bytes::Bytes;
use mycelium_proto::v1;
use uuid::Uuid;

/// How many of several are named; the rest are counted.
const NAMED_MAX: usize = 3;

pub(super) fn submission(request: &v1::SubmitJobsRequest) -> String {
    match request.flow_name.as_str() {
        "" => format!("flow {}", id(&request.flow_id)),
        name => format!("flow {} `{name}`", id(&request.flow_id)),
    }
}

pub(super) fn cancelled(request: &v1::CancelJobsRequest) -> String {
    use v1::cancel_jobs_request::Scope;
    match &request.scope {
        Some(Scope::FlowId(flow)) => format!("flow {}", id(flow)),
        Some(Scope::Jobs(jobs)) => several("job", jobs.job_ids.iter().map(id)),
        None => String::new(),
    }
}

pub(super) fn retried(request: &v1::RetryJobsRequest) -> String {
    use v1::retry_jobs_request::Scope;
    match &request.scope {
        Some(Scope::FlowId(flow)) => format!("flow {}", id(flow)),
        Some(Scope::Jobs(jobs)) => several("job", jobs.job_ids.iter().map(id)),
        None => String::new(),
    }
}

pub(super) fn started(request: &v1::StartJobsRequest) -> String {
    several("job", request.jobs.iter().flat_map(|jobs| &jobs.job_ids).map(id))
}

pub(super) fn deleted_flows(request: &v1::DeleteFlowsRequest) -> String {
    several("flow", request.flow_ids.iter().map(id))
}

pub(super) fn deleted_jobs(request: &v1::DeleteJobsRequest) -> String {
    several("job", request.job_ids.iter().map(id))
}

pub(super) fn pinned(request: &v1::PinFlowsRequest) -> String {
    let flows = several("flow", request.flow_ids.iter().map(id));
    if request.unpin { format!("no longer {flows}") } else { flows }
}

pub(super) fn paused(request: &v1::PauseRequest) -> String {
    target(request.target.as_ref())
}

pub(super) fn resumed(request: &v1::ResumeRequest) -> String {
    target(request.target.as_ref())
}

fn target(target: Option<&v1::PauseTarget>) -> String {
    use v1::pause_target::Kind;
    match target.and_then(|target| target.kind.as_ref()) {
        Some(Kind::All(_)) => "all".to_owned(),
        Some(Kind::Elf(elf)) => format!("elf {elf}"),
        Some(Kind::Task(task)) => format!("task {} of elf {}", task.task, task.elf),
        Some(Kind::FlowId(flow)) => format!("flow {}", id(flow)),
        None => String::new(),
    }
}

pub(super) fn drained(request: &v1::DrainInstanceRequest) -> String {
    format!("process {}", id(&request.instance_id))
}

pub(super) fn action(request: &v1::StartActionRequest) -> String {
    let kind = request.kind().as_str_name().trim_start_matches("ACTION_KIND_").to_lowercase();
    format!("{kind} `{}`, action {}", request.filter, id(&request.action_id))
}

pub(super) fn elves(hello: &v1::Hello) -> String {
    several("elf", hello.elves.iter().map(|elf| &elf.name))
}

/// `job A`, or `job A, B, C and 4 more`.
fn several(what: &str, names: impl Iterator<Item = impl Display>) -> String {
    let mut text = what.to_owned();
    let mut names = names.enumerate();
    for (index, name) in names.by_ref().take(NAMED_MAX) {
        text += &format!("{}{name}", if index == 0 { " " } else { ", " });
    }
    match names.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// As people write it, whatever was sent in its place.
fn id(bytes: &Bytes) -> String {
    match Uuid::from_slice(bytes) {
        Ok(id) => id.to_string(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_named_and_the_rest_are_counted() {
        assert_eq!(several("elf", ["a"].iter()), "elf a");
        assert_eq!(several("elf", ["a", "b", "c"].iter()), "elf a, b, c");
        assert_eq!(several("elf", ["a", "b", "c", "d", "e"].iter()), "elf a, b, c and 2 more");
        assert_eq!(id(&Bytes::from_static(b"short")), "?");
    }
}
