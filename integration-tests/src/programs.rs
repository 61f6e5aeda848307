//! Finds the programs that tests start.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
pub use mycelium_testing::programs::mycelium;
use mycelium_testing::programs::{beside_tests, built};

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
    built("mycelium-examples", name)
}
