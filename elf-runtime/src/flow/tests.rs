mod branches;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mycelium_proto::v1::value_node::Kind;
use mycelium_proto::{limits, v1};
use serde::{Deserialize, Serialize};

use super::*;
use crate::problem::ProblemKind;
use crate::value::Value;
use crate::value::node::Node;
use crate::{args, list, machine_elf, map};

#[derive(crate::Output, Serialize, Deserialize)]
struct Measurement {
    species: String,
    weight: i64,
}

struct Zoo;

#[machine_elf]
impl Zoo {
    async fn task_weigh(&self, _species: String) -> Measurement {
        Measurement { species: String::new(), weight: 0 }
    }
    async fn task_save(&self, _rows: Vec<Measurement>, _weights: HashMap<String, i64>) {}
    async fn task_add(&self, _x: i64, #[task(default = 1)] _y: i64) -> i64 {
        0
    }
    async fn task_nest(&self, _x: serde_json::Value) {}
    async fn task_bytes(&self, _x: BTreeMap<Vec<i64>, i64>) {}
}

fn zoo() -> (Flow, ZooTasks) {
    let flow = Flow::detached("tests");
    let tasks = Zoo::tasks(&flow, "zoo");
    (flow, tasks)
}

async fn specs(flow: &Flow) -> Vec<v1::JobSpec> {
    let submission = flow.begin_submission().await.unwrap();
    let specs = submission.parts().flatten().cloned().collect();
    submission.commit();
    specs
}

async fn problems(flow: &Flow) -> Vec<String> {
    match flow.begin_submission().await {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
    }
}

fn literal(node: &v1::ValueNode) -> Option<&str> {
    match &node.kind {
        Some(Kind::Literal(v1::Payload { content: Some(v1::payload::Content::Inline(bytes)), .. })) => {
            std::str::from_utf8(bytes).ok()
        }
        _ => None,
    }
}

fn output(node: &v1::ValueNode) -> Option<(&Bytes, &str)> {
    match &node.kind {
        Some(Kind::Output(output)) => Some((&output.job_id, &output.name)),
        _ => None,
    }
}

#[tokio::test]
async fn calls_become_jobs_in_order_with_their_values() {
    let (flow, zoo) = zoo();
    let m = zoo.task_weigh("bee");
    let n = zoo.task_weigh(m.species()).after(&m).priority(-3);
    let specs = specs(&flow).await;
    assert_eq!(specs.len(), 2);
    assert!(specs[0].job_id < specs[1].job_id, "ids rise");
    assert_eq!((specs[0].elf.as_str(), specs[0].task.as_str()), ("zoo", "task_weigh"));
    assert_eq!(specs[0].arguments, [v1::Argument { parameter: "_species".to_owned(), node: 0 }]);
    assert_eq!(literal(&specs[0].nodes[0]), Some(r#""bee""#));
    assert_eq!((specs[0].priority, specs[0].after.len()), (0, 0));
    assert_eq!(output(&specs[1].nodes[0]), Some((&m.id().to_wire(), "species")));
    assert_eq!((specs[1].priority, &specs[1].after[..]), (-3, &[m.id().to_wire()][..]));
    assert_eq!(specs[1].job_id, n.id().to_wire());
    assert_eq!(flow.pending(), 0);
}

#[tokio::test]
async fn wholes_lists_maps_and_structs_become_nodes_and_shared_ones_stand_once() {
    let (flow, zoo) = zoo();
    let m = zoo.task_weigh("bee");
    let weight = m.weight();
    zoo.task_save(
        list![
            &m,
            Measurement { species: "dog".into(), weight: 7 },
            MeasurementValues::build("ant", &weight),
            &m
        ],
        map! { "bee" => &weight, "sum" => 3 },
    );
    let specs = specs(&flow).await;
    let nodes = &specs[1].nodes;
    let wholes = nodes.iter().filter(|node| output(node) == Some((&m.id().to_wire(), ""))).count();
    let weights = nodes.iter().filter(|node| output(node) == Some((&m.id().to_wire(), "weight"))).count();
    assert_eq!((wholes, weights), (1, 1), "shared nodes stand in the table once: {nodes:#?}");
    let place = |parameter: &str| {
        specs[1].arguments.iter().find(|argument| argument.parameter == parameter).unwrap().node as usize
    };
    let Some(Kind::List(list)) = &nodes[place("_rows")].kind else { panic!("a list expected") };
    assert_eq!(list.items.len(), 4);
    assert_eq!(list.items[0], list.items[3]);
    assert_eq!(literal(&nodes[list.items[1] as usize]), Some(r#"{"species":"dog","weight":7}"#));
    let Some(Kind::Map(built)) = &nodes[list.items[2] as usize].kind else { panic!("a map expected") };
    assert_eq!(
        built.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
        ["species", "weight"]
    );
    let Some(Kind::Map(map)) = &nodes[place("_weights")].kind else { panic!("a map expected") };
    assert_eq!(map.entries[0].node, built.entries[1].node);
    // Every node comes after those it refers to.
    for (index, node) in nodes.iter().enumerate() {
        let children: Vec<u32> = match &node.kind {
            Some(Kind::List(list)) => list.items.clone(),
            Some(Kind::Map(map)) => map.entries.iter().map(|entry| entry.node).collect(),
            Some(Kind::Literal(_) | Kind::Output(_) | Kind::Operation(_) | Kind::BodyInput(_)) | None => {
                Vec::new()
            }
        };
        assert!(children.iter().all(|child| (*child as usize) < index));
    }
}

#[tokio::test]
async fn a_parameter_left_out_is_not_sent() {
    let (flow, zoo) = zoo();
    zoo.task_add(1, crate::UseDefault);
    zoo.task_add(1, 2);
    let specs = specs(&flow).await;
    assert_eq!(specs[0].arguments.len(), 1);
    assert_eq!(specs[1].arguments.len(), 2);
}

#[tokio::test]
async fn empty_lists_and_nested_ones_keep_their_shape() {
    let (flow, zoo) = zoo();
    zoo.task_nest(crate::any_list![crate::any_list![], crate::any_list![crate::any_map! {}, 1], "x"]);
    let specs = specs(&flow).await;
    let show = |nodes: &[v1::ValueNode]| -> String {
        fn show(nodes: &[v1::ValueNode], node: u32) -> String {
            let all = |nodes: &[v1::ValueNode], items: Vec<u32>| {
                items.into_iter().map(|item| show(nodes, item)).collect::<Vec<_>>().join(",")
            };
            let node = &nodes[node as usize];
            match &node.kind {
                Some(Kind::List(list)) => format!("[{}]", all(nodes, list.items.clone())),
                Some(Kind::Map(map)) => {
                    format!("{{{}}}", all(nodes, map.entries.iter().map(|entry| entry.node).collect()))
                }
                Some(Kind::Literal(_)) => literal(node).unwrap().to_owned(),
                Some(Kind::Output(_) | Kind::Operation(_) | Kind::BodyInput(_)) | None => "?".to_owned(),
            }
        }
        show(nodes, specs[0].arguments[0].node)
    };
    assert_eq!(show(&specs[0].nodes), r#"[[],[{},1],"x"]"#);
}

#[tokio::test]
async fn a_chain_of_a_million_is_built_refused_and_dropped() {
    let (flow, zoo) = zoo();
    let mut chain = Value::any(&0);
    for _ in 0..1_000_000 {
        chain = crate::any_list![chain];
    }
    zoo.task_nest(&chain);
    assert_eq!(
        problems(&flow).await,
        [
            "call of `task_nest` of the elf `zoo`: parameter `_x`: lists and maps are nested 1000000 deep, and at \
          most 128 is allowed"
        ]
    );
    assert!(chain.to_string().ends_with("[[[[…]]]]"), "{chain}");
    drop(chain);
}

#[tokio::test]
async fn depth_is_allowed_up_to_its_limit() {
    let nested = |levels: usize| {
        let (flow, zoo) = zoo();
        let value = (0..levels).fold(Value::any(&0), |value, _| crate::any_list![value]);
        zoo.task_nest(value);
        flow
    };
    assert!(problems(&nested(limits::VALUE_DEPTH_MAX)).await.is_empty());
    assert_eq!(problems(&nested(limits::VALUE_DEPTH_MAX + 1)).await.len(), 1);
}

#[tokio::test]
async fn a_graph_that_doubles_at_every_level_is_small() {
    // Each level holds the one below twice: 2^100 paths, 101 nodes.
    let (flow, zoo) = zoo();
    let value = (0..100).fold(Value::any(&0), |value, _| crate::any_list![&value, &value]);
    zoo.task_nest(value);
    assert_eq!(specs(&flow).await[0].nodes.len(), 101);
}

#[tokio::test]
async fn values_that_cannot_be_sent_are_told_with_task_and_parameter() {
    let (flow, zoo) = zoo();
    zoo.task_bytes(BTreeMap::from([(vec![1], 1)]));
    flow.call("zoo", "task_weigh", args! { a: 1 }.with("a", 2));
    flow.call("", "task_weigh", args! {});
    zoo.task_save(list![], map! { "a" => 1, "a" => 2 });
    let told = problems(&flow).await;
    assert_eq!(
        told,
        [
            "call of `task_bytes` of the elf `zoo`: parameter `_x`: it cannot be written as JSON: at `[0]`: key must be a \
             string",
            "call of `task_weigh` of the elf `zoo`: parameter `a`: it is given twice",
            "call of `task_weigh` of the elf ``: the name of the elf has 0 bytes, and 1 to 255 are allowed",
            "call of `task_save` of the elf `zoo`: parameter `_weights`: the key `a` is in the map twice",
        ]
    );
    assert_eq!(problems(&flow).await, told, "they stay");
}

#[tokio::test]
async fn the_name_of_a_flow_may_be_empty_and_not_too_long() {
    assert!(Flow::detached("").begin_submission().await.is_ok());
    let told = problems(&Flow::detached("x".repeat(256))).await;
    assert_eq!(told, ["the name of the flow has 256 bytes, and 0 to 255 are allowed"]);
}

#[tokio::test]
async fn mistakes_are_counted_beyond_a_number() {
    let (flow, _zoo) = zoo();
    for _ in 0..41 {
        flow.call("", "", args! {});
    }
    let error = flow.begin_submission().await.err().unwrap();
    assert_eq!(error.problems().len(), 32);
    assert!(error.to_string().ends_with("; and 9 more"), "{error}");
}

fn literal_sizes(spec: &v1::JobSpec) -> (Vec<usize>, Vec<v1::BlobRef>) {
    let (mut inline, mut blobs) = (Vec::new(), Vec::new());
    for node in &spec.nodes {
        if let Some(Kind::Literal(payload)) = &node.kind {
            match payload.content.clone().unwrap() {
                v1::payload::Content::Inline(bytes) => inline.push(bytes.len()),
                v1::payload::Content::Blob(blob) => blobs.push(blob),
            }
        }
    }
    (inline, blobs)
}

#[tokio::test]
async fn large_literals_are_named_before_they_are_sent_and_each_is_written_once() {
    const MAX: usize = limits::PAYLOAD_BYTES_MAX;
    let (flow, zoo) = zoo();
    // The quotes of the text are two more bytes.
    zoo.task_weigh("x".repeat(MAX - 2));
    let large = Value::any(&"x".repeat(MAX - 1));
    zoo.task_nest(crate::any_list![&large, "y".repeat(MAX - 1)]);
    zoo.task_nest(large);
    zoo.task_weigh("x".repeat(MAX - 1));
    let mut submission = flow.begin_submission().await.unwrap();
    let blobs = submission.name_large().await;
    assert_eq!(blobs.len(), 2);
    let specs: Vec<_> = submission.parts().flatten().map(literal_sizes).collect();
    assert_eq!(specs[0], (vec![MAX], vec![]));
    let x = crate::blobs::Blob::of(format!("\"{}\"", "x".repeat(MAX - 1)).into()).await.to_wire();
    assert_eq!(specs[1].1[0], x);
    assert_eq!((specs[1].1.len(), specs[1].1[1].size), (2, MAX as u64 + 1));
    assert_eq!((&specs[2].1, &specs[3].1), (&vec![x.clone()], &vec![x]));
    // What was not sent returns to the flow with all that belongs to it.
    drop(submission);
    zoo.task_weigh("z".repeat(MAX));
    let mut again = flow.begin_submission().await.unwrap();
    assert_eq!(again.name_large().await.len(), 3);
    assert_eq!(again.parts().flatten().map(|spec| literal_sizes(spec).1.len()).sum::<usize>(), 5);
    again.commit();
    zoo.task_weigh("z".repeat(MAX));
    assert_eq!(flow.begin_submission().await.unwrap().name_large().await.len(), 1);
}

#[tokio::test]
async fn of_many_literals_the_largest_become_blobs_until_the_rest_fits() {
    let (flow, zoo) = zoo();
    let size = |n: usize| 60_000 + n;
    let literals: Vec<Node> = (0..150).map(|n| Node::literal(&"x".repeat(size(n) - 2))).collect();
    zoo.task_nest(crate::Value::<serde_json::Value>::from_node(Node::list(literals)));
    let mut submission = flow.begin_submission().await.unwrap();
    let n_blobs = submission.name_large().await.len();
    let (inline, blobs) = literal_sizes(submission.parts().flatten().next().unwrap());
    let inline_bytes: usize = inline.iter().sum();
    assert_eq!((inline.len() + blobs.len(), blobs.len()), (150, n_blobs));
    assert!(inline_bytes <= limits::SPEC_BYTES_MAX && inline_bytes + size(150) > limits::SPEC_BYTES_MAX);
    let smallest = blobs.iter().map(|blob| blob.size).min().unwrap();
    assert!(inline.iter().all(|size| (*size as u64) < smallest), "the largest go first");
}

#[tokio::test]
async fn a_large_literal_in_a_closure_comes_from_outside_of_it() {
    let (flow, zoo) = zoo();
    let large = "x".repeat(limits::PAYLOAD_BYTES_MAX);
    let words: Value<Vec<String>> = flow.call("zoo", "task_words", args! {}).output("words").typed();
    zoo.task_nest(Value::from_node(words.map(|word| word + large).node().clone()));
    let mut submission = flow.begin_submission().await.unwrap();
    assert_eq!(submission.name_large().await.len(), 1);
    let spec = submission.parts().flatten().nth(1).unwrap();
    assert_eq!(literal_sizes(spec).1.len(), 1);
    let operation = spec.nodes.iter().find_map(|node| match &node.kind {
        Some(Kind::Operation(operation)) => Some(operation),
        _ => None,
    });
    let operation = operation.unwrap();
    assert_eq!(operation.inputs.len(), 2, "the list, and the literal");
    let body = operation.body.as_ref().unwrap();
    assert!(body.nodes.iter().all(|node| !matches!(node.kind, Some(Kind::Literal(_)))));
}

#[tokio::test]
async fn values_of_another_flow_need_it_submitted() {
    let (first, first_zoo) = zoo();
    let (second, second_zoo) = zoo();
    let m = first_zoo.task_weigh("bee");
    second_zoo.task_weigh(m.species());
    second_zoo.task_weigh("dog").after(&m);
    let told = problems(&second).await;
    let expected = format!(
        "call of `task_weigh` of the elf `zoo`: it needs the job {} of another flow, which has to be submitted first",
        m.id()
    );
    assert_eq!(told, [expected.as_str(), expected.as_str()]);
    assert_eq!(second.pending(), 2, "nothing is lost");
    specs(&first).await;
    assert_eq!(specs(&second).await.len(), 2);
}

#[tokio::test]
async fn a_submission_that_fails_gives_its_jobs_back_in_order() {
    let (flow, zoo) = zoo();
    let a = zoo.task_weigh("a");
    let submission = flow.begin_submission().await.unwrap();
    assert_eq!((submission.len(), flow.pending()), (1, 0));
    let b = zoo.task_weigh("b");
    drop(submission);
    let ids: Vec<Bytes> = specs(&flow).await.into_iter().map(|spec| spec.job_id).collect();
    assert_eq!(ids, [a.id().to_wire(), b.id().to_wire()]);
    let empty = flow.begin_submission().await.unwrap();
    assert_eq!((empty.len(), empty.parts().len()), (0, 0));
}

#[tokio::test]
async fn submissions_of_one_flow_wait_for_each_other() {
    let (flow, zoo) = zoo();
    zoo.task_weigh("a");
    let first = flow.begin_submission().await.unwrap();
    let mut second = std::pin::pin!(flow.begin_submission());
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap().len(), 1);
}

#[tokio::test]
async fn labels_stand_in_the_submission_and_wrong_ones_are_told() {
    let (flow, zoo) = zoo();
    let flow = flow.with_label("team", "ants").with_label("team", "bees");
    let _job = zoo.task_weigh("a").with_label("hive", "7").with_label("empty", "");
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(flow.labels(), labels(&[("team", "bees")]));
    assert_eq!(specs(&flow).await[0].labels, labels(&[("empty", ""), ("hive", "7")]));

    let mut job = zoo.task_weigh("b").with_label("", "v").with_label("k".repeat(65), "v");
    job = job.with_label("k", "v".repeat(256));
    for number in 0..17 {
        job = job.with_label(number.to_string(), "");
    }
    let _late = flow.clone().with_label("team", "wasps");
    assert_eq!(
        problems(&flow).await,
        [
            "its labels: a key has 0 bytes, and 1 to 64 are allowed",
            "its labels: a key has 65 bytes, and 1 to 64 are allowed",
            "its labels: the value of `k` has 256 bytes, and at most 255 are allowed",
            "its labels: there are more than 16",
            "the settings of a job or the labels of the flow were changed after they were submitted",
        ]
    );
}

#[tokio::test]
async fn a_job_that_was_submitted_cannot_be_changed() {
    let (flow, zoo) = zoo();
    let job = zoo.task_weigh("a");
    specs(&flow).await;
    let _ = job.priority(1);
    assert_eq!(
        problems(&flow).await,
        ["the settings of a job or the labels of the flow were changed after they were submitted"]
    );
}

#[tokio::test]
async fn large_submissions_go_in_parts_by_number_and_by_size() {
    let (flow, zoo) = zoo();
    for _ in 0..=limits::SUBMIT_JOBS_MAX {
        zoo.task_add(1, 2);
    }
    let submission = flow.begin_submission().await.unwrap();
    assert_eq!(submission.parts().map(<[_]>::len).collect::<Vec<_>>(), [limits::SUBMIT_JOBS_MAX, 1]);
    submission.commit();

    let text = "x".repeat(60_000);
    for _ in 0..80 {
        zoo.task_weigh(&text);
    }
    let submission = flow.begin_submission().await.unwrap();
    assert_eq!(submission.parts().map(<[_]>::len).collect::<Vec<_>>(), [34, 34, 12]);
}

#[tokio::test]
async fn the_field_of_an_output_that_is_not_there_yet_is_got_from_it() {
    let (flow, zoo) = zoo();
    let job = flow.call("zoo", "task_pair", args! {});
    let first: Value<Measurement> = job.output("first").typed();
    zoo.task_weigh(first.species());
    let specs = specs(&flow).await;
    let nodes = &specs[1].nodes;
    assert_eq!(output(&nodes[0]), Some((&job.id().to_wire(), "first")));
    assert_eq!(literal(&nodes[1]), Some(r#""species""#));
    let Some(Kind::Operation(get)) = &nodes[2].kind else { panic!("an operation expected") };
    assert_eq!((get.name.as_str(), &get.inputs[..]), ("get", &[0, 1][..]));
    assert_eq!((specs[0].operations_version, specs[1].operations_version), (0, 1));
}

#[test]
fn values_show_how_they_are_computed() {
    let (_flow, zoo) = zoo();
    let m = zoo.task_weigh("bee");
    let id = m.id();
    assert_eq!(m.to_string(), format!("job {id}"));
    assert_eq!(format!("{m:?}"), format!("Job<Measurement>({id})"));
    assert_eq!(list![1, m.weight()].to_string(), format!("[1, job {id}/weight]"));
    let many: Value<Vec<i64>> = (0..10).collect();
    assert_eq!(many.to_string(), "[0, 1, 2, 3, 4, 5, 6, 7, …]");
}
