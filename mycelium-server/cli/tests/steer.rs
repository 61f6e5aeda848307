//! The commands that steer and wait: `why`, `cancel`, `retry`, `watch`, `pause`, `resume` and `actions`.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use elf_runtime::{Job, JobId, Mycelium, any_list, args, list};
use mycelium_proto::v1::{JobSpec, JobStatus, SubmitJobsRequest};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::scale::{Scale, Served};
use support::{Broker, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

const ELF: &str = "scale";

async fn connect(broker: &Broker) -> Mycelium {
    Mycelium::connect(broker.url()).await.unwrap()
}

/// Why a job is where it is, for programs and for people.
async fn why(broker: &Broker, job: JobId) -> (Value, String) {
    let job = job.to_string();
    let explanation = broker.json(&["why", &job]).await;
    assert_eq!(explanation["job"]["job_id"], json!(job));
    (explanation["reason"].clone(), broker.run(&["why", &job]).await.good())
}

/// Waits until a job that was begun is told to be.
async fn running(mycelium: &Mycelium, job: JobId) {
    let is_running = async || Ok((mycelium.job(job).await?.status() == JobStatus::Running).then_some(()));
    mycelium_testing::until("the job to be RUNNING", is_running).await.unwrap();
}

#[tokio::test]
async fn why_names_what_holds_a_job() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("reasons");
    let early = flow.call(ELF, "task_hold", args! { name: "early" });
    flow.submit().await.unwrap();
    let (reason, text) = why(&broker, early.id()).await;
    assert_eq!(reason, json!({ "kind": "no_instance", "elf_known": false, "instances": 0 }));
    assert_eq!(text, "READY: no elf named `scale` has ever connected\n");

    let mut served = Served::start(&mycelium, ELF, 1).await;
    assert_eq!(served.next_start().await, "early");
    running(&mycelium, early.id()).await;
    let (reason, text) = why(&broker, early.id()).await;
    assert_eq!((&reason["kind"], &reason["connected"]), (&json!("held"), &json!(true)));
    assert!(text.starts_with("RUNNING: a process of the elf `scale` has held it since 20"), "{text}");

    let scale = Scale::tasks(&flow, ELF);
    let queued = scale.task_hold("queued");
    let waits = scale.task_sum(list![1]).after(&queued);
    flow.submit().await.unwrap();
    let (reason, text) = why(&broker, queued.id()).await;
    let full = json!({ "kind": "no_free_window", "instances": 1, "window": 1, "held": 1, "jobs_before": 0, "late_by_ms": null, "draining": 0 });
    assert_eq!(reason, full);
    assert_eq!(
        text,
        "READY: the elf `scale` is busy: it holds 1 job of at most 1, and 0 jobs stand before this one\n"
    );
    let (reason, text) = why(&broker, waits.id()).await;
    assert_eq!((&reason["kind"], &reason["count"]), (&json!("waits_for_jobs"), &json!(1)));
    assert_eq!(reason["jobs"][0]["job_id"], json!(queued.id().to_string()));
    assert!(text.starts_with("PENDING: it waits for 1 job to end DONE or SKIPPED:\n"), "{text}");
    assert!(text.contains(&queued.id().to_string()), "{text}");

    served.let_go(2);
    assert_eq!(served.next_start().await, "queued");
    within(mycelium.run(flow.id()).wait()).await.unwrap();
    let (reason, text) = why(&broker, early.id()).await;
    assert_eq!((&reason["kind"], &reason["status"]), (&json!("ended"), &json!("DONE")));
    assert_eq!(text, "DONE: its outputs are stored\n");

    let breaks = scale.task_break("whale");
    let upstream = scale.task_sum(list![breaks.value().clone()]);
    within(flow.submit().await.unwrap().wait()).await.unwrap();
    let (reason, text) = why(&broker, breaks.id()).await;
    let failure = reason["failure_id"].as_str().unwrap();
    assert_eq!(text, format!("FAILED: it failed; see: mycelium failure {failure}\n"));
    let (reason, text) = why(&broker, upstream.id()).await;
    assert_eq!(reason["cause_job_id"], json!(breaks.id().to_string()));
    assert!(text.starts_with("UPSTREAM_FAILED: a job that it depends on did not end DONE"), "{text}");

    served.stop().await;
    let late = scale.task_hold("late");
    flow.submit().await.unwrap();
    let (reason, text) = why(&broker, late.id()).await;
    assert_eq!(reason, json!({ "kind": "no_instance", "elf_known": true, "instances": 0 }));
    assert_eq!(text, "READY: no process that serves the elf `scale` is connected\n");
    broker.run(&["cancel", &late.id().to_string()]).await.good();
    assert_eq!(why(&broker, late.id()).await.1, "CANCELLED: it was cancelled\n");
}

#[tokio::test]
async fn why_tells_of_a_submission_that_is_not_complete() {
    let broker = Broker::in_memory().await;
    let (job, flow, submission) = (JobId::generate(), JobId::generate(), JobId::generate());
    let bytes = |id: JobId| bytes::Bytes::copy_from_slice(id.as_bytes());
    let spec = JobSpec {
        job_id: bytes(job),
        elf: ELF.to_owned(),
        task: "task_hold".to_owned(),
        ..JobSpec::default()
    };
    let request = SubmitJobsRequest {
        flow_id: bytes(flow),
        submission_id: bytes(submission),
        jobs: vec![spec],
        ..SubmitJobsRequest::default()
    };
    connect(&broker).await.submit_jobs(request).await.unwrap();
    let (reason, text) = why(&broker, job).await;
    assert_eq!(reason, json!({ "kind": "not_sealed", "submission_id": submission.to_string() }));
    assert!(text.contains("is not complete; more parts of it are to come"), "{text}");
}

#[tokio::test]
async fn what_waits_for_its_moment_is_shown_and_begun_by_hand() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("later");
    let late: Job<()> = Scale::tasks(&flow, ELF).task_hold("late").delay(Duration::from_secs(3_600));
    flow.submit().await.unwrap();
    let id = late.id().to_string();
    let (reason, text) = why(&broker, late.id()).await;
    assert_eq!(reason["kind"], "delayed");
    assert!(text.starts_with("READY: it does not begin before 2"), "{text}");
    let shown = broker.run(&["job", &id]).await.good();
    assert!(shown.contains("  not before 2"), "{shown}");
    let text = broker.run(&["start-now", &id]).await.good();
    assert_eq!(text, "1 job no longer waits for a moment\n");
    let text = broker.run(&["start-now", &id, &id]).await.good();
    assert_eq!(text, "0 jobs no longer wait for a moment; 1 job did not wait for one alone\n");
    let (reason, _) = why(&broker, late.id()).await;
    assert_eq!(reason["kind"], "no_instance");
    let shown = broker.run(&["job", &id]).await.good();
    assert!(!shown.contains("not before"), "{shown}");
    let answer = broker.json(&["start-now", &id]).await;
    assert_eq!(answer, json!({ "jobs_started": 0 }));
    let unknown = JobId::generate().to_string();
    let text = broker.run(&["start-now", &unknown]).await.bad(1);
    assert!(text.contains(&unknown), "{text}");
}

#[tokio::test]
async fn jobs_are_cancelled_and_brought_back_with_their_dependents() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("steered");
    let first = flow.call(ELF, "task_weigh", args! { species: "bee" });
    let then = flow.call(ELF, "task_sum", args! { weights: any_list![first.output("weight")] });
    let other = flow.call(ELF, "task_weigh", args! { species: "ant" });
    flow.submit().await.unwrap();
    let status = async |job: JobId| broker.json(&["job", &job.to_string()]).await["status"].clone();

    let (first_id, then_id) = (first.id().to_string(), then.id().to_string());
    assert_eq!(broker.run(&["cancel", &first_id, &first_id]).await.good(), "cancelled 1 job\n", "it is one");
    assert_eq!(
        (status(first.id()).await, status(then.id()).await),
        (json!("CANCELLED"), json!("UPSTREAM_FAILED"))
    );
    assert_eq!(status(other.id()).await, json!("READY"), "what was not named goes on");
    let again = broker.run(&["cancel", &first_id]).await.good();
    assert_eq!(again, "cancelled 0 jobs; 1 job had ended before\n");
    let flow_cancelled = broker.json(&["cancel", "--flow", "steered"]).await;
    assert_eq!(flow_cancelled, json!({ "jobs_cancelled": 1, "jobs_final": 2, "jobs_unreadable": 0 }));

    let why = format!("job {then_id} depends on job {first_id}, which ended CANCELLED: retry that one");
    assert_eq!(broker.run(&["retry", &then_id]).await.bad(1), format!("error: {why}"));
    let retried = broker.run(&["retry", &first_id]).await.good();
    assert_eq!(retried, "brought back 1 job, and 1 dependent of theirs\n");
    assert_eq!((status(first.id()).await, status(other.id()).await), (json!("READY"), json!("CANCELLED")));
    let retried = broker.json(&["retry", "--flow", &flow.id().to_string()]).await;
    assert_eq!(retried, json!({ "jobs_retried": 1, "dependents_revived": 0 }));

    let served = Served::start(&mycelium, ELF, 4).await;
    let counts = within(mycelium.run(flow.id()).wait()).await.unwrap();
    assert_eq!(counts.done, 3);
    let line = broker.run(&["retry", &first_id]).await.bad(1);
    assert!(
        line.contains(&first_id) && line.contains("only jobs that have ended without a result"),
        "{line}"
    );

    for command in [&["cancel"][..], &["retry"], &["watch"], &["cancel", &first_id, "--flow", "steered"]] {
        let ended = broker.run(command).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{command:?} says not, or twice, which jobs"
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn a_cancelled_task_notices() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let mut served = Served::start(&mycelium, ELF, 4).await;
    let flow = mycelium.flow("endless");
    let scale = Scale::tasks(&flow, ELF);
    let _holds: Vec<_> = (0..4).map(|n| scale.task_hold(n.to_string())).collect();
    flow.submit().await.unwrap();
    for _ in 0..4 {
        served.next_start().await;
    }
    assert_eq!(broker.run(&["cancel", "--flow", "endless"]).await.good(), "cancelled 4 jobs\n");
    // Nothing lets the tasks go but the word that they are cancelled.
    served.stop().await;
}

struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(broker: &Broker, args: &[&str]) -> Self {
        let mut child = broker.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        within(self.lines.next_line()).await.unwrap().expect("the watch ended")
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    /// The end: no more lines, and this exit code.
    async fn end(mut self, code: i32) {
        assert_eq!(within(self.lines.next_line()).await.unwrap(), None);
        assert_eq!(within(self.child.wait()).await.unwrap().code(), Some(code));
    }
}

#[tokio::test]
async fn a_watch_tells_each_change_and_ends_with_the_last_job() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let mut served = Served::start(&mycelium, ELF, 1).await;
    let flow = mycelium.flow("watched");
    let scale = Scale::tasks(&flow, ELF);
    let hold = scale.task_hold("it");
    let breaks = scale.task_break("whale").after(&hold);
    flow.submit().await.unwrap();
    served.next_start().await;
    running(&mycelium, hold.id()).await;

    let (hold, breaks) = (hold.id().to_string(), breaks.id().to_string());
    let mut people = Watch::start(&broker, &["watch", "--flow", "watched"]);
    assert_eq!(people.line().await, "2 jobs: 1 PENDING, 1 RUNNING");
    let mut programs = Watch::start(&broker, &["watch", &hold, &breaks, "--output", "json"]);
    for _ in 0..2 {
        let change = programs.json().await;
        assert_eq!(change["snapshot"], json!(true), "{change}");
    }
    served.let_go(1);

    assert_eq!(people.line().await, format!("{hold}  DONE             task_hold of scale"));
    let mut line = people.line().await;
    while !line.contains("FAILED") {
        line = people.line().await;
    }
    assert!(line.starts_with(&format!("{breaks}  FAILED           task_break of scale: ")), "{line}");
    assert_eq!(people.line().await, "all have ended; 2 jobs: 1 DONE, 1 FAILED");
    people.end(1).await;

    let done = programs.json().await;
    assert_eq!((&done["job_id"], &done["status"]), (&json!(hold), &json!("DONE")));
    assert!(done["commit"].as_u64().unwrap() > 0, "{done}");
    let mut last = programs.json().await;
    while last["status"] != "FAILED" {
        last = programs.json().await;
    }
    assert_eq!(last["job_id"], json!(breaks));
    assert!(
        last["failure_id"].is_string() && last["failure_message"].as_str().unwrap().contains("whale"),
        "{last}"
    );
    programs.end(1).await;

    let ended = broker.run(&["watch", "--flow", "watched"]).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr, "error: 1 of 2 jobs did not end DONE or SKIPPED\n");
    let ended = broker.run(&["watch", "--flow", "watched", "--no-exit-status"]).await.good();
    assert!(ended.ends_with("all have ended; 2 jobs: 1 DONE, 1 FAILED\n"), "{ended}");
    broker.run(&["watch", &hold]).await.good();
    served.stop().await;
}

#[tokio::test]
async fn a_watch_of_what_is_not_there_ends() {
    let broker = Broker::in_memory().await;
    let unknown = JobId::generate().to_string();
    for arguments in
        [&["watch", "--flow", "unknown"][..], &["watch", "--flow", &unknown], &["watch", &unknown]]
    {
        let error = broker.run(arguments).await.bad(1);
        assert!(error.contains("unknown") || error.contains(&unknown), "{arguments:?}: {error}");
    }
    let bad = broker.run(&["watch", "--flow", "x", "--follow", "--no-exit-status"]).await;
    assert_eq!(bad.code, Some(2), "{}", bad.stderr);
    let help = broker.run(&["watch", "--help"]).await.good();
    assert!(help.contains("Exit codes: 0 all jobs have ended DONE or SKIPPED"), "{help}");
}

#[tokio::test]
async fn a_watch_says_that_the_broker_is_away_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::on(folder.path()).await;
    let address = broker.address();
    let flow = connect(&broker).await.flow("interrupted");
    let bee = flow.call(ELF, "task_weigh", args! { species: "bee" });
    flow.submit().await.unwrap();

    let mut command = broker.command(&["watch", "--flow", "interrupted"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut notes = BufReader::new(watch.stderr.take().unwrap()).lines();
    assert_eq!(within(lines.next_line()).await.unwrap().unwrap(), "1 job: 1 READY");
    broker.signal(Signal::SIGKILL);
    assert_eq!(broker.ended().await.0, None);
    let note = within(notes.next_line()).await.unwrap().unwrap();
    assert_eq!(note, "the broker is unavailable; waiting up to 15 s for it");

    let broker = Broker::start(&["--data-dir", folder.path().to_str().unwrap(), "--listen", &address]).await;
    let cancelled = broker.run(&["cancel", &bee.id().to_string()]).await.good();
    assert_eq!(cancelled, "cancelled 1 job\n");
    assert_eq!(within(notes.next_line()).await.unwrap().unwrap(), "the broker is back");
    let error = within(notes.next_line()).await.unwrap().unwrap();
    assert_eq!(error, "error: 1 of 1 job did not end DONE or SKIPPED");
    assert_eq!(within(notes.next_line()).await.unwrap(), None);
    assert_eq!(within(watch.wait()).await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_watch_that_follows_sees_jobs_added_later() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, ELF, 1).await;
    let flow = mycelium.flow("growing");
    flow.call(ELF, "task_weigh", args! { species: "bee" });
    within(flow.submit().await.unwrap().wait()).await.unwrap();

    let mut ends = Watch::start(&broker, &["watch", "--flow", "growing"]);
    assert_eq!(ends.line().await, "1 job: 1 DONE");
    assert_eq!(ends.line().await, "all have ended; 1 job: 1 DONE");
    ends.end(0).await;

    let mut follows = Watch::start(&broker, &["watch", "--flow", "growing", "--follow"]);
    assert_eq!(follows.line().await, "1 job: 1 DONE");
    let next = flow.call(ELF, "task_sum", args! { weights: any_list![1] });
    flow.submit().await.unwrap();
    let expected = format!("{}  DONE             task_sum of scale", next.id());
    while follows.line().await != expected {}
    assert_eq!(follows.child.try_wait().unwrap(), None, "it goes on");
    served.stop().await;
}

#[tokio::test]
async fn what_is_paused_says_so_until_it_is_resumed() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    assert_eq!(broker.run(&["pauses"]).await.good(), "nothing is paused\n");
    let pause = ["pause", "--elf", ELF, "--task", "task_sum", "--reason", "it is being repaired"];
    let text = broker.run(&pause).await.good();
    assert!(text.starts_with("paused task task_sum of elf scale, since 20"), "{text}");
    assert!(text.ends_with(" (it is being repaired)\n"), "{text}");
    let text = broker.run(&pause).await.good();
    assert!(text.starts_with("was paused already: task task_sum of elf scale"), "{text}");
    let paused = broker.json(&["pauses"]).await;
    let target = json!({ "kind": "task", "elf": ELF, "task": "task_sum" });
    assert_eq!((&paused[0]["target"], &paused[0]["reason"]), (&target, &json!("it is being repaired")));
    assert!(paused[0]["by"].as_str().unwrap().contains('@'), "{paused}");

    let flow = mycelium.flow("paused");
    let job = Scale::tasks(&flow, ELF).task_sum(list![1]);
    flow.submit().await.unwrap();
    let (reason, text) = why(&broker, job.id()).await;
    assert_eq!((&reason["kind"], &reason["pauses"]), (&json!("paused"), &paused));
    assert!(
        text.starts_with("READY: it is paused: the task `task_sum` of the elf `scale`, since 20"),
        "{text}"
    );
    let served = Served::start(&mycelium, ELF, 4).await;
    assert!(broker.run(&["elves"]).await.good().contains(" 1 task "));
    let elf = broker.run(&["elf", ELF]).await.good();
    assert!(elf.contains("  paused      task task_sum of elf scale, since 20"), "{elf}");
    assert_eq!(broker.json(&["elf", ELF]).await["pauses"], paused);
    served.stop().await;
    let resume = ["resume", "--elf", ELF, "--task", "task_sum"];
    assert!(broker.run(&resume).await.good().starts_with("resumed what was paused: task task_sum"));
    assert_eq!(broker.run(&resume).await.good(), "it was not paused\n");
    assert_eq!(why(&broker, job.id()).await.0["kind"], json!("no_instance"));
    broker.run(&["pause", "--flow", "paused"]).await.good();
    assert_eq!(why(&broker, job.id()).await.0["pauses"][0]["target"]["kind"], json!("flow_id"));
    broker.run(&["pause", "--all"]).await.good();
    assert_eq!(why(&broker, job.id()).await.0["pauses"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_filter_names_is_acted_upon_or_only_counted() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("many");
    let scale = Scale::tasks(&flow, ELF);
    let jobs: Vec<_> = (0..3).map(|_| scale.task_sum(list![1])).collect();
    flow.submit().await.unwrap();
    let text = broker.run(&["cancel", "--filter", "elf:scale", "--dry-run"]).await.good();
    assert!(text.starts_with("it would be 3 jobs\n"), "{text}");
    assert!(jobs.iter().all(|job| text.contains(&job.id().to_string())), "{text}");
    assert_eq!(broker.run(&["actions"]).await.good(), "nothing was done with many jobs at once\n");
    let text = broker.run(&["cancel", "--filter", "elf:scale"]).await.good();
    assert!(text.ends_with(" has begun, and goes on by itself; see: mycelium actions\n"), "{text}");
    let is_over =
        async || Ok(Some(broker.json(&["actions"]).await).filter(|all| !all[0]["ended_at"].is_null()));
    let actions = mycelium_testing::until("the action to be over", is_over).await.unwrap();
    assert_eq!((&actions[0]["kind"], &actions[0]["filter"]), (&json!("CANCEL"), &json!("elf:scale")));
    assert_eq!((&actions[0]["done"], &actions[0]["left"]), (&json!(3), &json!(0)));
    let text = broker.run(&["actions"]).await.good();
    assert!(text.contains("cancel") && text.contains("elf:scale"), "{text}");
}
