//! Statements with the results that a server of 3.12.10 gave, from the documentation of ArangoDB.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aql::ast::WriteOptions;
use crate::aql::{check, exec, parser};
use crate::error::Outcome;
use crate::store::{Collection, Collections, EdgeDefinition, Graph, Kind, Locks, Session};
use crate::value::{Value, read_json};

/// How many examples the subset holds; none of them is to be lost.
const EXAMPLES_MIN: usize = 290;

/// Results of which the order is arbitrary by the documentation, and that differs here.
const ANY_ORDER: &[&str] = &["aqlArrayUnionDistinct_1_single"];

/// Keys that a server makes are others each time.
fn without_made_keys(rows: Vec<Value>) -> String {
    let made = regex::Regex::new(r"connections/[0-9]+").unwrap();
    made.replace_all(&Value::array(rows).to_json(), "connections/made").into_owned()
}

fn graph(name: &str, data: &Value, collections: &mut Collections) -> (Arc<str>, Graph) {
    let [vertex, edge] = ["vertex", "edge"].map(|kind| data.get(kind).to_text());
    let locks = Locks::new();
    for (place, (collection, kind, documents)) in
        [(&vertex, Kind::Document, "vertices"), (&edge, Kind::Edge, "edges")].into_iter().enumerate()
    {
        collections.insert(collection.clone(), Arc::new(Collection::new(collection, place as u64, kind)));
        let mut session = Session::new(collections, &locks, 0, 1);
        for document in data.get(documents).as_array().unwrap() {
            session.insert(collection, document, &WriteOptions::default()).unwrap();
        }
    }
    let definition = EdgeDefinition { collection: edge, from: vec![vertex.clone()], to: vec![vertex] };
    (Arc::from(name), Graph { definitions: vec![definition], orphans: Vec::new(), revision: Value::Null })
}

fn run(example: &Value, data: &Value) -> Outcome<Vec<Value>> {
    let mut collections = Collections::new();
    let mut graphs = BTreeMap::new();
    let dataset = example.get("dataset").to_text();
    if let Some(data) = Some(data.get(&dataset)).filter(|data| !data.is_null()) {
        graphs.extend([graph(&dataset, &data, &mut collections)]);
    }
    let binds = example.get("bindVars").as_object().cloned().unwrap_or_default();
    let statement = parser::parse(&example.get("query").to_text(), &binds, false)?;
    check::check(&statement, &graphs, false)?;
    let locks = Locks::new();
    let mut session = Session::new(&mut collections, &locks, 0, 2);
    Ok(exec::run(&statement, &mut session, &graphs, &exec::Limits::default())?.result)
}

#[test]
fn recorded_statements_give_their_recorded_results_or_are_refused() {
    let recorded = read_json(include_bytes!("../../tests/recorded.json")).unwrap();
    let (mut held, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for example in recorded.get("examples").as_array().unwrap() {
        let name = example.get("name").to_text();
        match run(example, &recorded.get("data")) {
            Err(failure) => {
                // What a server ran is no mistake of the statement: only what the double does not know refuses it, or
                // data that were not recorded.
                if !failure.unknown && failure.number != 1203 {
                    wrong.push(format!("{name}: {failure}"));
                }
                refused.push(format!("{name}: {failure}"));
            }
            Ok(mut result) => {
                let mut expected = example.get("result").as_array().unwrap().clone();
                if ANY_ORDER.contains(&&*name) {
                    for rows in [&mut result, &mut expected] {
                        let mut elements = rows[0].as_array().unwrap().clone();
                        elements.sort();
                        *rows = elements;
                    }
                }
                if result == expected {
                    held += 1;
                    continue;
                }
                let [result, expected] = [result, expected].map(without_made_keys);
                if result == expected {
                    held += 1;
                } else {
                    wrong.push(format!(
                        "{name}: {}\n  gave {result}\n  not  {expected}",
                        example.get("query").to_text()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    assert!(held >= EXAMPLES_MIN, "{held} examples in the subset; refused:\n{}", refused.join("\n"));
    println!("{held} hold, {} are refused:\n{}", refused.len(), refused.join("\n"));
}
