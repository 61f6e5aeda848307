//! `/_api/explain`

use super::execute::prepare;
use super::request::{Answer, Request, bad_type, only, switch, text};
use crate::aql::explain::explain as plan;
use crate::error::{Failure, Outcome};
use crate::state::{Shared, lock};
use crate::value::{Object, Value};

pub(super) fn explain(shared: &Shared, request: &Request) -> Outcome<Answer> {
    request.only_query(&[])?;
    let body = request.object(&["query", "bindVars", "options"])?;
    if let Some(options) = body.get("options") {
        let options = options.as_object().ok_or_else(|| bad_type("options"))?;
        let known = [
            "allPlans",
            "maxNumberOfPlans",
            "fullCount",
            "profile",
            "maxNodesPerCallstack",
            "maxWarningCount",
            "failOnWarning",
            "optimizer",
            "usePlanCache",
        ];
        only(options, &known, "options")?;
        for unknown in ["allPlans", "usePlanCache"] {
            if switch(options, unknown)? == Some(true) {
                return Err(Failure::unknown(10, format!("option '{unknown}'")));
            }
        }
    }
    let query = text(&body, "query")?.unwrap_or_default();
    lock(&shared.counters).explain(&query);
    let none = Object::default();
    let binds = match body.get("bindVars") {
        None => &none,
        Some(binds) => binds.as_object().ok_or_else(|| bad_type("bindVars"))?,
    };
    let prepared = prepare(shared, request, &query, binds)?;
    let faults = lock(&shared.faults).clone();
    let bare = faults.plan_without_nodes;
    let server = lock(&shared.server);
    let database = server.database(&request.database)?;
    let one_shard = faults.sharding_of(&database.sharding).as_deref() == Some("single");
    let rules: &[&str] = if one_shard { &["cluster-one-shard"] } else { &[] };
    let mut told = plan(&prepared.statement, &prepared.uses, &database.collections, rules)?;
    if let (true, Some(object)) = (bare, told.as_object()) {
        let kept = object.iter().filter(|(name, _)| &***name != "nodes");
        told = Value::object(kept.map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(Answer::ok(
        200,
        [
            ("plan", told),
            ("cacheable", Value::Bool(prepared.uses.writes.is_empty())),
            ("warnings", Value::array(Vec::new())),
            ("stats", Value::object([("rulesExecuted", Value::Int(1)), ("plansCreated", Value::Int(1))])),
        ],
    ))
}
