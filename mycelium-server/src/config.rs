//! What can be set about a broker.

use std::time::Duration;

use mycelium_proto::limits::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// The most that [`Config::queue_max`] and [`Config::batch_max`] may be. Far beyond what is of use, and far below what
/// the channels that they size can take.
const QUEUE_MAX: usize = 1 << 20;
/// The least that [`Config::receiving_bytes_max`] and [`Config::answers_bytes_max`] may be: one peer may hold three eighths
/// of it, which is then more than the largest message.
const BUDGET_MIN: usize = 64 * 1024 * 1024;

/// Settings of a broker. [`Config::default`] suits one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a session lives without a sign of life. Default 30 s, range 1 s to 1 h.
    pub lease: Duration,
    /// How often elves are asked for a sign of life. Default 5 s; at most a third of the lease.
    pub heartbeat_interval: Duration,
    /// The oldest version of the protocol that elves may speak. Default 1, range 1 to 2; with 2, whoever does not have its
    /// secret can take over no session.
    pub protocol_min: u32,
    /// How many elves a job may be lost with before it ends FAILED. Default 5, range 1 to 255.
    pub elves_lost_max: u32,
    /// The most unfinished jobs. Default 10 million; beyond it submissions are refused with `BACKLOG_FULL`.
    pub unfinished_max: u64,
    /// How long an unsealed submission is kept without a further part. Default 10 min.
    pub submission_idle_max: Duration,
    /// The most sessions at once. Default 10,000; beyond it `Connect` is refused with `BROKER_BUSY`.
    pub sessions_max: usize,
    /// The most watches at once. Default 10,000; beyond it `WatchJobs` is refused with `BROKER_BUSY`.
    pub watches_max: usize,
    /// The most requests and reports that wait for the scheduler. Default 1,024, range 1 to 1,048,576; while it is
    /// full, streams of elves are read no further, and requests wait for up to 5 s, and are then refused with
    /// `BROKER_BUSY`.
    pub queue_max: usize,
    /// About how many jobs and outcomes go into one commit. Default 2,048, range 1 to 1,048,576.
    pub batch_max: usize,
    /// How long a blob that nothing names stays after it was written or asked for. Default 1 h, at least 1 s.
    pub blob_grace: Duration,
    /// How long a stop waits for streams and calls to end. Default 10 s.
    pub drain_grace: Duration,
    /// The most connections at once. Default 10,000; fewer if this process may not have as many files open. Beyond it, a
    /// connection that has said nothing yet or has nothing under way gives way to a new one, or the new one is closed.
    pub connections_max: usize,
    /// The most calls that one connection may have under way; further ones wait with the client. Default 1,024, at least 1.
    pub calls_per_connection_max: u32,
    /// The most calls under way in all, with streams. Default 50,000; beyond it they are refused with `BROKER_BUSY`.
    pub calls_max: usize,
    /// How many bytes all messages that are being received may take. Default and least 64 MiB, of which one connection may
    /// hold three eighths.
    pub receiving_bytes_max: usize,
    /// How many bytes all answers may take that are being made, or that nobody has taken yet. Default and least 64 MiB, of
    /// which one connection may hold three eighths.
    pub answers_bytes_max: usize,
    /// Where the scheduler runs. Default: on a thread of its own.
    pub scheduler: SchedulerPlace,
}

/// Where the scheduler of a broker runs, and with it the commits that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulerPlace {
    /// On a thread of its own, so that commits never keep other tasks of the program from running.
    #[default]
    OwnThread,
    /// As a task of the runtime in which the broker is started. While a commit waits for the disk, the runtime goes on on
    /// its other threads. Saves two wake-ups of threads a commit; for programs that do nothing but serve. In a runtime of the kind `current_thread`, which cannot go on elsewhere, the same as
    /// [`OwnThread`](Self::OwnThread).
    Runtime,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(5),
            protocol_min: PROTOCOL_VERSION_MIN,
            elves_lost_max: 5,
            unfinished_max: 10_000_000,
            submission_idle_max: Duration::from_secs(600),
            sessions_max: 10_000,
            watches_max: 10_000,
            queue_max: 1_024,
            batch_max: 2_048,
            blob_grace: Duration::from_secs(3600),
            drain_grace: Duration::from_secs(10),
            connections_max: 10_000,
            calls_per_connection_max: 1_024,
            calls_max: 50_000,
            receiving_bytes_max: BUDGET_MIN,
            answers_bytes_max: BUDGET_MIN,
            scheduler: SchedulerPlace::OwnThread,
        }
    }
}

impl Config {
    /// Checks every range and relation.
    ///
    /// # Errors
    /// All problems at once, in words.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, field: &'static str, problem: &dyn Fn() -> String| {
            if !holds {
                problems.push(ConfigProblem { field, problem: problem() });
            }
            holds
        };
        let Self { lease, heartbeat_interval, .. } = *self;
        let lease_holds =
            check((Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&lease), "lease", &|| {
                "must be between 1 s and 1 h".to_owned()
            });
        let beats =
            check(!heartbeat_interval.is_zero(), "heartbeat_interval", &|| "must not be zero".to_owned());
        // What is wrong by itself is not held against the other.
        if lease_holds && beats {
            check(heartbeat_interval <= lease / 3, "heartbeat_interval", &|| {
                format!(
                    "must be at most a third of the lease, and {heartbeat_interval:?} is more than that of {lease:?}"
                )
            });
        }
        check(
            (PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&self.protocol_min),
            "protocol_min",
            &|| format!("must be between {PROTOCOL_VERSION_MIN} and {PROTOCOL_VERSION}"),
        );
        let at_least_1 = || "must be at least 1".to_owned();
        let a_byte = || "must be between 1 and 255".to_owned();
        check((1..=255).contains(&self.elves_lost_max), "elves_lost_max", &a_byte);
        check(self.unfinished_max >= 1, "unfinished_max", &at_least_1);
        check(!self.submission_idle_max.is_zero(), "submission_idle_max", &|| "must not be zero".to_owned());
        check(self.blob_grace >= Duration::from_secs(1), "blob_grace", &|| "must be at least 1 s".to_owned());
        check(self.sessions_max >= 1, "sessions_max", &at_least_1);
        check(self.watches_max >= 1, "watches_max", &at_least_1);
        let queue_range = || format!("must be between 1 and {QUEUE_MAX}");
        check((1..=QUEUE_MAX).contains(&self.queue_max), "queue_max", &queue_range);
        check((1..=QUEUE_MAX).contains(&self.batch_max), "batch_max", &queue_range);
        check(self.connections_max >= 1, "connections_max", &at_least_1);
        check(self.calls_per_connection_max >= 1, "calls_per_connection_max", &at_least_1);
        check(self.calls_max >= 1, "calls_max", &at_least_1);
        let budget_min = || format!("must be at least {BUDGET_MIN} bytes");
        check(self.receiving_bytes_max >= BUDGET_MIN, "receiving_bytes_max", &budget_min);
        check(self.answers_bytes_max >= BUDGET_MIN, "answers_bytes_max", &budget_min);
        if problems.is_empty() { Ok(()) } else { Err(InvalidConfig { problems }) }
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", sentences(problems))]
pub struct InvalidConfig {
    /// What is wrong.
    pub problems: Vec<ConfigProblem>,
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field of [`Config`].
    pub field: &'static str,
    /// What is wrong with it: the rest of a sentence that begins with its name.
    pub problem: String,
}

fn sentences(problems: &[ConfigProblem]) -> String {
    let sentences = problems.iter().map(|ConfigProblem { field, problem }| format!("{field} {problem}"));
    sentences.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &Config) -> Vec<&'static str> {
        let problems = config.validate().map_or_else(|error| error.problems, |()| Vec::new());
        problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn defaults_are_valid_and_every_problem_is_named_at_once() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { lease: Duration::ZERO, batch_max: 0, elves_lost_max: 0, ..Config::default() };
        assert_eq!(problems(&bad), ["lease", "elves_lost_max", "batch_max"], "and no consequence of another");
        let text = bad.validate().unwrap_err().to_string();
        assert!(
            text.contains("lease must be between 1 s and 1 h; elves_lost_max must be between 1 and 255"),
            "{text}"
        );
    }

    #[test]
    fn lease_and_heartbeat_have_to_fit_each_other() {
        let endless = Config { heartbeat_interval: Duration::MAX, ..Config::default() };
        assert_eq!(problems(&endless), ["heartbeat_interval"]);
        let just = Config { heartbeat_interval: Duration::from_secs(10), ..Config::default() };
        assert_eq!(just.validate(), Ok(()));
    }

    #[test]
    fn protocol_versions_are_those_that_are_spoken() {
        for version in [0, PROTOCOL_VERSION + 1] {
            assert_eq!(problems(&Config { protocol_min: version, ..Config::default() }), ["protocol_min"]);
        }
        assert_eq!(Config { protocol_min: 2, ..Config::default() }.validate(), Ok(()));
    }

    #[test]
    fn sizes_of_queues_are_bounded() {
        for size in [QUEUE_MAX + 1, usize::MAX] {
            let endless = Config { queue_max: size, batch_max: size, ..Config::default() };
            assert_eq!(problems(&endless), ["queue_max", "batch_max"]);
        }
        let large = Config { queue_max: QUEUE_MAX, batch_max: QUEUE_MAX, ..Config::default() };
        assert_eq!(large.validate(), Ok(()));
        // Whether channels can be as large.
        drop(tokio::sync::mpsc::channel::<()>(large.queue_max));
    }
}
