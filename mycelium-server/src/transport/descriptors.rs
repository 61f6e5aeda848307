//! How many files and connections this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Kept for all that is neither a connection nor a table of the store: journals, blobs on their way, logs, the listener.
const OTHERS: u64 = 128;
/// The most and the fewest files that the store keeps open.
const STORE_FILES: (u64, u64) = (32, 900);
/// What is assumed where the system does not say.
const ASSUMED: u64 = 1_024;

/// Raises the number of files and connections that this process may have open to the most that the system lets it.
/// Meant for a program that does nothing but serve, before it opens the store.
///
/// # Errors
/// If the system refuses; then what was allowed before stays.
pub fn raise_descriptor_limit() -> std::io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

fn allowed() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(ASSUMED, |(soft, _)| soft)
}

/// How many files the store may keep open.
pub(crate) fn store_files() -> usize {
    store_files_of(allowed())
}

fn store_files_of(allowed: u64) -> usize {
    as_usize((allowed / 8).clamp(STORE_FILES.0, STORE_FILES.1))
}

/// How many connections there may be, with so many that are being closed, and never more than `wanted`.
pub(super) fn connections(wanted: usize, surplus: usize) -> usize {
    connections_of(allowed(), wanted, surplus)
}

fn connections_of(allowed: u64, wanted: usize, surplus: usize) -> usize {
    let kept = as_usize(OTHERS) + store_files_of(allowed) + surplus;
    as_usize(allowed).saturating_sub(kept).clamp(1, wanted)
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_kept_for_the_store() {
        assert_eq!((store_files_of(1_024), connections_of(1_024, 10_000, 16)), (128, 752));
        assert_eq!((store_files_of(1 << 20), connections_of(1 << 20, 10_000, 16)), (900, 10_000));
        assert_eq!((store_files_of(64), connections_of(64, 10_000, 16)), (32, 1), "one can always be tried");
        assert_eq!(connections_of(u64::MAX, 5, 16), 5);
    }
}
