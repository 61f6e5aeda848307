//! Runs statements.

mod collect;
mod eval;
mod modify;
mod pipeline;
mod scan;
mod shortest;
mod traverse;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::aql::ast::Statement;
use crate::aql::functions::Calls;
use crate::aql::plan::Access;
use crate::error::{Failure, Outcome};
use crate::faults::Refusal;
use crate::store::{Graph, Session};
use crate::value::Value;

/// The values of the variables.
type Row = Vec<Value>;

/// What a statement did, as its answer tells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) writes_executed: i64,
    pub(crate) writes_ignored: i64,
    pub(crate) scanned_full: i64,
    pub(crate) scanned_index: i64,
    pub(crate) filtered: i64,
    pub(crate) full_count: Option<i64>,
    pub(crate) peak_memory: usize,
}

/// Bounds of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// In bytes; none: as many as it takes.
    pub(crate) memory: Option<usize>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) fail_on_warning: bool,
    pub(crate) full_count: bool,
    pub(crate) clock_ahead_ms: i64,
    /// As a server of 4.x.
    pub(crate) is_4: bool,
    /// Bytes that the statement holds before it begins: its bind parameters.
    pub(crate) held: usize,
    /// Documents that are refused for good.
    pub(crate) refused: Vec<Refusal>,
}

/// What a statement gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Vec<Value>,
    pub(crate) stats: Stats,
    pub(crate) warnings: Vec<(u32, String)>,
}

/// Runs a statement. What it wrote before it failed is left to the session to undo.
pub(crate) fn run(
    statement: &Statement,
    session: &mut Session<'_>,
    graphs: &BTreeMap<Arc<str>, Graph>,
    limits: &Limits,
) -> Outcome<Ran> {
    session.refused.clone_from(&limits.refused);
    let calls =
        Calls { name: "", warnings: Vec::new(), clock_ahead_ms: limits.clock_ahead_ms, is_4: limits.is_4 };
    let mut run = Run {
        session,
        graphs,
        limits,
        calls,
        stats: Stats::default(),
        memory: 0,
        peak: 0,
        steps: 0,
        access: HashMap::new(),
        width: statement.slots,
    };
    run.hold(limits.held)?;
    let mut row = vec![Value::Null; statement.slots];
    let result = run.query(&statement.query, &mut row, limits.full_count)?;
    if let Some((number, message)) = run.calls.warnings.first().filter(|_| limits.fail_on_warning) {
        return Err(Failure::new(*number, format!("AQL: {message}")));
    }
    run.stats.peak_memory = run.peak.max(32_768);
    Ok(Ran { result, stats: run.stats, warnings: run.calls.warnings })
}

struct Run<'r, 's, 'q> {
    session: &'r mut Session<'s>,
    graphs: &'r BTreeMap<Arc<str>, Graph>,
    limits: &'r Limits,
    calls: Calls,
    stats: Stats,
    /// Bytes of rows and results held at once, about.
    memory: usize,
    /// The most that it was.
    peak: usize,
    steps: u64,
    /// How each loop finds its documents, by the address of the loop.
    access: HashMap<usize, Rc<Access<'q>>>,
    /// How many slots a row has.
    width: usize,
}

impl Run<'_, '_, '_> {
    /// Counts a step of a loop; every so many of them the time is looked at.
    fn step(&mut self) -> Outcome<()> {
        const STEPS: u64 = 1_024;
        self.steps += 1;
        let late = self.steps.is_multiple_of(STEPS)
            && self.limits.deadline.is_some_and(|deadline| Instant::now() > deadline);
        if late { Err(killed()) } else { Ok(()) }
    }

    fn hold(&mut self, bytes: usize) -> Outcome<()> {
        self.memory += bytes;
        self.peak = self.peak.max(self.memory);
        if self.limits.memory.is_some_and(|memory| self.memory > memory) {
            return Err(Failure::new(32, "AQL: query would use more memory than allowed"));
        }
        Ok(())
    }
}

/// The time of the statement is over.
pub(crate) fn killed() -> Failure {
    Failure::new(1500, "query killed")
}
