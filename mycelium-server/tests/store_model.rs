//! Whatever batches come, memory, disk and database tell the same.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses a part")]
mod store_suite;

use mycelium_core::ids::{Attempt, FinishNumber, FlowNumber, InstanceId, SessionId, Timestamp};
use mycelium_core::image::{FlowRecord, JobHead, LiveJob, PropagationRecord, SessionRecord};
use mycelium_core::status::FinalStatus;
use mycelium_server::store::{
    Batch, Edges, ElfRecord, Erased, FinishedQuery, FinishedRecord, FlowQuery, JobAfter, JobChange,
    RevisionRecord,
};
use proptest::prelude::*;

use store_suite::arango::Arango;
use store_suite::*;

const JOBS: u8 = 8;

/// What happens to a job, if its state allows; else the nearest that does.
#[derive(Debug, Clone)]
enum Step {
    Live,
    Finish(FinalStatus),
    Drop,
}

/// What else is in a batch.
#[derive(Debug, Clone)]
enum Aside {
    Flow(u8),
    Session(u8, bool),
    Submission(u8, bool),
    Propagation(u8, bool),
    Failure(u8, u64),
    Elf(u8, u64),
    Revision(u8, u8, u64),
}

/// A batch, how far the clock moves before it, and whether the store is opened anew after it.
#[derive(Debug, Clone)]
struct Turn {
    steps: Vec<(u8, Step)>,
    asides: Vec<Aside>,
    clock: i64,
    reopens: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let status = proptest::sample::select(FinalStatus::ALL.to_vec());
    prop_oneof![3 => Just(Step::Live), 4 => status.prop_map(Step::Finish), 1 => Just(Step::Drop)]
}

fn aside() -> impl Strategy<Value = Aside> {
    let (few, at) = (0..3_u8, 0..50_u64);
    prop_oneof![
        few.clone().prop_map(Aside::Flow),
        (few.clone(), any::<bool>()).prop_map(|(number, opens)| Aside::Session(number, opens)),
        (few.clone(), any::<bool>()).prop_map(|(number, stays)| Aside::Submission(number, stays)),
        (few.clone(), any::<bool>()).prop_map(|(number, begins)| Aside::Propagation(number, begins)),
        (few.clone(), at.clone()).prop_map(|(number, at)| Aside::Failure(number, at)),
        (few.clone(), at.clone()).prop_map(|(number, at)| Aside::Elf(number, at)),
        (few.clone(), few, at).prop_map(|(task, number, at)| Aside::Revision(task, number, at)),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let steps = proptest::collection::btree_map(0..JOBS, step(), 0..6);
    let asides = proptest::collection::vec(aside(), 0..4);
    let clock = prop_oneof![9 => 0..300_i64, 1 => -500..0_i64];
    (steps, asides, clock, proptest::bool::weighted(0.1)).prop_map(|(steps, asides, clock, reopens)| Turn {
        steps: steps.into_iter().collect(),
        asides,
        clock,
        reopens,
    })
}

/// What the jobs are, so that only changes are made that a scheduler could make.
#[derive(Debug, Default)]
struct Model {
    jobs: [State; JOBS as usize],
    clock: i64,
    finish_number: u64,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Absent,
    Live,
    Finished(Box<FinishedRecord>),
}

impl Model {
    fn batch(&mut self, turn: &Turn) -> Batch {
        self.clock += turn.clock;
        let mut batch = jobs(vec![]);
        let first = FlowRecord { number: FlowNumber(9), ..flow_record(0, "daily report") };
        batch.records.flows.extend([first, flow_record(2, "daily report")]);
        for (number, step) in &turn.steps {
            let state = std::mem::take(&mut self.jobs[usize::from(*number)]);
            let mut ended = None;
            let after = match step {
                Step::Live => JobAfter::Live(LiveJob {
                    attempt: Attempt(u32::from(*number)),
                    submission: number.is_multiple_of(2).then(|| submission(0)),
                    ..waiting(*number)
                }),
                Step::Finish(status) => {
                    let record = self.finished(*number, *status);
                    ended = Some(record.clone());
                    finish(record)
                }
                Step::Drop => JobAfter::Dropped,
            };
            let change = match state {
                State::Absent => created(*number, &[number / 2, 100], after.clone()),
                State::Live => change(*number, after.clone()),
                State::Finished(record) => {
                    // A finished job is never dropped: it is deleted.
                    if let JobAfter::Dropped = after {
                        batch.erased.push(erased(*number, &record));
                        continue;
                    }
                    let revived = revived(&record);
                    JobChange { revived, ..change(*number, after.clone()) }
                }
            };
            self.jobs[usize::from(*number)] = match (after, ended) {
                (_, Some(record)) => State::Finished(Box::new(record)),
                (JobAfter::Dropped, None) => State::Absent,
                (_, None) => State::Live,
            };
            batch.jobs.push(change);
        }
        // The jobs of a batch come in no order.
        batch.jobs.reverse();
        batch.records.submissions.push(submission_record(0, true));
        turn.asides.iter().for_each(|aside| add(aside, &mut batch));
        batch
    }

    fn finished(&mut self, number: u8, status: FinalStatus) -> FinishedRecord {
        // Far apart, so that whatever marks every so many numbers has its marks among them.
        self.finish_number += 64;
        FinishedRecord {
            head: head(number),
            finished_at: Timestamp((100_000 + self.clock).unsigned_abs()),
            finish_number: FinishNumber(self.finish_number),
            ..finished(number, 0, status)
        }
    }
}

fn erased(number: u8, record: &FinishedRecord) -> Erased {
    Erased {
        head: record.head.clone(),
        finish_number: record.finish_number,
        status: record.end.status(),
        outputs_bytes: 0,
        edges: Edges { depends_on: vec![job(number / 2), job(100)], gathered_by: None },
        stub: None,
    }
}

/// What a job is, whatever becomes of it.
fn head(number: u8) -> JobHead {
    JobHead {
        elf: ["scale", "storage"][usize::from(number % 2)].into(),
        flow: flow(number % 3),
        ..live(number).head
    }
}

fn waiting(number: u8) -> LiveJob {
    LiveJob { head: head(number), ..live(number) }
}

fn add(aside: &Aside, batch: &mut Batch) {
    match *aside {
        Aside::Flow(number) => {
            batch.records.flows.retain(|record| record.id != flow(number + 2));
            batch.records.flows.push(flow_record(number + 2, ["a", "b", "a"][usize::from(number)]));
        }
        Aside::Session(number, opens) => {
            let id = SessionId(u64::from(number));
            if opens {
                batch.records.sessions_opened.push(SessionRecord {
                    id,
                    instance: InstanceId::new([number; 16]),
                    secret: None,
                });
            } else {
                batch.records.sessions_ended.push(id);
            }
        }
        Aside::Submission(number, stays) => {
            if stays {
                batch.records.submissions.push(submission_record(number + 1, false));
            } else {
                batch.records.submissions_dropped.push(submission(number + 1));
            }
        }
        Aside::Propagation(number, begins) => {
            let propagation = PropagationRecord { cause: job(number) };
            if begins {
                &mut batch.records.propagations_begun
            } else {
                &mut batch.records.propagations_ended
            }
            .push(propagation);
        }
        Aside::Failure(number, at) => batch.failures.push(seen(number, number, at, &format!("at {at}"))),
        Aside::Elf(number, at) => batch.elves.push(ElfRecord {
            name: ["a", "ab", "b"][usize::from(number)].into(),
            body: at.to_be_bytes().to_vec().into(),
            first_seen: Timestamp(at),
            last_seen: Timestamp(at),
        }),
        Aside::Revision(task, number, at) => batch.revisions.push(RevisionRecord {
            elf: "a".into(),
            task: ["", "t", "tt"][usize::from(task)].into(),
            revision: revision(number),
            first_seen: Timestamp(at),
            body: at.to_be_bytes().to_vec().into(),
        }),
    }
}

/// Everything that can be read, as text.
fn everything(world: &World) -> Vec<String> {
    let store = world.store();
    let ids: Vec<_> = (0..JOBS).map(job).collect();
    let mut all = vec![
        format!("{:?}", world.load()),
        format!("{:?}", store.specs(&ids).wait().unwrap()),
        format!("{:?}", store.finished(&ids).wait().unwrap()),
        format!("{:?}", store.outputs(&ids).wait().unwrap()),
        format!("{:?}", store.list_elves(None, 100).wait().unwrap()),
        format!("{:?}", store.list_revisions("a", None, 100).wait().unwrap()),
        format!("{:?}", store.list_failures(None, 100).wait().unwrap()),
    ];
    for name in [None, Some("a"), Some("b"), Some("daily report")] {
        let query = FlowQuery { name: name.map(str::to_owned), limit: 100, ..FlowQuery::default() };
        all.push(format!("{:?}", store.list_flows(&query).wait().unwrap()));
    }
    for number in (0..JOBS).chain([100]) {
        all.push(format!("{:?}", dependents(&**store, number, None, 100)));
        all.push(format!("{:?}", store.list_occurrences(failure(number), None, 100).wait().unwrap()));
        for of in 0..JOBS {
            all.push(format!(
                "{:?}",
                store.occurrences_of(&[(failure(number), job(of))]).wait().unwrap().remove(0)
            ));
        }
    }
    for statuses in
        [vec![], vec![FinalStatus::Done], FinalStatus::ALL[1..].to_vec(), vec![FinalStatus::Failed]]
    {
        for (flow, elf) in [(None, None), (Some(flow(1)), None), (None, Some("scale".to_owned()))] {
            for (from, before) in [(None, None), (Some(100_400), Some(101_200)), (None, Some(100_900))] {
                let query = FinishedQuery {
                    flow,
                    elf: elf.clone(),
                    statuses: statuses.clone(),
                    finished_from: from.map(Timestamp),
                    finished_before: before.map(Timestamp),
                    limit: 3,
                    ..FinishedQuery::default()
                };
                all.push(format!("{query:?}: {:?}", world.listed(&query)));
            }
        }
    }
    all
}

/// Stores the same in memory and elsewhere, and reads all of it after each batch.
fn assert_both_tell_the_same(turns: &[Turn], mut other: World) -> Result<(), TestCaseError> {
    let (mut memory, mut model) = (World::new(Memory::default()), Model::default());
    for turn in turns {
        let batch = model.batch(turn);
        memory.commit(batch.clone());
        other.commit(batch);
        if turn.reopens {
            other.reopen();
        }
        prop_assert_eq!(everything(&memory), everything(&other));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_embedded_tell_the_same(turns in proptest::collection::vec(turn(), 1..40)) {
        assert_both_tell_the_same(&turns, World::new(Embedded::default()))?;
    }
}

proptest! {
    // Each is a server of its own, or a database, and thousands of requests.
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_arangodb_tell_the_same(turns in proptest::collection::vec(turn(), 1..12)) {
        assert_both_tell_the_same(&turns, World::new(Arango::default()))?;
    }
}
