//! The processes behind the sessions, for people: what they said of themselves when they connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mycelium_core::ids::{Revision, SessionId, SignatureId};

use super::message::StreamId;

/// How many differences are told between two versions of an elf.
const DIFFERENCES_MAX: usize = 16;

/// What a process said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its operating-system process id; 0 if it did not say.
    pub(crate) id: u32,
    /// The host it runs on.
    pub(crate) host: String,
    /// What it said of the program that it runs.
    pub(crate) build: String,
    /// What it serves, by elf.
    pub(crate) elves: BTreeMap<Arc<str>, Arc<Version>>,
    /// For how long its tasks have stood still by its latest heartbeat, if they do.
    pub(crate) late_by: Option<Duration>,
}

/// Which version of an elf a process serves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) revision: Revision,
    /// The revision of each task, and what tells what it takes.
    pub(crate) tasks: BTreeMap<Arc<str>, (Revision, SignatureId)>,
}

impl Version {
    /// How this differs from the version that was declared last, for people.
    pub(crate) fn differences(&self, newest: &Self) -> Vec<String> {
        let names = self.tasks.keys().chain(newest.tasks.keys()).collect::<BTreeSet<_>>();
        let differences =
            names.into_iter().filter_map(|name| match (self.tasks.get(name), newest.tasks.get(name)) {
                (Some((_, own)), Some((_, other))) if own != other => {
                    Some(format!("`{name}` takes other arguments"))
                }
                (Some((own, _)), Some((other, _))) if own != other => {
                    Some(format!("`{name}` is of another revision"))
                }
                (Some(_), Some(_)) | (None, None) => None,
                (Some(_), None) => Some(format!("`{name}` was left out since")),
                (None, Some(_)) => Some(format!("`{name}` is missing")),
            });
        differences.take(DIFFERENCES_MAX).collect()
    }
}

/// The processes of the newest sessions.
#[derive(Debug)]
pub(crate) struct Processes {
    known: Mutex<Known>,
    max: usize,
}

#[derive(Debug, Default)]
struct Known {
    /// Each with the stream on which it was last said.
    by_session: BTreeMap<SessionId, (StreamId, Process)>,
    /// The version of each elf that was declared last.
    newest: BTreeMap<Arc<str>, Arc<Version>>,
}

impl Processes {
    /// Remembers at most `max`; the oldest sessions are forgotten first.
    pub(crate) fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    pub(crate) fn put(&self, session: SessionId, stream: StreamId, mut process: Process) {
        let mut known = self.lock();
        for (elf, version) in &mut process.elves {
            match known.newest.get(elf) {
                // Most serve the same, and share it.
                Some(newest) if newest == version => *version = Arc::clone(newest),
                Some(_) | None => drop(known.newest.insert(Arc::clone(elf), Arc::clone(version))),
            }
        }
        known.by_session.insert(session, (stream, process));
        while known.by_session.len() > self.max {
            known.by_session.pop_first();
        }
    }

    /// The version of an elf that was declared last since the broker began.
    pub(crate) fn newest(&self, elf: &str) -> Option<Arc<Version>> {
        self.lock().newest.get(elf).cloned()
    }

    /// An elf is not stored any more.
    pub(crate) fn forget(&self, elf: &str) {
        self.lock().newest.remove(elf);
    }

    /// A session said in a heartbeat whether its tasks stand still.
    pub(crate) fn beat(&self, session: SessionId, late_by: Option<Duration>) {
        if let Some((_, process)) = self.lock().by_session.get_mut(&session) {
            process.late_by = late_by;
        }
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<Process> {
        self.lock().by_session.get(&session).map(|(_, process)| process.clone())
    }

    /// Whether a session has said nothing of itself on a later stream.
    pub(crate) fn is_latest(&self, session: SessionId, stream: StreamId) -> bool {
        self.lock().by_session.get(&session).is_some_and(|(latest, _)| *latest == stream)
    }

    // A poisoned lock is no harm: what is put in is put in whole.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(revision: u8, tasks: &[(&str, u8, u8)]) -> Arc<Version> {
        let task = |(name, revision, takes): &(&str, u8, u8)| {
            (Arc::from(*name), (Revision::new([*revision; 32]), SignatureId::new([*takes; 16])))
        };
        Arc::new(Version { revision: Revision::new([revision; 32]), tasks: tasks.iter().map(task).collect() })
    }

    fn process(version: &Arc<Version>) -> Process {
        let elves = BTreeMap::from([(Arc::from("scale"), Arc::clone(version))]);
        Process { id: 1, host: String::new(), build: String::new(), elves, late_by: None }
    }

    #[test]
    fn processes_that_serve_another_version_than_the_newest_are_told_apart() {
        let processes = Processes::new(10);
        let old = version(1, &[("task_a", 1, 1), ("task_b", 1, 1), ("task_c", 1, 1), ("task_d", 1, 1)]);
        let new = version(2, &[("task_a", 1, 1), ("task_b", 2, 1), ("task_c", 2, 2), ("task_e", 1, 1)]);
        processes.put(SessionId(1), StreamId(1), process(&old));
        processes.put(SessionId(2), StreamId(2), process(&new));
        let newest = processes.newest("scale").unwrap();
        let differences =
            |session| processes.get(SessionId(session)).unwrap().elves["scale"].differences(&newest);
        let expected = [
            "`task_b` is of another revision",
            "`task_c` takes other arguments",
            "`task_d` was left out since",
            "`task_e` is missing",
        ];
        assert_eq!(differences(1), expected);
        assert!(differences(2).is_empty());
        // Who declares the same shares it.
        processes.put(
            SessionId(3),
            StreamId(3),
            process(&version(2, &[("task_a", 1, 1), ("task_b", 2, 1), ("task_c", 2, 2), ("task_e", 1, 1)])),
        );
        assert!(Arc::ptr_eq(&processes.get(SessionId(3)).unwrap().elves["scale"], &newest));
        let many = version(3, &[]);
        let names: Vec<String> = (0..40).map(|n| format!("task_{n}")).collect();
        let all: Vec<(&str, u8, u8)> = names.iter().map(|name| (&**name, 1, 1)).collect();
        assert_eq!(many.differences(&version(3, &all)).len(), DIFFERENCES_MAX);
    }
}
