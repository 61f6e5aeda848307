//! What is done with many jobs at once: `StartAction` and `ListActions`.

use bytes::Bytes;
use mycelium_core::ids::ActionId;
use mycelium_core::image::{ActionKind, ActionRecord};
use mycelium_proto::v1;

use super::convert;
use crate::actions::{self, Asked};
use crate::broker::Handle;
use crate::error::Error;

pub(super) async fn start_action(
    handle: &Handle,
    request: v1::StartActionRequest,
) -> Result<v1::StartActionResponse, Error> {
    let kind = match request.kind() {
        v1::ActionKind::Retry => ActionKind::Retry,
        v1::ActionKind::Cancel => ActionKind::Cancel,
        v1::ActionKind::Delete => ActionKind::Delete,
        v1::ActionKind::Unspecified => return Err(Error::field("kind", "says nothing that can be done")),
    };
    let asked = Asked::read(handle, kind, &request.filter).await?;
    if request.dry_run {
        let found = actions::dry_run(handle, asked).await?;
        return Ok(v1::StartActionResponse {
            count: found.count,
            more: found.is_more,
            job_ids: found.jobs.iter().map(|job| convert::id(job.as_bytes())).collect(),
            flow_ids: found.flows.iter().map(|flow| convert::id(flow.as_bytes())).collect(),
            ..v1::StartActionResponse::default()
        });
    }
    let id = ActionId::from_slice(&request.action_id);
    let id = id.ok_or_else(|| Error::field("action_id", "must be 16 bytes"))?;
    let by = convert::said("by", &request.by)?;
    if by.is_empty() {
        return Err(Error::field("by", "must say who asks"));
    }
    let (record, is_new) = actions::begin(handle, id, asked, by).await?;
    Ok(v1::StartActionResponse {
        action: Some(action(&record)),
        is_new,
        ..v1::StartActionResponse::default()
    })
}

/// How many jobs or flows an action is about that has been started, as far as that is known by then.
pub(super) fn known(answer: &v1::StartActionResponse) -> u64 {
    answer.action.as_ref().map_or(0, |action| action.done + action.refused + action.left.unwrap_or_default())
}

pub(super) async fn list_actions(
    handle: &Handle,
    _: v1::ListActionsRequest,
) -> Result<v1::ListActionsResponse, Error> {
    let mut actions = handle.query(|core, _| core.actions()).await?;
    actions.sort_by_key(|action| std::cmp::Reverse((action.began_at, action.id)));
    Ok(v1::ListActionsResponse { actions: actions.iter().map(action).collect() })
}

fn action(record: &ActionRecord) -> v1::Action {
    let kind = match record.kind {
        ActionKind::Retry => v1::ActionKind::Retry,
        ActionKind::Cancel => v1::ActionKind::Cancel,
        ActionKind::Delete => v1::ActionKind::Delete,
    };
    let left = match record.ended_at {
        Some(_) => Some(0),
        None => record.total.map(|total| total.saturating_sub(record.done + record.refused)),
    };
    v1::Action {
        action_id: Bytes::copy_from_slice(record.id.as_bytes()),
        kind: kind.into(),
        filter: record.filter.to_string(),
        by: record.by.to_string(),
        began_at: Some(convert::timestamp(record.began_at)),
        done: record.done,
        refused: record.refused,
        left,
        ended_at: record.ended_at.map(convert::timestamp),
    }
}
