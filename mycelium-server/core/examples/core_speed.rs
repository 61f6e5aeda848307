//! Prints what the core alone costs: microseconds a job life (submit, assign, outcome), and bytes a waiting job.
//!
//! `cargo run --release -p mycelium-core --example core_speed`
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::sync::Arc;
use std::time::Instant;

use mycelium_core::command::{
    Command, ElfOffer, Facts, Hello, NewJob, Outcome, OutcomeResult, Part, Submit, Window,
};
use mycelium_core::effects::{Effects, Send};
use mycelium_core::ids::{
    Attachment, Clocks, Commit, ContentDigest, FlowId, InstanceId, JobId, RequestId, Revision, SessionId,
    Steady, SubmissionId, Timestamp,
};
use mycelium_core::image::JobHead;
use mycelium_core::labels::Labels;
use mycelium_core::{Config, Core};

const NOW: Clocks = Clocks { steady: Steady(1), wall: Timestamp(1) };
const JOBS: u64 = 1_000_000;
const CALL: u64 = 4_096;
const WINDOW: u32 = 4_096;

fn job(number: u64, elf: &Arc<str>, task: &Arc<str>, depends_on: Vec<JobId>) -> NewJob {
    NewJob {
        head: JobHead { id: id(number), elf: elf.clone(), task: task.clone(), ..JobHead::default() },
        depends_on,
        evaluate: false,
        digest: ContentDigest(number),
        spec: Attachment(0),
    }
}

fn id(number: u64) -> JobId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    JobId::new(bytes)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1_024
}

fn submit(core: &mut Core, commit: &mut Commit, jobs: Vec<NewJob>, part: Option<Part>) {
    let facts = Facts { as_of: *commit, ..Facts::default() };
    let command = Submit {
        request: RequestId(1),
        flow: FlowId::new([1; 16]),
        flow_name: Arc::from("flow"),
        flow_labels: Labels::default(),
        part,
        elements: None,
        jobs,
        facts,
    };
    let mut effects = Effects::default();
    core.apply(NOW, Command::Submit(command), &mut effects);
    loop {
        core.finish_batch(NOW, &mut effects);
        *commit = effects.counters.map_or(*commit, |counters| counters.commit);
        if !core.has_work() {
            break;
        }
        effects = Effects::default();
    }
}

fn lives() {
    let (elf, task): (Arc<str>, Arc<str>) = (Arc::from("elf"), Arc::from("task_one"));
    let mut core = Core::new(Config::default());
    let mut effects = Effects::default();
    let offer = ElfOffer {
        elf: elf.clone(),
        tasks: vec![(task.clone(), Revision::new([0; 32]))],
        window: Window { jobs: WINDOW, concurrency: 8 },
    };
    let hello = Hello {
        request: RequestId(0),
        instance: InstanceId::new([1; 16]),
        resume: None,
        secret: None,
        secret_new: None,
        elves: vec![offer],
        held: vec![],
    };
    core.apply(NOW, Command::Hello(hello), &mut effects);
    core.finish_batch(NOW, &mut effects);
    let mut commit = effects.counters.map(|counters| counters.commit).unwrap_or_default();
    let started = Instant::now();
    let mut done = 0;
    let mut next = 0;
    let mut outcomes: Vec<Outcome> = Vec::new();
    while done < JOBS {
        let mut effects = Effects::default();
        if next < JOBS {
            let jobs = (next..next + CALL / 8).map(|number| job(number, &elf, &task, vec![])).collect();
            next += CALL / 8;
            let facts = Facts { as_of: commit, ..Facts::default() };
            let command = Submit {
                request: RequestId(1),
                flow: FlowId::new([1; 16]),
                flow_name: Arc::from("flow"),
                flow_labels: Labels::default(),
                part: None,
                elements: None,
                jobs,
                facts,
            };
            core.apply(NOW, Command::Submit(command), &mut effects);
        }
        done += outcomes.len() as u64;
        let outcomes_now = std::mem::take(&mut outcomes);
        let command = Command::Outcomes { session: SessionId(1), outcomes: outcomes_now };
        core.apply(NOW, command, &mut effects);
        core.finish_batch(NOW, &mut effects);
        commit = effects.counters.map_or(commit, |counters| counters.commit);
        for send in effects.sends {
            if let Send::Assign { assignments, .. } = send {
                outcomes.extend(assignments.iter().map(|assignment| Outcome {
                    token: assignment.token,
                    result: OutcomeResult::Outputs(Attachment(1)),
                }));
            }
        }
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / done as f64;
    println!("{micros:.2} microseconds a job life, over {done} jobs");
}

fn backlog(name: &str, is_chained: bool) {
    let (elf, task): (Arc<str>, Arc<str>) = (Arc::from("elf"), Arc::from("task_one"));
    let before = resident_bytes();
    let mut core = Core::new(Config::default());
    let mut commit = Commit(0);
    let started = Instant::now();
    let calls = JOBS / CALL;
    for call in 0..calls {
        let jobs = (call * CALL..(call + 1) * CALL)
            .map(|number| {
                let on = if is_chained && number > 0 { vec![id(number - 1)] } else { vec![] };
                job(number, &elf, &task, on)
            })
            .collect();
        let submission = SubmissionId::new([1; 16]);
        let index = u32::try_from(call).unwrap_or(u32::MAX);
        let part = Part { submission, index, seal: call + 1 == calls };
        submit(&mut core, &mut commit, jobs, Some(part));
    }
    let jobs = calls * CALL;
    let bytes = resident_bytes().saturating_sub(before) as f64 / jobs as f64;
    let micros = started.elapsed().as_secs_f64() * 1e6 / jobs as f64;
    println!("{name}: {bytes:.0} bytes a waiting job, {micros:.2} microseconds each to take in");
    std::mem::forget(core);
}

fn main() {
    backlog("ready", false);
    backlog("chained", true);
    lives();
}
