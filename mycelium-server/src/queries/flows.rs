//! Flows, one by one and in pages.

use mycelium_core::FlowView;
use mycelium_core::effects::Refusal;
use mycelium_core::ids::{FlowId, FlowNumber};
use mycelium_core::image::FlowRecord;
use mycelium_core::labels::Labels;

use super::page::{self, Page, PageOf, left_out};
use crate::broker::{CallError, Handle};
use crate::error::Error;
use crate::store::{FlowPage, FlowQuery};

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
    handle.query(move |core, _| core.flow(record.id).unwrap_or_else(|| ended(record))).await
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
    let views = handle.query(move |core, _| {
        let view = |record: FlowRecord| core.flow(record.id).unwrap_or_else(|| ended(record));
        flows.into_iter().map(view).collect()
    });
    Ok(Page { entries: views.await?, next, unreadable })
}

/// A flow of which the core knows no unfinished jobs.
fn ended(record: FlowRecord) -> FlowView {
    FlowView { record, pending: 0, ready: 0, running: 0 }
}
