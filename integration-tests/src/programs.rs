//! Finds the programs that tests start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};

/// The binary `mycelium`; `MYCELIUM_BIN` names another. Built once by each test program, which costs little when it
/// is there already.
///
/// # Errors
/// If it cannot be built.
pub fn mycelium() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("MYCELIUM_BIN") {
        return Ok(PathBuf::from(path));
    }
    let built = BUILT.get_or_init(|| build("mycelium-cli", "mycelium").map_err(|error| format!("{error:#}")));
    if let Err(error) = built {
        bail!("{error}");
    }
    beside_tests("mycelium")
}

/// The binary `test-elf`, which cargo builds with the tests of this package.
///
/// # Errors
/// If it is not there.
pub fn test_elf() -> anyhow::Result<PathBuf> {
    beside_tests("test-elf")
}

/// The programs of one version.
#[derive(Debug, Clone)]
pub struct Version {
    /// `mycelium`: broker, command line, and the client and the elf of its benchmarks.
    pub mycelium: PathBuf,
    /// `test-elf`.
    pub test_elf: PathBuf,
}

impl Version {
    /// The programs that these tests belong to.
    ///
    /// # Errors
    /// If they cannot be built.
    pub fn own() -> anyhow::Result<Self> {
        Ok(Self { mycelium: mycelium()?, test_elf: test_elf()? })
    }

    /// The programs in the folder that `MYCELIUM_OTHER_BIN_DIR` names.
    ///
    /// # Errors
    /// If it names none, or they are not there.
    pub fn other() -> anyhow::Result<Self> {
        let folder = std::env::var_os("MYCELIUM_OTHER_BIN_DIR");
        let folder =
            folder.context("MYCELIUM_OTHER_BIN_DIR names no folder with programs of another version")?;
        let program = |name| {
            let path = Path::new(&folder).join(name);
            ensure!(path.exists(), "there is no {}", path.display());
            Ok(path)
        };
        Ok(Self { mycelium: program("mycelium")?, test_elf: program("test-elf")? })
    }
}

/// The binary of an example, built once by each test program.
///
/// # Errors
/// If it cannot be built.
pub fn example(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // Held while it is built: other tests wait for it here.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(name) {
        build("mycelium-examples", name)?;
        built.insert(name.to_owned());
    }
    beside_tests(name)
}

/// Builds a binary, unless it is newer than every source: `cargo test --workspace` has built it then, and building it
/// by itself would build its dependencies again with other features.
fn build(package: &str, binary: &str) -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Ok(path) = beside_tests(binary)
        && std::fs::metadata(&path)?.modified()? > newest_source(&workspace)?
    {
        return Ok(());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", package, "--bin", binary]);
    command.current_dir(workspace);
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

/// Test programs are in `target/<profile>/deps`, binaries one folder above.
fn beside_tests(binary: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let path = test.parent().and_then(Path::parent).context("a test program has no folder")?.join(binary);
    ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}
