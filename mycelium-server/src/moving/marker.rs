//! What says of a mycelium that it is being made by an import, and of which export.
//!
//! It is a record of the store, written with the first commit of an import and removed by the last, so that every store
//! has it, at one moment with what was imported, and no import is served that was cut off. It has the form of a session,
//! since those are in what every start reads ([`Log::load`](crate::store::Log::load)), and since nobody but a broker numbers
//! them: it is the one numbered 0, and those of elves begin at 1. A file beside the store would be one more place that could
//! say something else, and not every store has a folder.

use mycelium_core::ids::{InstanceId, SecretDigest, SessionId};
use mycelium_core::image::{Image, SessionRecord};

use super::Bounds;

/// The number of the session that is none.
pub(super) const ID: SessionId = SessionId(0);

/// Whether what was read of a store says that an import was not finished.
pub(crate) fn is_in(image: &Image) -> bool {
    image.sessions.iter().any(is_marker)
}

pub(super) fn is_marker(session: &SessionRecord) -> bool {
    session.id == ID
}

/// The marker of an import: of the export whose manifest has this digest, in batches of this size. An import that goes
/// on counts commits, so it has to make the batches that were made before.
pub(super) fn of(manifest: [u8; 32], bounds: Bounds) -> SessionRecord {
    let Bounds { lines, bytes } = bounds;
    let mut instance = [0; 16];
    instance[..8].copy_from_slice(&lines.to_be_bytes());
    instance[8..].copy_from_slice(&bytes.to_be_bytes());
    SessionRecord { id: ID, instance: InstanceId::new(instance), secret: Some(SecretDigest::new(manifest)) }
}

/// The export that a marker is of, and the size of the batches.
pub(super) fn read(marker: &SessionRecord) -> Option<([u8; 32], Bounds)> {
    let (lines, bytes) = marker.instance.as_bytes().split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    Some((*marker.secret?.as_bytes(), Bounds { lines: number(lines)?, bytes: number(bytes)? }))
}
