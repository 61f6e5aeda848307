//! `animals` waits for all that it has asked for, and does not panic when nobody reads what it prints.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

fn animals(folder: &Path, number: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_animals"));
    command.args(["--animals", number]).current_dir(folder).stdin(Stdio::null());
    command
}

#[test]
fn animals_after_the_last_report_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let ended = animals(folder.path(), "9").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{stderr}");
    assert!(
        stdout.contains("\n22 jobs in ") && stdout.contains("\n1 of 1 report DONE, none failed\n"),
        "{stdout}"
    );
}

#[test]
fn an_output_that_nobody_takes_is_no_reason_to_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut leaves =
        animals(folder.path(), "5").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(leaves.stdout.take());
    let ended = leaves.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), stderr.as_ref()), (Some(0), ""));

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = animals(folder.path(), "5").stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("animals: No space left"), "{stderr}");
}
