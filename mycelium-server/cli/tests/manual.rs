//! Shells complete what the program takes, and `man` has a page for each command.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::fs;

use support::{mycelium, run};

#[tokio::test]
async fn every_shell_completes_commands_and_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(mycelium().args(["completions", shell])).await.good();
        for part in ["mycelium", "start-now", "store-size-alarm"] {
            assert!(script.contains(part), "{shell}: {part}");
        }
    }
    let refused = run(mycelium().args(["completions", "cmd"])).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("possible values: bash"), "{}", refused.stderr);
}

#[tokio::test]
async fn each_command_has_a_page_and_those_that_are_hidden_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let out_text = out.to_str().unwrap();
    let written = run(mycelium().args(["man", "--out", out_text])).await.good();
    let mut names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(written.lines().count(), names.len());
    for page in ["mycelium.1", "mycelium-serve.1", "mycelium-store-check.1"] {
        assert!(names.iter().any(|name| name == page), "{page}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("bench-elf") || name.contains("help")), "{names:?}");
    let serve = fs::read_to_string(out.join("mycelium-serve.1")).unwrap();
    for part in [".TH mycelium-serve 1", "MYCELIUM_LEASE", "SIGTERM"] {
        assert!(serve.contains(part), "{part}: {serve}");
    }

    let file = folder.path().join("file");
    fs::write(&file, "dear").unwrap();
    let refused = run(mycelium().args(["man", "--out", file.to_str().unwrap()])).await;
    assert!(refused.bad(2).contains("is there, and is no folder"));
}
