//! Flows, in the order in which they were made.

use mycelium_core::ids::{Attempt, FlowId, FlowNumber, JobId, Timestamp, Token};
use mycelium_core::image::FlowRecord;
use mycelium_core::status::FinalCounts;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::source::{Out, Source, Window, undamaged};
use super::super::text::{LabelMap, Moment, Text, label_map};
use super::{Error, PAGE, Section};
use crate::store::{Batch, FlowQuery};

#[derive(Default)]
pub(super) struct Flows;

#[derive(Serialize, Deserialize)]
struct Line {
    flow: Text<FlowId>,
    number: u64,
    name: String,
    #[serde(default, skip_serializing_if = "LabelMap::is_empty")]
    labels: LabelMap,
    created: Moment,
    finished: Counts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<OnBehalfOf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    /// When its values were deleted, if a stub of it is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Moment>,
}

/// The attempt during which it was submitted.
#[derive(Serialize, Deserialize)]
struct OnBehalfOf {
    job: Text<JobId>,
    attempt: u32,
}

/// How many of its jobs have ended how.
#[derive(Serialize, Deserialize)]
struct Counts {
    done: u64,
    failed: u64,
    upstream_failed: u64,
    cancelled: u64,
    skipped: u64,
    /// Missing where it was not counted: there were none.
    #[serde(default)]
    expired: u64,
}

impl Section for Flows {
    const NAME: &'static str = "flows";
    type Place = u64;

    fn read(&mut self, source: &Source<'_>, place: &mut u64, out: &mut Out<'_>) -> Result<bool, Error> {
        let Some(window) = Window::after(*place, source.newest_flow.0, PAGE) else { return Ok(false) };
        let query = FlowQuery {
            after: Some(FlowNumber(window.begin())),
            limit: window.len(),
            ..FlowQuery::default()
        };
        let page = source.store.list_flows(&query).wait()?;
        undamaged(page.damaged)?;
        for flow in page.flows.into_iter().rev().filter(|flow| window.has(flow.number.0)) {
            out.line(&Line::from(flow))?;
        }
        *place = window.last;
        Ok(true)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        let flow = FlowRecord::from(line::read::<Line>(line)?);
        batch.counters.flow = batch.counters.flow.max(flow.number);
        batch.records.flows.push(flow);
        Ok(())
    }
}

impl From<FlowRecord> for Line {
    fn from(flow: FlowRecord) -> Self {
        let FlowRecord { id, name, labels, number, created_at, finished, on_behalf_of, pinned, deleted_at } =
            flow;
        let FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired } = finished;
        Self {
            flow: Text(id),
            number: number.0,
            name: name.to_string(),
            labels: label_map(&labels),
            created: created_at.into(),
            finished: Counts { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of: on_behalf_of
                .map(|Token { job, attempt }| OnBehalfOf { job: Text(job), attempt: attempt.0 }),
            pinned,
            deleted: deleted_at.map(Moment::from),
        }
    }
}

impl From<Line> for FlowRecord {
    fn from(line: Line) -> Self {
        let Line { flow: Text(id), number, name, labels, created, finished, on_behalf_of, pinned, deleted } =
            line;
        let Counts { done, failed, upstream_failed, cancelled, skipped, expired } = finished;
        Self {
            id,
            name: name.into(),
            labels: labels.into(),
            number: FlowNumber(number),
            created_at: created.into(),
            finished: FinalCounts { done, failed, upstream_failed, cancelled, skipped, expired },
            on_behalf_of: on_behalf_of.map(|of| Token { job: of.job.0, attempt: Attempt(of.attempt) }),
            pinned,
            deleted_at: deleted.map(Timestamp::from),
        }
    }
}
