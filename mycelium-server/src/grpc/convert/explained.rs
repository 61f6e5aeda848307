//! Why a job is where it is.

use mycelium_core::JobView;
use mycelium_core::status::ExpiredWhy;
use mycelium_proto::v1;

use super::{attempt_name, duration, id, job, pause, timestamp, unfinished_job};
use crate::queries::Job;
use crate::queries::explain::{Evaluated, LastFailure, Reason, Unfit};

pub(crate) fn explained(of: &Job, reason: Reason) -> v1::ExplainJobResponse {
    use v1::wait_reason::Kind;
    let message = job(of);
    let jobs = |views: Vec<JobView>| views.iter().map(unfinished_job).collect();
    let kind = match reason {
        Reason::Ended => Kind::Ended(v1::JobEnded {
            status: message.status,
            failure_id: message.failure_id.clone(),
            cause_job_id: message.cause_job_id.clone(),
            expired: expired(of).into(),
        }),
        Reason::WaitsForJobs { count, jobs: some } => {
            Kind::WaitsForJobs(v1::WaitsForJobs { count, jobs: jobs(some) })
        }
        Reason::Evaluating(what) => {
            let what = match what {
                Evaluated::Condition => v1::EvaluatingWhat::Condition,
                Evaluated::Elements => v1::EvaluatingWhat::Elements,
                Evaluated::Outputs => v1::EvaluatingWhat::Outputs,
            };
            Kind::Evaluating(v1::Evaluating { what: what.into() })
        }
        Reason::WaitsForElements { elements, unfinished, jobs: some } => {
            Kind::WaitsForElements(v1::WaitsForElements { elements, unfinished, jobs: jobs(some) })
        }
        Reason::NotSealed { submission } => {
            Kind::NotSealed(v1::NotSealed { submission_id: id(submission.as_bytes()) })
        }
        Reason::Suspected { elves_lost, isolated, instances, kept } => Kind::Suspected(v1::Suspected {
            elves_lost,
            isolated,
            instances,
            kept_instance_id: kept.map(|(instance, _)| id(instance.as_bytes())).unwrap_or_default(),
            kept_holds: kept.map(|(_, holds)| holds).unwrap_or_default(),
        }),
        Reason::HandedBack { times, until } => {
            Kind::HandedBack(v1::HandedBack { times, until: Some(timestamp(until)) })
        }
        Reason::Paused { pauses } => Kind::Paused(v1::Paused { pauses: pauses.iter().map(pause).collect() }),
        Reason::Delayed { until } => Kind::Delayed(v1::Delayed { until: Some(timestamp(until)) }),
        Reason::BackingOff { failed, failed_max, until, failure } => {
            let backing_off =
                v1::BackingOff { failed, failed_max, until: Some(timestamp(until)), ..Default::default() };
            Kind::BackingOff(match failure {
                Some(LastFailure { id: failure, kind, message }) => v1::BackingOff {
                    failure_id: id(failure.as_bytes()),
                    failure_type: kind,
                    failure_message: message,
                    ..backing_off
                },
                None => backing_off,
            })
        }
        Reason::HeldByAncestors { attempts } => Kind::HeldByAncestors(v1::HeldByAncestors {
            attempts: attempts.iter().map(attempt_name).collect(),
        }),
        Reason::NoInstance { elf_known, instances } => {
            Kind::NoInstance(v1::NoInstance { elf_known, instances })
        }
        Reason::NoFittingInstance { instances, unfit } => Kind::NoFittingInstance(v1::NoFittingInstance {
            instances,
            unfit: unfit.into_iter().map(unfit_instance).collect(),
        }),
        Reason::NoFreeWindow { instances, draining, window, held, jobs_before, late_by } => {
            Kind::NoFreeWindow(v1::NoFreeWindow {
                instances,
                window: u32::try_from(window).unwrap_or(u32::MAX),
                held: u32::try_from(held).unwrap_or(u32::MAX),
                jobs_before,
                late_by: late_by.map(duration),
                draining,
            })
        }
        Reason::Held { running, connected, late_by } => Kind::Held(v1::HeldByInstance {
            instance_id: id(running.instance.as_bytes()),
            connected,
            since: Some(timestamp(running.since)),
            started_at: running.started.map(timestamp),
            late_by: late_by.map(duration),
        }),
    };
    v1::ExplainJobResponse { job: Some(message), reason: Some(v1::WaitReason { kind: Some(kind) }) }
}

/// Which of its times was over, if it is EXPIRED.
fn expired(of: &Job) -> v1::ExpiredWhy {
    let why = match of {
        Job::Finished(record) => record.end.expired(),
        Job::Unfinished(_) => None,
    };
    match why {
        None => v1::ExpiredWhy::Unspecified,
        Some(ExpiredWhy::Queue) => v1::ExpiredWhy::Queue,
        Some(ExpiredWhy::Total) => v1::ExpiredWhy::Total,
    }
}

fn unfit_instance(unfit: Unfit) -> v1::UnfitInstance {
    let Unfit { session, instance, process, lacks } = unfit;
    v1::UnfitInstance {
        instance_id: id(instance.as_bytes()),
        session: session.0,
        process_id: process.as_ref().map_or(0, |process| process.id),
        host: process.map(|process| process.host).unwrap_or_default(),
        lacks,
    }
}
