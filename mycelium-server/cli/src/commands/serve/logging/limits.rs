//! How often the same is logged: what clients and elves can bring about must not fill a disk.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// How many lines of one place in the source are written within [`WITHIN`]. There are fewer than a hundred places.
const LINES_MAX: u32 = 100;
/// How long lines are counted for, and how often it is told how many were left out.
const WITHIN: Duration = Duration::from_secs(10);
/// The end of targets of which each line counts.
const UNLIMITED: &str = "audit";

/// Leaves out what one place in the source says too often, and tells how much that was. What is finer than INFO is for those
/// who have asked for it, and is not counted.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Limits {
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
}

#[derive(Debug)]
struct Place {
    target: String,
    file: String,
    line: u32,
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Limits {
    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn takes(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        let mut places = self.places();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place {
            target: metadata.target().to_owned(),
            file: metadata.file().unwrap_or_default().to_owned(),
            line: metadata.line().unwrap_or_default(),
            since: now,
            written: 0,
            left_out: 0,
        });
        if now.duration_since(place.since) >= WITHIN {
            (place.since, place.written) = (now, 0);
        }
        if place.written < LINES_MAX {
            place.written += 1;
            return true;
        }
        place.left_out += 1;
        false
    }

    /// Tells of each place how many of its lines were left out, once.
    pub(in super::super) fn tell(&self) {
        let left_out = |place: &mut Place| {
            let left_out = std::mem::take(&mut place.left_out);
            (left_out > 0).then(|| (place.target.clone(), place.file.clone(), place.line, left_out))
        };
        let told: Vec<_> = self.places().values_mut().filter_map(left_out).collect();
        for (of, file, line, left_out) in told {
            tracing::warn!(
                left_out,
                of,
                file,
                line,
                "lines were left out of the log: there were too many alike"
            );
        }
    }

    /// Tells it again and again.
    pub(in super::super) async fn tell_always(&self) -> Infallible {
        loop {
            tokio::time::sleep(WITHIN).await;
            self.tell();
        }
    }
}

impl<S> Filter<S> for Limits {
    /// Asked once for each event that all others let pass, as [`callsite_enabled`](Self::callsite_enabled) wants it.
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        !is_limited(metadata) || self.takes(metadata, Instant::now())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_limited(metadata) { Interest::sometimes() } else { Interest::always() }
    }

    /// What is of use is up to the others.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() <= Level::INFO && !metadata.target().ends_with(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Counted(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Counted {
        fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_place_is_limited_by_itself_and_it_is_told_what_was_left_out() {
        let (limits, counted) = (Limits::default(), Counted::default());
        let written = || counted.0.swap(0, Ordering::Relaxed);
        let subscriber = registry().with(counted.clone().with_filter(limits.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let bad = || tracing::warn!("a bad call");
            (0..10_000).for_each(|_| bad());
            assert_eq!(written(), LINES_MAX);
            tracing::warn!("another place");
            assert_eq!(written(), 1);
            limits.tell();
            assert_eq!(written(), 1, "one place has left out lines");
            limits.tell();
            assert_eq!(written(), 0, "it is told once");
            for place in limits.places().values_mut() {
                place.since -= WITHIN;
            }
            bad();
            assert_eq!(written(), 1, "its time is over");
            for _ in 0..1_000 {
                tracing::info!(target: "mycelium_server::audit", "each counts");
                tracing::debug!("for those who have asked");
            }
            assert_eq!(written(), 2_000);
        });
    }
}
