//! Finds the programs that tests start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};

/// The binary `mycelium`; `MYCELIUM_BIN` names another. Built once by each test program, which costs little when it
/// is there already.
///
/// # Errors
/// If it cannot be built.
pub fn mycelium() -> anyhow::Result<PathBuf> {
    match std::env::var_os("MYCELIUM_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => built("mycelium-cli", "mycelium"),
    }
}

/// A binary of a package beside this one, built once by each test program.
///
/// # Errors
/// If it cannot be built.
pub fn built(package: &str, binary: &str) -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // Held while it is built: other tests wait for it here.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(binary) {
        build(package, binary)?;
        built.insert(binary.to_owned());
    }
    beside_tests(binary)
}

/// Builds a binary, unless it is newer than every source: `cargo test --workspace` has built it then, and building it
/// by itself would build its dependencies again with other features.
fn build(package: &str, binary: &str) -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if let Ok(path) = beside_tests(binary)
        && std::fs::metadata(&path)?.modified()? > newest_source(&workspace)?
    {
        return Ok(());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", package, "--bin", binary]);
    command.current_dir(workspace);
    // That of this test program, whose workspace may be another one.
    if let Some(target) = binaries()?.parent() {
        command.arg("--target-dir").arg(target);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// When a source that a program can be built from was last changed.
fn newest_source(workspace: &Path) -> anyhow::Result<SystemTime> {
    let mut folders: Vec<PathBuf> =
        ["proto", "mycelium-server", "elf-runtime", "examples"].map(|name| workspace.join(name)).into();
    let mut newest = std::fs::metadata(workspace.join("Cargo.lock"))?.modified()?;
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                // Tests write into their own `tests` folders only.
                if entry.file_name() != "tests" {
                    folders.push(entry.path());
                }
            } else {
                newest = newest.max(entry.metadata()?.modified()?);
            }
        }
    }
    Ok(newest)
}

/// A binary in the folder of those that were built with this test program: that is in `target/<profile>/deps`, binaries
/// are one folder above.
///
/// # Errors
/// If it is not there.
pub fn beside_tests(binary: &str) -> anyhow::Result<PathBuf> {
    let path = binaries()?.join(binary);
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}

fn binaries() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.parent().and_then(Path::parent).context("a test program has no folder")?.to_owned())
}
