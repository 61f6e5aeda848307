//! Tokens and certificates as people make them.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use support::{mycelium, run};

#[tokio::test]
async fn a_token_is_shown_once_and_kept_as_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let path = file.to_str().unwrap();
    let new = ["token", "new", "--file", path, "--role", "submit", "--role", "read"];
    let secret =
        run(mycelium().args(new).args(["ci", "--in", "team-*", "--elf", "a", "--expires", "90days"]))
            .await
            .good();
    let secret = secret.trim();
    assert!(secret.starts_with("myc_") && secret.len() == 68, "32 random bytes: {secret}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(secret), "{text}");
    for part in [
        "name = \"ci\"",
        "roles = [\"submit\",\"read\"]",
        "mycelia = [\"team-*\"]",
        "elves = [\"a\"]",
        "expires = 20",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let other = run(mycelium().args(new).args(["other", "--output", "json"])).await.good();
    let other: serde_json::Value = serde_json::from_str(&other).unwrap();
    assert_ne!(other["secret"], secret);
    assert!(fs::read_to_string(&file).unwrap().contains(other["sha256"].as_str().unwrap()));

    // What a broker would not take is not written.
    let before = fs::read_to_string(&file).unwrap();
    let twice = run(mycelium().args(new).arg("ci")).await.bad(2);
    assert!(twice.contains("`ci` is there twice") && twice.contains("tokens.toml`"), "{twice}");
    let unknown = run(mycelium().args(["token", "new", "x", "--file", path, "--role", "rule"])).await;
    assert!(unknown.stderr.contains("there is no role `rule`"), "{}", unknown.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let checked = ["serve", "--check-config", "--tokens", path];
    run(mycelium().args(checked)).await.good();
}

fn new_token(file: &Path, name: &str) -> tokio::process::Command {
    let mut command = mycelium();
    command.args(["token", "new", name, "--role", "read", "--file"]).arg(file);
    command
}

#[tokio::test]
async fn tokens_that_are_made_at_the_same_time_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let made: Vec<_> = (0..12).map(|of| new_token(&file, &format!("ci-{of}"))).collect();
    let made =
        made.into_iter().map(|mut command| tokio::spawn(async move { run(&mut command).await.good() }));
    let made: Vec<_> = made.collect();
    let mut secrets = Vec::new();
    for one in made {
        secrets.push(one.await.unwrap());
    }
    let text = fs::read_to_string(&file).unwrap();
    for secret in secrets {
        let digest: String = Sha256::digest(secret.trim()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(text.contains(&digest), "one is lost: {text}");
    }
    assert_eq!(text.matches("[[token]]").count(), 12);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_file_of_tokens_behind_a_link_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [real, link, dangling] =
        ["real.toml", "link.toml", "dangling.toml"].map(|name| folder.path().join(name));
    run(&mut new_token(&real, "one")).await.good();
    symlink("real.toml", &link).unwrap();
    run(&mut new_token(&link, "two")).await.good();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap().matches("[[token]]").count(), 2);
    symlink("nowhere.toml", &dangling).unwrap();
    let refused = run(&mut new_token(&dangling, "three")).await.bad(1);
    assert!(refused.contains("dangling.toml`"), "{refused}");
    let mut secret = new_token(Path::new("myc_0123"), "three");
    let secret = run(secret.current_dir(folder.path())).await.bad(2);
    assert!(secret.contains("as secrets do") && !secret.contains("0123"), "{secret}");
    let no_file = run(&mut new_token(folder.path(), "three")).await.bad(2);
    assert!(no_file.contains("is no file"), "{no_file}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn a_file_of_tokens_stays_that_of_its_owner() {
    const OWNER: u32 = 65_532;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root makes files of others");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("tokens.toml");
    run(&mut new_token(&file, "one")).await.good();
    chown(&file, Some(OWNER), Some(OWNER + 1)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let is_kept = || {
        let of = fs::metadata(&file).unwrap();
        assert_eq!((of.uid(), of.gid(), of.mode() & 0o7777), (OWNER, OWNER + 1, 0o644));
    };
    run(&mut new_token(&file, "two")).await.good();
    is_kept();

    // Who cannot keep it so leaves it as it is. The binary may be where nobody else gets at it.
    let before = fs::read_to_string(&file).unwrap();
    let binary = folder.path().join("mycelium");
    let program = env!("CARGO_BIN_EXE_mycelium");
    fs::hard_link(program, &binary).or_else(|_| fs::copy(program, &binary).map(drop)).unwrap();
    let mut other = mycelium_testing::command(binary.to_str().unwrap());
    other
        .args(["token", "new", "three", "--role", "read", "--file"])
        .arg(&file)
        .uid(OWNER + 2)
        .gid(OWNER + 2);
    let refused = run(&mut other).await.bad(1);
    assert!(
        refused.contains("belongs to 65532:65533") && refused.contains("run this as that user"),
        "{refused}"
    );
    is_kept();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
}

#[tokio::test]
async fn certificates_for_trying_things_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tls");
    let made = ["tls", "self-signed", "--out", out.to_str().unwrap(), "--host", "broker.lan", "--days", "7"];
    assert_eq!(run(mycelium().args(made)).await.good().lines().count(), 3);
    let [certificate, key] = ["server.pem", "server.key"].map(|name| out.join(name));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let check = [
        "serve",
        "--check-config",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    run(mycelium().args(check)).await.good();
    let before = fs::read(&key).unwrap();
    assert!(run(mycelium().args(made)).await.bad(2).contains("is there already"));
    assert_eq!(fs::read(&key).unwrap(), before);
    let nonsense = ["tls", "self-signed", "--out", "unmade", "--host", "zwölf"];
    assert!(run(mycelium().args(nonsense)).await.bad(2).contains("--host"));
    assert!(!Path::new("unmade").exists());
}
