//! Writes values, and refuses those that would be read back as something else.

use std::cell::RefCell;
use std::fmt;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::place::{Step, place};

/// Why a value has no JSON form: what is wrong, and where in the value. Tells nothing of its content, but for a number
/// that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritable {
    place: String,
    problem: String,
}

impl Unwritable {
    pub(crate) fn new(problem: &str) -> Self {
        Self { place: String::new(), problem: problem.to_owned() }
    }

    /// Where: `animals[2].weight`; empty for the value itself.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The same, of a value that is itself the part of another one that has this name.
    pub(crate) fn within(mut self, name: &str) -> Self {
        let joint = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        self.place = format!("{name}{joint}{}", self.place);
        self
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "at `{}`: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Unwritable {}

/// Writes a value.
///
/// # Errors
/// The value has no JSON form, or one that is read back as something else: NaN and infinities, which would be null, and
/// `Some` of what is null, which would be `None`.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Unwritable> {
    written(value, Unwatched).map_err(|_| diagnosed(value))
}

fn written<T: Serialize + ?Sized, W: Watch>(value: &T, watch: W) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(128);
    let inner = &mut serde_json::Serializer::new(&mut bytes);
    value.serialize(Checked { inner, watch, around: Around::Nothing })?;
    Ok(bytes)
}

/// What is wrong with a value that could not be written: it is written once more, watched.
#[cold]
fn diagnosed<T: Serialize + ?Sized>(value: &T) -> Unwritable {
    let trouble = RefCell::default();
    match written(value, &trouble) {
        Err(error) => trouble.into_inner().told(&error),
        Ok(_) => Unwritable::new("it was written the second time only"),
    }
}

/// Records a mistake, and the way to it.
trait Watch: Copy {
    fn refuse(self, problem: &'static str);
    fn step(self, step: impl FnOnce() -> Step);
}

/// Records nothing: how a value is written first, so that one without a mistake costs nothing.
#[derive(Clone, Copy)]
struct Unwatched;

impl Watch for Unwatched {
    #[inline]
    fn refuse(self, _problem: &'static str) {}

    #[inline]
    fn step(self, _step: impl FnOnce() -> Step) {}
}

impl Watch for &RefCell<Trouble> {
    fn refuse(self, problem: &'static str) {
        self.borrow_mut().problem = Some(problem);
    }

    fn step(self, step: impl FnOnce() -> Step) {
        self.borrow_mut().steps.push(step());
    }
}

/// What is known of a mistake. It is found in the depth of a value, and learns its place on the way out.
#[derive(Default)]
struct Trouble {
    problem: Option<&'static str>,
    /// Innermost first.
    steps: Vec<Step>,
}

impl Trouble {
    fn told(mut self, error: &serde_json::Error) -> Unwritable {
        self.steps.retain(|step| *step != Step::Key(JSON_TEXT.to_owned()));
        self.steps.reverse();
        let problem = match self.problem {
            Some(problem) => problem.to_owned(),
            // What a type says itself may quote the value; what serde_json says of keys does not.
            None if error.is_data() => "its type refuses to be written".to_owned(),
            None => error.to_string(),
        };
        Unwritable { place: place(self.steps.iter()), problem }
    }
}

const LEVEL_LOST: &str = "`Some` of a value that is written as null would be read back as `None`";

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN is no number that JSON has"
    } else if value > 0.0 {
        "inf is no number that JSON has"
    } else {
        "-inf is no number that JSON has"
    }
}

/// What stands around a value, if it is written as nothing of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    /// A `Some`.
    Some,
    /// A `Some` of JSON text, which is this value.
    SomeText,
}

/// What serde_json calls the struct in which it hands on a text that is JSON already.
const JSON_TEXT: &str = "$serde_json::private::RawValue";

/// A serializer that refuses what would be changed.
struct Checked<W, S> {
    inner: S,
    watch: W,
    around: Around,
}

/// A value whose parts are checked as well.
struct Inside<'a, W, T: ?Sized> {
    value: &'a T,
    watch: W,
    around: Around,
}

impl<W: Watch, T: Serialize + ?Sized> Serialize for Inside<'_, W, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checked { inner, watch: self.watch, around: self.around })
    }
}

impl<W: Watch, S: Serializer> Checked<W, S> {
    #[cold]
    fn refuse<R>(&self, problem: &'static str) -> Result<R, S::Error> {
        self.watch.refuse(problem);
        Err(S::Error::custom(problem))
    }

    #[inline]
    fn compound<C>(
        self,
        variant: Option<&'static str>,
        begin: impl FnOnce(S) -> Result<C, S::Error>,
    ) -> Result<Parts<W, C>, S::Error> {
        let Self { inner, watch, .. } = self;
        Ok(Parts { inner: begin(inner)?, watch, index: 0, variant, text: Around::Nothing })
    }
}

macro_rules! as_they_are {
    ($($method:ident($type:ty);)*) => {
        $(#[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<W: Watch, S: Serializer> Serializer for Checked<W, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<W, S::SerializeSeq>;
    type SerializeTuple = Parts<W, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<W, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<W, S::SerializeTupleVariant>;
    type SerializeMap = Parts<W, S::SerializeMap>;
    type SerializeStruct = Parts<W, S::SerializeStruct>;
    type SerializeStructVariant = Parts<W, S::SerializeStructVariant>;

    as_they_are! {
        serialize_bool(bool);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_i128(i128);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_u128(u128);
        serialize_char(char);
        serialize_bytes(&[u8]);
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            self.inner.serialize_f32(value)
        } else {
            self.refuse(not_finite(value.into()))
        }
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { self.refuse(not_finite(value)) }
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if self.around == Around::SomeText && value.trim_ascii() == "null" {
            return self.refuse(LEVEL_LOST);
        }
        self.inner.serialize_str(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        if self.around == Around::Nothing { self.inner.serialize_none() } else { self.refuse(LEVEL_LOST) }
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, watch, .. } = self;
        inner.serialize_some(&Inside { value, watch, around: Around::Some })
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        if self.around == Around::Nothing { self.inner.serialize_unit() } else { self.refuse(LEVEL_LOST) }
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        if self.around == Around::Nothing {
            self.inner.serialize_unit_struct(name)
        } else {
            self.refuse(LEVEL_LOST)
        }
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Self { inner, watch, around } = self;
        inner.serialize_newtype_struct(name, &Inside { value, watch, around })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Self { inner, watch, .. } = self;
        let value = Inside { value, watch, around: Around::Nothing };
        let written = inner.serialize_newtype_variant(name, index, variant, &value);
        written.inspect_err(|_| watch.step(|| Step::Key(variant.to_owned())))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.compound(None, |inner| inner.serialize_seq(len))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.compound(None, |inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.compound(None, |inner| inner.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.compound(Some(variant), |inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.compound(None, |inner| inner.serialize_map(len))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let is_text = self.around == Around::Some && name == JSON_TEXT;
        let mut parts = self.compound(None, |inner| inner.serialize_struct(name, len))?;
        if is_text {
            parts.text = Around::SomeText;
        }
        Ok(parts)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.compound(Some(variant), |inner| inner.serialize_struct_variant(name, index, variant, len))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// What a list, a map, a struct or a variant is written to, part by part.
struct Parts<W, C> {
    inner: C,
    watch: W,
    /// The part that comes next.
    index: usize,
    /// The variant whose parts these are.
    variant: Option<&'static str>,
    text: Around,
}

impl<W: Watch, C> Parts<W, C> {
    #[inline]
    fn part<T: Serialize + ?Sized, E>(
        &mut self,
        value: &T,
        step: impl FnOnce(usize) -> Step,
        write: impl FnOnce(&mut C, &Inside<'_, W, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let value = Inside { value, watch: self.watch, around: self.text };
        let written = write(&mut self.inner, &value);
        match written {
            Ok(()) => self.index += 1,
            Err(_) => {
                self.watch.step(|| step(self.index));
                if let Some(variant) = self.variant {
                    self.watch.step(|| Step::Key(variant.to_owned()));
                }
            }
        }
        written
    }
}

macro_rules! parts_in_order {
    ($($trait:ident $method:ident)*) => {
        $(impl<W: Watch, C: $trait> $trait for Parts<W, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.part(value, Step::Index, |inner, value| inner.$method(value))
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}
parts_in_order! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

macro_rules! named_parts {
    ($($trait:ident)*) => {
        $(impl<W: Watch, C: $trait> $trait for Parts<W, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.part(value, |_| Step::Key(key.to_owned()), |inner, value| inner.serialize_field(key, value))
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}
named_parts!(SerializeStruct SerializeStructVariant);

impl<W: Watch, C: SerializeMap> SerializeMap for Parts<W, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key)
    }

    /// The key is not known here, so the place is the number of the entry.
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.part(value, Step::Index, |inner, value| inner.serialize_value(value))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, T: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &T,
    ) -> Result<(), C::Error> {
        let step = |index| key_text(key).map_or(Step::Index(index), Step::Key);
        self.part(value, step, |inner, value| inner.serialize_entry(key, value))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// A key as text, if it can be a key.
fn key_text<K: Serialize + ?Sized>(key: &K) -> Option<String> {
    match serde_json::to_value(key).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(truth) => Some(truth.to_string()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    }
}
