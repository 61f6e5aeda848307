//! Flows, one by one and in pages.

use std::collections::HashMap;

use mycelium_core::FlowView;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, FlowNumber};
use mycelium_core::image::FlowRecord;
use mycelium_core::labels::Labels;

use super::page::{self, Page, PageOf, left_out};
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::store::{FlowPage, FlowQuery, isolate};

/// The kind of the tokens of pages.
const TOKEN: char = 'w';

/// How a flow is named.
#[derive(Debug, Clone)]
pub(crate) enum FlowName {
    Id(FlowId),
    /// The newest flow of that name.
    Name(String),
}

/// A flow as it stands.
pub(crate) async fn flow(handle: &Handle, named: FlowName) -> Result<FlowView, CallError> {
    let record = match named {
        FlowName::Id(id) => {
            let record = handle.store().flows(&[id]).await?.pop().flatten();
            record.ok_or(Refusal::FlowNotFound(id))?
        }
        FlowName::Name(name) => {
            let record = handle.store().flow_named(&name).await?;
            record.ok_or(CallError::FlowNameNotFound(name))?
        }
    };
    let id = record.id;
    let flow = as_they_stand(handle, vec![record]).await?.pop();
    flow.ok_or_else(|| Refusal::FlowNotFound(id).into())
}

/// The flow that a filter names: by its id, or the newest of that name.
pub(crate) async fn named(handle: &Handle, name: &str) -> Result<FlowId, CallError> {
    let named = match name.parse() {
        Ok(id) => FlowName::Id(id),
        Err(_) => FlowName::Name(name.to_owned()),
    };
    Ok(flow(handle, named).await?.record.id)
}

/// A page of the flows, newest first; of those with a name if one is given, and with all of some labels.
pub(crate) async fn flows(
    handle: &Handle,
    name: Option<String>,
    labels: Labels,
    page: &PageOf,
) -> Result<Page<FlowView>, Error> {
    let after = page::read_number(&page.token, TOKEN)?;
    let query = FlowQuery { name, labels, after: after.map(FlowNumber), limit: page.limit() };
    let FlowPage { flows, next, damaged } = handle.store().list_flows(&query).await?;
    let unreadable = left_out("flows", &damaged);
    let next = next.map(|next| page::token(TOKEN, &next.0.to_be_bytes())).unwrap_or_default();
    Ok(Page { entries: as_they_stand(handle, flows).await?, next, unreadable })
}

/// Flows as they stand, in their order.
///
/// What was read of them before the core was asked tells which they are, and no more: a flow that the core does not have
/// is read again, since it may have ended in between.
pub(super) async fn as_they_stand(
    handle: &Handle,
    flows: Vec<FlowRecord>,
) -> Result<Vec<FlowView>, CallError> {
    let ids: Vec<FlowId> = flows.iter().map(|flow| flow.id).collect();
    let views =
        handle.query(move |core, _| ids.into_iter().map(|id| core.flow(id)).collect::<Vec<_>>()).await?;
    let ended = flows.iter().zip(&views).filter(|(_, view)| view.is_none());
    let ended: Vec<FlowId> = ended.map(|(flow, _)| flow.id).collect();
    let records = isolate(&ended, |ids| handle.store().flows(ids)).await?;
    let mut records: HashMap<FlowId, FlowRecord> =
        records.into_iter().filter_map(Result::ok).flatten().map(|record| (record.id, record)).collect();
    let view = |(record, view): (FlowRecord, Option<FlowView>)| {
        view.unwrap_or_else(|| self::ended(records.remove(&record.id).unwrap_or(record)))
    };
    Ok(flows.into_iter().zip(views).map(view).collect())
}

/// A flow of which the core knows no unfinished jobs.
fn ended(record: FlowRecord) -> FlowView {
    FlowView { record, pending: 0, ready: 0, assigned: 0, running: 0 }
}
