//! `mycelium bench` refuses what it cannot measure before it starts anything, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{DEADLINE, mycelium, run, within};

fn names_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn flags_that_make_no_sense_are_refused_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [
        &["chain", "--window", "0"][..],
        &["chain", "--concurrency", "0"],
        &["chain", "--window", "70000"],
        &["chain", "--window", "4", "--concurrency", "5"],
        &["chain", "--url", "http://127.0.0.1:1"],
        &["chain", "--mycelium", "other"],
        &["chain", "--connect", "127.0.0.1:1"],
        &["backlog", "--connect", "http://127.0.0.1:1"],
        &["chain", "--elements", "5"],
        &["latency", "--rounds", "5"],
        &["payload", "--jobs", "5"],
        &["payload", "--elements", "0"],
        &["fan", "--with-operation"],
        &["chain", "--with-policy"],
        &["throughput", "--delayed"],
    ] {
        let ended = run(mycelium().arg("bench").args(flags).env("TMPDIR", folder.path())).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{flags:?}: {}", ended.stderr);
        let names_it = flags[1..].iter().any(|flag| ended.stderr.contains(flag));
        assert!(ended.stderr.starts_with("error: ") && names_it, "{}", ended.stderr);
    }
    assert_eq!(names_in(folder.path()), 0, "nothing was made");
}

#[tokio::test]
async fn an_interrupt_leaves_neither_folder_nor_process_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = mycelium();
        command.args(["bench", "latency", "--jobs", "100000000"]).env("TMPDIR", folder.path());
        let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = std::time::Instant::now();
        while names_in(folder.path()) == 0 {
            assert!(begun.elapsed() < DEADLINE, "no broker is started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kill(Pid::from_raw(i32::try_from(bench.id().unwrap()).unwrap()), signal).unwrap();
        // Its output ends when all that share it have ended.
        let ended = within(bench.wait_with_output()).await.unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(
            ["error: interrupted\n", "error: told to terminate\n"].contains(&stderr.as_str()),
            "{stderr}"
        );
        assert_eq!(names_in(folder.path()), 0, "the folder is gone");
    }
}
