//! Graphs, for people, programs and Graphviz.

use std::collections::{BTreeMap, BTreeSet};

use elf_runtime::{Arguments, args, list};
use serde_json::json;

use crate::support::dot::{self, Dot};
use crate::support::scale::Scale;
use crate::support::{Broker, Ended, within};
use crate::{ELF, FLOW, connect, start};

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
async fn the_edges_of_a_graph_in_dot_are_exactly_the_dependencies() {
    let (broker, mycelium, served) = start(ELF, 8).await;
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

    // Other programs are told the same.
    let of_job = |attributes: &dot::Attributes| {
        ["task", "elf", "status", "flow"].map(|name| attributes.get(name).cloned().unwrap_or_default())
    };
    let of_edge = |(from, to, told): &(String, String, dot::Attributes)| {
        let attribute = |name| told.get(name).cloned().unwrap_or_default();
        [from.clone(), to.clone(), attribute("kind"), attribute("output"), attribute("parameter")]
    };
    let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|(id, told)| (id.clone(), of_job(told))).collect();
    let edges: BTreeSet<_> = graph.edges.iter().map(of_edge).collect();
    let texts = |texts: [&str; 5]| texts.map(str::to_owned);
    let flow_id = flow.id().to_string();
    assert_eq!(nodes[&bee], ["task_weigh", ELF, "DONE", &flow_id]);
    assert_eq!(nodes[&strange][..2], ["task_\"x\"", "a\\b"]);
    assert!(edges.contains(&texts([&bee, &ant, "VALUE", "species", "species"])), "{edges:?}");
    assert!(edges.contains(&texts([&sum, &strange, "VALUE", "", "p\\"])), "{edges:?}");
    assert!(edges.contains(&texts([&ant, &strange, "AFTER", "", ""])), "{edges:?}");
    let json = broker.run(&["graph", "--flow", FLOW, "--format", "json"]).await.good();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let told = |object: &serde_json::Value| {
        let pairs = object.as_object().unwrap().iter();
        pairs.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
    };
    let of_json =
        |what: &str| json[what].as_array().unwrap().iter().map(told).collect::<Vec<dot::Attributes>>();
    let json_nodes: BTreeMap<_, _> =
        of_json("nodes").iter().map(|told| (told["id"].clone(), of_job(told))).collect();
    assert_eq!(json_nodes, nodes);
    let ends = |told: dot::Attributes| of_edge(&(told["source"].clone(), told["target"].clone(), told));
    assert_eq!(of_json("edges").into_iter().map(ends).collect::<BTreeSet<_>>(), edges);
    assert_eq!(json["graph"], json!({"name": FLOW, "truncated": false}));
    let xml = broker.run(&["graph", "--flow", FLOW, "--format", "graphml"]).await.good();
    let xml = roxmltree::Document::parse(&xml).unwrap();
    let elements = |name: &'static str| xml.descendants().filter(move |node| node.has_tag_name(name));
    let told = |node: roxmltree::Node<'_, '_>| -> dot::Attributes {
        let data = node.children().filter(|child| child.has_tag_name("data"));
        let text = |data: roxmltree::Node<'_, '_>| data.text().unwrap_or_default().to_owned();
        data.map(|data| (data.attribute("key").unwrap().to_owned(), text(data))).collect()
    };
    let attribute = |node: roxmltree::Node<'_, '_>, name| node.attribute(name).unwrap().to_owned();
    let xml_nodes: BTreeMap<_, _> =
        elements("node").map(|node| (attribute(node, "id"), of_job(&told(node)))).collect();
    assert_eq!(xml_nodes, nodes);
    let xml_edges: BTreeSet<_> = elements("edge")
        .map(|edge| of_edge(&(attribute(edge, "source"), attribute(edge, "target"), told(edge))))
        .collect();
    assert_eq!(xml_edges, edges);

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
