//! Reads `timeouts(queue = "1m", run = "10s", …)`.

use std::time::Duration;

use syn::meta::ParseNestedMeta;
use syn::{Error, LitStr};

/// As in the contract.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How long things may take with the jobs of a task, as it declares.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) queue: Option<Duration>,
    pub(crate) run: Option<Duration>,
    pub(crate) total: Option<Duration>,
    pub(crate) progress: Option<Duration>,
}

impl Timeouts {
    /// Reads what stands in the parentheses.
    pub(super) fn read(list: &ParseNestedMeta<'_>) -> Result<Self, Error> {
        let mut timeouts = Self::default();
        list.parse_nested_meta(|meta| {
            let place = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                Some("queue") => &mut timeouts.queue,
                Some("run") => &mut timeouts.run,
                Some("total") => &mut timeouts.total,
                Some("progress") => &mut timeouts.progress,
                _ => {
                    return Err(meta.error(
                        "expected `queue`, `run`, `total` or `progress`, each with a time such as `\"30s\"`",
                    ));
                }
            };
            let read = duration(&meta)?;
            match place.replace(read) {
                None => Ok(()),
                Some(_) => Err(meta.error("this time is there twice")),
            }
        })?;
        if timeouts == Self::default() {
            return Err(list.error("expected at least one of `queue`, `run`, `total` and `progress`"));
        }
        Ok(timeouts)
    }
}

/// Reads `= "1h 30m"`.
pub(super) fn duration(meta: &ParseNestedMeta<'_>) -> Result<Duration, Error> {
    const EXPECTED: &str =
        "expected a time of 1 ms to 366 days as a text, such as `\"1h 30m\"` or `\"250ms\"`";
    let value = meta.value()?;
    let place = value.span();
    let text: LitStr = value.parse().map_err(|_| Error::new(place, EXPECTED))?;
    let read = humantime::parse_duration(&text.value()).ok();
    let read = read.filter(|read| (SHORTEST..=LONGEST).contains(read));
    read.ok_or_else(|| Error::new(place, EXPECTED))
}
