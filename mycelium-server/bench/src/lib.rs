//! What the benchmarks of the broker's parts share: jobs as the scheduler takes them ([`scheduler`]), and as the store does
//! ([`store`]). What all parts together do is measured by `mycelium bench`.

pub mod scheduler;
pub mod store;

/// Resident memory of this process, in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
