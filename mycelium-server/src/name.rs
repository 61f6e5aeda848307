//! Names of mycelia.

/// The mycelium that requests mean which name none. It is always there, and always open.
pub const DEFAULT: &str = "default";
/// The longest name of a mycelium, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 48;

/// Whether that can be the name of a mycelium.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}
