//! Lists, by page, past what is damaged.

use std::collections::BTreeSet;

use mycelium_core::ids::FinishNumber;
use mycelium_core::image::FlowRecord;
use mycelium_core::status::FinalStatus;
use serde_json::{Value, json};

use super::ArangoStore;
use super::documents::flows::FlowDocument;
use super::documents::jobs::{JobDocument, JobStatus};
use super::documents::records::{LABEL, label_digest};
use super::documents::row::Row;
use super::documents::sorted;
use super::reads::{BEHIND_DIGITS, limited};
use super::statements::{
    FINISHED_LISTED, FINISHED_OF_ELF, FINISHED_OF_ELF_WITH_STATUS, FINISHED_OF_FLOW,
    FINISHED_OF_FLOW_WITH_STATUS, FINISHED_WITH_STATUS, FLOWS_LABELLED, FLOWS_LISTED, FLOWS_NAMED, Statement,
};
use crate::store::{Error, FinishedPage, FinishedQuery, FlowPage, FlowQuery, Listed};

/// How much that is damaged a page passes over.
const DAMAGED_MAX: usize = 256;

impl ArangoStore {
    /// Reads a page of a list, beginning at a place: `variables` are those of the statement for a place and a number of
    /// entries. It is one request, unless something is damaged: then the list goes on behind that.
    pub(super) async fn listed<R>(
        &self,
        statement: &Statement,
        mut begin: String,
        limit: usize,
        variables: impl Fn(&str, usize) -> Value,
        read: impl Fn(&Row) -> Result<R, Error>,
    ) -> Result<Listed<R>, Error> {
        let limit = limited(limit);
        let mut page = Listed { entries: Vec::new(), damaged: Vec::new() };
        loop {
            let asked = limit - page.entries.len();
            let rows = self.read::<Row>(statement, &variables(&begin, asked)).await?;
            for row in &rows {
                match read(row) {
                    Ok(entry) => page.entries.push(entry),
                    Err(Error::Damaged { what }) if page.damaged.len() < DAMAGED_MAX => {
                        page.damaged.push(what);
                    }
                    Err(error) => return Err(error),
                }
            }
            match rows.into_iter().last() {
                Some(Row { at, .. }) if page.entries.len() < limit && !page.damaged.is_empty() => begin = at,
                Some(_) | None => return Ok(page),
            }
        }
    }

    /// A page of flows.
    pub(super) async fn flow_page(&self, query: &FlowQuery) -> Result<FlowPage, Error> {
        let begin = query.after.map_or_else(|| BEHIND_DIGITS.to_owned(), |after| sorted::text(after.0));
        let limit = query.read_max();
        let flow = |row: &Row| row.read::<FlowDocument, FlowRecord>("Flows");
        let listed = match (&query.name, query.labels.iter().next()) {
            (Some(name), _) => {
                let variables =
                    |before: &str, limit| json!({ "name": name, "before": before, "limit": limit });
                self.listed(&FLOWS_NAMED, begin, limit, variables, flow).await?
            }
            (None, Some(label)) => {
                let from = format!("{LABEL}.{}.", label_digest(label));
                let begin = format!("{from}{begin}");
                let variables =
                    |before: &str, limit| json!({ "from": from, "before": before, "limit": limit });
                self.listed(&FLOWS_LABELLED, begin, limit, variables, flow).await?
            }
            (None, None) => {
                let variables = |before: &str, limit| json!({ "before": before, "limit": limit });
                self.listed(&FLOWS_LISTED, begin, limit, variables, flow).await?
            }
        };
        Ok(query.page(listed))
    }

    /// The newest flow of a name. Others may have a name that is equal for the database alone.
    pub(super) async fn newest_flow_named(&self, name: &str) -> Result<Option<FlowRecord>, Error> {
        let mut query = FlowQuery { name: Some(name.to_owned()), limit: 1, ..FlowQuery::default() };
        loop {
            let FlowPage { flows, next, damaged } = self.flow_page(&query).await?;
            if let Some(what) = damaged.into_iter().next() {
                // It may be the one.
                return Err(Error::Damaged { what });
            }
            match (flows.into_iter().next(), next) {
                (Some(flow), _) => return Ok(Some(flow)),
                (None, Some(next)) => query.after = Some(next),
                (None, None) => return Ok(None),
            }
        }
    }

    /// A page of finished jobs.
    pub(super) async fn finished_page(&self, query: &FinishedQuery) -> Result<FinishedPage, Error> {
        let before = query.after.map_or_else(|| BEHIND_DIGITS.to_owned(), |after| sorted::text(after.0));
        let entries_max = limited(query.limit.max(1).saturating_add(1));
        let statuses: BTreeSet<FinalStatus> = query.statuses.iter().copied().collect();
        // A page reads that many entries of all its lists together, and needs one of each.
        let is_by_status = (1..FinalStatus::ALL.len().min(entries_max + 1)).contains(&statuses.len());
        let (statement, by_status) = match (query.flow, &query.elf) {
            (Some(_), _) => (&FINISHED_OF_FLOW, &FINISHED_OF_FLOW_WITH_STATUS),
            (None, Some(_)) => (&FINISHED_OF_ELF, &FINISHED_OF_ELF_WITH_STATUS),
            (None, None) => (&FINISHED_LISTED, &FINISHED_WITH_STATUS),
        };
        let mut variables = json!({ "before": before });
        match (query.flow, &query.elf) {
            (Some(flow), _) => variables["flow"] = json!(flow.to_string()),
            (None, Some(elf)) => variables["elf"] = json!(elf),
            (None, None) => {}
        }
        if is_by_status {
            let length_max = entries_max / statuses.len();
            variables["limit"] = json!(length_max);
            variables["statuses"] =
                statuses.into_iter().map(|status| json!(JobStatus::from(status))).collect();
            let lists = self.read::<Vec<Row>>(by_status, &variables).await?;
            return merged(query, lists, length_max);
        }
        variables["limit"] = json!(entries_max);
        let list = self.read::<Row>(statement, &variables).await?;
        merged(query, vec![list], entries_max)
    }
}

/// The page that comes of the beginnings of lists, each of which was read to its end, or so far.
fn merged(query: &FinishedQuery, lists: Vec<Vec<Row>>, length_max: usize) -> Result<FinishedPage, Error> {
    let mut page = FinishedPage { entries_read: lists.iter().map(Vec::len).sum(), ..FinishedPage::default() };
    let unread = lists.iter().filter(|list| list.len() == length_max);
    // What is below that may stand between entries that were not read.
    let read_down_to = unread.filter_map(|list| list.last()).map(|row| row.at.clone()).max();
    let mut rows: Vec<Row> = lists.into_iter().flatten().collect();
    rows.retain(|row| read_down_to.as_ref().is_none_or(|lowest| row.at >= *lowest));
    rows.sort_by(|one, other| other.at.cmp(&one.at));
    rows.truncate(query.limit.max(1));
    for row in &rows {
        match row.read::<JobDocument, JobDocument>("Jobs").and_then(JobDocument::finished) {
            Ok(job) if query.fits(&job) => page.jobs.push(job),
            Ok(_) => {}
            Err(Error::Damaged { what }) => page.damaged.push(what),
            Err(error) => return Err(error),
        }
    }
    if read_down_to.is_some() {
        let number = rows.iter().rev().find_map(|row| sorted::number(&row.at));
        let Some(number) = number else {
            let what = page.damaged.into_iter().next().unwrap_or_default();
            return Err(Error::Damaged { what });
        };
        page.next = Some(FinishNumber(number));
    }
    Ok(page)
}
