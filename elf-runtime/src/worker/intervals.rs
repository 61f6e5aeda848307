//! How often a worker beats, and how long its broker may be silent.

use std::time::Duration;

use mycelium_proto::v1;

/// What is taken for the intervals of `Welcome` where it gives none, and between which bounds they are believed.
const BEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The intervals that `Welcome` asks for, within reason.
pub(super) struct Intervals {
    pub(super) beat: Duration,
    /// After how long without a word of the broker the stream is given up. Beats are answered, so silence means that
    /// nobody is there; half a lease leaves time to resume on another stream.
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
        Self { beat, silence_max: (lease / 2).max(beat * 2) }
    }
}

/// How long the broker has been silent, in beats. Counted and not measured: a process that was paused, or whose machine was
/// suspended, counts one beat more when it goes on, and reads what the broker has said meanwhile before it judges.
pub(super) struct Silence {
    beats: u32,
    beats_max: u32,
}

impl Silence {
    pub(super) fn new(intervals: &Intervals) -> Self {
        let beats_max = intervals.silence_max.as_micros().div_ceil(intervals.beat.as_micros().max(1));
        Self { beats: 0, beats_max: u32::try_from(beats_max).unwrap_or(u32::MAX) }
    }

    pub(super) fn broken(&mut self) {
        self.beats = 0;
    }

    /// A beat is due. Whether there has been no word of the broker for too long.
    pub(super) fn lasts_another_beat(&mut self) -> bool {
        // The first beat may come right after a word.
        self.beats += 1;
        self.beats > self.beats_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long the process was paused between two of them, these are two beats.
    #[test]
    fn silence_is_counted_in_beats() {
        let second = Duration::from_secs(1);
        let mut silence = Silence::new(&Intervals { beat: 5 * second, silence_max: 15 * second });
        for _ in 0..3 {
            assert!(!silence.lasts_another_beat());
        }
        silence.broken();
        for _ in 0..3 {
            assert!(!silence.lasts_another_beat());
        }
        assert!(silence.lasts_another_beat());
    }
}
