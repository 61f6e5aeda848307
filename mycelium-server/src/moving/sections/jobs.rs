//! Jobs, each with what was submitted: the finished ones in the order in which they finished, and the unfinished ones in
//! the order in which they were submitted.

mod lines;

use mycelium_core::effects::{End, FinishedJob};
use mycelium_core::ids::{Attempt, ContentDigest, FinishNumber, JobId, SubmissionId, Timestamp};
use mycelium_core::image::{LiveJob, Tries};
use serde::{Deserialize, Serialize};

use self::lines::{EndLine, Head, Held, PastLine, SpecLine};
use super::super::line::{self, Malformed};
use super::super::source::{Out, Source, Window, undamaged};
use super::super::text::{Hex, Moment, Text, ids, texts};
use super::{Error, PAGE, Section, missing_of};
use crate::store::{Batch, FinishedQuery, FinishedRecord, JobAfter, JobChange, Outline, SpecRecord, Storage};

/// Specifications are read together up to so many bytes, and so many of them: what a job returned is not more than 1 MiB.
const RUN_BYTES: usize = 8 * 1024 * 1024;
const RUN_JOBS: usize = 64;

#[derive(Default)]
pub(super) struct Finished;

#[derive(Serialize, Deserialize)]
struct FinishedLine {
    /// Its place in the order of finishing.
    finish: u64,
    finished: Moment,
    end: EndLine,
    attempt: u32,
    elves_lost: u32,
    ran: Option<Held>,
    elements: Option<u32>,
    attempts: Vec<PastLine>,
    job: Head,
    spec: SpecLine,
}

impl Section for Finished {
    const NAME: &'static str = "finished_jobs";
    /// The last finish number.
    type Place = u64;

    fn read(&mut self, source: &Source<'_>, place: &mut u64, out: &mut Out<'_>) -> Result<bool, Error> {
        let Some(window) = Window::after(*place, source.newest_finish.0, PAGE) else { return Ok(false) };
        let query = FinishedQuery {
            after: Some(FinishNumber(window.begin())),
            limit: window.len(),
            ..FinishedQuery::default()
        };
        let mut page = source.store.list_finished(&query).wait()?;
        undamaged(page.damaged)?;
        page.jobs.retain(|job| window.has(job.finish_number.0));
        page.jobs.reverse();
        let mut jobs = page.jobs.as_slice();
        let all: Vec<JobId> = jobs.iter().map(|job| job.head.id).collect();
        each_run(source.store, &all, |run, specs| {
            let outputs = source.store.outputs(run).wait()?;
            let (now, rest) = jobs.split_at(run.len());
            jobs = rest;
            for ((job, spec), outputs) in now.iter().zip(specs).zip(outputs) {
                let end = match job.end {
                    End::Done(()) => End::Done(outputs.ok_or_else(|| missing_of(job.head.id, "outputs"))?),
                    End::Failed(failure) => End::Failed(failure),
                    End::UpstreamFailed(cause) => End::UpstreamFailed(cause),
                    End::Cancelled => End::Cancelled,
                    End::Expired(why) => End::Expired(why),
                    End::Skipped => End::Skipped,
                };
                out.line(&finished_line(job, EndLine::of(job.head.id, end), spec))?;
            }
            Ok(())
        })?;
        *place = window.last;
        Ok(true)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let line: FinishedLine = line::read(line)?;
        let (head, finish_number) = (line.job.read(), FinishNumber(line.finish));
        batch.counters.finish = batch.counters.finish.max(finish_number);
        batch.counters.job = batch.counters.job.max(head.number);
        let spec = line.spec.read(&head);
        let finished = FinishedJob {
            head,
            finish_number,
            end: line.end.read(),
            finished_at: line.finished.into(),
            attempt: Attempt(line.attempt),
            elves_lost: line.elves_lost,
            ran: line.ran.map(Held::read),
            elements: line.elements,
            attempts: line.attempts.into_iter().map(PastLine::read).collect(),
        };
        let (id, flow) = (finished.head.id, finished.head.flow);
        let after = JobAfter::Finished(finished);
        batch.jobs.push(JobChange { id, flow, created: Some(spec), revived: None, after });
        Ok(())
    }
}

fn finished_line(job: &FinishedRecord, end: EndLine, spec: SpecRecord) -> FinishedLine {
    FinishedLine {
        finish: job.finish_number.0,
        finished: job.finished_at.into(),
        end,
        attempt: job.attempt.0,
        elves_lost: job.elves_lost,
        ran: job.ran.map(Held::of),
        elements: job.elements,
        attempts: job.attempts.iter().map(PastLine::of).collect(),
        job: Head::of(&job.head),
        spec: SpecLine::of(spec, &job.head),
    }
}

#[derive(Default)]
pub(super) struct Unfinished;

#[derive(Serialize, Deserialize)]
struct UnfinishedLine {
    digest: Hex<8>,
    waits_for: Vec<Text<JobId>>,
    submission: Option<Text<SubmissionId>>,
    attempt: u32,
    elves_lost: u32,
    #[serde(default)]
    elves_lost_alone: u32,
    #[serde(default)]
    beside: Vec<Text<JobId>>,
    /// By when it is to have ended, and since when it waits to be started, if either is timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queued: Option<Moment>,
    #[serde(default, skip_serializing_if = "is_zero")]
    failed: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    failed_max: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Moment>,
    evaluate: bool,
    running: Option<Held>,
    attempts: Vec<PastLine>,
    job: Head,
    spec: SpecLine,
}

impl Section for Unfinished {
    const NAME: &'static str = "unfinished_jobs";
    /// The last job number.
    type Place = u64;

    fn read(&mut self, source: &Source<'_>, place: &mut u64, out: &mut Out<'_>) -> Result<bool, Error> {
        let begin = source.unfinished.partition_point(|(number, _)| number.0 <= *place);
        let page: Vec<JobId> =
            source.unfinished[begin..].iter().take(PAGE as usize).map(|(_, id)| *id).collect();
        each_run(source.store, &page, |run, specs| {
            let jobs = source.store.unfinished(run).wait()?;
            for ((id, job), spec) in run.iter().zip(jobs).zip(specs) {
                let job = job.ok_or_else(|| missing_of(*id, "record"))?;
                *place = job.head.number.0;
                out.line(&unfinished_line(&job, spec))?;
            }
            Ok(())
        })?;
        Ok(!page.is_empty())
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let line: UnfinishedLine = line::read(line)?;
        let head = line.job.read();
        batch.counters.job = batch.counters.job.max(head.number);
        let (id, flow, spec) = (head.id, head.flow, line.spec.read(&head));
        let Hex(digest) = line.digest;
        let live = LiveJob {
            head,
            digest: ContentDigest(u64::from_be_bytes(digest)),
            waits_for: ids(line.waits_for),
            submission: line.submission.map(|Text(id)| id),
            attempt: Attempt(line.attempt),
            elves_lost: line.elves_lost,
            elves_lost_alone: line.elves_lost_alone,
            beside: ids(line.beside),
            evaluate: line.evaluate,
            running: line.running.map(Held::read),
            attempts: line.attempts.into_iter().map(PastLine::read).collect(),
            expires_at: line.expires.map(Timestamp::from),
            queued_at: line.queued.map(Timestamp::from),
            tries: Tries {
                failed: line.failed,
                failed_max: line.failed_max,
                not_before: line.not_before.map(Timestamp::from),
            },
        };
        let after = JobAfter::Live(live);
        batch.jobs.push(JobChange { id, flow, created: Some(spec), revived: None, after });
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn unfinished_line(job: &LiveJob, spec: SpecRecord) -> UnfinishedLine {
    UnfinishedLine {
        digest: Hex(job.digest.0.to_be_bytes()),
        waits_for: texts(&job.waits_for),
        submission: job.submission.map(Text),
        attempt: job.attempt.0,
        elves_lost: job.elves_lost,
        elves_lost_alone: job.elves_lost_alone,
        beside: texts(&job.beside),
        expires: job.expires_at.map(Moment::from),
        queued: job.queued_at.map(Moment::from),
        failed: job.tries.failed,
        failed_max: job.tries.failed_max,
        not_before: job.tries.not_before.map(Moment::from),
        evaluate: job.evaluate,
        running: job.running.map(Held::of),
        attempts: job.attempts.iter().map(PastLine::of).collect(),
        job: Head::of(&job.head),
        spec: SpecLine::of(spec, &job.head),
    }
}

/// Reads the specifications of jobs, as many at once as memory is meant to have.
fn each_run(
    store: &dyn Storage,
    jobs: &[JobId],
    mut each: impl FnMut(&[JobId], Vec<SpecRecord>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut sizes = Vec::with_capacity(jobs.len());
    for (job, outline) in jobs.iter().zip(store.outlines(jobs).wait()?) {
        let Outline { body, .. } = outline.ok_or_else(|| missing_of(*job, "specification"))?;
        sizes.push(body);
    }
    let mut rest = jobs;
    while !rest.is_empty() {
        let sizes_left = &sizes[jobs.len() - rest.len()..];
        let mut bytes = 0;
        let fit = sizes_left.iter().take(RUN_JOBS).take_while(|size| {
            bytes += *size;
            bytes <= RUN_BYTES
        });
        let (run, after) = rest.split_at(fit.count().max(1));
        let specs = run.iter().zip(store.specs(run).wait()?);
        let specs = specs.map(|(job, spec)| spec.ok_or_else(|| missing_of(*job, "specification")));
        each(run, specs.collect::<Result<_, _>>()?)?;
        rest = after;
    }
    Ok(())
}
