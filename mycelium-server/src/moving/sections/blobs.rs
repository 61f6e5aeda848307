//! Blobs: which there are. Their bytes stand beside, each in a file that its digest names.

use serde::{Deserialize, Serialize};

use super::super::blob_files;
use super::super::line::{self, Malformed};
use super::super::source::{Out, Source};
use super::super::text::Text;
use super::{Error, Section};
use crate::store::{Batch, BlobDigest};

/// How many blobs are copied, and about how many bytes, before that is noted.
const PAGE: usize = 64;
const PAGE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Default)]
pub(in super::super) struct Blobs;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in super::super) struct Line {
    blob: Text<BlobDigest>,
    /// In bytes.
    size: u64,
}

/// How far blobs have been read.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(in super::super) struct Place {
    /// What the next begin with.
    shard: u16,
    /// The last.
    after: Option<Text<BlobDigest>>,
}

impl Blobs {
    /// The blob of a line, and its size in bytes.
    pub(in super::super) fn read_line(line: &[u8]) -> Result<(BlobDigest, u64), Malformed> {
        let Line { blob: Text(digest), size } = line::read(line)?;
        Ok((digest, size))
    }
}

impl Section for Blobs {
    const NAME: &'static str = "blobs";
    const IS_STORED: bool = false;
    type Place = Place;

    fn read(&mut self, source: &Source<'_>, place: &mut Place, out: &mut Out<'_>) -> Result<bool, Error> {
        let (Some(folder), Ok(shard)) = (&source.blobs, u8::try_from(place.shard)) else { return Ok(false) };
        let mut digests = blob_files::of_shard(folder, shard)?;
        digests.retain(|digest| place.after.is_none_or(|Text(after)| *digest > after));
        let (mut bytes, mut last, mut sound) = (0, None, None);
        for digest in digests.iter().take(PAGE) {
            let path = blob_files::path_of(folder, *digest);
            let size = match source.copy_blobs_to {
                Some(copies) => blob_files::copy(&path, copies, *digest)?,
                None => blob_files::check(&path, *digest)?,
            };
            match size {
                Some(size) => {
                    out.line(&Line { blob: Text(*digest), size })?;
                    sound = Some(*digest);
                }
                None => out.sink.left_out(format!("blob {digest} is not what its name says")),
            }
            out.sink.copied(size.unwrap_or(0));
            (bytes, last) = (bytes + size.unwrap_or(0), Some(*digest));
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        if let (Some(copies), Some(copied)) = (source.copy_blobs_to, sound) {
            blob_files::sync_shard(copies, copied)?;
        }
        *place = match last {
            Some(last) if Some(&last) != digests.last() => Place { after: Some(Text(last)), ..*place },
            Some(_) | None => Place { shard: place.shard + 1, after: None },
        };
        Ok(true)
    }

    fn take(&mut self, line: &[u8], _: &mut Batch) -> Result<(), Malformed> {
        Self::read_line(line).map(drop)
    }
}
