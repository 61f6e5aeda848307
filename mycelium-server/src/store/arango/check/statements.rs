//! Whether the server runs the statements as is meant: each is planned, and none reads a whole collection.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::client::{Call, Database, Kind};
use super::super::schema::LEASES;
use super::super::statements::Statement;
use super::finding::shown;
use super::{Finding, FindingKind};

/// The rule by which a coordinator hands a statement to the one server that has all of a database.
const ONE_SHARD: &str = "cluster-one-shard";

#[derive(Deserialize)]
struct Explained {
    #[serde(default)]
    plan: Plan,
}

#[derive(Default, Deserialize)]
struct Plan {
    nodes: Option<Vec<Value>>,
    rules: Option<Vec<String>>,
}

/// Has a statement planned, and returns what is wrong with the plan.
///
/// # Errors
/// If the server cannot be asked.
pub(super) async fn explain(
    database: &Database,
    statement: &Statement,
    is_cluster: bool,
) -> Result<Option<Finding>, Finding> {
    let body = json!({"query": statement.text, "bindVars": (statement.example)()});
    match database.call::<Explained>(Call::post("_api/explain", &body).repeatable()).await {
        Ok(Explained { plan }) => {
            let found = of_plan(plan, is_cluster);
            let text = |what| format!("statement `{}` in {} {what}", statement.name, shown(database));
            Ok(found.map(|(kind, what)| Finding::new(kind, text(what))))
        }
        Err(failure) if matches!(failure.kind(), Kind::Refused | Kind::NotThere | Kind::NotAllowed) => {
            let line = format!("statement `{}` cannot be planned: {failure}", statement.name);
            Ok(Some(Finding::new(FindingKind::Statement, line)))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn of_plan(plan: Plan, is_cluster: bool) -> Option<(FindingKind, String)> {
    let hidden =
        |what: &str| Some((FindingKind::HiddenPlan, format!("has a plan that does not tell its {what}")));
    let Some(nodes) = plan.nodes.filter(|nodes| !nodes.is_empty()) else { return hidden("nodes") };
    let (mut uses_documents, mut is_empty) = (false, false);
    // Subqueries are among the nodes, or in a node of their own.
    let mut rest = nodes;
    while let Some(node) = rest.pop() {
        let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("collection")) {
            ("EnumerateCollectionNode", collection) if collection != LEASES => {
                return Some((
                    FindingKind::Statement,
                    format!(
                        "reads all of collection `{collection}`: an index is missing, or the server does not use it"
                    ),
                ));
            }
            ("NoResultsNode", _) => is_empty = true,
            (_, collection) => uses_documents |= !collection.is_empty(),
        }
        if let Some(Value::Array(nodes)) = node.pointer("/subquery/nodes") {
            rest.extend(nodes.iter().cloned());
        }
    }
    if !is_cluster || !uses_documents || is_empty {
        return None;
    }
    match plan.rules {
        None => hidden("rules"),
        Some(rules) if rules.iter().any(|rule| rule == ONE_SHARD) => None,
        Some(_) => Some((
            FindingKind::Statement,
            format!(
                "is not run as a whole by one server (no rule `{ONE_SHARD}`), so that it may be done in part; OneShard \
                 databases need 3.12.5, or the Enterprise Edition before that"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(plan: Value, is_cluster: bool) -> Option<FindingKind> {
        of_plan(serde_json::from_value(plan).unwrap(), is_cluster).map(|(kind, _)| kind)
    }

    #[test]
    fn a_plan_that_reads_a_collection_is_refused_wherever_it_does() {
        let scan = |collection| json!({"type": "EnumerateCollectionNode", "collection": collection});
        let index = json!({"type": "IndexNode", "collection": "Jobs"});
        let nested = json!({"type": "SubqueryNode", "subquery": {"nodes": [
            {"type": "SubqueryNode", "subquery": {"nodes": [index, scan("Jobs")]}}, index,
        ]}});
        for (nodes, expected) in [
            (json!([index, scan("BrokerLeases")]), None),
            (json!([index, scan("Jobs")]), Some(FindingKind::Statement)),
            (json!([nested, index]), Some(FindingKind::Statement)),
            (json!([]), Some(FindingKind::HiddenPlan)),
        ] {
            assert_eq!(found(json!({"nodes": nodes}), false), expected, "{nodes}");
        }
        assert_eq!(found(json!({"rules": []}), false), Some(FindingKind::HiddenPlan));
    }

    #[test]
    fn in_a_cluster_one_server_runs_what_uses_documents() {
        let insert = json!({"type": "InsertNode", "collection": "Jobs"});
        let of = |nodes: Value, rules: Value| found(json!({"nodes": nodes, "rules": rules}), true);
        assert_eq!(of(json!([insert]), json!(["use-indexes", ONE_SHARD])), None);
        assert_eq!(of(json!([insert]), json!(["use-indexes"])), Some(FindingKind::Statement));
        assert_eq!(of(json!([insert]), Value::Null), Some(FindingKind::HiddenPlan));
        assert_eq!(of(json!([{"type": "ReturnNode"}]), json!([])), None, "it uses none");
        assert_eq!(of(json!([insert, {"type": "NoResultsNode"}]), json!([])), None, "it does nothing");
    }
}
