//! How often a worker beats and looks around, and how long its broker may be silent.

use std::time::Duration;

use mycelium_proto::v1;

/// What is taken for the intervals of `Welcome` where it gives none, and between which bounds they are believed.
const BEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// How often it is looked for silence, and for assignments that are not confirmed: twice in the second that the contract
/// gives for that.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// After how long without a word of the broker its stream is given up, whatever the lease.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The intervals that `Welcome` asks for, within reason.
pub(super) struct Intervals {
    pub(super) beat: Duration,
    pub(super) look: Duration,
    /// After how long without a word of the broker the stream is given up. Beats are answered, so silence means that
    /// nobody is there; the rest of the lease leaves time to resume on another stream.
    pub(super) silence_max: Duration,
}

impl Intervals {
    pub(super) fn of(welcome: &v1::Welcome) -> Self {
        let read = |duration: &Option<prost_types::Duration>| {
            let duration = duration.as_ref()?;
            Duration::try_from(*duration).ok().filter(|duration| !duration.is_zero())
        };
        let lease = read(&welcome.lease).unwrap_or(LEASE_DEFAULT);
        let beat = read(&welcome.heartbeat_interval).unwrap_or(BEAT_INTERVAL_DEFAULT);
        // Three beats a lease at the least, whatever was asked for.
        let beat = beat.min(lease / 3).max(BEAT_INTERVAL_MIN);
        let silence_max = SILENCE_MAX.min(lease / 3).max(beat * 2);
        Self { beat, look: LOOK_INTERVAL_MAX.min(beat), silence_max }
    }
}

/// How long the broker has been silent, in looks. Counted and not measured: a process that was paused, or whose machine was
/// suspended, counts one look more when it goes on, and reads what the broker has said meanwhile before it judges.
pub(super) struct Silence {
    looks: u32,
    looks_max: u32,
}

impl Silence {
    pub(super) fn new(intervals: &Intervals) -> Self {
        let looks_max = intervals.silence_max.as_micros().div_ceil(intervals.look.as_micros().max(1));
        Self { looks: 0, looks_max: u32::try_from(looks_max).unwrap_or(u32::MAX) }
    }

    pub(super) fn broken(&mut self) {
        self.looks = 0;
    }

    /// Looks once more. Whether there has been no word of the broker for too long.
    pub(super) fn lasts(&mut self) -> bool {
        // The first look may come right after a word.
        self.looks = self.looks.saturating_add(1);
        self.looks > self.looks_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// However long the process was paused between two of them, these are two looks.
    #[test]
    fn silence_is_counted_in_looks() {
        let mut silence =
            Silence::new(&Intervals { beat: 5 * SECOND, look: SECOND, silence_max: 3 * SECOND });
        for _ in 0..3 {
            assert!(!silence.lasts());
        }
        silence.broken();
        for _ in 0..3 {
            assert!(!silence.lasts());
        }
        assert!(silence.lasts());
    }

    #[test]
    fn a_silent_broker_is_given_up_while_much_of_the_lease_is_left() {
        let of = |beat: Duration, lease: Duration| {
            let wire = |duration: Duration| duration.try_into().ok();
            let (heartbeat_interval, lease) = (wire(beat), wire(lease));
            let intervals =
                Intervals::of(&v1::Welcome { heartbeat_interval, lease, ..v1::Welcome::default() });
            (intervals.beat, intervals.look, intervals.silence_max)
        };
        assert_eq!(of(5 * SECOND, 30 * SECOND), (5 * SECOND, SECOND / 2, 10 * SECOND), "the defaults");
        assert_eq!(of(Duration::ZERO, Duration::ZERO), (5 * SECOND, SECOND / 2, 10 * SECOND));
        assert_eq!(of(SECOND, 6 * SECOND), (SECOND, SECOND / 2, 2 * SECOND));
        assert_eq!(of(SECOND / 10, 3_600 * SECOND), (SECOND / 10, SECOND / 10, 10 * SECOND));
        assert_eq!(of(60 * SECOND, 600 * SECOND), (60 * SECOND, SECOND / 2, 120 * SECOND), "two beats");
    }
}
