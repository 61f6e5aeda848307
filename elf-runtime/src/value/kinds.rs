//! Kinds of types: what operations ask of the values they work on. Sealed, because their meaning is the broker's.

use crate::output::{Element, NoFields, Output};

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// The types that are numbers: `i8` to `i64`, `u8` to `u64`, `isize`, `usize`, `f32`, `f64`.
///
/// Integers are computed exactly, within −2^63 … 2^64−1, and floats with 64 bits; only where a task takes the result
/// does the type of its parameter decide whether it fits.
#[diagnostic::on_unimplemented(message = "`{Self}` is no number that can be computed with")]
pub trait Number: Output<Fields = NoFields> + Sealed {
    /// What a division gives: `f64` for integers.
    type Quotient: Number;
    /// What rounding gives: the type itself for integers, `i64` for floats.
    type Whole: Number;
}

/// The numbers that may be negative.
#[diagnostic::on_unimplemented(message = "`{Self}` is no number that may be negative")]
pub trait Signed: Number {}

/// The types whose values have an order: numbers, `String`, `char`, lists of those, and `serde_json::Value`, for
/// which null < false < true < numbers < strings < lists < maps.
#[diagnostic::on_unimplemented(message = "values of the type `{Self}` have no order")]
pub trait Ordered: Output<Fields = NoFields> + Sealed {
    /// Whether they are of one kind, so that null, or a value of another kind, is no such value and fails.
    #[doc(hidden)]
    const IS_STRICT: bool = true;
}

/// What elements of a list may be grouped by: strings, integers and booleans.
#[diagnostic::on_unimplemented(
    message = "a list cannot be grouped by `{Self}`",
    note = "it can be by a `String`, an integer or a `bool`"
)]
pub trait GroupKey: Output + Sealed {}

macro_rules! numbers {
    ($($number:ty: $quotient:ty, $whole:ty;)*) => {
        $(impl Sealed for $number {}
        impl Number for $number {
            type Quotient = $quotient;
            type Whole = $whole;
        }
        impl Ordered for $number {})*
    };
}
numbers! {
    i8: f64, i8; i16: f64, i16; i32: f64, i32; i64: f64, i64; isize: f64, isize;
    u8: f64, u8; u16: f64, u16; u32: f64, u32; u64: f64, u64; usize: f64, usize;
    f32: f32, i64; f64: f64, i64;
}

macro_rules! all {
    ($kind:ident: $($of:ty),*) => {
        $(impl $kind for $of {})*
    };
}
all!(Signed: i8, i16, i32, i64, isize, f32, f64);
all!(Sealed: bool, char, String, serde_json::Value);
all!(Ordered: char, String);
all!(GroupKey: bool, char, String, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl Ordered for serde_json::Value {
    const IS_STRICT: bool = false;
}

impl<T: Element> Sealed for Vec<T> {}
impl<T: Ordered> Ordered for Vec<T> {
    const IS_STRICT: bool = T::IS_STRICT;
}
