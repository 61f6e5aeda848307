//! Tokens and certificates as people make them.

#![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

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
    assert!(!std::path::Path::new("unmade").exists());
}
