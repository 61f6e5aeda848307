//! `/_api/cursor`

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::execute::{execute, prepare};
use super::no_endpoint;
use super::request::{Answer, Request, bad_type, number, only, switch, text};
use crate::aql::exec::{Limits, Stats};
use crate::error::{Failure, Outcome};
use crate::state::{Cursor, Shared, lock};
use crate::value::{Object, Value};

const BATCH_SIZE: usize = 1_000;

/// How long a cursor lives unless its request says so: on a single server, and on a coordinator.
const TTL: Duration = Duration::from_secs(30);
const TTL_COORDINATOR: Duration = Duration::from_secs(600);

pub(super) async fn route(shared: &Arc<Shared>, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(&[])?;
    match (request.method.as_str(), path) {
        ("POST", []) => create(shared, request).await,
        ("POST", [id]) => next(shared, request, id, None),
        ("POST", [id, batch]) => next(shared, request, id, Some(batch)),
        // Gone in 4.x.
        ("PUT", [id]) if lock(&shared.faults).major() < 4 => next(shared, request, id, None),
        ("DELETE", [id]) => {
            let number = cursor_number(id)?;
            let mut server = lock(&shared.server);
            drop_stale(&mut server.cursors);
            match server.cursors.remove(&number) {
                Some(_) => Ok(Answer::ok(202, [("id", Value::str(*id))])),
                None => Err(no_cursor()),
            }
        }
        _ => Err(no_endpoint(request)),
    }
}

fn no_cursor() -> Failure {
    Failure::new(1600, "cursor not found")
}

fn cursor_number(id: &str) -> Outcome<u64> {
    id.parse().map_err(|_| no_cursor())
}

fn drop_stale(cursors: &mut std::collections::HashMap<u64, Cursor>) {
    let now = Instant::now();
    cursors.retain(|_, cursor| cursor.expires > now);
}

/// What a request for a cursor asks for, beside its statement.
struct Wanted {
    query: Arc<str>,
    binds: Arc<Object>,
    count: bool,
    batch_size: usize,
    ttl: Option<Duration>,
    memory: Option<usize>,
    max_runtime: Option<Duration>,
    fail_on_warning: bool,
    full_count: bool,
    retry: bool,
}

fn wanted(request: &Request) -> Outcome<Wanted> {
    let body = request.object(&[
        "query",
        "bindVars",
        "count",
        "batchSize",
        "ttl",
        "memoryLimit",
        "cache",
        "options",
        "allowRetry",
    ])?;
    // An option that some clients send here as well, where the server does not look at it.
    if switch(&body, "allowRetry")? == Some(true) {
        return Err(Failure::unknown(10, "attribute 'allowRetry' of body, which is an option"));
    }
    let binds = match body.get("bindVars") {
        None | Some(Value::Null) => Arc::default(),
        Some(Value::Object(binds)) => binds.clone(),
        Some(_) => return Err(Failure::new(1550, "AQL: bind parameters must be an object")),
    };
    let batch_size = match number(&body, "batchSize")? {
        None => BATCH_SIZE,
        Some(size) if size >= 1.0 => size as usize,
        Some(_) => return Err(Failure::new(10, "batchSize must not be 0")),
    };
    if switch(&body, "cache")? == Some(true) {
        return Err(Failure::unknown(10, "the cache of results"));
    }
    let ttl = number(&body, "ttl")?.filter(|ttl| *ttl > 0.0).map(Duration::from_secs_f64);
    let memory = number(&body, "memoryLimit")?.filter(|memory| *memory > 0.0).map(|memory| memory as usize);
    let mut wanted = Wanted {
        query: text(&body, "query")?.unwrap_or_default(),
        binds,
        count: switch(&body, "count")?.unwrap_or_default(),
        batch_size,
        ttl,
        memory,
        max_runtime: None,
        fail_on_warning: false,
        full_count: false,
        retry: false,
    };
    if let Some(options) = body.get("options") {
        let options = options.as_object().ok_or_else(|| bad_type("options"))?;
        read_options(options, &mut wanted)?;
    }
    Ok(wanted)
}

fn read_options(options: &Object, wanted: &mut Wanted) -> Outcome<()> {
    only(
        options,
        &[
            "maxRuntime",
            "failOnWarning",
            "fullCount",
            "allowRetry",
            "stream",
            "fillBlockCache",
            "maxWarningCount",
            "profile",
            "intermediateCommitCount",
            "intermediateCommitSize",
            "optimizer",
            "cache",
            "usePlanCache",
            "allowDirtyReads",
            "skipInaccessibleCollections",
            "maxNumberOfPlans",
            "spillOverThresholdMemoryUsage",
            "spillOverThresholdNumRows",
            "satelliteSyncWait",
            "maxTransactionSize",
            "maxNodesPerCallstack",
            "maxDNFConditionMembers",
        ],
        "options",
    )?;
    for refused in ["cache", "usePlanCache", "allowDirtyReads", "skipInaccessibleCollections"] {
        if switch(options, refused)? == Some(true) {
            return Err(Failure::unknown(10, format!("option '{refused}'")));
        }
    }
    if number(options, "profile").is_err() || number(options, "profile")?.is_some_and(|level| level > 0.0) {
        return Err(Failure::unknown(10, "option 'profile'"));
    }
    if number(options, "intermediateCommitCount")?.or(number(options, "intermediateCommitSize")?).is_some() {
        return Err(Failure::unknown(10, "options of intermediate commits"));
    }
    if let Some(optimizer) = options.get("optimizer") {
        only(optimizer.as_object().ok_or_else(|| bad_type("optimizer"))?, &["rules"], "optimizer")?;
    }
    switch(options, "fillBlockCache")?;
    number(options, "maxWarningCount")?;
    wanted.max_runtime =
        number(options, "maxRuntime")?.filter(|time| *time > 0.0).map(Duration::from_secs_f64);
    wanted.fail_on_warning = switch(options, "failOnWarning")?.unwrap_or_default();
    wanted.full_count = switch(options, "fullCount")?.unwrap_or_default();
    wanted.retry = switch(options, "allowRetry")?.unwrap_or_default();
    if switch(options, "stream")? == Some(true) && (wanted.count || wanted.full_count) {
        return Err(Failure::new(10, "cannot use 'count' or 'fullCount' option for a streaming query"));
    }
    Ok(())
}

async fn create(shared: &Arc<Shared>, request: &Request) -> Outcome<Answer> {
    let wanted = wanted(request)?;
    lock(&shared.counters).statement(&wanted.query);
    let prepared = prepare(shared, request, &wanted.query, &wanted.binds)?;
    let (clock_ahead_ms, refused, intermediate_commits, coordinator) = {
        let faults = lock(&shared.faults);
        let coordinator = faults.role == "COORDINATOR";
        (faults.clock_ahead_ms, faults.refused.clone(), faults.intermediate_commits, coordinator)
    };
    let start = Instant::now();
    let limits = Limits {
        memory: wanted.memory,
        deadline: wanted.max_runtime.map(|time| start + time),
        fail_on_warning: wanted.fail_on_warning,
        full_count: wanted.full_count,
        clock_ahead_ms,
        refused,
    };
    let ran = execute(shared, request, &prepared, &limits, wanted.max_runtime).await?;
    let bytes: usize = if wanted.memory.is_some() { ran.result.iter().map(Value::bytes).sum() } else { 0 };
    if wanted.memory.is_some_and(|memory| bytes > memory) && prepared.uses.writes.is_empty() {
        return Err(Failure::new(32, "AQL: query would use more memory than allowed"));
    }
    let warnings = ran.warnings.iter().map(|(number, message)| {
        Value::object([("code", Value::Int(i64::from(*number))), ("message", Value::str(message))])
    });
    let extra = Value::object([
        ("warnings", Value::array(warnings.collect())),
        ("stats", stats(&ran.stats, start.elapsed(), intermediate_commits)),
    ]);
    let mut cursor = Cursor {
        database: request.database.clone(),
        rows: ran.result,
        given: 0,
        given_before: 0,
        batch: 0,
        batch_size: wanted.batch_size,
        count: wanted.count,
        extra,
        retry: wanted.retry,
        ttl: wanted.ttl.unwrap_or(if coordinator { TTL_COORDINATOR } else { TTL }),
        expires: Instant::now(),
    };
    let mut server = lock(&shared.server);
    drop_stale(&mut server.cursors);
    let id = server.new_id();
    let answer = batch(&mut cursor, id, 201);
    if cursor.given < cursor.rows.len() {
        cursor.expires = Instant::now() + cursor.ttl;
        server.cursors.insert(id, cursor);
    }
    Ok(answer)
}

fn stats(stats: &Stats, time: Duration, intermediate_commits: i64) -> Value {
    let mut told = vec![
        ("writesExecuted", Value::Int(stats.writes_executed)),
        ("writesIgnored", Value::Int(stats.writes_ignored)),
        ("documentLookups", Value::Int(0)),
        ("seeks", Value::Int(0)),
        ("scannedFull", Value::Int(stats.scanned_full)),
        ("scannedIndex", Value::Int(stats.scanned_index)),
        ("cursorsCreated", Value::Int(0)),
        ("cursorsRearmed", Value::Int(0)),
        ("cacheHits", Value::Int(0)),
        ("cacheMisses", Value::Int(0)),
        ("filtered", Value::Int(stats.filtered)),
        ("httpRequests", Value::Int(0)),
        ("executionTime", Value::double(time.as_secs_f64())),
        ("peakMemoryUsage", Value::count(stats.peak_memory)),
        ("intermediateCommits", Value::Int(intermediate_commits)),
    ];
    told.extend(stats.full_count.map(|count| ("fullCount", Value::Int(count))));
    Value::object(told)
}

/// Gives the next rows of a cursor.
fn batch(cursor: &mut Cursor, id: u64, status: u16) -> Answer {
    let end = (cursor.given + cursor.batch_size).min(cursor.rows.len());
    let rows = cursor.rows[cursor.given..end].to_vec();
    cursor.given_before = cursor.given;
    cursor.given = end;
    cursor.batch += 1;
    let more = end < cursor.rows.len();
    let mut told = vec![("result", Value::array(rows)), ("hasMore", Value::Bool(more))];
    if more || status == 200 {
        told.push(("id", Value::from(id.to_string())));
    }
    if more {
        told.push(("nextBatchId", Value::from((cursor.batch + 1).to_string())));
    }
    if cursor.count {
        told.push(("count", Value::count(cursor.rows.len())));
    }
    told.extend([("cached", Value::Bool(false)), ("extra", cursor.extra.clone())]);
    Answer::ok(status, told)
}

fn next(shared: &Shared, request: &Request, id: &str, wanted: Option<&str>) -> Outcome<Answer> {
    let number = cursor_number(id)?;
    let mut server = lock(&shared.server);
    drop_stale(&mut server.cursors);
    let cursor = server.cursors.get_mut(&number).ok_or_else(no_cursor)?;
    if cursor.database != request.database {
        return Err(no_cursor());
    }
    if let Some(wanted) = wanted {
        let wanted: u64 = wanted.parse().map_err(|_| no_cursor())?;
        // Only the batch that was given last can be had again, and only where that was asked for.
        if wanted == cursor.batch && cursor.retry {
            cursor.given = cursor.given_before;
            cursor.batch -= 1;
        } else if wanted != cursor.batch + 1 || cursor.given == cursor.rows.len() {
            return Err(no_cursor());
        }
    } else if cursor.given == cursor.rows.len() {
        return Err(no_cursor());
    }
    cursor.expires = Instant::now() + cursor.ttl;
    let answer = batch(cursor, number, 200);
    if cursor.given == cursor.rows.len() && !cursor.retry {
        server.cursors.remove(&number);
    }
    Ok(answer)
}
