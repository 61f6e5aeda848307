//! Large values to blobs, and blobs back to values.

use bytes::Bytes;
use futures::future::try_join_all;
use mycelium_proto::{limits, v1};
use v1::payload::Content;

use super::blob::Blob;
use super::handle::Blobs;
use crate::call::TaskOutputs;
use crate::error::Error;
use crate::retry::Retry;
use crate::value::payload::{Payload, choose_large};

impl Blobs {
    /// The value of a payload, read if it is a blob.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn resolve(&self, payload: v1::Payload, retry: Retry) -> Result<Payload, Error> {
        let bytes = match payload.content {
            Some(Content::Inline(bytes)) => bytes,
            Some(Content::Blob(blob)) => self.read(&blob, retry).await?,
            None => Bytes::new(),
        };
        Ok(Payload::from_wire(payload.encoding, bytes))
    }

    /// The outputs of a job, with those that are blobs read, several at once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) async fn resolve_outputs(
        &self,
        outputs: Vec<v1::NamedOutput>,
        retry: impl Fn() -> Retry,
    ) -> Result<TaskOutputs, Error> {
        let resolved = outputs.into_iter().map(|output| {
            let payload = self.resolve(output.payload.unwrap_or_default(), retry());
            async move { Ok::<_, Error>((output.name, payload.await?)) }
        });
        Ok(try_join_all(resolved).await?.into_iter().collect())
    }

    /// The arguments of a job, with those that are blobs read, several at once.
    ///
    /// # Errors
    /// The parameter whose argument cannot be read, and why: as [`read`](Self::read).
    pub(crate) async fn resolve_arguments(
        &self,
        arguments: Vec<v1::ArgumentValue>,
    ) -> Result<Vec<(String, Payload)>, (String, Error)> {
        if !has_blobs(&arguments) {
            let inline = |v1::ArgumentValue { parameter, payload }| {
                let v1::Payload { encoding, content } = payload.unwrap_or_default();
                let bytes = match content {
                    Some(Content::Inline(bytes)) => bytes,
                    Some(Content::Blob(_)) | None => Bytes::new(),
                };
                (parameter, Payload::from_wire(encoding, bytes))
            };
            return Ok(arguments.into_iter().map(inline).collect());
        }
        let resolved = arguments.into_iter().map(|v1::ArgumentValue { parameter, payload }| async move {
            match self.resolve(payload.unwrap_or_default(), Retry::endless()).await {
                Ok(payload) => Ok((parameter, payload)),
                Err(error) => Err((parameter, error)),
            }
        });
        try_join_all(resolved).await
    }

    /// Outputs as they travel, the large ones written as blobs, for as long as that takes.
    ///
    /// # Errors
    /// As [`write`](Self::write), without those that waiting may heal.
    pub(crate) async fn store_outputs(&self, outputs: TaskOutputs) -> Result<v1::Outputs, Error> {
        let sizes: Vec<usize> = outputs.iter().map(|(_, payload)| payload.bytes().len()).collect();
        let large = choose_large(&sizes, limits::JOB_BYTES_MAX);
        let mut wire = outputs.into_inline();
        if large.is_empty() {
            return Ok(wire);
        }
        let mut blobs = Vec::with_capacity(large.len());
        for index in large {
            let content = wire.outputs.get_mut(index).and_then(|output| output.payload.as_mut());
            let content = content.and_then(|payload| payload.content.as_mut());
            if let Some(content) = content
                && let Content::Inline(bytes) = content
            {
                let blob = Blob::of(std::mem::take(bytes)).await;
                *content = Content::Blob(blob.to_wire());
                blobs.push(blob);
            }
        }
        self.write(&blobs, Retry::endless()).await?;
        Ok(wire)
    }
}

/// Whether there is something to read before these can be used.
fn has_blobs(arguments: &[v1::ArgumentValue]) -> bool {
    arguments.iter().any(|argument| {
        matches!(&argument.payload, Some(v1::Payload { content: Some(Content::Blob(_)), .. }))
    })
}
