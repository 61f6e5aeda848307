//! What is logged once in a while, however often it happens: what anybody can bring about must not fill a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is kept quiet after it was told.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// When it was last told, and how many were left out since.
    told: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// Calls `log` with how many were left out since it was last called, unless that was just now.
    pub(crate) fn say(&self, log: impl FnOnce(u64)) {
        let left_out = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.0.is_some_and(|last| last.elapsed() < QUIET_FOR) {
                told.1 += 1;
                return;
            }
            told.0 = Some(Instant::now());
            std::mem::take(&mut told.1)
        };
        log(left_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let seldom = Seldom::default();
        let mut said = Vec::new();
        for _ in 0..5 {
            seldom.say(|left_out| said.push(left_out));
        }
        assert_eq!(said, [0]);
        seldom.told.lock().unwrap().0 = Instant::now().checked_sub(QUIET_FOR);
        seldom.say(|left_out| said.push(left_out));
        assert_eq!(said, [0, 4]);
    }
}
