//! Jobs, flows, elves and failures: lists, and each by itself.

use std::collections::BTreeSet;
use std::process::Stdio;

use elf_runtime::v1::ListJobsRequest;
use elf_runtime::{Arguments, Elf as _, JobId, TaskError, args, list, machine_elf};
use serde_json::{Value, json};

use crate::support::scale::{Scale, Served};
use crate::support::{Broker, run, within};
use crate::{ELF, FLOW, connect, short, start};

/// What is said of a list that is cut after two entries.
const MORE_THAN_TWO: &str = "There are more than these 2; see them with --limit.\n";

/// Fails in the way that it is told.
struct Breaker;

#[machine_elf]
impl Breaker {
    async fn task_break(&self, kind: String) -> Result<i64, TaskError> {
        Err(TaskError::new(kind, "it snapped"))
    }
}

#[tokio::test]
async fn jobs_are_listed_by_what_is_asked_for_and_shown_with_their_values() {
    let (broker, mycelium, served) = start(ELF, 8).await;
    let flow = mycelium.flow(FLOW);
    let scale = Scale::tasks(&flow, ELF);
    let bee = scale.task_weigh("bee");
    let sum = scale.task_sum(list![bee.weight(), i64::MAX - 3]);
    let run = flow.submit().await.unwrap();
    within(run.wait()).await.unwrap();

    let jobs = broker.json(&["jobs", "--flow", FLOW]).await;
    let ids = |jobs: &Value| -> BTreeSet<String> {
        jobs.as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&jobs), BTreeSet::from([bee.id().to_string(), sum.id().to_string()]));
    for filter in [
        vec!["--task", "task_weigh"],
        vec!["--task", "task_weigh", "--elf", ELF, "--status", "DONE", "--status", "failed"],
    ] {
        let jobs = broker.json(&[&["jobs"], &filter[..]].concat()).await;
        assert_eq!(ids(&jobs), BTreeSet::from([bee.id().to_string()]), "{filter:?}");
    }
    for filter in [["--elf", "scale"], ["--status", "pending"], ["--task", "task_break"]] {
        assert_eq!(broker.json(&[&["jobs"], &filter[..]].concat()).await, json!([]), "{filter:?}");
    }

    let first = &jobs[0];
    assert_eq!(
        (&first["status"], &first["elf"], &first["attempt"]),
        (&json!("DONE"), &json!(ELF), &json!(1))
    );
    assert_eq!(first["failure_id"], Value::Null);
    assert!(first["submitted_at"].as_str().unwrap().ends_with('Z'), "{first}");

    let job = broker.json(&["job", &sum.id().to_string()]).await;
    assert_eq!(job["task"], "task_sum");
    assert_eq!(
        job["outputs"],
        json!([{
            "name": "value", "encoding": "application/json", "bytes": 19, "value": i64::MAX, "blob": null
        }])
    );
    let nodes = job["nodes"].as_array().unwrap();
    let top = usize::try_from(job["arguments"][0]["node"].as_u64().unwrap()).unwrap();
    assert_eq!((&job["arguments"][0]["parameter"], &nodes[top]["kind"]), (&json!("weights"), &json!("list")));
    let output = json!({ "kind": "output", "job_id": bee.id().to_string(), "output": "weight" });
    assert!(nodes.contains(&output), "{nodes:?}");

    let text = broker.run(&["job", &sum.id().to_string()]).await.good();
    let weigh = format!("{ELF}.task_weigh#{}", short(&bee.id()));
    for part in [
        "task_sum of scale".to_owned(),
        format!("takes      weights = [weight, {}]   where weight = {weigh}.weight\n", i64::MAX - 3),
        format!("             = [3,{}]\n", i64::MAX - 3),
        format!("from       {weigh}  DONE  {}\n", bee.id()),
        format!("returned   value = {}", i64::MAX),
    ] {
        assert!(text.contains(&part), "{part} is missing: {text}");
    }
    let flows = broker.json(&["flows", "--name", FLOW]).await;
    assert_eq!((flows.as_array().unwrap().len(), &flows[0]["counts"]["done"]), (1, &json!(2)));
    assert!(broker.run(&["flows"]).await.good().contains("the \"daily\""));
    served.stop().await;
}

/// Fails with the words that it is told.
struct Moody;

#[machine_elf]
impl Moody {
    async fn task_fail(&self, why: String) -> Result<i64, TaskError> {
        Err(TaskError::new("Moody", why))
    }

    async fn task_burst(&self) -> Result<i64, TaskError> {
        Err(TaskError::new("Burst", "too much quota".to_owned()))
    }
}

#[tokio::test]
async fn jobs_are_found_by_words() {
    let (broker, mycelium, served) = start(ELF, 8).await;
    let moody = tokio::spawn(mycelium.serve().elf("moody", Moody).run());
    let flow = mycelium.flow("the daily").with_label("site", "north");
    let tasks = Moody::tasks(&flow, "moody");
    let quota = tasks.task_fail("You are over QUOTA today").with_label("customer", "acme").id();
    let other = tasks.task_fail("no").id();
    let burst = tasks.task_burst().id();
    let done = Scale::tasks(&flow, ELF).task_weigh("bee").id();
    within(flow.submit().await.unwrap().wait()).await.unwrap();
    let waiting = mycelium.flow("waiting");
    let waits = waiting.call("nobody", "task_never", args! {}).id();
    waiting.submit().await.unwrap();

    let failure_of = async |job: JobId| {
        let id = broker.json(&["job", &job.to_string()]).await["failure_id"].as_str().unwrap().to_owned();
        id.replace('-', "")
    };
    let (snapped, burst_id) = (failure_of(quota).await, failure_of(burst).await);
    let first_digits = |id: &str, other: &str| {
        let same = id.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
        id[..same + 1].to_uppercase()
    };
    for (filter, found) in [
        ("status:failed".to_owned(), vec![quota, other, burst]),
        ("status:done,ready elf:nobody".to_owned(), vec![waits]),
        ("flow:'the daily' task:task_burst".to_owned(), vec![burst]),
        (format!("flow:{}", flow.id()), vec![quota, other, burst, done]),
        ("label.customer=acme".to_owned(), vec![quota]),
        ("since:1h".to_owned(), vec![quota, other, burst, done]),
        ("until:1h".to_owned(), vec![]),
        ("since:2001-01-01T00:00:00Z status:done".to_owned(), vec![done]),
        (format!("failure:{snapped}"), vec![quota, other]),
        (format!("failure:{}", first_digits(&burst_id, &snapped)), vec![burst]),
        ("text:\"over quota\"".to_owned(), vec![quota]),
        ("text:Quota".to_owned(), vec![quota, burst]),
        ("text:quota elf:moody task:task_fail".to_owned(), vec![quota]),
        ("text:quota status:done".to_owned(), vec![]),
    ] {
        let jobs = broker.json(&["jobs", &filter]).await;
        let ids: BTreeSet<_> =
            jobs.as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, found.iter().map(ToString::to_string).collect(), "{filter}");
    }
    // A page may be sifted until nothing is left of it: the list goes on.
    let (jobs, _note) = broker.json_with_note(&["jobs", "text:quota", "--limit", "1"]).await;
    assert_eq!(jobs.as_array().unwrap().len(), 1);

    for (filter, why) in [
        ("colour:red", "there is no field `colour`"),
        ("status:broken", "there is no status `broken`"),
        ("text:\"open", "a quote is not closed"),
        ("since:later", "a moment is a span of time before now"),
        ("flow:nightly", "nightly"),
    ] {
        let said = broker.run(&["jobs", filter]).await.bad(1);
        assert!(said.contains(why), "{filter}: {said}");
    }
    let request = ListJobsRequest {
        filter: "status:failed".to_owned(),
        elf: "moody".to_owned(),
        ..ListJobsRequest::default()
    };
    let refusal = mycelium.list_jobs(request).await.unwrap_err().to_string();
    assert!(refusal.contains("stands in place of the fields"), "{refusal}");
    moody.abort();
    served.stop().await;
}

#[tokio::test]
async fn lists_that_are_cut_say_so_and_how_to_see_more() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = [Served::start(&mycelium, "b", 1).await, Served::start(&mycelium, "c", 1).await];
    let breaker = tokio::spawn(mycelium.serve().elf("a", Breaker).run());
    for kind in ["One", "Two", "Three"] {
        let flow = mycelium.flow(kind);
        Breaker::tasks(&flow, "a").task_break(kind);
        within(flow.submit().await.unwrap().wait()).await.unwrap();
    }
    for command in ["flows", "elves", "failures", "jobs"] {
        let ended = broker.run(&[command, "--limit", "2"]).await;
        assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 3), "{command}: {}", ended.stdout);
        assert_eq!(ended.stderr, MORE_THAN_TWO, "{command}");
        let (two, note) = broker.json_with_note(&[command, "--limit", "2"]).await;
        assert_eq!((two.as_array().unwrap().len(), note.as_str()), (2, MORE_THAN_TWO), "{command}");
        let three = broker.json(&[command, "--limit", "3"]).await;
        assert_eq!(three.as_array().unwrap().len(), 3, "{command}: exactly as many as there are");
        assert_eq!(broker.json(&[command]).await, three, "{command}");
    }
    breaker.abort();
    for served in served {
        served.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_seen_is_written_out() {
    const HOSTILE: &str = "pay\u{202e}fdp\u{200b}.\u{feff}exe";
    const VALUE: &str = "\u{202e}\u{1b}[2J\u{9b}2J";
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow(HOSTILE);
    let job = flow.call(HOSTILE, &format!("task_{HOSTILE}"), Arguments::new().with(HOSTILE, VALUE));
    flow.submit().await.unwrap();
    let is_hidden = |text: &str| text.contains(['\u{202e}', '\u{200b}', '\u{1b}', '\u{9b}', '\u{feff}']);
    let id = job.id().to_string();
    for command in [
        &["flows"][..],
        &["jobs"],
        &["job", &id],
        &["why", &id],
        &["lineage", &id],
        &["graph", "--flow", HOSTILE],
        &["graph", "--flow", HOSTILE, "--values"],
        &["graph", "--flow", HOSTILE, "--format", "dot"],
        &["graph", "--flow", HOSTILE, "--format", "json"],
        &["graph", "--flow", HOSTILE, "--values", "--format", "graphml"],
    ] {
        let text = broker.run(command).await.good();
        let is_written_out = |written: &&str| text.contains(written);
        let is_told = [r"\u{202e}", r"\u202e", "&#x202e;"].iter().any(is_written_out);
        assert!(!is_hidden(&text) && (is_told || command[0] == "lineage"), "{command:?}: {text:?}");
    }
    for command in [&["flows"][..], &["job", &id], &["graph", "--flow", HOSTILE]] {
        let text = run(broker.command(command).args(["--output", "json"])).await.good();
        assert!(!is_hidden(&text) && text.contains(r"pay\u202efdp\u200b.\ufeffexe"), "{text}");
    }
    assert_eq!(broker.json(&["flows"]).await[0]["name"], json!(HOSTILE), "it means the same");
    // What is refused is user text as well.
    let refused = broker.run(&["graph", "--flow", "\u{202e}unknown"]).await.bad(1);
    assert!(!is_hidden(&refused) && refused.contains(r"\u{202e}unknown"), "{refused:?}");
}

#[tokio::test]
async fn an_elf_is_shown_with_its_tasks_and_its_source_as_it_was_written() {
    let (broker, _mycelium, served) = start(ELF, 8).await;

    let source = broker.run(&["elf", ELF, "--source"]).await.good();
    assert_eq!(source, declared_source());
    assert!(include_str!("../support/scale.rs").contains(&source), "as it stands in the file: {source}");
    assert!(source.contains("// A comment that belongs to the source, \"quotes\" and all.\n"), "{source}");
    let view = broker.json(&["elf", ELF, "--source"]).await;
    assert_eq!((&view["source"], &view["language"]), (&json!(source), &json!("rust")));

    let elf = broker.json(&["elf", ELF]).await;
    assert_eq!(
        (&elf["name"], &elf["docs"]),
        (&json!(ELF), &json!("Weighs animals, and\nfails when it is told to."))
    );
    assert_eq!(elf["instances"][0]["process_id"], std::process::id());
    let weigh = &elf["tasks"][0];
    assert_eq!((&weigh["name"], &weigh["docs"]), (&json!("task_weigh"), &json!("Weighs one animal.")));
    assert_eq!(weigh["parameters"][0]["name"], "species");
    assert_eq!(weigh["parameters"][0]["schema"]["type"], "string");
    let outputs: Vec<&Value> =
        weigh["outputs"].as_array().unwrap().iter().map(|output| &output["name"]).collect();
    assert_eq!(outputs, ["species", "weight"]);

    let text = broker.run(&["elf", ELF]).await.good();
    let process = format!("{} on ", std::process::id());
    for part in
        ["  Weighs animals, and\n", "task_weigh(&self, species: String)", "takes   species: ", &process]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }

    let elves = broker.json(&["elves"]).await;
    assert_eq!(elves[0]["tasks"], json!(["task_weigh", "task_sum", "task_break", "task_hold"]));
    assert!(broker.run(&["elves"]).await.good().contains("Weighs animals, and"));

    let revisions = broker.json(&["elf", ELF, "--revisions"]).await;
    let of_elf: Vec<&Value> =
        revisions.as_array().unwrap().iter().filter(|revision| revision["task"].is_null()).collect();
    assert_eq!((of_elf.len(), &of_elf[0]["revision"]), (1, &elf["revision"]));
    let (two, note) = broker.json_with_note(&["elf", ELF, "--revisions", "--limit", "2"]).await;
    assert_eq!((two.as_array().unwrap().len(), note.as_str()), (2, MORE_THAN_TWO));
    assert!(broker.run(&["elf", ELF, "--revisions"]).await.good().contains("task_break"));
    served.stop().await;
}

/// The source that the elf declares.
fn declared_source() -> String {
    Scale::new().0.declaration().source().to_owned()
}

#[tokio::test]
async fn failures_are_grouped_and_name_file_and_line() {
    let (broker, mycelium, served) = start(ELF, 1).await;
    assert_eq!(broker.run(&["failures"]).await.good(), "no failures\n");
    let flow = mycelium.flow("breaks");
    let scale = Scale::tasks(&flow, ELF);
    let jobs = ["whale", "\u{1b}[31mcat"].map(|what| scale.task_break(what));
    within(flow.submit().await.unwrap().wait()).await.unwrap();

    let failures = broker.json(&["failures"]).await;
    assert_eq!(failures.as_array().unwrap().len(), 1, "equal ones are one: {failures}");
    let failure = &failures[0];
    let line = 1 + include_str!("../support/scale.rs")
        .lines()
        .position(|line| line.contains("TaskError::from(error).context"))
        .unwrap();
    let frames = failure["frames"].as_array().unwrap();
    let is_there = |frame: &Value| {
        frame["file"].as_str().is_some_and(|file| file.ends_with("tests/support/scale.rs"))
            && frame["line"] == line
    };
    assert!(frames.iter().any(is_there), "line {line}: {frames:?}");
    assert_eq!((&failure["occurrences_count"], &failure["task"]), (&json!(2), &json!("task_break")));

    let id = failure["failure_id"].as_str().unwrap();
    let table = broker.run(&["failures"]).await.good();
    let place = format!("tests/support/scale.rs:{line}");
    assert!(table.contains(id) && table.contains(&place), "{place} is missing: {table}");

    let details = broker.json(&["failure", id]).await;
    let occurrences = details["occurrences"].as_array().unwrap();
    let seen: BTreeSet<&str> = occurrences.iter().map(|one| one["job_id"].as_str().unwrap()).collect();
    let expected = jobs.map(|job| job.id().to_string());
    assert_eq!(seen, expected.iter().map(String::as_str).collect());
    let (one, note) = broker.json_with_note(&["failure", id, "--limit", "1"]).await;
    assert_eq!(one["occurrences"].as_array().unwrap().len(), 1);
    assert_eq!(note, "There are more than this one; see them with --limit.\n");

    let text = broker.run(&["failure", id]).await.good();
    for part in [&place, "cannot weigh whale", "caused by ", "seen 2 times", &expected[0], &expected[1]] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!text.contains('\u{1b}'), "messages cannot steer the terminal: {text}");

    let job = broker.json(&["job", &expected[0]]).await;
    assert_eq!((&job["status"], &job["failure_id"]), (&json!("FAILED"), &json!(id)));
    assert!(job["failure"]["message"].as_str().unwrap().contains("whale"), "its own message: {job}");
    let text = broker.run(&["job", &expected[0]]).await.good();
    assert!(text.contains("cannot weigh whale") && text.contains(&place), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn one_is_not_told_as_many_and_a_flow_without_a_name_is_seen() {
    let broker = Broker::in_memory().await;
    let flow = connect(&broker).await.flow("");
    let bee = flow.call(ELF, "task_weigh", args! { species: "bee" });
    flow.call(ELF, "task_weigh", args! { species: "ant" });
    flow.submit().await.unwrap();

    let ended = broker.run(&["jobs", "--limit", "1"]).await;
    assert_eq!(ended.stderr, "There are more than this one; see them with --limit.\n");
    let flows = broker.run(&["flows"]).await.good();
    let row = flows.lines().find(|line| line.starts_with(&flow.id().to_string())).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("-"), "{row}");
    let job = broker.run(&["job", &bee.id().to_string()]).await.good();
    assert!(job.contains(&format!("{} (-)", flow.id())), "{job}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_reason_to_complain() {
    let broker = Broker::in_memory().await;
    for format in ["table", "json"] {
        let mut command = broker.command(&["jobs", "--output", format]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = within(child.wait_with_output()).await.unwrap();
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{format}");
    }
}
