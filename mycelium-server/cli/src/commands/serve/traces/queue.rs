//! The spans that wait to be exported: at most so many, and it is told how many are lost. Without it nobody would know: the
//! library says so in a log of its own alone.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use tokio::sync::Notify;

/// How often it is told at most that spans are lost.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is known of the spans that wait and of those that are lost.
#[derive(Debug)]
pub(super) struct Losses {
    /// How many may wait.
    max: usize,
    waiting: AtomicUsize,
    /// For which there was no room, since it was told last.
    left_out: AtomicUsize,
    has_left_out: Notify,
    /// How many were lost since the exporter fails; `None` if it does not.
    failing: Mutex<Option<usize>>,
}

impl Losses {
    fn new(max: usize) -> Self {
        Self {
            max,
            waiting: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            has_left_out: Notify::new(),
            failing: Mutex::new(None),
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may wait.
    fn takes(&self) -> bool {
        let one_more = |waiting| (waiting < self.max).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            return true;
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.has_left_out.notify_one();
        false
    }

    fn tell(&self) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out == 0 {
            return;
        }
        // While the exporter fails that is why, which has been told.
        match &mut *self.failing() {
            Some(lost) => *lost += left_out,
            None => tracing::warn!(
                lost = left_out,
                queue = self.max,
                "spans are lost: more come than are exported, and no more may wait (OTEL_BSP_MAX_QUEUE_SIZE)"
            ),
        }
    }

    /// Tells of losses as they come, and not too often. It is told here, since those who end spans wait for nothing.
    pub(super) async fn tell_always(&self) -> Infallible {
        loop {
            self.has_left_out.notified().await;
            self.tell();
            tokio::time::sleep(TOLD_EVERY).await;
        }
    }

    /// Tells of all that were lost and not told yet, when nothing is exported any more.
    pub(super) fn tell_the_rest(&self) {
        self.tell();
        let waiting = self.waiting.load(Ordering::Relaxed);
        let lost = self.failing().take().unwrap_or_default() + waiting;
        if lost > 0 {
            tracing::warn!(lost, "spans were not exported before the end, and are lost");
        }
    }

    fn exported(&self, spans: usize, result: &OTelSdkResult) {
        let mut failing = self.failing();
        match (result, &mut *failing) {
            (Ok(()), None) => {}
            (Ok(()), Some(lost)) => {
                tracing::warn!(lost = *lost, "spans are exported again");
                *failing = None;
            }
            (Err(_), Some(lost)) => *lost += spans,
            (Err(error), None) => {
                tracing::warn!(%error, "spans cannot be exported, and are lost until they can");
                *failing = Some(spans);
            }
        }
    }
}

/// Lets spans wait in the queue of the library as long as there is room for them, so that it never has to drop one itself.
#[derive(Debug)]
pub(super) struct Queue {
    queue: BatchSpanProcessor,
    losses: Arc<Losses>,
}

impl Queue {
    /// One that exports, with room for so many. What else there is to say of it is in its variables.
    pub(super) fn new(exporter: impl SpanExporter + 'static, max: usize) -> (Self, Arc<Losses>) {
        let losses = Arc::new(Losses::new(max));
        let exporter = Telling { exporter, losses: Arc::clone(&losses) };
        let config = BatchConfigBuilder::default().with_max_queue_size(max).build();
        let queue = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        (Self { queue, losses: Arc::clone(&losses) }, losses)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.losses.takes() {
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// An exporter that says when it begins to fail, and when it goes again.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    losses: Arc<Losses>,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        // They wait no more, and have left the queue before: there is never less room in it than is counted.
        self.losses.waiting.fetch_sub(spans, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        self.losses.exported(spans, &exported);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// Says how many spans come, and exports them when it is told to.
    #[derive(Debug)]
    struct Slow {
        come: mpsc::Sender<usize>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.come.send(batch.len()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
            Ok(())
        }
    }

    #[test]
    fn each_span_is_exported_or_counted_as_lost() {
        const MAX: usize = 600;
        let ((come, comes), (say, go_on)) = (mpsc::channel(), mpsc::channel());
        let (queue, losses) = Queue::new(Slow { come, go_on: Mutex::new(go_on) }, MAX);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        let end = |n: usize| (0..n).for_each(|_| drop(tracer.start("span")));
        let left_out = || losses.left_out.load(Ordering::Relaxed);
        // A batch is on its way, and as many wait as may.
        end(512);
        let batch = comes.recv().unwrap();
        end(MAX - (512 - batch));
        assert_eq!(left_out(), 0);
        end(1_000);
        assert_eq!(left_out(), 1_000, "there was no room for them");
        // All that were taken come.
        (0..10).for_each(|_| say.send(()).unwrap());
        provider.shutdown().unwrap();
        assert_eq!(batch + comes.try_iter().sum::<usize>(), 512 + MAX - (512 - batch));
        assert_eq!((losses.waiting.load(Ordering::Relaxed), left_out()), (0, 1_000));
    }

    #[test]
    fn what_is_lost_while_the_exporter_fails_is_told_with_that() {
        let losses = Losses::new(1);
        assert!(losses.takes() && !losses.takes());
        losses.exported(5, &Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown));
        losses.tell();
        assert_eq!(*losses.failing(), Some(6));
        losses.exported(1, &Ok(()));
        assert_eq!(*losses.failing(), None);
    }
}
