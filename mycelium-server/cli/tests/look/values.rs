//! Values: how they are computed, what they come to, and where results came from.

use std::collections::BTreeSet;

use elf_runtime::{args, list};
use serde_json::{Value, json};

use crate::support::scale::Scale;
use crate::support::{Broker, dot, mycelium, run, within};
use crate::{FLOW, short, start};

#[tokio::test]
async fn values_that_are_computed_are_shown_as_they_were_written() {
    let (broker, mycelium, served) = start("scale", 8).await;
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

#[tokio::test]
async fn a_graph_shows_its_values_where_they_are_asked_for() {
    let (broker, mycelium, served) = start("scale", 8).await;
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
    let (broker, mycelium, served) = start("scale", 8).await;
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
