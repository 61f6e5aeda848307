//! The process behind a session, where the broker can see it: on its own host, in its own namespace of processes.

use std::sync::LazyLock;

use mycelium_proto::v1;
use nix::errno::Errno;

/// A process that was seen alive when it said hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenProcess {
    id: u32,
    start_ticks: u64,
}

/// Where the processes are that this one sees; none if the system does not say.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    boot_id: String,
    pid_namespace: u64,
}

static HERE: LazyLock<Option<Place>> = LazyLock::new(here);

#[cfg(target_os = "linux")]
fn here() -> Option<Place> {
    use std::os::unix::fs::MetadataExt as _;

    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pid_namespace = std::fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(Place { boot_id: boot_id.trim_end().to_owned(), pid_namespace })
}

#[cfg(not(target_os = "linux"))]
fn here() -> Option<Place> {
    None
}

impl SeenProcess {
    /// The process that says hello, if it is to be seen, and alive.
    pub(super) fn of(hello: &v1::Hello) -> Option<Self> {
        let v1::ProcessIdentity { boot_id, pid_namespace, start_ticks } = hello.process.as_ref()?;
        let here = HERE.as_ref()?;
        if (boot_id, pid_namespace) != (&here.boot_id, &here.pid_namespace) {
            return None;
        }
        let process = Self { id: hello.process_id, start_ticks: *start_ticks };
        (process.look() == Some(true)).then_some(process)
    }

    /// Whether it is known to be gone.
    pub(super) fn is_gone(self) -> bool {
        self.look() == Some(false)
    }

    /// Whether it is alive; none if the system does not tell. What is read is made up in memory, and takes no disk.
    fn look(self) -> Option<bool> {
        match std::fs::read_to_string(format!("/proc/{}/stat", self.id)) {
            Ok(stat) => {
                let Stat { state, threads, start_ticks } = Stat::of(&stat)?;
                // A process whose first thread alone has ended shows as one that waits for its parent, too.
                let has_ended = matches!(state, 'Z' | 'X') && threads <= 1;
                Some(start_ticks == self.start_ticks && !has_ended)
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                // The second where it ends while it is looked at.
                Some(Errno::ENOENT | Errno::ESRCH) => Some(false),
                Some(_) | None => None,
            },
        }
    }
}

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u64,
    start_ticks: u64,
}

impl Stat {
    /// Its fields are numbered from 1, and the second is the name of the program, in which there may be anything.
    fn of(stat: &str) -> Option<Self> {
        let (_, after_name) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse().ok();
        Some(Self { state: fields.first()?.chars().next()?, threads: number(20)?, start_ticks: number(22)? })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn start() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn hello_of(process: u32) -> v1::Hello {
        let Place { boot_id, pid_namespace } = here().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let start_ticks = Stat::of(&stat).unwrap().start_ticks;
        let identity = v1::ProcessIdentity { boot_id, pid_namespace, start_ticks };
        v1::Hello { process_id: process, process: Some(identity), ..v1::Hello::default() }
    }

    #[test]
    fn a_process_is_gone_once_it_has_ended_whether_its_parent_has_noticed_or_not() {
        let mut child = start();
        let process = SeenProcess::of(&hello_of(child.id())).unwrap();
        assert!(!process.is_gone());
        child.kill().unwrap();
        let begun = std::time::Instant::now();
        while !process.is_gone() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it shows as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(process.is_gone());
    }

    #[test]
    fn another_process_of_the_same_number_is_another() {
        let hello = hello_of(std::process::id());
        let process = SeenProcess::of(&hello).unwrap();
        assert!(SeenProcess { start_ticks: process.start_ticks + 1, ..process }.is_gone());
    }

    #[test]
    fn only_what_was_seen_alive_here_is_looked_for_again() {
        let own = hello_of(std::process::id());
        assert!(SeenProcess::of(&own).is_some());
        let elsewhere = |adjust: fn(&mut v1::ProcessIdentity)| {
            let mut hello = own.clone();
            hello.process.as_mut().map(adjust).unwrap();
            SeenProcess::of(&hello)
        };
        assert_eq!(elsewhere(|process| process.boot_id.push('x')), None);
        assert_eq!(elsewhere(|process| process.pid_namespace += 1), None);
        assert_eq!(elsewhere(|process| process.start_ticks += 1), None);
        assert_eq!(SeenProcess::of(&v1::Hello { process_id: u32::MAX, ..own.clone() }), None);
        assert_eq!(SeenProcess::of(&v1::Hello { process: None, ..own }), None);
    }

    #[test]
    fn a_process_of_which_the_first_thread_alone_has_ended_lives() {
        let of = |state: &str, threads: u32| {
            let stat = format!("7 (a) b) {state} 1 7 7 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 123 1000 10");
            Stat::of(&stat).unwrap()
        };
        assert_eq!(of("S", 4), Stat { state: 'S', threads: 4, start_ticks: 123 });
        assert_eq!(of("Z", 3).threads, 3);
        assert_eq!(Stat::of("7 (a) S 1"), None);
    }
}
