//! How long finished flows are kept: rules, by the name of a flow and how it ended.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mycelium_core::status::FinalCounts;

/// The most rules.
const RULES_MAX: usize = 100;
/// The longest age that a rule can name: a hundred years. Whoever wants more says `forever`.
const AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// For how long finished flows are kept. The first rule that fits a flow counts; one that none fits is kept for ever, and
/// so are all without rules.
///
/// Written as `done=7d, failed=30d, nightly*:any=1d`: each rule is `[NAME:]ENDING=AGE`, where the name may end with `*`, the
/// ending is `done` (all jobs DONE or SKIPPED), `failed` (one FAILED, UPSTREAM_FAILED or EXPIRED), `cancelled` (none failed, and one
/// CANCELLED) or `any`, and the age, counted from when its last job ended, a time such as `36h` or `forever`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// The name, or what it begins with; `None`: any.
    name: Option<Name>,
    ending: Option<Ending>,
    /// `None`: for ever.
    age: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Whole(String),
    Begins(String),
}

/// How a flow ended, by the jobs of it that ended worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    Failed,
    Cancelled,
}

impl Ending {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Cancelled];

    fn of(counts: &FinalCounts) -> Self {
        match counts {
            counts if counts.failed + counts.upstream_failed + counts.expired > 0 => Self::Failed,
            counts if counts.cancelled > 0 => Self::Cancelled,
            _ => Self::Done,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Retention {
    /// For how long a flow is kept that has ended so; `None`: for ever.
    pub fn age(&self, name: &str, counts: &FinalCounts) -> Option<Duration> {
        let ending = Ending::of(counts);
        let fits = |rule: &&Rule| {
            rule.ending.is_none_or(|only| only == ending)
                && match &rule.name {
                    None => true,
                    Some(Name::Whole(whole)) => whole == name,
                    Some(Name::Begins(begin)) => name.starts_with(begin.as_str()),
                }
        };
        self.rules.iter().find(fits)?.age
    }

    /// The shortest age of a rule; `None` if all flows are kept for ever.
    pub fn shortest(&self) -> Option<Duration> {
        self.rules.iter().filter_map(|rule| rule.age).min()
    }

    /// The longest age of a rule; `None` if all flows are kept for ever.
    pub fn longest(&self) -> Option<Duration> {
        self.rules.iter().filter_map(|rule| rule.age).max()
    }
}

/// What is wrong with rules of retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRetention(String);

impl FromStr for Retention {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, InvalidRetention> {
        let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        let rules: Vec<Rule> = rules.map(str::parse).collect::<Result<_, _>>()?;
        match rules.len() {
            0..=RULES_MAX => Ok(Self { rules }),
            many => {
                Err(InvalidRetention(format!("there are {many} rules, and at most {RULES_MAX} are taken")))
            }
        }
    }
}

impl FromStr for Rule {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, InvalidRetention> {
        let invalid = |why: &str| InvalidRetention(format!("`{text}` {why}"));
        // A name may have both signs in it, and what follows has neither.
        let (rule, age) = text.rsplit_once('=').ok_or_else(|| invalid("is not a rule such as done=7d"))?;
        let (name, ending) = match rule.rsplit_once(':') {
            Some((name, ending)) => (Some(name.trim()), ending),
            None => (None, rule),
        };
        let ending = match ending.trim() {
            "any" => None,
            ending => Some(
                Ending::ALL
                    .into_iter()
                    .find(|known| known.name() == ending)
                    .ok_or_else(|| invalid("names no ending: done, failed, cancelled or any"))?,
            ),
        };
        let age = match age.trim() {
            "forever" => None,
            age => match humantime::parse_duration(age) {
                Ok(age) if age > AGE_MAX => {
                    return Err(invalid("is more than a hundred years: say `forever`"));
                }
                Ok(age) => Some(age),
                Err(_) => return Err(invalid("has no age such as 36h, 7d or forever")),
            },
        };
        let name = name.map(|name| match name.strip_suffix('*') {
            Some(begin) => Name::Begins(begin.to_owned()),
            None => Name::Whole(name.to_owned()),
        });
        Ok(Self { name, ending, age })
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Rule { name, ending, age }) in self.rules.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match name {
                None => {}
                Some(Name::Whole(name)) => write!(f, "{name}:")?,
                Some(Name::Begins(begin)) => write!(f, "{begin}*:")?,
            }
            f.write_str(ending.map_or("any", Ending::name))?;
            match age {
                None => f.write_str("=forever")?,
                Some(age) => write!(f, "={}", humantime::format_duration(*age).to_string().replace(' ', ""))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn counts(done: u64, failed: u64, cancelled: u64) -> FinalCounts {
        FinalCounts { done, failed, cancelled, ..FinalCounts::default() }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules: Retention = "audit:any=forever, nightly*:any=1d, done=7d, failed=30d".parse().unwrap();
        assert_eq!(rules.age("audit", &counts(1, 0, 0)), None);
        assert_eq!(rules.age("auditor", &counts(1, 0, 0)), Some(7 * DAY));
        assert_eq!(rules.age("nightly build", &counts(0, 1, 0)), Some(DAY));
        assert_eq!(rules.age("report", &counts(5, 1, 1)), Some(30 * DAY));
        assert_eq!(rules.age("report", &counts(5, 0, 1)), None, "no rule is about those that were cancelled");
        assert_eq!(rules.age("", &FinalCounts::default()), Some(7 * DAY));
        assert_eq!((rules.shortest(), Retention::default().shortest()), (Some(DAY), None));
    }

    #[test]
    fn rules_are_written_as_they_are_read_and_what_is_none_is_refused() {
        for text in ["", "done=7days", "a:b=c*:failed=1h,any=forever"] {
            let rules: Retention = text.parse().unwrap();
            assert_eq!(rules.to_string(), text);
            assert_eq!(rules.to_string().parse(), Ok(rules));
        }
        for text in ["done", "done=", "done=7", "finished=7d", "done=-1d", "done=101years", "x=y=z"] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
        assert!("done=1d,".repeat(RULES_MAX + 1).parse::<Retention>().is_err());
    }
}
