//! The words in which people say which jobs they mean: `status:failed elf:scale since:2h text:"over quota"`.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use mycelium_core::ids::{FlowId, Timestamp};
use mycelium_core::labels::Labels;
use mycelium_core::status::{FinalStatus, Status};

use super::list::JobsQuery;
use crate::store::FailurePrefix;

/// The longest filter that is read, in bytes.
const BYTES_MAX: usize = 4096;
/// What can be said, for who said something else.
const FIELDS: &str = "status, flow, elf, task, label.KEY=VALUE, since, until, failure, text";

/// Which jobs are meant: those of which all holds that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The id or the name of a flow.
    pub(crate) flow: Option<String>,
    pub(crate) elf: Option<String>,
    pub(crate) task: Option<String>,
    /// Those with one of these statuses; empty: any.
    pub(crate) statuses: Vec<Status>,
    /// Those that have all of these.
    pub(crate) labels: Labels,
    /// Those that ended at this moment or later.
    pub(crate) since: Option<Timestamp>,
    /// Those that ended before this moment.
    pub(crate) until: Option<Timestamp>,
    /// Those that failed so.
    pub(crate) failure: Option<FailurePrefix>,
    /// Those whose failure has this in its message, be it in upper or lower case.
    pub(crate) text: Option<String>,
}

/// A filter that cannot be read: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(String);

/// Reads a filter. Terms stand beside each other with blanks between them, and all must hold; a value with blanks stands
/// in quotes, as for a shell. `now` is what spans of time count back from.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Filter, Unreadable> {
    if text.len() > BYTES_MAX {
        return Err(Unreadable(format!("has {} bytes, at most {BYTES_MAX} are read", text.len())));
    }
    let terms = shlex::split(text)
        .ok_or_else(|| Unreadable("a quote is not closed, or a backslash stands at its end".to_owned()))?;
    let mut filter = Filter::default();
    let mut labels = BTreeMap::new();
    for term in &terms {
        let read = match term.strip_prefix("label.") {
            Some(label) => read_label(label, &mut labels),
            None => filter.read(term, now),
        };
        read.map_err(|why| Unreadable(format!("`{term}`: {why}")))?;
    }
    filter.labels = labels.into();
    Ok(filter)
}

impl Filter {
    fn read(&mut self, term: &str, now: Timestamp) -> Result<(), String> {
        let (field, value) =
            term.split_once(':').ok_or("a term is FIELD:VALUE, and a value with blanks stands in quotes")?;
        if value.is_empty() {
            return Err("it has no value".to_owned());
        }
        match field {
            "flow" => set(&mut self.flow, value.to_owned()),
            "elf" => set(&mut self.elf, value.to_owned()),
            "task" => set(&mut self.task, value.to_owned()),
            "status" => {
                for name in value.split(',') {
                    self.statuses.push(status(name).ok_or_else(|| format!("there is no status `{name}`"))?);
                }
                Ok(())
            }
            "since" => set(&mut self.since, moment(value, now)?),
            "until" => set(&mut self.until, moment(value, now)?),
            "failure" => set(&mut self.failure, value.parse()?),
            "text" => set(&mut self.text, value.to_lowercase()),
            _ => Err(format!("there is no field `{field}`; there are {FIELDS}")),
        }
    }

    /// What is asked for, with this flow.
    pub(crate) fn query(self, flow: Option<FlowId>) -> JobsQuery {
        let Self { flow: _, elf, task, statuses, labels, since, until, failure, text } = self;
        let (finished_from, finished_before) = (since, until);
        JobsQuery { flow, elf, task, statuses, labels, finished_from, finished_before, failure, text }
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("the field is given twice".to_owned()),
    }
}

fn read_label(label: &str, labels: &mut BTreeMap<String, String>) -> Result<(), String> {
    let (key, value) = label.split_once('=').ok_or("a label is label.KEY=VALUE")?;
    match labels.insert(key.to_owned(), value.to_owned()) {
        None => Ok(()),
        Some(_) => Err("the label is given twice".to_owned()),
    }
}

fn status(name: &str) -> Option<Status> {
    Some(match name.to_lowercase().as_str() {
        "pending" => Status::Pending,
        "ready" => Status::Ready,
        "assigned" => Status::Assigned,
        "running" => Status::Running,
        "done" => Status::Final(FinalStatus::Done),
        "failed" => Status::Final(FinalStatus::Failed),
        "upstream_failed" => Status::Final(FinalStatus::UpstreamFailed),
        "cancelled" => Status::Final(FinalStatus::Cancelled),
        "skipped" => Status::Final(FinalStatus::Skipped),
        "expired" => Status::Final(FinalStatus::Expired),
        _ => return None,
    })
}

/// A moment: one that is written out in UTC, or a span of time before `now`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Timestamp(now.0.saturating_sub(micros(ago))));
    }
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| {
        "a moment is a span of time before now (90s, 2h, 7d), or written out in UTC (2026-11-29T08:00:00)"
    })?;
    Ok(Timestamp(micros(at.duration_since(UNIX_EPOCH).unwrap_or_default())))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn read(text: &str) -> Filter {
        parse(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_field_is_read() {
        let text = r#"status:failed,cancelled status:done elf:scale task:task_weigh flow:'daily report'
            label.customer=acme label.a:b=c=d since:2h until:1970-01-11T00:00:00Z failure:AB-12 text:"Over quota""#;
        let labels =
            [("customer", "acme"), ("a:b", "c=d")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            read(text),
            Filter {
                flow: Some("daily report".to_owned()),
                elf: Some("scale".to_owned()),
                task: Some("task_weigh".to_owned()),
                statuses: [FinalStatus::Failed, FinalStatus::Cancelled, FinalStatus::Done]
                    .map(Status::Final)
                    .into(),
                labels: BTreeMap::from(labels).into(),
                since: Some(Timestamp(NOW.0 - 7_200_000_000)),
                until: Some(Timestamp(864_000_000_000)),
                failure: "ab12".parse().ok(),
                text: Some("over quota".to_owned()),
            }
        );
        assert_eq!(read(" \n "), Filter::default());
        assert_eq!(read("since:100000d").since, Some(Timestamp(0)));
    }

    #[test]
    fn every_status_has_a_name() {
        let names = [
            "pending",
            "ready",
            "assigned",
            "running",
            "done",
            "failed",
            "upstream_failed",
            "cancelled",
            "skipped",
            "expired",
        ];
        let named: Vec<Status> = names.iter().filter_map(|name| status(name)).collect();
        assert_eq!(named.len(), names.len());
        assert!(FinalStatus::ALL.iter().all(|end| named.contains(&Status::Final(*end))));
    }

    #[test]
    fn what_cannot_be_read_says_where_and_why() {
        for (text, why) in [
            ("status:broken", "`status:broken`: there is no status `broken`"),
            ("status:failed colour:red", "`colour:red`: there is no field `colour`; there are status, flow,"),
            ("quota", "`quota`: a term is FIELD:VALUE"),
            ("elf:", "`elf:`: it has no value"),
            ("elf:a elf:b", "`elf:b`: the field is given twice"),
            ("label.a", "`label.a`: a label is label.KEY=VALUE"),
            ("label.a=1 label.a=2", "`label.a=2`: the label is given twice"),
            ("since:yesterday", "`since:yesterday`: a moment is a span"),
            ("until:1960-01-01T00:00:00Z", "a moment is a span"),
            ("failure:xy", "`failure:xy`: a failure is named by"),
            ("text:\"open", "a quote is not closed"),
        ] {
            let error = parse(text, NOW).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("text:{}", "x".repeat(BYTES_MAX));
        assert!(parse(&long, NOW).unwrap_err().to_string().contains("at most 4096 are read"));
    }
}
