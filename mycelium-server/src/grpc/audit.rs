//! Who changed what.

use std::time::{Duration, SystemTime};

use mycelium_proto::v1;

use crate::audit::{Audit, Entry};
use crate::broker::CallError;
use crate::error::Error;
use crate::queries::page::{self, PageOf};
use crate::store;

pub(crate) async fn list(
    audit: &Audit,
    request: v1::ListAuditRequest,
) -> Result<v1::ListAuditResponse, Error> {
    const KIND: char = 'u';
    let page = PageOf { token: request.page_token, size: request.page_size };
    let before = page::read_number(&page.token, KIND)?;
    let limit = page.limit();
    let mycelium = Some(request.of_mycelium).filter(|name| !name.is_empty());
    let mut entries = audit.list(before, limit + 1, mycelium).await.map_err(|error| {
        let unavailable = store::Error::Unavailable {
            what: "the audit cannot be read".to_owned(),
            certainly_not_applied: true,
            source: Some(Box::new(error)),
        };
        CallError::from(unavailable)
    })?;
    let are_more = entries.len() > limit;
    entries.truncate(limit);
    let next_page_token = match entries.last() {
        Some(last) if are_more => page::token(KIND, &last.number.to_be_bytes()),
        Some(_) | None => String::new(),
    };
    Ok(v1::ListAuditResponse { entries: entries.into_iter().map(message).collect(), next_page_token })
}

fn message(entry: Entry) -> v1::AuditEntry {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(entry.at_ms));
    v1::AuditEntry {
        at: at.map(Into::into),
        caller: entry.caller,
        peer: entry.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        call: entry.call,
        mycelium: entry.mycelium.unwrap_or_default(),
        about: entry.about,
        count: entry.count,
        result: entry.result,
    }
}
