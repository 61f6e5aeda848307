//! The operators: `+`, `-`, `*`, `/`, `%`, `!` and those that assign, for values, references to values, and literals
//! before values.

use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Not, Rem, Sub, SubAssign};

use super::any::IntoAnyValue as _;
use super::handle::Value;
use super::into::IntoValue;
use super::kinds::{Number, Signed};
use super::node::Node;
use super::operation::{chain, operand, record};

/// What stands on the left, what on the right and as a value of which type, and each operator with what it gives.
macro_rules! operators {
    (@ [$($generics:tt)*] $left:ty, $right:ty as $type:ty, $operator:ident $method:ident $name:literal -> $result:ty) => {
        impl<$($generics)*> $operator<$right> for $left {
            type Output = Value<$result>;

            fn $method(self, other: $right) -> Value<$result> {
                record($name, vec![self.into_any_node(), operand::<$type>(other)])
            }
        }
    };
    ($($generics:tt $left:ty, $right:ty as $type:ty:
        $($operator:ident $method:ident $name:literal -> $result:ty),+;)+) => {
        $($(operators!(@ $generics $left, $right as $type, $operator $method $name -> $result);)+)+
    };
}

operators! {
    [N: Number, R: IntoValue<N>] Value<N>, R as N:
        Add add "add" -> N, Sub sub "subtract" -> N, Mul mul "multiply" -> N, Rem rem "modulo" -> N,
        Div div "divide" -> N::Quotient;
    [N: Number, R: IntoValue<N>] &Value<N>, R as N:
        Add add "add" -> N, Sub sub "subtract" -> N, Mul mul "multiply" -> N, Rem rem "modulo" -> N,
        Div div "divide" -> N::Quotient;
    [R: IntoValue<String>] &Value<String>, R as String: Add add "string.concat" -> String;
    // There is none for a `String` on the left: with a second `Add` for it, `string + &other_string` would no longer
    // compile anywhere.
    [] &str, Value<String> as String: Add add "string.concat" -> String;
    [] &str, &Value<String> as String: Add add "string.concat" -> String;
}

/// A literal before a value: `2 * &value`.
macro_rules! literal_first {
    ($($number:ty)*) => {
        $(operators! {
            [] $number, Value<$number> as $number:
                Add add "add" -> $number, Sub sub "subtract" -> $number, Mul mul "multiply" -> $number,
                Rem rem "modulo" -> $number, Div div "divide" -> <$number as Number>::Quotient;
            [] $number, &Value<$number> as $number:
                Add add "add" -> $number, Sub sub "subtract" -> $number, Mul mul "multiply" -> $number,
                Rem rem "modulo" -> $number, Div div "divide" -> <$number as Number>::Quotient;
        })*
    };
}
literal_first!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64);

/// Operators before their one operand.
macro_rules! prefix {
    ($([$($generics:tt)*] $value:ty: $operator:ident $method:ident $name:literal -> $result:ty;)*) => {
        $(impl<$($generics)*> $operator for $value {
            type Output = $result;

            fn $method(self) -> $result {
                record($name, vec![self.into_any_node()])
            }
        })*
    };
}
prefix! {
    [N: Signed] Value<N>: Neg neg "negate" -> Self;
    [N: Signed] &Value<N>: Neg neg "negate" -> Value<N>;
    [] Value<bool>: Not not "not" -> Self;
    [] &Value<bool>: Not not "not" -> Value<bool>;
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

/// `text + &other`. What is added to a text that nobody else holds is joined to it, so that a long chain is one
/// operation.
impl<R: IntoValue<String>> Add<R> for Value<String> {
    type Output = Self;

    fn add(self, other: R) -> Self {
        chain("string.concat", self.into_node(), operand::<String>(other))
    }
}

/// Makes the handle stand for the longer text. Clones of it keep their value.
impl<R: IntoValue<String>> AddAssign<R> for Value<String> {
    fn add_assign(&mut self, other: R) {
        let own = self.take_node();
        *self = chain("string.concat", own, operand::<String>(other));
    }
}
