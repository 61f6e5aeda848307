//! How a worker names itself, and which process it is.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use mycelium_proto::{limits, v1};
use sha2::{Digest as _, Sha256};

/// How a worker names itself in `Hello`.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) mycelium: String,
    pub(super) instance_id: [u8; 16],
    pub(super) process_id: u32,
    pub(super) host: String,
    /// What tells the program from others: given, or a digest of it.
    pub(super) build: String,
    /// Tells the process from all others of its host; none where the system does not say.
    pub(super) process: Option<v1::ProcessIdentity>,
}

impl Identity {
    pub(super) fn of_this_process(mycelium: &str) -> Self {
        Self {
            mycelium: mycelium.to_owned(),
            instance_id: *uuid::Uuid::now_v7().as_bytes(),
            process_id: std::process::id(),
            host: host(),
            // Read where it does not hold up the tasks of others.
            build: String::new(),
            process: this_process(),
        }
    }
}

/// A digest of the executable that runs, in hexadecimal digits; empty if it cannot be read. Found out once.
pub(super) fn digest_of_executable() -> String {
    static DIGEST: OnceLock<String> = OnceLock::new();
    let read = || {
        let digest = executable().and_then(digest_of);
        digest
            .inspect_err(|error| tracing::debug!(%error, "the executable cannot be read"))
            .unwrap_or_default()
    };
    DIGEST.get_or_init(read).clone()
}

/// The program that runs, even if another stands in its place since.
fn executable() -> io::Result<File> {
    File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))
}

/// The first half of the SHA-256, which is enough to tell programs apart and is kept with each attempt.
fn digest_of(mut program: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match program.read(&mut piece)? {
            0 => break,
            n => digest.update(&piece[..n]),
        }
    }
    Ok(digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The name of this host, for people; empty if it has none that is known.
fn host() -> String {
    let mut host = std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    host.truncate(host.trim_end().len());
    if host.len() > limits::NAME_BYTES_MAX { String::new() } else { host }
}

#[cfg(target_os = "linux")]
fn this_process() -> Option<v1::ProcessIdentity> {
    use std::os::unix::fs::MetadataExt as _;

    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pid_namespace = std::fs::metadata("/proc/self/ns/pid").ok()?.ino();
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(v1::ProcessIdentity {
        boot_id: boot_id.trim_end().to_owned(),
        pid_namespace,
        start_ticks: start_ticks(&stat)?,
    })
}

#[cfg(not(target_os = "linux"))]
fn this_process() -> Option<v1::ProcessIdentity> {
    None
}

/// The 22nd field of `/proc/PID/stat`. The second is the name of the program, in which there may be anything.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no such file"))]
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_what_is_in_them() {
        assert_eq!(digest_of(&b"abc"[..]).unwrap(), "ba7816bf8f01cfea414140de5dae2223");
        let own = digest_of_executable();
        assert_eq!(own.len(), 32, "{own}");
        assert_eq!(own, digest_of(executable().unwrap()).unwrap());
    }

    #[test]
    fn the_start_of_a_process_is_found_behind_any_name() {
        let stat =
            "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 10 18446744073709551615";
        assert_eq!(start_ticks(stat), Some(12_345));
        assert_eq!(start_ticks("7 (short) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_knows_which_it_is() {
        let process = this_process().unwrap();
        assert!(!process.boot_id.is_empty() && process.boot_id.len() <= 64, "{process:?}");
        assert!(process.pid_namespace > 0 && process.start_ticks > 0, "{process:?}");
        assert_eq!(this_process(), Some(process));
    }
}
