//! Programs run unchanged against a broker that others can reach, by variables of the environment alone; and what the broker
//! and they write shows no secret.

use std::path::Path;

use anyhow::{Context as _, ensure};
use integration_tests::{example, programs};
use mycelium_testing::{Process, command, run};

async fn mycelium(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<String> {
    let ended = run(command(programs::mycelium()?).args(arguments).envs(variables.iter().copied())).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    Ok(ended.stdout)
}

#[tokio::test]
async fn animals_runs_over_tls_with_tokens() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (tls, tokens, secret_file) = (path("tls"), path("tokens.toml"), path("animals.token"));
    mycelium(&["tls", "self-signed", "--out", &tls], &[]).await?;
    let new = |name: &'static str, roles: &'static [&'static str]| {
        let roles = roles.iter().flat_map(|role| ["--role", role]);
        let arguments: Vec<&str> =
            ["token", "new", name].into_iter().chain(roles).chain(["--file", &tokens]).collect();
        async move { mycelium(&arguments, &[]).await }
    };
    let secret = new("animals", &["submit", "serve", "read"]).await?;
    let admin = new("admin", &["admin"]).await?;
    std::fs::write(&secret_file, &secret)?;

    let refused = ["serve", "--listen", "0.0.0.0:0", "--store", "memory"];
    let refused = run(command(programs::mycelium()?).args(refused)).await?;
    ensure!(refused.code == Some(2) && refused.stderr.lines().count() == 1, "{refused:?}");
    ensure!(refused.stderr.contains("--tls-cert FILE --tls-key FILE --tokens FILE"), "{refused:?}");

    let mut serve = tokio::process::Command::new(programs::mycelium()?);
    serve.args(["serve", "--listen", "0.0.0.0:0", "--data-dir", &path("data"), "--auto-create=true"]);
    serve.args(["--log", "trace,h2=debug,mycelium_core=info", "--tokens", &tokens]);
    serve.args(["--tls-cert", &format!("{tls}/server.pem"), "--tls-key", &format!("{tls}/server.key")]);
    let log = dir.path().join("broker.log");
    let (mut broker, line) = Process::start_logged("the broker", serve, &log).await?;
    let port = line.split(',').next().and_then(|line| line.rsplit(':').next()).context("a port")?;
    let url = format!("https://127.0.0.1:{port}");
    let ca = format!("{tls}/ca.pem");
    let variables = [
        ("MYCELIUM_URL", url.as_str()),
        ("MYCELIUM_CA", &ca),
        ("MYCELIUM_TOKEN_FILE", &secret_file),
        ("RUST_LOG", "trace"),
    ];
    let folder = dir.path().join("animals");
    std::fs::create_dir(&folder)?;
    let ended = example::run_with("animals", &folder, &variables).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(ended.stdout.contains(&url), "{}", ended.stdout);

    let of_admin = [("MYCELIUM_URL", url.as_str()), ("MYCELIUM_CA", &ca), ("MYCELIUM_TOKEN", admin.trim())];
    let flows = mycelium(&["flows"], &of_admin).await?;
    ensure!(flows.lines().count() >= 2, "{flows}");
    let audit = mycelium(&["audit", "--limit", "1000"], &of_admin).await?;
    for call in ["SubmitJobs", "Connect"] {
        ensure!(audit.lines().any(|line| line.contains(call) && line.contains("animals")), "{call}: {audit}");
    }
    let denied =
        run(command(programs::mycelium()?).args(["mycelia", "create", "north"]).envs(variables)).await?;
    ensure!(denied.code == Some(1) && denied.stderr.contains("may not do this"), "{denied:?}");
    let audit = mycelium(&["audit", "--limit", "1"], &of_admin).await?;
    ensure!(audit.contains("CreateMycelium") && audit.contains("NOT_PERMITTED"), "{audit}");
    broker.stop().await?;

    // Neither the broker's log at its most talkative, nor what the programs print, shows a secret or a key.
    let key = std::fs::read_to_string(format!("{tls}/server.key"))?;
    let key = key.lines().nth(1).context("a key")?;
    let log = std::fs::read_to_string(&log)?;
    let written = [
        log.as_str(),
        &ended.stdout,
        &ended.stderr,
        &audit,
        &denied.stderr,
        &files(dir.path().join("data").as_path())?,
    ];
    for text in written {
        for secret in [secret.trim(), admin.trim(), key] {
            ensure!(!text.contains(secret), "a secret is shown");
        }
    }
    ensure!(log.contains("SubmitJobs"), "the log is talkative");
    Ok(())
}

/// What is in the files of the audit.
fn files(data: &Path) -> anyhow::Result<String> {
    let files = std::fs::read_dir(data.join(".audit"))?;
    files.map(|file| Ok(std::fs::read_to_string(file?.path())?)).collect()
}
