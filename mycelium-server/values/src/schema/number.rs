//! Numbers as their digits: compared exactly, however many there are.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Whole numbers of so many digits are compared as machine integers.
const SHORT_DIGITS_MAX: usize = 18;

/// A JSON number, told apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    negative: bool,
    /// Digits before and after the point, without zeros at the outer ends.
    whole: &'a str,
    fraction: &'a str,
    /// The power of ten that the exponent gives.
    exponent: i64,
}

impl<'a> Number<'a> {
    /// Reads a number that is valid JSON.
    pub(super) fn new(text: &'a str) -> Self {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, saturating(exponent)),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Self { negative, whole, fraction, exponent }
    }

    fn is_zero(self) -> bool {
        self.whole.is_empty() && self.fraction.bytes().all(|digit| digit == b'0')
    }

    /// Its significant digits, and the power of ten of the first.
    fn significant(self) -> (impl Iterator<Item = u8> + 'a, i64) {
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        let leading = if self.whole.is_empty() {
            self.fraction.bytes().take_while(|digit| *digit == b'0').count()
        } else {
            0
        };
        let power = self.whole.len() as i64 - leading as i64 - 1;
        (digits.skip(leading), self.exponent.saturating_add(power))
    }

    /// Whether it has no fraction, as `1.0` and `1e3` have none.
    pub(super) fn is_integer(self) -> bool {
        let lowest = if self.fraction.is_empty() {
            self.whole.bytes().rev().take_while(|digit| *digit == b'0').count() as i64
        } else {
            -(self.fraction.len() as i64)
        };
        self.is_zero() || self.exponent.saturating_add(lowest) >= 0
    }

    /// Whether it is a whole number of times `other`; `None` if that takes more digits than are counted with.
    pub(super) fn is_multiple_of(self, other: Self) -> Option<bool> {
        if self.is_zero() {
            return Some(true);
        }
        let (own, own_power) = self.scaled()?;
        let (other, other_power) = other.scaled()?;
        let least = own_power.min(other_power);
        let raise = |digits: i128, power: i64| {
            let by = u32::try_from(power.checked_sub(least)?).ok()?;
            digits.checked_mul(10_i128.checked_pow(by)?)
        };
        raise(own, own_power)?.checked_rem(raise(other, other_power)?).map(|rest| rest == 0)
    }

    /// All its digits as an integer, and the power of ten of the last.
    fn scaled(self) -> Option<(i128, i64)> {
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        let number = digits.clone().try_fold(0_i128, |number, digit| {
            number.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
        })?;
        Some((number, self.exponent.checked_sub(i64::try_from(self.fraction.len()).ok()?)?))
    }

    fn short(self) -> Option<i64> {
        if !self.fraction.is_empty() || self.exponent != 0 || self.whole.len() > SHORT_DIGITS_MAX {
            return None;
        }
        let digits = self.whole.bytes().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(if self.negative { -digits } else { digits })
    }

    pub(super) fn cmp(self, other: Self) -> Ordering {
        if let (Some(own), Some(other)) = (self.short(), other.short()) {
            return own.cmp(&other);
        }
        let sign = |number: Self| match (number.is_zero(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let signs = sign(self).cmp(&sign(other));
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let (own, own_power) = self.significant();
        let (other, other_power) = other.significant();
        let sizes = own_power.cmp(&other_power).then_with(|| compare_digits(own, other));
        if self.negative { sizes.reverse() } else { sizes }
    }

    /// Equal numbers hash alike, however they are written.
    pub(super) fn hash(self, state: &mut impl Hasher) {
        if self.is_zero() {
            return 0_u8.hash(state);
        }
        self.negative.hash(state);
        let (digits, power) = self.significant();
        power.hash(state);
        let mut zeros = 0_usize;
        for digit in digits {
            // Zeros count once another digit follows.
            if digit == b'0' {
                zeros += 1;
                continue;
            }
            (zeros, digit).hash(state);
            zeros = 0;
        }
    }
}

/// Compares digits after the point, so to speak: what is missing at the end is 0.
fn compare_digits(mut a: impl Iterator<Item = u8>, mut b: impl Iterator<Item = u8>) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => match a.unwrap_or(b'0').cmp(&b.unwrap_or(b'0')) {
                Ordering::Equal => {}
                differs => return differs,
            },
        }
    }
}

/// An exponent; one that no machine integer holds is as far out as can be.
fn saturating(exponent: &str) -> i64 {
    let negative = exponent.starts_with('-');
    exponent.parse().unwrap_or(if negative { i64::MIN / 2 } else { i64::MAX / 2 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn n(text: &str) -> Number<'_> {
        Number::new(text)
    }

    fn hashed(text: &str) -> u64 {
        let mut state = std::hash::DefaultHasher::new();
        n(text).hash(&mut state);
        state.finish()
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for group in [
            &["0", "-0", "0.0", "0e5", "-0.00e-3"][..],
            &["1", "1.0", "10e-1", "0.1e1", "0.01E+2"],
            &["1200", "1.2e3", "12e2", "1200.000", "0.0012e6"],
            &["-0.5", "-5e-1", "-0.50"],
            &["340282366920938463463374607431768211455", "340282366920938463463374607431768211455.0"],
        ] {
            for (a, b) in group.iter().flat_map(|a| group.iter().map(move |b| (a, b))) {
                assert_eq!(n(a).cmp(n(b)), Ordering::Equal, "{a} and {b}");
                assert_eq!(hashed(a), hashed(b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn order_is_exact_beyond_what_machine_numbers_hold() {
        let ascending = [
            "-1e300",
            "-340282366920938463463374607431768211456",
            "-340282366920938463463374607431768211455",
            "-2",
            "-1.5",
            "-1e-99999999999999999999",
            "0",
            "1e-300",
            "0.1",
            "0.10000000000000000000000000000001",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551616.5",
            "1e300",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(n(a).cmp(n(b)), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn integers_and_multiples_are_told_exactly() {
        for integer in ["0", "0.0", "5", "1.0", "1e3", "1.5e1", "100e-2", "0.00e-9", "18446744073709551617"] {
            assert!(n(integer).is_integer(), "{integer}");
        }
        for other in ["0.5", "1e-1", "15e-1", "100e-3", "1e-99999999999999999999"] {
            assert!(!n(other).is_integer(), "{other}");
        }
        assert_eq!(n("0.3").is_multiple_of(n("0.1")), Some(true), "no rounding");
        assert_eq!(n("7").is_multiple_of(n("2")), Some(false));
        assert_eq!(n("-1e3").is_multiple_of(n("0.25")), Some(true));
        assert_eq!(n("18446744073709551617").is_multiple_of(n("2")), Some(false));
        assert_eq!(n("1e300").is_multiple_of(n("3")), None, "more digits than are counted with");
    }

    proptest! {
        #[test]
        fn order_is_that_of_machine_integers(a in any::<i128>(), b in any::<i128>()) {
            let (left, right) = (a.to_string(), b.to_string());
            prop_assert_eq!(n(&left).cmp(n(&right)), a.cmp(&b));
            prop_assert!(n(&left).is_integer());
        }

        #[test]
        fn order_is_that_of_floats(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let (left, right) = (format!("{a:?}"), format!("{b:?}"));
            // What is written shortest tells apart what differs.
            prop_assert_eq!(Some(n(&left).cmp(n(&right))), a.partial_cmp(&b));
            prop_assert_eq!(n(&left).is_integer(), a.fract() == 0.0);
        }
    }
}
