//! Operations on numbers. The operators are in `operators`.

use super::handle::Value;
use super::into::IntoValue;
use super::kinds::Number;
use super::operation::{operand, operations, record};

operations! {
    [N: Number] Value<N>:

    /// Divides, rounding down: `-7` by `2` is `-4`. The job that takes the result fails with `division_by_zero` if
    /// the other number is 0. `/` gives a float.
    integer_divide(other: N) -> Self = "integer_divide";

    /// The number to the power of another. For integers the power must not be negative, since the result would be no
    /// integer: `value.to_float().power(-1.0)`.
    power(exponent: N) -> Self = "power";

    /// The number without its sign.
    absolute() -> Self = "absolute";

    /// The largest integer that is not greater.
    floor() -> Value<N::Whole> = "floor";

    /// The smallest integer that is not less.
    ceil() -> Value<N::Whole> = "ceil";

    /// The nearest integer; of two that are equally near the even one.
    round() -> Value<N::Whole> = "round";

    /// The nearest number with so many digits after the point, 0 to 22.
    round_to(digits: i64) -> Self = "round";

    /// The number as an integer; floats lose what is after the point. The job that takes the result fails with
    /// `overflow` if it is out of range.
    to_int() -> Value<i64> = "to_int";

    /// The number as a float, to compute with other floats.
    to_float() -> Value<f64> = "to_float";
}
