//! The state of the server's licence, and how much of what it allows is used.

use serde::Deserialize;

use super::{Finding, FindingKind};

/// From this part of the limit on a note is made, in percent.
const NOTED_PERCENT: u64 = 80;
const GIB: u64 = 1 << 30;

/// How much data is stored, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is stored, in bytes.
    pub bytes: u64,
    /// What may be stored, in bytes.
    pub bytes_max: u64,
}

/// What `/_admin/license` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct License {
    /// `none` where there is none and none is needed: the Community Edition before 3.12.5.
    license: Option<String>,
    /// Of a licence that was bought.
    status: Option<String>,
    /// Without one.
    disk_usage: Option<DiskUsage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiskUsage {
    status: String,
    bytes_used: u64,
    bytes_limit: u64,
    #[serde(default)]
    seconds_until_read_only: i64,
}

impl License {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.disk_usage.as_ref().map(|it| Usage { bytes: it.bytes_used, bytes_max: it.bytes_limit })
    }

    /// What is to be said of it. `server` is how the server is called.
    pub(super) fn finding(&self, server: &str) -> Option<Finding> {
        let disk = self.disk_usage.as_ref();
        match disk.map_or(self.status.as_deref(), |disk| Some(&disk.status)) {
            Some("good") => disk.and_then(|disk| disk.noted(server)),
            Some(status @ ("read-only" | "shutdown")) => {
                let why = match disk {
                    Some(disk) => format!(
                        "its data ({}) are more than the Community Edition may hold: make them less, or apply a licence",
                        disk.shown()
                    ),
                    None => "its licence has run out: apply a new one".to_owned(),
                };
                let line =
                    format!("ArangoDB at {server} takes no writes (licence state `{status}`), since {why}");
                Some(Finding::new(FindingKind::ReadOnly, line))
            }
            Some("limit-reached") => {
                let hours = disk.map_or(0, |disk| disk.seconds_until_read_only / 3_600);
                let used = disk.map(DiskUsage::shown).unwrap_or_default();
                Some(note(format!(
                    "ArangoDB at {server} holds more data than its licence allows ({used}), and takes no more writes in \
                     {hours} hours: make them less, or apply a licence"
                )))
            }
            Some("expiring") => Some(note(format!(
                "the licence of ArangoDB at {server} runs out within a week, and then it takes no writes: apply a new one"
            ))),
            Some(status) => Some(note(format!(
                "ArangoDB at {server} has a licence in a state that is not known: `{status}`"
            ))),
            None if self.license.as_deref() == Some("none") => None,
            None => Some(untold(server, "it does not tell")),
        }
    }
}

/// The note on a licence whose state is not told.
pub(super) fn untold(server: &str, why: &str) -> Finding {
    note(format!("the state of the licence of ArangoDB at {server} is not known: {why}"))
}

fn note(line: String) -> Finding {
    Finding::new(FindingKind::License, line)
}

impl DiskUsage {
    fn noted(&self, server: &str) -> Option<Finding> {
        let percent = u128::from(self.bytes_used) * 100;
        (percent >= u128::from(self.bytes_limit) * u128::from(NOTED_PERCENT)).then(|| {
            note(format!(
                "ArangoDB at {server} is close to the limit of its licence ({}): beyond it, writes end after two days",
                self.shown()
            ))
        })
    }

    fn shown(&self) -> String {
        let tenths = u128::from(self.bytes_used) * 10 / u128::from(GIB);
        format!("{}.{} of {} GiB", tenths / 10, tenths % 10, self.bytes_limit / GIB)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(license: Value) -> Option<(FindingKind, String)> {
        let license: License = serde_json::from_value(license).unwrap();
        license.finding("http://h:8529").map(|finding| (finding.kind, finding.line))
    }

    fn of_disk(status: &str, gib: u64) -> Value {
        json!({"upgrading": false, "diskUsage": {
            "status": status, "bytesUsed": gib * GIB, "bytesLimit": 100 * GIB, "limitReached": gib >= 100,
            "secondsUntilReadOnly": 7_200, "secondsUntilShutDown": 7_200,
        }})
    }

    #[test]
    fn what_ends_writes_is_a_problem_and_what_will_is_a_note() {
        assert_eq!(found(of_disk("good", 79)), None);
        assert_eq!(found(json!({"status": "good", "license": "x", "version": 1})), None);
        assert_eq!(found(json!({"license": "none"})), None);
        for (license, kind, part) in [
            (of_disk("good", 80), FindingKind::License, "80.0 of 100 GiB"),
            (of_disk("limit-reached", 101), FindingKind::License, "in 2 hours"),
            (of_disk("read-only", 101), FindingKind::ReadOnly, "101.0 of 100 GiB"),
            (of_disk("shutdown", 101), FindingKind::ReadOnly, "`shutdown`"),
            (of_disk("odd", 1), FindingKind::License, "`odd`"),
            (json!({"status": "expiring"}), FindingKind::License, "within a week"),
            (json!({"status": "read-only"}), FindingKind::ReadOnly, "has run out"),
            (json!({"upgrading": false}), FindingKind::License, "does not tell"),
        ] {
            let (found, line) = found(license).unwrap();
            assert_eq!(found, kind, "{line}");
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }
}
