//! The unfinished jobs: where they are kept, and how they are found by id.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::ids::{AssignNumber, Attempt, ContentDigest, EvaluationNumber, JobId, JobNumber, Timestamp};
use crate::image::JobHead;
use crate::index::{FlowIdx, Idx, QueueIdx, SessionIdx, Slot, SubmissionIdx, TraitsIdx};
use crate::status::Status;

/// A job that was not touched in this batch.
pub(crate) const UNTOUCHED: u32 = u32::MAX;

/// A job that waits for another. The generation tells a job from a later one in the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) slot: Slot,
    pub(crate) generation: u32,
}

/// Where a job stands among the ready ones: highest priority first, then earliest submitted.
pub(crate) type Rank = (Reverse<i32>, JobNumber);

/// A place in a queue.
pub(crate) type Place = (Rank, Slot);

/// What an unfinished job names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) queue: QueueIdx,
    pub(crate) traits: TraitsIdx,
}

impl Named {
    /// Of a slot without a job.
    const NOTHING: Self = Self { queue: Idx::MAX, traits: Idx::MAX };
}

/// An unfinished job. Millions of them wait at once, so its size matters.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) number: JobNumber,
    pub(crate) submitted_at: Timestamp,
    pub(crate) digest: ContentDigest,
    /// The jobs that wait for this one. Some may be over already.
    pub(crate) dependents: Vec<Edge>,
    pub(crate) state: State,
    pub(crate) flow: FlowIdx,
    /// The queue of its kind, which knows its task.
    pub(crate) queue: QueueIdx,
    pub(crate) priority: i32,
    pub(crate) attempt: Attempt,
    /// Its labels and its policy.
    pub(crate) traits: TraitsIdx,
    pub(crate) generation: u32,
    /// Its index among the jobs touched in this batch, or [`UNTOUCHED`].
    pub(crate) touch: u32,
    /// Whether it is evaluated when all it waits for has ended, before anything else.
    pub(crate) evaluate: bool,
    /// How many of its attempts ended because their elf was lost, up to 255.
    pub(crate) elves_lost: u8,
    /// In how many of those nothing else ran there, up to 255.
    pub(crate) elves_lost_alone: u8,
    /// How often it has come back without an outcome since the core was made, up to 255. In memory only.
    pub(crate) handed_back: u8,
}

impl Job {
    /// A job of these indexes that is nowhere yet.
    pub(crate) fn new(head: &JobHead, digest: ContentDigest, flow: FlowIdx, named: Named) -> Self {
        let Named { queue, traits } = named;
        Self {
            id: head.id,
            number: head.number,
            submitted_at: head.submitted_at,
            digest,
            dependents: Vec::new(),
            state: State::Vacant,
            flow,
            queue,
            priority: head.priority,
            attempt: Attempt(0),
            traits,
            generation: 0,
            touch: UNTOUCHED,
            evaluate: false,
            elves_lost: 0,
            elves_lost_alone: 0,
            handed_back: 0,
        }
    }

    /// What it names.
    pub(crate) fn named(&self) -> Named {
        Named { queue: self.queue, traits: self.traits }
    }

    /// Where it stands among ready jobs of its elf.
    pub(crate) fn rank(&self) -> Rank {
        (Reverse(self.priority), self.number)
    }

    /// Its place in its queue.
    pub(crate) fn place(&self, slot: Slot) -> Place {
        (self.rank(), slot)
    }

    /// How it shows. `None` while its submission is not sealed.
    pub(crate) fn status(&self) -> Option<Status> {
        match self.state {
            State::Vacant | State::Unsealed { .. } => None,
            State::Pending { .. } | State::Evaluating { .. } | State::Gathering | State::UpstreamFailing => {
                Some(Status::Pending)
            }
            State::Ready { .. } => Some(Status::Ready),
            State::Running { is_started: false, .. } => Some(Status::Assigned),
            State::Running { is_started: true, .. } => Some(Status::Running),
        }
    }
}

const _: () = assert!(size_of::<Job>() <= 112, "a job grew: ten million of them must fit one broker");

/// Where an unfinished job stands.
///
/// ```text
/// Unsealed --seal--> Pending --all it waits for has ended--> Ready <--returned--> Running
///                     |    |                                  ^                     |
///                     |    +--if it has `evaluate`--> Evaluating --> (skipped, failed, finished: gone)
///                     |                                  ^ |
///                     |                                  | +--a list--> Gathering
///                     |                                  +-all have ended--+  |
///                     +--one of them did not end well--> UpstreamFailing <----+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No job is here.
    Vacant,
    /// Its submission has not been sealed, or the sealing has not come to it yet, or it is being dropped.
    Unsealed {
        submission: SubmissionIdx,
        /// How many jobs it waits for.
        waiting: u32,
    },
    /// It waits for other jobs.
    Pending {
        /// How many; at least one.
        waiting: u32,
    },
    /// What decides how it goes on is being computed, or waits for that.
    Evaluating {
        /// The number of the evaluation.
        number: EvaluationNumber,
    },
    /// It was expanded over a list and waits for the jobs of its elements; its expansion counts them.
    Gathering,
    /// It waits for others and will end UPSTREAM_FAILED as soon as its own dependents have.
    UpstreamFailing,
    /// It waits for an instance.
    Ready {
        /// Whether it stands in its queue. Jobs that are about to be cancelled are taken out, and those that
        /// pause stand beside it.
        queued: bool,
    },
    /// An instance holds an attempt of it.
    Running {
        session: SessionIdx,
        /// The attempt's number among the session's assignments.
        assign: AssignNumber,
        /// Whether it is known to have been started.
        is_started: bool,
    },
}

/// 4,096 jobs in one piece of memory: growing by such pieces neither moves jobs nor doubles the memory.
const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// All unfinished jobs.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Vec<Job>>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: FixedState,
}

impl Slab {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self { hasher: FixedState::with_seed(hash_seed), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Makes room for `additional` more jobs in the index, so that it is not built again and again.
    pub(crate) fn reserve(&mut self, additional: usize) {
        let Self { chunks, index, hasher, .. } = self;
        index.reserve(additional, |&slot| hasher.hash_one(at(chunks, slot).id));
    }

    pub(crate) fn find(&self, id: &JobId) -> Option<Slot> {
        let hash = self.hasher.hash_one(id);
        self.index.find(hash, |&slot| at(&self.chunks, slot).id == *id).copied()
    }

    /// Puts a job into a slot; its id must not be there yet, and its generation is set here.
    pub(crate) fn insert(&mut self, mut job: Job) -> Slot {
        let slot = if let Some(slot) = self.free.pop() {
            job.generation = self[slot].generation;
            self[slot] = job;
            slot
        } else {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let chunk_index = self.chunks.len() - 1;
            let chunk = &mut self.chunks[chunk_index];
            let slot = Idx::new((chunk_index << CHUNK_BITS) | chunk.len());
            job.generation = 0;
            chunk.push(job);
            slot
        };
        let Self { chunks, index, hasher, .. } = self;
        let hash = hasher.hash_one(at(chunks, slot).id);
        index.insert_unique(hash, slot, |&other| hasher.hash_one(at(chunks, other).id));
        slot
    }

    /// Takes a job out; what is left behind tells later visitors that it is gone.
    pub(crate) fn remove(&mut self, slot: Slot) -> Job {
        let id = self[slot].id;
        let hash = self.hasher.hash_one(id);
        self.index
            .find_entry(hash, |&other| other == slot)
            .expect("a job in a slot is in the index")
            .remove();
        let generation = self[slot].generation.wrapping_add(1);
        self.free.push(slot);
        std::mem::replace(&mut self[slot], vacant(generation))
    }

    /// The edge that leads to the job in `slot`.
    pub(crate) fn edge_to(&self, slot: Slot) -> Edge {
        Edge { slot, generation: self[slot].generation }
    }

    /// The job an edge leads to, if it is still unfinished.
    pub(crate) fn follow(&self, edge: Edge) -> Option<&Job> {
        let job = &self[edge.slot];
        (job.generation == edge.generation && job.state != State::Vacant).then_some(job)
    }

    /// Makes `to` wait for `from`.
    pub(crate) fn add_dependent(&mut self, from: Slot, to: Slot) {
        let edge = self.edge_to(to);
        let mut dependents = std::mem::take(&mut self[from].dependents);
        // Jobs that were cancelled while this one lives leave edges behind. Sweeping them before the memory would
        // grow keeps it within twice what is needed.
        if dependents.len() == dependents.capacity() {
            dependents.retain(|&edge| self.follow(edge).is_some());
        }
        if dependents.capacity() == 0 {
            dependents.reserve_exact(1);
        }
        dependents.push(edge);
        self[from].dependents = dependents;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Job)> {
        let jobs = self.chunks.iter().flatten().enumerate();
        jobs.map(|(number, job)| (Idx::new(number), job)).filter(|(_, job)| job.state != State::Vacant)
    }
}

fn at(chunks: &[Vec<Job>], slot: Slot) -> &Job {
    &chunks[slot.get() >> CHUNK_BITS][slot.get() & (CHUNK - 1)]
}

fn vacant(generation: u32) -> Job {
    Job { generation, ..Job::new(&JobHead::default(), ContentDigest::default(), Idx::MAX, Named::NOTHING) }
}

impl std::ops::Index<Slot> for Slab {
    type Output = Job;

    fn index(&self, slot: Slot) -> &Job {
        at(&self.chunks, slot)
    }
}

impl std::ops::IndexMut<Slot> for Slab {
    fn index_mut(&mut self, slot: Slot) -> &mut Job {
        &mut self.chunks[slot.get() >> CHUNK_BITS][slot.get() & (CHUNK - 1)]
    }
}
