//! The commands that look: what they show is what the broker holds, for people and for programs.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::collections::BTreeSet;
use std::process::Stdio;

use elf_runtime::{Arguments, Elf as _, Mycelium, TaskError, args, list, machine_elf};
use serde_json::{Value, json};
use support::dot::{self, Dot};
use support::scale::{Scale, Served};
use support::{Broker, Ended, mycelium, run, within};

/// Names that are hard to quote.
const FLOW: &str = "the \"daily\" \\ report\\n";
const ELF: &str = "scale \"A\" -> {b};";
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

async fn connect(broker: &Broker) -> Mycelium {
    Mycelium::connect(broker.url()).await.unwrap()
}

/// The edges of a graph in DOT: from, to, label, style.
fn edges_of(dot: &Dot) -> BTreeSet<(String, String, Option<String>, Option<String>)> {
    let edge = |(from, to, attributes): &(String, String, dot::Attributes)| {
        (from.clone(), to.clone(), attributes.get("label").cloned(), attributes.get("style").cloned())
    };
    let edges: BTreeSet<_> = dot.edges.iter().map(edge).collect();
    assert_eq!(edges.len(), dot.edges.len(), "each edge once");
    edges
}

#[tokio::test]
async fn jobs_are_listed_by_what_is_asked_for_and_shown_with_their_values() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, ELF, 8).await;
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

#[tokio::test]
async fn pages_are_followed_up_to_the_limit_and_a_graph_is_shown_whole() {
    const JOBS: usize = 2_100;
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("long chain");
    let mut last = flow.call("nobody", "task_begin", args! {});
    let mut expected = BTreeSet::new();
    for _ in 1..JOBS {
        let next = flow.call("nobody", "task_go_on", args! { from: last.value().clone() });
        let label = Some("-> from".to_owned());
        expected.insert((last.id().to_string(), next.id().to_string(), label, None));
        last = next;
    }
    flow.submit().await.unwrap();

    assert_eq!(broker.json(&["jobs", "--limit", "5000"]).await.as_array().unwrap().len(), JOBS);
    let (jobs, note) = broker.json_with_note(&["jobs", "--limit", "1001"]).await;
    assert_eq!(jobs.as_array().unwrap().len(), 1_001);
    assert_eq!(note, "There are more than these 1001; see them with --limit.\n");
    let Ended { code, stdout, stderr } = broker.run(&["jobs", "--limit", "7"]).await;
    assert_eq!((code, stdout.lines().count()), (Some(0), 8), "a line of heads, and the jobs");
    assert_eq!(stderr, "There are more than these 7; see them with --limit.\n");

    let text = broker.run(&["graph", "--flow", "long chain", "--format", "dot"]).await.good();
    let graph = dot::parse(&text);
    assert_eq!((graph.name.as_str(), graph.nodes.len()), ("long chain", JOBS));
    assert_eq!(edges_of(&graph), expected);
    let graph = broker.json(&["graph", "--flow", &flow.id().to_string()]).await;
    let count = |what: &str| graph[what].as_array().unwrap().len();
    assert_eq!((count("jobs"), count("edges"), &graph["truncated"]), (JOBS, JOBS - 1, &json!(false)));
}

#[tokio::test]
async fn a_graph_of_many_elements_has_every_edge_once() {
    const ELEMENTS: usize = 2_500;
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let flow = mycelium.flow("fan");
    let numbers: Vec<i64> = (0..).take(ELEMENTS).collect();
    let sums = flow.for_each(numbers, |number| Scale::tasks(&flow, "nobody").task_sum(list![number]));
    let total = Scale::tasks(&flow, "nobody").task_sum(sums.value().clone());
    flow.submit().await.unwrap();
    let list = sums.id().to_string();
    // The broker makes a job of each element, whether their elf is there or not.
    let graph = within(async {
        loop {
            let graph = broker.json(&["graph", "--flow", "fan"]).await;
            if graph["jobs"].as_array().unwrap().len() == ELEMENTS + 2 {
                break graph;
            }
        }
    })
    .await;
    let mut edges: Vec<String> = graph["edges"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let all = edges.len();
    edges.sort_unstable();
    edges.dedup();
    assert_eq!(edges.len(), all, "each edge once");
    let gathers: BTreeSet<&str> = graph["edges"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|edge| edge["kind"] == "GATHER" && edge["to_job_id"] == json!(list))
        .map(|edge| edge["from_job_id"].as_str().unwrap())
        .collect();
    assert_eq!((gathers.len(), &graph["truncated"]), (ELEMENTS, &json!(false)));
    assert_eq!(all, ELEMENTS + 1, "and the one that ends in {}", total.id());
    let dot = dot::parse(&broker.run(&["graph", "--flow", "fan", "--format", "dot"]).await.good());
    assert_eq!((dot.nodes.len(), dot.edges.len()), (ELEMENTS + 2, ELEMENTS + 1));
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
    ] {
        let text = broker.run(command).await.good();
        assert!(
            !is_hidden(&text) && (text.contains(r"\u{202e}") || command[0] == "lineage"),
            "{command:?}: {text:?}"
        );
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
async fn the_edges_of_a_graph_in_dot_are_exactly_the_dependencies() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, ELF, 8).await;
    let flow = mycelium.flow(FLOW);
    let scale = Scale::tasks(&flow, ELF);
    let bee = scale.task_weigh("bee");
    let ant = scale.task_weigh(bee.species());
    let sum = scale.task_sum(list![bee.weight(), ant.weight(), bee.weight(), 1]);
    let strange =
        flow.call("a\\b", "task_\"x\"", Arguments::new().with("p\\", sum.value().clone())).after(&ant);
    flow.submit().await.unwrap();

    let value = |from: String, to: String, label: &str| (from, to, Some(label.to_owned()), None);
    let weight_of_bee = bee.weight();
    let [bee, ant, sum, strange] = [bee.id(), ant.id(), sum.id(), strange.id()].map(|id| id.to_string());
    let expected = BTreeSet::from([
        value(bee.clone(), ant.clone(), "species -> species"),
        value(bee.clone(), sum.clone(), "weight -> weights"),
        value(ant.clone(), sum.clone(), "weight -> weights"),
        value(sum.clone(), strange.clone(), "-> p\\"),
        (ant.clone(), strange.clone(), None, Some("dashed".to_owned())),
    ]);
    let graph = dot::parse(&broker.run(&["graph", "--flow", FLOW, "--format", "dot"]).await.good());
    assert_eq!(edges_of(&graph), expected);
    assert_eq!(graph.name, FLOW);
    assert_eq!(graph.nodes.keys().cloned().collect::<Vec<_>>(), {
        let mut ids = vec![bee.clone(), ant.clone(), sum.clone(), strange.clone()];
        ids.sort();
        ids
    });
    assert_eq!(graph.nodes[&strange]["label"], "task_\"x\"\na\\b");
    assert_eq!(graph.nodes[&bee]["label"], format!("task_weigh\n{ELF}"));
    let colour = |id: &String| graph.nodes[id]["fillcolor"].clone();
    assert_ne!(colour(&strange), colour(&bee), "a job without an elf stands elsewhere than one that is done");

    // Around a job: only what is within the depth, and no edge leads out of it.
    let around = ["graph", "--job", &ant, "--format", "dot"];
    let near = edges_of(&dot::parse(&broker.run(&around).await.good()));
    assert!(near.is_subset(&expected) && near.len() == 5, "{near:?}");
    let around = ["graph", "--job", &bee, "--depth", "1", "--format", "dot"];
    let near = edges_of(&dot::parse(&broker.run(&around).await.good()));
    assert!(near.is_subset(&expected) && near.len() == 3, "{near:?}");

    let text = broker.run(&["graph", "--job", &bee, "--depth", "9"]).await.good();
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is missing: {text}"));
    assert!(place(&format!("{bee}  ")) < place(&format!("{sum}  ")), "{text}");
    place(&format!("weights <- task_weigh.weight ({ant})"));
    place(&format!("after task_weigh ({ant})"));

    // A value from another flow comes from a node of its own look.
    let other = mycelium.flow("other");
    let total = Scale::tasks(&other, ELF).task_sum(list![weight_of_bee]);
    other.submit().await.unwrap();
    let graph = dot::parse(&broker.run(&["graph", "--flow", "other", "--format", "dot"]).await.good());
    let total = total.id().to_string();
    assert_eq!(edges_of(&graph), BTreeSet::from([value(bee.clone(), total.clone(), "weight -> weights")]));
    assert_eq!(graph.nodes[&bee]["style"], "rounded,dotted");
    assert!(!graph.nodes[&total].contains_key("style"));
    served.stop().await;
}

#[tokio::test]
async fn an_elf_is_shown_with_its_tasks_and_its_source_as_it_was_written() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, ELF, 8).await;

    let source = broker.run(&["elf", ELF, "--source"]).await.good();
    assert_eq!(source, declared_source());
    assert!(include_str!("support/scale.rs").contains(&source), "as it stands in the file: {source}");
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
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, ELF, 1).await;
    assert_eq!(broker.run(&["failures"]).await.good(), "no failures\n");
    let flow = mycelium.flow("breaks");
    let scale = Scale::tasks(&flow, ELF);
    let jobs = ["whale", "\u{1b}[31mcat"].map(|what| scale.task_break(what));
    within(flow.submit().await.unwrap().wait()).await.unwrap();

    let failures = broker.json(&["failures"]).await;
    assert_eq!(failures.as_array().unwrap().len(), 1, "equal ones are one: {failures}");
    let failure = &failures[0];
    let line = 1 + include_str!("support/scale.rs")
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
async fn without_a_broker_every_command_says_how_to_start_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let id = uuid::Uuid::nil().to_string();
    let commands: [&[&str]; 14] = [
        &["jobs"],
        &["job", &id],
        &["graph", "--job", &id],
        &["lineage", &id],
        &["flows"],
        &["elves"],
        &["elf", "scale"],
        &["failures"],
        &["failure", &id],
        &["why", &id],
        &["cancel", &id],
        &["retry", &id],
        &["watch", &id],
        &["watch", "--flow", "x"],
    ];
    for command in commands {
        let line = run(mycelium().args(command).args(["--url", &url])).await.bad(1);
        let expected = format!("error: no broker answers at {url}; start one with: mycelium serve");
        assert_eq!(line, expected, "{command:?}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_told_by_name_and_what_is_no_id_is_refused() {
    let broker = Broker::in_memory().await;
    let id = uuid::Uuid::nil().to_string();
    let unknown: [(&[&str], &str, &str); 11] = [
        (&["job", &id], &id, "see: mycelium jobs"),
        (&["why", &id], &id, "see: mycelium jobs"),
        (&["cancel", &id], &id, "see: mycelium jobs"),
        (&["retry", &id], &id, "see: mycelium jobs"),
        (&["watch", &id], &id, "see: mycelium jobs"),
        (&["graph", "--job", &id], &id, "see: mycelium jobs"),
        (&["lineage", &id], &id, "see: mycelium jobs"),
        (&["jobs", "--flow", "daily"], "daily", "see: mycelium flows"),
        (&["graph", "--flow", &id], &id, "see: mycelium flows"),
        (&["elf", "scale"], "scale", "see: mycelium elves"),
        (&["failure", &id], &id, "see: mycelium failures"),
    ];
    for (command, name, hint) in unknown {
        let line = broker.run(command).await.bad(1);
        assert!(line.starts_with("error: ") && line.contains(name) && line.ends_with(hint), "{line}");
    }
    let line = broker.run(&["jobs", "--mycelium", "other"]).await.bad(1);
    assert!(line.contains("`other`"), "{line}");
    for command in [["job", "bee"], ["failure", "bee"], ["watch", "bee"]] {
        let ended = broker.run(&command).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{command:?}");
        assert!(ended.stderr.starts_with("error: invalid value 'bee'"), "{}", ended.stderr);
        assert!(ended.stderr.contains("`bee` is not an id: expected a UUID"), "{}", ended.stderr);
    }
    let both = ["graph", "--job", &id, "--format", "dot", "--output", "json"];
    assert_eq!(broker.run(&both).await.bad(2), "error: --format and --output json exclude each other");
    let named = broker.run(&["jobs", "--flow", &id]).await.bad(1);
    assert!(!named.contains("named"), "an id is no name: {named}");
    let deep = broker.run(&["graph", "--flow", "daily", "--depth", "4"]).await;
    assert_eq!((deep.code, deep.stdout.as_str()), (Some(2), ""));
    assert!(
        deep.stderr.contains("'--flow <NAME|ID>' cannot be used with '--depth <DEPTH>'"),
        "{}",
        deep.stderr
    );
}

#[tokio::test]
async fn what_is_no_url_of_a_broker_is_a_wrong_command_line() {
    for (url, why) in [
        ("not a url", "it cannot be read as a URL"),
        ("127.0.0.1:7420", "it does not begin with http://"),
        ("nonsense", "it does not begin with http://"),
        ("https://127.0.0.1:7420", "TLS is not there yet, only http://"),
        ("ftp://127.0.0.1:7420", "a broker speaks http://, not ftp://"),
        ("http://127.0.0.1:99999", "its port is not a number from 1 to 65535"),
    ] {
        let expected = format!(
            "error: `{url}` is not the URL of a broker (one looks like http://127.0.0.1:7420): {why}"
        );
        assert_eq!(run(mycelium().args(["flows", "--url", url])).await.bad(2), expected);
        assert_eq!(run(mycelium().args(["flows"]).env("MYCELIUM_URL", url)).await.bad(2), expected);
    }
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

#[tokio::test]
async fn values_that_are_computed_are_shown_as_they_were_written() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, "scale", 8).await;
    let flow = mycelium.flow(FLOW);
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let sum = scale.task_sum(list![bee.weight() * 2 + 1]);
    let run = flow.submit().await.unwrap();
    within(run.wait()).await.unwrap();
    let shown = broker.run(&["job", &sum.id().to_string()]).await.good();
    let source = format!("scale.task_weigh#{}.weight", short(&bee.id()));
    let expected = format!("weights = [weight * 2 + 1]   where weight = {source}\n               = [7]\n");
    assert!(shown.contains(&expected), "{shown}");
    let json = broker.json(&["job", &sum.id().to_string()]).await;
    let nodes = json["nodes"].as_array().unwrap();
    let operations: Vec<_> = nodes.iter().filter(|node| node["kind"] == "operation").collect();
    assert_eq!(operations.len(), 2, "{json}");
    assert_eq!((&operations[0]["name"], &operations[1]["name"]), (&json!("multiply"), &json!("add")));
    let id = bee.id().to_string();
    let expected = json!([{
        "kind": "VALUE", "parameter": "weights", "node": json["arguments"][0]["node"],
        "expression": "[weight * 2 + 1]",
        "outputs": [{"name": "weight", "job_id": id, "output": "weight"}],
        "encoding": "application/json", "bytes": 3, "begin": "[7]", "value": [7], "error": null,
        "origin_job_ids": [id],
    }]);
    assert_eq!(json["values"], expected);
    assert_eq!((&json["origins"][0]["job_id"], &json["origins"][0]["status"]), (&json!(id), &json!("DONE")));
    served.stop().await;
}

/// The end of an id.
fn short(id: &elf_runtime::JobId) -> String {
    let digits = id.to_string().replace('-', "");
    digits[digits.len() - 8..].to_owned()
}

#[tokio::test]
async fn a_graph_shows_its_values_where_they_are_asked_for() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, "scale", 8).await;
    let flow = mycelium.flow(FLOW);
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let sum = scale.task_sum(list![bee.weight() * 2 + 1]);
    let waits = flow.call("nobody", "task_read", args! { sum: sum.value() + 1 });
    let fails = scale.task_sum(list![bee.weight().integer_divide(0)]);
    let run = flow.submit().await.unwrap();
    within(run.result(&sum)).await.unwrap();
    within(run.result(&fails)).await.unwrap_err();

    let weight = format!("weight = scale.task_weigh#{}.weight", short(&bee.id()));
    let expected = [
        "    species = \"bee\"\n".to_owned(),
        format!("    weights = [weight * 2 + 1]   where {weight}\n      = [7]\n"),
        format!("    sum = value + 1   where value = scale.task_sum#{}\n      = 8\n", short(&sum.id())),
        format!("    weights = [weight // 0]   where {weight}\n      cannot be computed: "),
    ];
    let around = bee.id().to_string();
    let of_flow = broker.run(&["graph", "--flow", FLOW, "--values"]).await.good();
    let of_job = broker.run(&["graph", "--job", &around, "--depth", "2", "--values"]).await.good();
    for text in [of_flow, of_job] {
        for part in &expected {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
    let without = broker.run(&["graph", "--flow", FLOW]).await.good();
    assert!(!without.contains(" where "), "{without}");

    let dot = broker.run(&["graph", "--flow", FLOW, "--values", "--format", "dot"]).await.good();
    let dot = dot::parse(&dot);
    let label = &dot.nodes[&sum.id().to_string()]["label"];
    assert_eq!(label, "task_sum\nscale\nweights = [weight * 2 + 1] = [7]");

    let json = broker.json(&["graph", "--flow", FLOW, "--values"]).await;
    let values = json["values"].as_array().unwrap();
    assert_eq!(values.len(), 4, "of each job");
    let of_waits = values.iter().find(|values| values["job_id"] == waits.id().to_string()).unwrap();
    assert_eq!(of_waits["values"][0]["value"], 8);
    let of_fails = values.iter().find(|values| values["job_id"] == fails.id().to_string()).unwrap();
    assert_eq!(of_fails["values"][0]["value"], Value::Null);
    assert!(of_fails["values"][0]["error"].as_str().unwrap().contains("integer_divide"), "{of_fails}");
    served.stop().await;
}

#[tokio::test]
async fn a_lineage_is_shown_nearest_first_with_what_flowed() {
    let broker = Broker::in_memory().await;
    let mycelium = connect(&broker).await;
    let served = Served::start(&mycelium, "scale", 8).await;
    let flow = mycelium.flow(FLOW);
    let scale = Scale::tasks(&flow, "scale");
    let bee = scale.task_weigh("bee");
    let ant = scale.task_weigh(bee.species());
    let sum = scale.task_sum(list![bee.weight() * 2 + 1, ant.weight()]);
    let total = scale.task_sum(list![&sum, 1]);
    let run = flow.submit().await.unwrap();
    within(run.wait()).await.unwrap();
    let [b, a, s, t] = [bee.id(), ant.id(), sum.id(), total.id()].map(|id| (short(&id), id.to_string()));

    let text = broker.run(&["lineage", &t.1]).await.good();
    let weights =
        format!("weight = scale.task_weigh#{}.weight, weight2 = scale.task_weigh#{}.weight", b.0, a.0);
    let expected = format!(
        "scale.task_sum#{t} came from 3 jobs\n\n\
         scale.task_sum#{t}  DONE  {t_id}\n  \
         weights = [value, 1]   where value = scale.task_sum#{s}\n    = [10,1]\n\n    \
         scale.task_sum#{s}  DONE  {s_id}\n      \
         weights = [weight * 2 + 1, weight2]   where {weights}\n        = [7,3]\n\n        \
         scale.task_weigh#{b}  DONE  {b_id}\n          \
         species = \"bee\"\n\n        \
         scale.task_weigh#{a}  DONE  {a_id}\n          \
         species = species   where species = scale.task_weigh#{b}.species\n            = \"bee\"\n",
        t = t.0,
        s = s.0,
        b = b.0,
        a = a.0,
        t_id = t.1,
        s_id = s.1,
        b_id = b.1,
        a_id = a.1,
    );
    assert_eq!(text, expected);

    let text = broker.run(&["lineage", &b.1, "--output", "weight", "--down"]).await.good();
    assert!(text.starts_with(&format!("of scale.task_weigh#{}.weight were made 2 jobs\n", b.0)), "{text}");
    assert!(text.contains(&s.1) && text.contains(&t.1) && !text.contains(&a.1), "{text}");

    let json = run_json(&broker, &["lineage", &b.1, "--down", "--format", "json"]).await;
    let jobs: BTreeSet<(String, u64)> = json["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["job_id"].as_str().unwrap().to_owned(), job["distance"].as_u64().unwrap()))
        .collect();
    let expected = [(b.1.clone(), 0), (a.1, 1), (s.1, 1), (t.1, 2)];
    assert_eq!(jobs, BTreeSet::from(expected));
    assert_eq!((json["edges"].as_array().unwrap().len(), &json["truncated"]), (4, &json!(false)));
    let last = json["jobs"].as_array().unwrap().last().unwrap();
    assert_eq!(last["values"][0]["value"], json!([10, 1]));
    let wrong = broker.run(&["lineage", &b.1, "--output", "height"]).await.bad(1);
    assert!(wrong.contains("species, weight"), "{wrong}");
    served.stop().await;
}

/// What a command prints that is told to print JSON in its own way.
async fn run_json(broker: &Broker, args: &[&str]) -> Value {
    serde_json::from_str(&broker.run(args).await.good()).unwrap()
}

#[tokio::test]
async fn eval_computes_a_graph_without_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("graph.json");
    let graph = |key: &str| {
        json!({
            "name": "a weight",
            "nodes": [{"input": "bee"}, {"literal": key}, {"operation": "get", "inputs": [0, 1]}],
            "result": 2,
            "inputs": {"bee": {"weight": 7}},
        })
    };
    std::fs::write(&file, json!([graph("weight")]).to_string()).unwrap();
    let eval = |flags: &[&str]| {
        let mut command = mycelium();
        command.arg("eval").arg(&file).args(flags);
        command
    };
    assert_eq!(run(&mut eval(&[])).await.good(), "a weight: 7\n");
    let printed = run(&mut eval(&["--output", "json"])).await.good();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, json!([{"name": "a weight", "value": 7, "error": null}]));

    // Digits are shown as they are, also those that no number of this program holds.
    const WIDE: &str = "340282366920938463463374607431768211455";
    let wide = format!(r#"{{"name":"wide","nodes":[{{"literal":[{WIDE},1.10]}}],"result":0,"inputs":{{}}}}"#);
    std::fs::write(&file, wide).unwrap();
    assert_eq!(run(&mut eval(&[])).await.good(), format!("wide: [{WIDE},1.10]\n"));
    assert!(run(&mut eval(&["--output", "json"])).await.good().contains(WIDE));

    std::fs::write(&file, graph("height").to_string()).unwrap();
    let ended = run(&mut eval(&[])).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stdout,
        "a weight: failed at node 2, get(map, string): the map has no such key (missing_key)\n"
    );
    assert!(ended.stderr.contains("1 of 1 value graph could not be computed"), "{}", ended.stderr);
    std::fs::write(&file, "{}").unwrap();
    let problem = run(&mut eval(&[])).await.bad(1);
    assert!(problem.contains("not a value graph"), "{problem}");
}
