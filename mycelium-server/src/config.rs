//! What can be set about a broker.

use std::time::Duration;

/// Settings of a broker. [`Config::default`] suits one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long a session lives without a sign of life. Default 30 s, range 1 s to 1 h.
    pub lease: Duration,
    /// How often elves are asked for a sign of life. Default 5 s; at most a third of the lease.
    pub heartbeat_interval: Duration,
    /// How many elves a job may be lost with before it ends FAILED. Default 5, at least 1.
    pub elves_lost_max: u32,
    /// The most unfinished jobs. Default 10 million; beyond it submissions are refused with `BACKLOG_FULL`.
    pub unfinished_max: u64,
    /// How long an unsealed submission is kept without a further part. Default 10 min.
    pub submission_idle_max: Duration,
    /// The most sessions at once. Default 10,000; beyond it `Connect` is refused with `BROKER_BUSY`.
    pub sessions_max: usize,
    /// The most watches at once. Default 10,000; beyond it `WatchJobs` is refused with `BROKER_BUSY`.
    pub watches_max: usize,
    /// The most requests and reports that wait for the scheduler. Default 1,024; when it is full, requests are refused
    /// with `BROKER_BUSY`, and streams of elves are read no further.
    pub queue_max: usize,
    /// About how many jobs and outcomes go into one commit. Default 2,048.
    pub batch_max: usize,
    /// How long a stop waits for streams and calls to end. Default 10 s.
    pub drain_grace: Duration,
    /// Where the scheduler runs. Default: on a thread of its own.
    pub scheduler: SchedulerPlace,
}

/// Where the scheduler of a broker runs, and with it the commits that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulerPlace {
    /// On a thread of its own, so that commits never keep other tasks of the program from running.
    #[default]
    OwnThread,
    /// As a task of the runtime in which the broker is started, of whose threads each commit blocks one for as long as
    /// the disk takes. Saves two wake-ups of threads a commit; for programs with several such threads that do nothing
    /// but serve.
    Runtime,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(5),
            elves_lost_max: 5,
            unfinished_max: 10_000_000,
            submission_idle_max: Duration::from_secs(600),
            sessions_max: 10_000,
            watches_max: 10_000,
            queue_max: 1_024,
            batch_max: 2_048,
            drain_grace: Duration::from_secs(10),
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
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        check(
            (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.lease),
            "the lease must be between 1 s and 1 h",
        );
        check(!self.heartbeat_interval.is_zero(), "the heartbeat interval must not be zero");
        check(
            self.heartbeat_interval * 3 <= self.lease,
            "the heartbeat interval must be at most a third of the lease",
        );
        check(self.elves_lost_max >= 1, "elves_lost_max must be at least 1");
        check(self.unfinished_max >= 1, "unfinished_max must be at least 1");
        check(!self.submission_idle_max.is_zero(), "submission_idle_max must not be zero");
        check(self.sessions_max >= 1, "sessions_max must be at least 1");
        check(self.watches_max >= 1, "watches_max must be at least 1");
        check(self.queue_max >= 1, "queue_max must be at least 1");
        check(self.batch_max >= 1, "batch_max must be at least 1");
        if problems.is_empty() { Ok(()) } else { Err(InvalidConfig { problems }) }
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", problems.join("; "))]
pub struct InvalidConfig {
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_every_problem_is_named_at_once() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { lease: Duration::ZERO, batch_max: 0, ..Config::default() };
        let problems = bad.validate().unwrap_err().problems;
        assert_eq!(problems.len(), 3, "lease range, heartbeat relation, batch size: {problems:?}");
    }
}
