//! What the server tells of itself.

use super::auth::{Access, demand_database};
use super::request::{Answer, Request};
use crate::error::{Failure, Outcome};
use crate::faults::Faults;
use crate::state::{SYSTEM, Shared, lock};
use crate::value::Value;

/// `GET /_api/version`
pub(crate) fn version(shared: &Shared, request: &Request) -> Outcome<Answer> {
    request.only_query(&["details"])?;
    if request.switch("details")? == Some(true) {
        return Err(Failure::unknown(10, "details of the version"));
    }
    let admin = demand_database(&lock(&shared.server), &request.user, SYSTEM, Access::Write).is_ok();
    let faults = lock(&shared.faults);
    let mut told = vec![("server", Value::str("arango")), ("license", Value::str(license_name(&faults)))];
    if admin || !faults.hardened {
        told.push(("version", Value::str(&faults.version)));
    }
    Ok(Answer::json(200, &Value::object(told)))
}

/// Official builds call themselves so from 3.12.5 on.
fn license_name(faults: &Faults) -> &'static str {
    if faults.is_since([3, 12, 5]) { "enterprise" } else { "community" }
}

/// `/_admin/server/..`
pub(crate) fn server(shared: &Shared, request: &Request, what: &str) -> Outcome<Answer> {
    request.only_query(&[])?;
    let faults = lock(&shared.faults);
    match what {
        "availability" if faults.read_only => Err(Failure::new(503, "service unavailable").status(503)),
        "availability" => Ok(Answer::ok(200, [("mode", Value::str("default"))])),
        "role" => {
            let told = [("role", Value::str(&faults.role)), ("mode", Value::str("default"))];
            Ok(Answer::ok(200, told).header("x-arango-queue-time-seconds", "0.0"))
        }
        "mode" => {
            let mode = if faults.read_only { "readonly" } else { "default" };
            Ok(Answer::ok(200, [("mode", Value::str(mode))]))
        }
        _ => Err(super::no_endpoint(request)),
    }
}

/// `GET /_admin/license`
pub(crate) fn license(shared: &Shared, request: &Request) -> Outcome<Answer> {
    request.only_query(&[])?;
    let faults = lock(&shared.faults);
    let Some(license) = &faults.license else {
        return Err(Failure::new(404, "unknown path '/_admin/license'"));
    };
    if !faults.is_since([3, 12, 5]) {
        return Ok(Answer::json(200, &Value::object([("license", Value::str("none"))])));
    }
    let bytes = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    const FAR: i64 = 315_569_520;
    let left = if license.status == "good" { FAR } else { 0 };
    let usage = Value::object([
        ("bytesUsed", bytes(license.bytes_used)),
        ("bytesLimit", bytes(license.bytes_limit)),
        ("limitReached", Value::Bool(license.bytes_used >= license.bytes_limit)),
        ("secondsUntilReadOnly", Value::Int(left)),
        ("secondsUntilShutDown", Value::Int(left)),
        ("status", Value::str(&license.status)),
    ]);
    Ok(Answer::json(200, &Value::object([("upgrading", Value::Bool(false)), ("diskUsage", usage)])))
}
