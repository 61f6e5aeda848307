//! Operations on numbers.

use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Rem, Sub, SubAssign};

use super::handle::Value;
use super::into::IntoValue;
use super::kinds::{Number, Signed};
use super::node::Node;
use super::operation::{chain, operand, operations, record};

operations! {
    [N: Number] Value<N>:

    /// Divides, rounding down: `-7` by `2` is `-4`. The job that takes the result fails with `division_by_zero` if
    /// the other number is 0.
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

macro_rules! operator {
    ($operator:ident $method:ident $name:literal) => {
        impl<N: Number, R: IntoValue<N>> $operator<R> for Value<N> {
            type Output = Value<N>;

            fn $method(self, other: R) -> Value<N> {
                record($name, vec![self.into_node(), operand::<N>(other)])
            }
        }

        impl<N: Number, R: IntoValue<N>> $operator<R> for &Value<N> {
            type Output = Value<N>;

            fn $method(self, other: R) -> Value<N> {
                record($name, vec![self.node().clone(), operand::<N>(other)])
            }
        }
    };
}
operator!(Add add "add");
operator!(Sub sub "subtract");
operator!(Mul mul "multiply");
operator!(Rem rem "modulo");

/// The quotient, a float. [`Value::integer_divide`] gives an integer.
impl<N: Number, R: IntoValue<N>> Div<R> for Value<N> {
    type Output = Value<N::Quotient>;

    fn div(self, other: R) -> Value<N::Quotient> {
        record("divide", vec![self.into_node(), operand::<N>(other)])
    }
}

/// The quotient, a float. [`Value::integer_divide`] gives an integer.
impl<N: Number, R: IntoValue<N>> Div<R> for &Value<N> {
    type Output = Value<N::Quotient>;

    fn div(self, other: R) -> Value<N::Quotient> {
        record("divide", vec![self.node().clone(), operand::<N>(other)])
    }
}

impl<N: Signed> Neg for Value<N> {
    type Output = Self;

    fn neg(self) -> Self {
        record("negate", vec![self.into_node()])
    }
}

impl<N: Signed> Neg for &Value<N> {
    type Output = Value<N>;

    fn neg(self) -> Value<N> {
        record("negate", vec![self.node().clone()])
    }
}

macro_rules! assignment {
    ($operator:ident $method:ident $name:literal) => {
        /// Makes the handle stand for the result. Clones of it keep their value.
        impl<N: Number, R: IntoValue<N>> $operator<R> for Value<N> {
            fn $method(&mut self, other: R) {
                let own = self.take_node();
                self.rebind(Node::operation($name, vec![own, operand::<N>(other)]));
            }
        }
    };
}
assignment!(AddAssign add_assign "add");
assignment!(SubAssign sub_assign "subtract");
assignment!(MulAssign mul_assign "multiply");

/// A literal before a value: `2 * &value`.
macro_rules! literal_first {
    ($($number:ty)*) => {
        $(
            literal_first!($number, Add add "add", $number);
            literal_first!($number, Sub sub "subtract", $number);
            literal_first!($number, Mul mul "multiply", $number);
            literal_first!($number, Rem rem "modulo", $number);
            literal_first!($number, Div div "divide", <$number as Number>::Quotient);
        )*
    };
    ($number:ty, $operator:ident $method:ident $name:literal, $result:ty) => {
        impl $operator<Value<$number>> for $number {
            type Output = Value<$result>;

            fn $method(self, other: Value<$number>) -> Value<$result> {
                record($name, vec![Node::literal(&self), other.into_node()])
            }
        }

        impl $operator<&Value<$number>> for $number {
            type Output = Value<$result>;

            fn $method(self, other: &Value<$number>) -> Value<$result> {
                record($name, vec![Node::literal(&self), other.node().clone()])
            }
        }
    };
}
literal_first!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64);

/// `text + &other`. What is added to a text that nobody else holds is joined to it, so that a long chain is one
/// operation.
impl<R: IntoValue<String>> Add<R> for Value<String> {
    type Output = Self;

    fn add(self, other: R) -> Self {
        chain("string.concat", self.into_node(), operand::<String>(other))
    }
}

impl<R: IntoValue<String>> Add<R> for &Value<String> {
    type Output = Value<String>;

    fn add(self, other: R) -> Value<String> {
        record("string.concat", vec![self.node().clone(), operand::<String>(other)])
    }
}

// There is none for a `String` on the left: with a second `Add` for it, `string + &other_string` would no longer
// compile anywhere.
impl Add<Value<String>> for &str {
    type Output = Value<String>;

    fn add(self, other: Value<String>) -> Value<String> {
        record("string.concat", vec![Node::literal(self), other.into_node()])
    }
}

impl Add<&Value<String>> for &str {
    type Output = Value<String>;

    fn add(self, other: &Value<String>) -> Value<String> {
        record("string.concat", vec![Node::literal(self), other.node().clone()])
    }
}

/// Makes the handle stand for the longer text. Clones of it keep their value.
impl<R: IntoValue<String>> AddAssign<R> for Value<String> {
    fn add_assign(&mut self, other: R) {
        let own = self.take_node();
        *self = chain("string.concat", own, operand::<String>(other));
    }
}
