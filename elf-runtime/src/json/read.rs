//! Reads values, and says what does not fit by its place and its type alone.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use mycelium_proto::limits;

use super::found::{depth, is_integer, kind, lossy_integers, may_have_wide_integer, part};
use super::mismatch::{Mismatch, Mistake};
use super::place::{Step, place};

/// Reads a value.
///
/// # Errors
/// It is no JSON, nests deeper than the broker takes, is not that of a `T`, or has an integer whose digits a `T` would
/// lose.
pub(crate) fn from_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, Mismatch> {
    from_slice_within(json, limits::VALUE_DEPTH_MAX)
}

/// As [`from_slice`], of something that may nest so deep.
pub(crate) fn from_slice_within<T: DeserializeOwned>(json: &[u8], depth_max: usize) -> Result<T, Mismatch> {
    // Nearly every value is read here, by serde_json alone. Only what cannot be read, or has an integer of which a float
    // loses digits, is read by one who watches what happens where.
    let may_be_lossy = !reads_exactly(type_name::<T>(), json) && may_have_wide_integer(json);
    let lossy = if may_be_lossy { lossy_integers(json) } else { HashSet::new() };
    if lossy.is_empty()
        && let Ok(value) = serde_json::from_slice(json)
    {
        return Ok(value);
    }
    let watch = Watch { json, lossy, ..Watch::default() };
    let mut reader = serde_json::Deserializer::from_slice(json);
    // By itself serde_json takes one level less than the broker.
    if depth(json) <= depth_max {
        reader.disable_recursion_limit();
    }
    let read = T::deserialize(Watched { inner: &mut reader, watch: &watch, is_name: false });
    let read = read.inspect_err(|_| watch.blame(type_name::<T>(), false));
    match read.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => Err(watch.told(&error)),
    }
}

/// Whether a type is known to take nothing but what it asks for, so that a long text of numbers, say, need not be looked
/// through before. It is if it is made of the standard library's types alone.
fn reads_exactly(name: &str, json: &[u8]) -> bool {
    /// Below, looking through it is faster than looking at the name.
    const LONG: usize = 4 * 1024;
    const KNOWN: [&str; 31] = [
        "",
        "alloc",
        "core",
        "std",
        "vec",
        "Vec",
        "string",
        "String",
        "option",
        "Option",
        "boxed",
        "Box",
        "collections",
        "btree",
        "map",
        "BTreeMap",
        "bool",
        "char",
        "i8",
        "i16",
        "i32",
        "i64",
        "isize",
        "u8",
        "u16",
        "u32",
        "u64",
        "usize",
        "f32",
        "f64",
        "Global",
    ];
    let is_part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    json.len() > LONG && name.split(|c: char| !is_part_of_name(c)).all(|part| KNOWN.contains(&part))
}

/// What is known while a value is read.
#[derive(Default)]
struct Watch<'a> {
    json: &'a [u8],
    /// The floats that serde_json makes of integers whose digits they lose.
    lossy: HashSet<u64>,
    /// How often it was looked up how such a float is written.
    looked_up: Cell<u32>,
    /// The way to what is being read.
    steps: RefCell<Vec<Step>>,
    /// The names of the fields of the struct, or of the variants of the enum, that is being read.
    names: Cell<&'static [&'static str]>,
    /// The key of a map, or the name of a variant, that was read last.
    name: RefCell<Option<String>>,
    /// The first mistake, which is the innermost.
    mistake: RefCell<Option<Mistake>>,
}

impl Watch<'_> {
    /// Reads a part one step further in, or a name without a step.
    fn within<R, E>(&self, step: Option<Step>, read: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        let is_name = step.is_none();
        let depth = self.steps.borrow().len();
        self.steps.borrow_mut().extend(step);
        let read = read().inspect_err(|_| self.blame(type_name::<R>(), is_name));
        self.steps.borrow_mut().truncate(depth);
        read
    }

    fn blame(&self, expected: &'static str, is_name: bool) {
        let mut mistake = self.mistake.borrow_mut();
        match &mut *mistake {
            None => {
                let (steps, names) = (self.steps.borrow().clone(), self.names.get());
                *mistake = Some(Mistake { steps, names, expected, is_name, is_wide: false });
            }
            // The type of a number is known only to those around it.
            Some(mistake) if mistake.expected.is_empty() => mistake.expected = expected,
            Some(_) => {}
        }
    }

    /// Whether what is read at this place is an integer whose digits this float loses.
    fn loses_digits(&self, read: f64) -> bool {
        /// A look-up reads the text from its beginning, so a text full of floats that only look like one of the lossy
        /// integers in it is refused.
        const LOOKED_UP_MAX: u32 = 16;
        if !self.lossy.contains(&read.to_bits()) {
            return false;
        }
        self.looked_up.set(self.looked_up.get() + 1);
        self.looked_up.get() > LOOKED_UP_MAX || part(self.json, &self.steps.borrow()).is_none_or(is_integer)
    }

    fn blame_wide(&self) {
        let (steps, names) = (self.steps.borrow().clone(), self.names.get());
        let mistake = Mistake { steps, names, expected: "", is_name: false, is_wide: true };
        self.mistake.borrow_mut().get_or_insert(mistake);
    }

    fn told(self, error: &serde_json::Error) -> Mismatch {
        let mistake = match self.mistake.into_inner() {
            Some(mistake) if error.is_data() || mistake.is_name => mistake,
            Some(mistake) if error.to_string().starts_with("recursion limit exceeded") => {
                let problem = format!(
                    "it nests {} lists and maps in each other, and {} can be read",
                    depth(self.json),
                    limits::VALUE_DEPTH_MAX
                );
                return Mismatch { place: place(mistake.steps.iter()), problem };
            }
            // What is wrong with the text, and where in it, is said without its content.
            Some(_) | None => return Mismatch::new(format!("it is not valid JSON: {error}")),
        };
        let found = part(self.json, &mistake.steps).map_or("something else", kind);
        Mismatch { place: place(mistake.steps.iter()), problem: mistake.told(found, &error.to_string()) }
    }
}

/// A deserializer that is watched.
struct Watched<'w, 'j, D> {
    inner: D,
    watch: &'w Watch<'j>,
    /// Whether it gives a key of a map, or the name of a variant.
    is_name: bool,
}

/// A visitor that is watched: its parts are, too.
struct Visited<'w, 'j, V> {
    inner: V,
    watch: &'w Watch<'j>,
    is_name: bool,
    /// Whether it takes whatever there is.
    takes_any: bool,
}

impl<'w, 'j, D> Watched<'w, 'j, D> {
    /// The deserializer, and a visitor that is watched.
    fn with<V>(self, visitor: V) -> (D, Visited<'w, 'j, V>) {
        let Self { inner, watch, is_name } = self;
        (inner, Visited { inner: visitor, watch, is_name, takes_any: false })
    }
}

macro_rules! watched {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let (inner, visitor) = self.with(visitor);
            inner.$method($($argument,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Watched<'_, '_, D> {
    type Error = D::Error;

    watched! {
        deserialize_bool();
        deserialize_i8(); deserialize_i16(); deserialize_i32(); deserialize_i64(); deserialize_i128();
        deserialize_u8(); deserialize_u16(); deserialize_u32(); deserialize_u64(); deserialize_u128();
        deserialize_f32(); deserialize_f64();
        deserialize_char(); deserialize_str(); deserialize_string();
        deserialize_bytes(); deserialize_byte_buf();
        deserialize_option();
        deserialize_unit(); deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq(); deserialize_tuple(len: usize); deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        // Which names are known here is known to the type alone.
        let around = self.watch.names.replace(&[]);
        let names = &self.watch.names;
        let (inner, visitor) = self.with(visitor);
        inner.deserialize_any(Visited { takes_any: true, ..visitor }).inspect(|_| names.set(around))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let around = self.watch.names.replace(&[]);
        let names = &self.watch.names;
        let (inner, visitor) = self.with(visitor);
        inner.deserialize_map(visitor).inspect(|_| names.set(around))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let around = self.watch.names.replace(fields);
        let names = &self.watch.names;
        let (inner, visitor) = self.with(visitor);
        inner.deserialize_struct(name, fields, visitor).inspect(|_| names.set(around))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let around = self.watch.names.replace(variants);
        let names = &self.watch.names;
        let (inner, visitor) = self.with(visitor);
        inner.deserialize_enum(name, variants, visitor).inspect(|_| names.set(around))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<V> Visited<'_, '_, V> {
    fn note(&self, name: &impl ToString) {
        if self.is_name {
            *self.watch.name.borrow_mut() = Some(name.to_string());
        }
    }
}

macro_rules! visited {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.note(&value);
            self.inner.$method(value)
        })*
    };
}

macro_rules! visited_bytes {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visited<'_, '_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visited! {
        visit_bool(bool);
        visit_i8(i8); visit_i16(i16); visit_i32(i32); visit_i64(i64); visit_i128(i128);
        visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64); visit_u128(u128);
        visit_f32(f32);
        visit_char(char); visit_str(&str); visit_borrowed_str(&'de str); visit_string(String);
    }

    visited_bytes! {
        visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]); visit_byte_buf(Vec<u8>);
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<V::Value, E> {
        if self.takes_any && self.watch.loses_digits(value) {
            self.watch.blame_wide();
            return Err(E::custom("digits would be lost"));
        }
        self.note(&value);
        self.inner.visit_f64(value)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Watched { inner, watch: self.watch, is_name: self.is_name })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Watched { inner, watch: self.watch, is_name: self.is_name })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Access { inner, watch: self.watch, index: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Access { inner, watch: self.watch, index: 0 })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Access { inner, watch: self.watch, index: 0 })
    }
}

/// The parts of a list, of a map or of an enum, each of which is watched.
struct Access<'w, 'j, A> {
    inner: A,
    watch: &'w Watch<'j>,
    /// The element that comes next.
    index: usize,
}

impl<'w, 'j, A> Access<'w, 'j, A> {
    fn name<S>(&self, inner: S) -> Seed<'w, 'j, S> {
        Seed { inner, watch: self.watch, step: None }
    }

    /// What belongs to the name that was read last.
    fn named<S>(&self, inner: S) -> Seed<'w, 'j, S> {
        Seed { inner, watch: self.watch, step: Some(Step::Key(self.watch.name.take().unwrap_or_default())) }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Access<'_, '_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        let step = Some(Step::Index(self.index));
        self.index += 1;
        self.inner.next_element_seed(Seed { inner, watch: self.watch, step })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Access<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.name(seed);
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.named(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'w, 'j, A: EnumAccess<'de>> EnumAccess<'de> for Access<'w, 'j, A> {
    type Error = A::Error;
    type Variant = Access<'w, 'j, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let seed = self.name(seed);
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Access { inner, watch: self.watch, index: 0 }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Access<'_, '_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.named(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let Seed { inner, watch, step } = self.named(visitor);
        watch.within(step, || {
            self.inner.tuple_variant(len, Visited { inner, watch, is_name: false, takes_any: false })
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Seed { inner, watch, step } = self.named(visitor);
        let around = watch.names.replace(fields);
        let read = watch.within(step, || {
            self.inner.struct_variant(fields, Visited { inner, watch, is_name: false, takes_any: false })
        });
        read.inspect(|_| watch.names.set(around))
    }
}

/// Reads a part: one step further in, or a name if there is no step.
struct Seed<'w, 'j, S> {
    inner: S,
    watch: &'w Watch<'j>,
    step: Option<Step>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, '_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self { inner: seed, watch, step } = self;
        let is_name = step.is_none();
        watch.within(step, || seed.deserialize(Watched { inner, watch, is_name }))
    }
}
