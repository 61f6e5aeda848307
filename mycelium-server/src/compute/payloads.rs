//! Makes payloads of values that were computed: what is too large to travel inline becomes a blob.

use bytes::{Bytes, BytesMut};
use mycelium_proto::limits;
use mycelium_proto::v1::{self, payload};

use crate::blobs::{Blob, BlobError, Blobs, Piece, Upload};
use crate::values::DerivedValue;

/// Payloads of one job.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    /// In the order of the values.
    pub(crate) payloads: Vec<v1::Payload>,
    /// The blobs among them that were made now. Their uses are not stored yet.
    pub(crate) made: Vec<Blob>,
}

impl Payloads {
    /// Makes payloads of the values of one job.
    pub(crate) async fn of(blobs: &Blobs, values: Vec<DerivedValue>) -> Result<Self, BlobError> {
        let mut made = Self { payloads: Vec::with_capacity(values.len()), made: Vec::new() };
        for value in values {
            let payload = match value {
                DerivedValue::Payload(payload) => payload,
                DerivedValue::Spliced { pieces, .. } => made.write(blobs, pieces, false).await?,
            };
            made.payloads.push(payload);
        }
        made.keep_total(blobs).await?;
        Ok(made)
    }

    async fn write(
        &mut self,
        blobs: &Blobs,
        pieces: Vec<Piece>,
        as_blob: bool,
    ) -> Result<v1::Payload, BlobError> {
        let mut writer = PayloadWriter::new(blobs.clone());
        if as_blob {
            writer.begin_upload().await?;
        }
        for piece in pieces {
            writer.write(piece).await?;
        }
        let (payload, made) = writer.finish().await?;
        self.made.extend(made);
        Ok(payload)
    }

    /// Many values that are small enough each may come to too much together: then the largest become blobs.
    async fn keep_total(&mut self, blobs: &Blobs) -> Result<(), BlobError> {
        let mut total: usize = self.payloads.iter().map(inline_len).sum();
        while total > limits::JOB_BYTES_MAX {
            let Some(largest) =
                (0..self.payloads.len()).max_by_key(|index| inline_len(&self.payloads[*index]))
            else {
                return Ok(());
            };
            let payload = self.payloads[largest].clone();
            let Some(payload::Content::Inline(bytes)) = payload.content else { return Ok(()) };
            total -= bytes.len();
            let written = self.write(blobs, vec![Piece::Bytes(bytes)], true).await?;
            self.payloads[largest] = v1::Payload { encoding: payload.encoding, ..written };
        }
        Ok(())
    }
}

fn json(content: payload::Content) -> v1::Payload {
    v1::Payload { encoding: String::new(), content: Some(content) }
}

fn inline_len(payload: &v1::Payload) -> usize {
    match &payload.content {
        Some(payload::Content::Inline(bytes)) => bytes.len(),
        Some(payload::Content::Blob(_)) | None => 0,
    }
}

/// Assembles a payload of JSON from pieces that come one after the other. Takes no more memory than a blob that is
/// written, however large it becomes.
pub(crate) struct PayloadWriter {
    blobs: Blobs,
    inline: Bytes,
    /// What came after the first bytes.
    more: BytesMut,
    upload: Option<Box<Upload>>,
}

impl PayloadWriter {
    pub(crate) fn new(blobs: Blobs) -> Self {
        Self { blobs, inline: Bytes::new(), more: BytesMut::new(), upload: None }
    }

    /// Adds a piece at the end.
    pub(crate) async fn write(&mut self, piece: Piece) -> Result<(), BlobError> {
        let fits = match &piece {
            Piece::Bytes(bytes) => {
                self.inline.len() + self.more.len() + bytes.len() <= limits::PAYLOAD_BYTES_MAX
            }
            Piece::Blob(_) => false,
        };
        if self.upload.is_none() && !fits {
            self.begin_upload().await?;
        }
        match (&mut self.upload, piece) {
            (Some(upload), piece) => upload.add(piece).await?,
            (None, Piece::Bytes(bytes)) if self.inline.is_empty() => self.inline = bytes,
            (None, Piece::Bytes(bytes)) => self.more.extend_from_slice(&bytes),
            (None, Piece::Blob(_)) => {}
        }
        Ok(())
    }

    async fn begin_upload(&mut self) -> Result<(), BlobError> {
        let mut upload = self.blobs.begin_unnamed().await?;
        for bytes in [std::mem::take(&mut self.inline), self.more.split().freeze()] {
            upload.add(Piece::Bytes(bytes)).await?;
        }
        self.upload = Some(Box::new(upload));
        Ok(())
    }

    /// The payload, and the blob that was made for it if it is one.
    pub(crate) async fn finish(self) -> Result<(v1::Payload, Option<Blob>), BlobError> {
        let Self { inline, more, upload, .. } = self;
        if let Some(upload) = upload {
            let blob = upload.finish().await?;
            return Ok((json(payload::Content::Blob(blob.to_message())), Some(blob)));
        }
        let bytes = if more.is_empty() {
            inline
        } else {
            let mut whole = BytesMut::with_capacity(inline.len() + more.len());
            whole.extend_from_slice(&inline);
            whole.extend_from_slice(&more);
            whole.freeze()
        };
        Ok((json(payload::Content::Inline(bytes)), None))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spliced(pieces: Vec<Piece>) -> DerivedValue {
        DerivedValue::Spliced { bytes: 0, pieces }
    }

    fn bytes(length: usize) -> Piece {
        Piece::Bytes(Bytes::from(vec![b'1'; length]))
    }

    fn blobs() -> Blobs {
        Blobs::in_memory(Duration::from_secs(3600))
    }

    #[tokio::test]
    async fn a_value_is_inline_up_to_the_limit_exactly() {
        let half = limits::PAYLOAD_BYTES_MAX / 2;
        let blobs = blobs();
        let made = Payloads::of(&blobs, vec![spliced(vec![bytes(half), bytes(half)])]).await.unwrap();
        assert_eq!(inline_len(&made.payloads[0]), limits::PAYLOAD_BYTES_MAX);
        assert_eq!(made.made, []);

        let made = Payloads::of(&blobs, vec![spliced(vec![bytes(half), bytes(half + 1)])]).await.unwrap();
        let [blob] = made.made[..] else { panic!("one blob, and not {:?}", made.made) };
        assert_eq!(made.payloads[0].content, Some(payload::Content::Blob(blob.to_message())));
        assert_eq!(blobs.read_all(blob).await.unwrap(), vec![b'1'; limits::PAYLOAD_BYTES_MAX + 1]);
    }

    #[tokio::test]
    async fn blobs_in_a_list_are_put_into_a_blob_of_their_own() {
        let blobs = blobs();
        let part = blobs.compose(vec![bytes(3)]).await.unwrap();
        let around = |text: &'static str| Piece::Bytes(Bytes::from_static(text.as_bytes()));
        let pieces = vec![around("["), Piece::Blob(part), around(","), Piece::Blob(part), around("]")];
        let made = Payloads::of(&blobs, vec![spliced(pieces)]).await.unwrap();
        assert_eq!(blobs.read_all(made.made[0]).await.unwrap(), "[111,111]");
    }

    #[tokio::test]
    async fn values_that_are_too_much_together_become_blobs_largest_first() {
        let payload = |length: usize| {
            let content = Some(payload::Content::Inline(Bytes::from(vec![b'1'; length])));
            DerivedValue::Payload(v1::Payload { encoding: "text/plain".to_owned(), content })
        };
        let max = limits::PAYLOAD_BYTES_MAX;
        let fits = limits::JOB_BYTES_MAX / max;
        let values = || (0..fits).map(|_| payload(max));
        assert_eq!(Payloads::of(&blobs(), values().collect()).await.unwrap().made, []);

        let made = Payloads::of(&blobs(), values().chain([payload(7)]).collect()).await.unwrap();
        assert_eq!(made.made.len(), 1);
        assert_eq!(inline_len(&made.payloads[fits]), 7, "the smallest stays");
        assert!(made.payloads.iter().all(|payload| payload.encoding == "text/plain"));
    }
}
