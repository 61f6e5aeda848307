use std::sync::Arc;

use crate::command::OutcomeResult;
use crate::effects::{Effects, End, JobRecord};
use crate::ids::{Attachment, JobNumber, SessionId, Steady};
use crate::image::{Image, LiveJob, PropagationRecord};
use crate::status::Status;
use crate::testing::{TestEnv, assigned, ends, id, job, offer, token};
use crate::{Config, Core, RestoreError};

/// What a store holds after these effects, in which no job may have ended.
fn image(all: &[&Effects]) -> (Image, Vec<LiveJob>) {
    let mut image = Image::default();
    let mut jobs: Vec<LiveJob> = Vec::new();
    for effects in all {
        image.counters = effects.counters.unwrap();
        image.flows.extend(effects.records.flows.clone());
        image.sessions.extend(effects.records.sessions_opened.clone());
        for write in &effects.jobs {
            jobs.retain(|job| job.head.id != write.id);
            if let JobRecord::Live(live) = &write.after {
                jobs.push(live.clone());
            }
        }
    }
    (image, jobs)
}

fn restore(image: Image, jobs: Vec<LiveJob>) -> Result<Core, RestoreError> {
    let mut restore = Core::restore(Config::default(), Steady(5));
    jobs.into_iter().try_for_each(|job| restore.job(job))?;
    restore.finish(image)
}

/// 1 is running, 1 -> 2.
fn running() -> (Image, Vec<LiveJob>) {
    let mut env = TestEnv::new();
    let submitted = env.submit(vec![job(1, &[]), job(2, &[1])]);
    let connected = env.hello(1, None, vec![offer(1, 1)], vec![]);
    image(&[&submitted, &connected])
}

#[test]
fn a_restart_does_not_restart_what_runs() {
    let (image, mut jobs) = running();
    jobs.reverse();
    let mut env = TestEnv::new();
    env.core = restore(image, jobs).unwrap();
    env.core.check_invariants().unwrap();
    assert_eq!((env.status(1), env.status(2)), (Some(Status::Running), Some(Status::Pending)));
    assert_eq!(env.core.next_deadline(), Some(Steady(5).after(Config::default().lease)));
    let effects = env.hello(1, Some(1), vec![offer(1, 1)], vec![token(1, 1)]);
    assert_eq!(assigned(&effects), []);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!(assigned(&effects), [(1, token(2, 1))]);
}

#[test]
fn a_propagation_goes_on_after_a_restart() {
    let (mut image, jobs) = running();
    // Job 1 has failed and is finished; the store knows that its dependents have not ended.
    let jobs = jobs.into_iter().filter(|job| job.head.id == id(2)).collect();
    image.propagations.push(PropagationRecord { cause: id(1) });
    let mut env = TestEnv::new();
    env.core = restore(image, jobs).unwrap();
    assert!(env.core.has_work());
    let effects = env.run_out();
    assert_eq!(ends(&effects), [(id(2), End::UpstreamFailed(id(1)))]);
    assert_eq!(effects[0].records.propagations_ended, [PropagationRecord { cause: id(1) }]);
}

#[test]
fn damaged_records_are_errors() {
    let damage = |change: &dyn Fn(&mut Image, &mut Vec<LiveJob>)| {
        let (mut image, mut jobs) = running();
        jobs.sort_by_key(|job| job.head.number);
        change(&mut image, &mut jobs);
        restore(image, jobs).map(|_| ()).unwrap_err()
    };
    let flow = crate::testing::FLOW;
    assert_eq!(damage(&|image, _| image.flows.clear()), RestoreError::FlowMissing { job: id(1), flow });
    let session = SessionId(1);
    assert_eq!(
        damage(&|image, _| image.sessions.clear()),
        RestoreError::SessionMissing { job: id(1), session }
    );
    assert!(matches!(damage(&|_, jobs| jobs.push(jobs[0].clone())), RestoreError::Duplicate(_)));
    assert!(matches!(damage(&|image, _| image.counters.job = JobNumber(1)), RestoreError::NumberNotGiven(_)));
    assert_eq!(damage(&|_, jobs| jobs[0].waits_for.push(id(2))), RestoreError::RunningImpossible(id(1)));
    let later = RestoreError::DependencyLater { job: id(2), on: id(1) };
    let swap = |_: &mut Image, jobs: &mut Vec<LiveJob>| {
        jobs[0].running = None;
        jobs[0].head.number = JobNumber(2);
        jobs[1].head.number = JobNumber(1);
        jobs[1].head.elf = Arc::from("elf");
    };
    assert_eq!(damage(&swap), later);
}
