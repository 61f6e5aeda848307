//! Messages of what queries answer.

use bytes::Bytes;
use mycelium_core::ids::Attempt;
use mycelium_core::image::{AttemptEnd, Running};
use mycelium_core::{FlowView, InstanceView};
use mycelium_proto::v1;

use super::{build_of, id, job, pause, revision_of, status, timestamp};
use crate::broker::{Fate, Judged};
use crate::queries::Job;
use crate::queries::attempts::Attempts;
use crate::queries::elves::{Elf, Instance, RevisionView};
use crate::queries::failures::FailureGroup;
use crate::queries::graph::{EdgeKind, Graph, JobEdge};
use crate::queries::jobs::JobOutputs;
use crate::queries::lineage::Lineage;
use crate::queries::values::{JobValue, JobValues};
use crate::store::OccurrenceRecord;
use crate::values::Preview;

pub(crate) fn flow(view: &FlowView) -> v1::Flow {
    let FlowView { record, pending, ready, assigned, running } = view;
    v1::Flow {
        flow_id: id(record.id.as_bytes()),
        name: record.name.as_ref().to_owned(),
        labels: (&record.labels).into(),
        on_behalf_of: record.on_behalf_of.as_ref().map(super::attempt_name),
        created_at: Some(timestamp(record.created_at)),
        counts: Some(v1::JobCounts {
            pending: *pending,
            ready: *ready,
            running: assigned + running,
            assigned: *assigned,
            done: record.finished.done,
            failed: record.finished.failed,
            upstream_failed: record.finished.upstream_failed,
            cancelled: record.finished.cancelled,
            skipped: record.finished.skipped,
            expired: record.finished.expired,
        }),
        pinned: record.pinned,
        deleted_at: record.deleted_at.map(timestamp),
    }
}

pub(crate) fn flow_deletion(judged: &Judged) -> v1::FlowDeletion {
    let (fate, used_by) = match &judged.fate {
        Fate::Whole => (v1::FlowFate::Whole, None),
        Fate::Stub => (v1::FlowFate::Stub, None),
        Fate::Unfinished => (v1::FlowFate::Unfinished, None),
        Fate::Pinned => (v1::FlowFate::Pinned, None),
        Fate::Used(by) => (v1::FlowFate::Used, Some(by)),
        Fate::PartlyNamed => (v1::FlowFate::PartlyNamed, None),
        Fate::TooMany => (v1::FlowFate::TooMany, None),
        Fate::NotFound => (v1::FlowFate::NotFound, None),
    };
    v1::FlowDeletion {
        flow_id: id(judged.flow.as_bytes()),
        fate: fate.into(),
        jobs: judged.jobs,
        used_by: used_by.map(|flow| id(flow.as_bytes())).unwrap_or_default(),
    }
}

pub(crate) fn attempts(attempts: &Attempts) -> v1::ListAttemptsResponse {
    let over = attempts.over.iter().map(|attempt| v1::Attempt {
        ended_at: Some(timestamp(attempt.ended_at)),
        end: Some(attempt_end(attempt.how).into()),
        failure_id: attempt.failure.map(|failure| id(failure.as_bytes())).unwrap_or_default(),
        ..assigned(attempt.number, attempt.held)
    });
    let under_way = attempts.under_way.map(|held| assigned(attempts.total, held));
    v1::ListAttemptsResponse { attempts: over.chain(under_way).collect(), attempts_total: attempts.total.0 }
}

/// An attempt that is under way.
fn assigned(number: Attempt, held: Running) -> v1::Attempt {
    v1::Attempt {
        number: number.0,
        session: held.session.0,
        instance_id: id(held.instance.as_bytes()),
        revision: revision_of(held),
        build: build_of(held),
        assigned_at: Some(timestamp(held.since)),
        started_at: held.started.map(timestamp),
        ended_at: None,
        end: None,
        failure_id: Bytes::new(),
    }
}

fn attempt_end(how: AttemptEnd) -> v1::AttemptEnd {
    match how {
        AttemptEnd::Returned => v1::AttemptEnd::Returned,
        AttemptEnd::Failed => v1::AttemptEnd::Failed,
        AttemptEnd::Cancelled => v1::AttemptEnd::Cancelled,
        AttemptEnd::HandedBack => v1::AttemptEnd::HandedBack,
        AttemptEnd::NotHeld => v1::AttemptEnd::NotHeld,
        AttemptEnd::ElfLost => v1::AttemptEnd::ElfLost,
        AttemptEnd::ElfLostBefore => v1::AttemptEnd::ElfLostBefore,
        AttemptEnd::TimedOut => v1::AttemptEnd::TimedOut,
    }
}

pub(crate) fn job_outputs(of: JobOutputs) -> v1::JobOutputs {
    let JobOutputs { job, status: at, outputs } = of;
    let v1::Outputs { outputs } = outputs.into();
    v1::JobOutputs { job_id: id(job.as_bytes()), status: status(at).into(), outputs }
}

pub(crate) fn graph(graph: Graph) -> v1::GetGraphResponse {
    let Graph { jobs, edges, next, truncated, values } = graph;
    v1::GetGraphResponse {
        jobs: jobs.iter().map(job).collect(),
        edges: self::edges(edges),
        next_page_token: next,
        truncated,
        values: values.into_iter().map(self::values).collect(),
    }
}

pub(crate) fn lineage(lineage: Lineage) -> v1::GetLineageResponse {
    let Lineage { jobs, edges, next, values, truncated, jobs_left_out } = lineage;
    let lineage_job =
        |(of, distance): &(Job, u32)| v1::LineageJob { job: Some(job(of)), distance: *distance };
    v1::GetLineageResponse {
        jobs: jobs.iter().map(lineage_job).collect(),
        edges: self::edges(edges),
        next_page_token: next,
        values: values.into_iter().map(self::values).collect(),
        truncated,
        jobs_left_out: jobs_left_out as u64,
    }
}

fn edges(edges: Vec<JobEdge>) -> Vec<v1::JobEdge> {
    let edge = |JobEdge { from, to, output, parameter, kind }| v1::JobEdge {
        from_job_id: id(from.as_bytes()),
        to_job_id: id(to.as_bytes()),
        output,
        parameter,
        kind: edge_kind(kind).into(),
    };
    edges.into_iter().map(edge).collect()
}

fn edge_kind(kind: EdgeKind) -> v1::JobEdgeKind {
    match kind {
        EdgeKind::Value => v1::JobEdgeKind::Value,
        EdgeKind::Condition => v1::JobEdgeKind::Condition,
        EdgeKind::Element => v1::JobEdgeKind::Element,
        EdgeKind::After => v1::JobEdgeKind::After,
        EdgeKind::Gather => v1::JobEdgeKind::Gather,
    }
}

pub(crate) fn values(of: JobValues) -> v1::JobValues {
    let JobValues { job: of, nodes, values, origins } = of;
    v1::JobValues {
        job_id: id(of.as_bytes()),
        nodes: nodes.into(),
        values: values.into_iter().map(value).collect(),
        origins: origins.iter().map(job).collect(),
    }
}

fn value(value: JobValue) -> v1::JobValue {
    use v1::job_value::Known;
    let JobValue { into, parameter, node, known, origins } = value;
    v1::JobValue {
        kind: edge_kind(into).into(),
        parameter,
        node,
        known: known.map(|known| match known {
            Ok(Preview { encoding, begin, size }) => Known::Value(v1::ValuePreview { encoding, begin, size }),
            Err(error) => Known::Error(error.to_string()),
        }),
        origin_job_ids: origins.iter().map(|origin| id(origin.as_bytes())).collect(),
    }
}

pub(crate) fn elf(elf: Elf) -> v1::Elf {
    v1::Elf {
        first_seen: Some(timestamp(elf.first_seen)),
        last_seen: Some(timestamp(elf.last_seen)),
        jobs_ready: elf.jobs_ready,
        jobs_running: elf.jobs_assigned + elf.jobs_running,
        jobs_assigned: elf.jobs_assigned,
        instances: elf.instances.into_iter().map(instance).collect(),
        instances_total: elf.instances_total as u64,
        truncated: elf.truncated,
        pauses: elf.pauses.iter().map(pause).collect(),
        declaration: Some(elf.declaration.into()),
    }
}

fn instance(instance: Instance) -> v1::ElfInstance {
    let Instance { view, process, revision, differences } = instance;
    let InstanceView { session, instance, connected, draining, window, held, occupied } = view;
    v1::ElfInstance {
        instance_id: id(instance.as_bytes()),
        session: session.0,
        connected,
        window,
        held,
        occupied,
        process_id: process.as_ref().map_or(0, |process| process.id),
        host: process.as_ref().map(|process| process.host.clone()).unwrap_or_default(),
        build: process.map(|process| process.build).unwrap_or_default(),
        revision: revision.map(|revision| Bytes::copy_from_slice(revision.as_bytes())).unwrap_or_default(),
        differences,
        draining,
    }
}

pub(crate) fn revision(revision: RevisionView) -> v1::Revision {
    let RevisionView { document, first_seen } = revision;
    v1::Revision { first_seen: Some(timestamp(first_seen)), ..document.into() }
}

pub(crate) fn failure_group(group: FailureGroup) -> v1::FailureGroup {
    let FailureGroup { record, failure } = group;
    v1::FailureGroup {
        failure_id: id(record.id.as_bytes()),
        failure: Some(failure.into()),
        occurrences: record.occurrences,
        first_seen: Some(timestamp(record.first_seen)),
        last_seen: Some(timestamp(record.last_seen)),
        elf: record.elf.as_ref().to_owned(),
        task: record.task.as_ref().to_owned(),
    }
}

pub(crate) fn occurrence(occurrence: OccurrenceRecord) -> v1::FailureOccurrence {
    let OccurrenceRecord { job, attempt, at, message, details, cause_messages } = occurrence;
    v1::FailureOccurrence {
        job_id: id(job.as_bytes()),
        attempt: attempt.0,
        at: Some(timestamp(at)),
        message,
        details,
        cause_messages,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use mycelium_core::JobView;
    use mycelium_core::effects::{End, FinishedJob};
    use mycelium_core::ids::{
        Attempt, Build, ContentDigest, FailureId, FinishNumber, FlowId, InstanceId, JobId, Revision,
        SessionId, Timestamp,
    };
    use mycelium_core::image::{JobHead, PauseRecord, PauseTarget, Running, Tries};
    use mycelium_core::status::Status;
    use mycelium_values::Failure;
    use prost::Message;

    use super::*;
    use crate::broker::Process;
    use crate::documents::{self, Declaration, RevisionDocument, Spec};
    use crate::queries::page::Weigh;
    use crate::store::FailureRecord;
    use crate::values::PreviewError;

    const LATE: Timestamp = Timestamp(u64::MAX);

    /// What an entry takes in a list of a message.
    fn in_list(entry: &impl Message) -> usize {
        prost::encoding::message::encoded_len(15, entry)
    }

    fn text() -> String {
        "x".repeat(255)
    }

    /// Every field as large as it gets, with texts of 255 bytes.
    fn head() -> JobHead {
        JobHead {
            id: JobId::new([255; 16]),
            flow: FlowId::new([255; 16]),
            elf: Arc::from(text()),
            task: Arc::from(text()),
            labels: (0..16).map(|n| (format!("{n:064}"), text())).collect::<BTreeMap<_, _>>().into(),
            priority: i32::MIN,
            submitted_at: LATE,
            ..JobHead::default()
        }
    }

    fn running() -> Running {
        Running {
            session: SessionId(u64::MAX),
            instance: InstanceId::new([255; 16]),
            revision: Revision::new([255; 32]),
            build: Build::new(&"b".repeat(64)).unwrap(),
            since: LATE,
            started: Some(LATE),
        }
    }

    fn finished(has_failed: bool) -> Job {
        Job::Finished(FinishedJob {
            head: head(),
            finish_number: FinishNumber(u64::MAX),
            end: if has_failed {
                End::Failed(FailureId::new([255; 16]))
            } else {
                End::UpstreamFailed(JobId::new([255; 16]))
            },
            finished_at: LATE,
            attempt: Attempt(u32::MAX),
            elves_lost: u32::MAX,
            ran: Some(running()),
            attempts: Vec::new(),
            elements: Some(u32::MAX),
        })
    }

    fn unfinished() -> Job {
        Job::Unfinished(JobView {
            head: head(),
            status: Status::Running,
            digest: ContentDigest::default(),
            attempt: Attempt(u32::MAX),
            elves_lost: u32::MAX,
            waiting_for: u32::MAX,
            elements: Some(u32::MAX),
            running: Some(running()),
            unsealed: None,
            expires_at: Some(LATE),
            tries: Tries { failed: u32::MAX, failed_max: u32::MAX, not_before: Some(LATE) },
        })
    }

    #[test]
    fn what_queries_weigh_is_never_less_than_it_takes_in_an_answer() {
        for of in [unfinished(), finished(true), finished(false)] {
            let (takes, weighs) = (in_list(&job(&of)), of.bytes());
            assert!(takes <= weighs && weighs < takes + 256, "{takes} and {weighs}: {of:?}");
        }

        let (from, to) = (JobId::new([255; 16]), JobId::new([254; 16]));
        let edge = JobEdge { from, to, output: text(), parameter: text(), kind: EdgeKind::Gather };
        assert!(in_list(&edges(vec![edge.clone()])[0]) <= edge.bytes());

        let value = |known| JobValue {
            into: EdgeKind::Gather,
            parameter: text(),
            node: u32::MAX,
            known,
            origins: vec![from; 100],
        };
        let previewed = Preview { encoding: text(), begin: Bytes::from(vec![1; 4096]), size: u64::MAX };
        let literal = v1::Payload {
            encoding: text(),
            content: Some(v1::payload::Content::Inline(vec![1; 70_000].into())),
        };
        let node = v1::ValueNode { kind: Some(v1::value_node::Kind::Literal(literal)) };
        let spec = v1::JobSpec { nodes: vec![node; 3], ..v1::JobSpec::default() };
        let of_job = || JobValues {
            job: from,
            nodes: Spec::from(spec.clone()).into_nodes(),
            values: vec![
                value(None),
                value(Some(Err(PreviewError::Part(Failure::invalid(text()))))),
                value(Some(Ok(previewed.clone()))),
            ],
            origins: vec![unfinished(), unfinished()],
        };
        assert!(in_list(&values(of_job())) <= of_job().bytes());

        let shown = v1::Failure { message: "m".repeat(70_000), r#type: text(), ..v1::Failure::default() };
        let record = FailureRecord {
            id: FailureId::new([255; 16]),
            body: shown.encode_to_vec().into(),
            occurrences: u64::MAX,
            first_seen: LATE,
            last_seen: LATE,
            elf: Arc::from(text()),
            task: Arc::from(text()),
        };
        let failure = documents::Failure::decode(record.id, record.body.clone()).unwrap();
        let group = || FailureGroup { record: record.clone(), failure: failure.clone() };
        assert!(in_list(&failure_group(group())) <= group().bytes());
        let one = OccurrenceRecord {
            job: from,
            attempt: Attempt(u32::MAX),
            at: LATE,
            message: "m".repeat(70_000),
            details: "d".repeat(70_000),
            cause_messages: vec![text(); 10],
        };
        assert!(in_list(&occurrence(one.clone())) <= one.bytes());

        let view = InstanceView {
            session: SessionId(u64::MAX),
            instance: InstanceId::new([255; 16]),
            draining: false,
            connected: true,
            window: u32::MAX,
            held: u32::MAX,
            occupied: u32::MAX,
        };
        let process = Process {
            id: u32::MAX,
            host: text(),
            build: "b".repeat(64),
            elves: BTreeMap::new(),
            late_by: None,
        };
        let instance = || Instance {
            view,
            process: Some(process.clone()),
            revision: Some(Revision::new([255; 32])),
            differences: vec![text(); 16],
        };
        let pause = PauseRecord {
            target: PauseTarget::Task { elf: text().into(), task: text().into() },
            since: LATE,
            by: text().into(),
            reason: text().into(),
        };
        let declared = v1::ElfDeclaration { name: text(), ..v1::ElfDeclaration::default() };
        let of_elf = || Elf {
            declaration: Declaration::decode("e", declared.encode_to_vec().into()).unwrap(),
            truncated: true,
            first_seen: LATE,
            last_seen: LATE,
            jobs_ready: u64::MAX,
            jobs_assigned: u64::MAX / 2,
            jobs_running: u64::MAX / 2,
            instances: vec![instance(); 100],
            instances_total: usize::MAX,
            pauses: vec![pause.clone(); 100],
        };
        assert!(in_list(&elf(of_elf())) <= of_elf().bytes());
        let document = v1::Revision { source: "s".repeat(70_000), ..v1::Revision::default() };
        let document = RevisionDocument::decode("e", document.encode_to_vec().into()).unwrap();
        let of_revision = || RevisionView { document: document.clone(), first_seen: LATE };
        assert!(in_list(&revision(of_revision())) <= of_revision().bytes());
    }
}
