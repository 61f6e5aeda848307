//! Wall clocks of processes, to be set while these run.

use std::path::PathBuf;

use tempfile::TempDir;

/// A wall clock for a process that is started with [its variables](Self::variables): that of the machine, until it is set.
/// Other clocks of the process are the machine's. It takes libfaketime, from <https://github.com/wolfcw/libfaketime>.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    folder: TempDir,
}

impl WallClock {
    /// A clock, with the library that `MYCELIUM_FAKETIME` names, or one that is installed where Debian does; `None`, and a
    /// line that says so, if there is none.
    ///
    /// # Errors
    /// If no file can be written.
    pub fn new() -> anyhow::Result<Option<Self>> {
        let Some(library) = library() else {
            eprintln!("SKIPPED: there is no libfaketime; install it, or name its file in MYCELIUM_FAKETIME");
            return Ok(None);
        };
        let clock = Self { library, folder: tempfile::tempdir()? };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// Sets it to so many seconds after that of the machine, or before it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // The process reads it whenever it asks for the time, and is to find all of it.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, self.folder.path().join("offset"))?)
    }

    /// What a process has to have in its environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        let offset = self.folder.path().join("offset");
        let variables = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MYCELIUM_FAKETIME") {
        return Some(named.into());
    }
    let architectures = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut installed = architectures.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    installed.find(|file| file.exists())
}
