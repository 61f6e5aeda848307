//! What is stored of jobs through their lives.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_core::effects::{End, FinishedJob, Records};
use mycelium_core::ids::{
    Attempt, Build, Commit, ContentDigest, FinishNumber, FlowId, FlowNumber, InstanceId, JobId, JobNumber,
    Revision, SessionId, Timestamp,
};
use mycelium_core::image::{Counters, FlowRecord, JobHead, LiveJob, Running, Tries};
use mycelium_core::status::FinalCounts;
use mycelium_server::store::{Batch, JobAfter, JobChange, SpecRecord};

const FLOW: FlowId = FlowId::new([1; 16]);
const INSTANCE: InstanceId = InstanceId::new([2; 16]);
const REVISION: Revision = Revision::new([3; 32]);

/// What a broker knows of the jobs that it stores: makes the batches that it would commit.
#[derive(Debug)]
pub struct World {
    counters: Counters,
    flow: FlowRecord,
    elf: Arc<str>,
    task: Arc<str>,
    body: Bytes,
}

impl World {
    /// A world whose jobs have specifications of this size, in bytes.
    pub fn new(body_bytes: usize) -> Self {
        // Not all zeros, which would compress away.
        let body: Vec<u8> =
            (0..body_bytes).map(|at| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u8).collect();
        Self {
            counters: Counters::default(),
            flow: FlowRecord {
                id: FLOW,
                name: "bench".into(),
                labels: mycelium_core::labels::Labels::NONE,
                number: FlowNumber(1),
                created_at: Timestamp(1),
                finished: FinalCounts::default(),
                on_behalf_of: None,
                pinned: false,
                deleted_at: None,
            },
            elf: "bench elf".into(),
            task: "task_nothing".into(),
            body: body.into(),
        }
    }

    /// A job as it is submitted (0), starts to run (1), or is done (2).
    pub fn stage(&mut self, stage: u8, job: u64) -> JobChange {
        // Ids as of version 7: time first, then what no one can guess.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(0x0190_0000_0000_0000 + (job << 8)).to_be_bytes());
        id[8..].copy_from_slice(&job.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let id = JobId::new(id);
        let (number, submitted_at) = (JobNumber(job + 1), Timestamp(1_700_000_000_000_000 + job));
        let (flow, elf, task, digest) = (FLOW, self.elf.clone(), self.task.clone(), ContentDigest(job));
        let head = || JobHead {
            id,
            flow,
            elf: elf.clone(),
            task: task.clone(),
            number,
            submitted_at,
            ..JobHead::default()
        };
        let live = |running: Option<Running>| LiveJob {
            head: head(),
            digest,
            waits_for: Vec::new(),
            submission: None,
            attempt: Attempt(running.map_or(0, |_| 1)),
            elves_lost: 0,
            elves_lost_alone: 0,
            beside: Vec::new(),
            evaluate: false,
            running,
            expires_at: None,
            queued_at: None,
            tries: Tries::default(),
            attempts: Vec::new(),
        };
        let running = Running {
            session: SessionId(1),
            instance: INSTANCE,
            revision: REVISION,
            build: Build::new("0123456789abcdef0123456789abcdef").unwrap_or_default(),
            since: submitted_at,
            started: None,
        };
        let spec = || SpecRecord {
            head: head(),
            digest,
            depends_on: Vec::new(),
            evaluate: false,
            gathered_by: None,
            begins_at: None,
            body: self.body.clone(),
        };
        let (created, after) = match stage {
            0 => (Some(spec()), JobAfter::Live(live(None))),
            1 => (None, JobAfter::Live(live(Some(running)))),
            _ => {
                self.counters.finish.0 += 1;
                self.flow.finished.done += 1;
                let finished = FinishedJob {
                    head: head(),
                    finish_number: self.counters.finish,
                    end: End::Done(self.body.slice(..self.body.len().min(100))),
                    finished_at: Timestamp(1_700_000_000_000_000 + self.counters.finish.0),
                    attempt: Attempt(1),
                    elves_lost: 0,
                    ran: Some(running),
                    elements: None,
                    attempts: Vec::new(),
                };
                (None, JobAfter::Finished(finished))
            }
        };
        JobChange { id, flow, created, revived: None, after }
    }

    /// The next batch.
    pub fn commit(&mut self, jobs: Vec<JobChange>) -> Batch {
        self.counters.commit = Commit(self.counters.commit.0 + 1);
        self.counters.job = JobNumber(self.counters.job.0 + jobs.len() as u64);
        self.counters.finish = FinishNumber(self.counters.finish.0);
        let records = Records { flows: vec![self.flow.clone()], ..Records::default() };
        Batch { counters: self.counters, jobs, records, ..Batch::default() }
    }

    /// The batch of a broker under load: as many jobs of each stage, those of the round, of the one before, and of the
    /// one before that.
    pub fn round(&mut self, round: u64, jobs: u64) -> Batch {
        let mut changes = Vec::new();
        for stage in 0..3 {
            let Some(group) = round.checked_sub(u64::from(stage)) else { continue };
            changes.extend((group * jobs..(group + 1) * jobs).map(|job| self.stage(stage, job)));
        }
        self.commit(changes)
    }
}
