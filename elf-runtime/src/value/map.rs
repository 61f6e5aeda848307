//! Operations on maps. Those that change a map are in `edit`.

use std::collections::{BTreeMap, HashMap};

use super::handle::Value;
use super::into::IntoValue;
use super::operation::{operand, record};
use crate::output::Output;

macro_rules! maps {
    ($($map:ident),*) => {
        $(/// Operations on maps. Their entries have an order: that in which they were put there.
        impl<T: Output> Value<$map<String, T>> {
            /// How many entries it has.
            #[must_use]
            pub fn length(&self) -> Value<i64> {
                record("length", vec![self.node().clone()])
            }

            /// The value of a key. The job that takes it fails with `missing_key` if it is not there.
            #[must_use]
            pub fn get(&self, key: impl IntoValue<String>) -> Value<T> {
                record("get", vec![self.node().clone(), operand(key)])
            }

            /// The value of a key, or another value if the key is not there. The other value is computed only then.
            #[must_use]
            pub fn get_or(&self, key: impl IntoValue<String>, otherwise: impl IntoValue<T>) -> Value<T> {
                record("get_or", vec![self.node().clone(), operand(key), operand::<T>(otherwise)])
            }

            /// Whether the key is there.
            #[must_use]
            pub fn contains_key(&self, key: impl IntoValue<String>) -> Value<bool> {
                record("contains", vec![self.node().clone(), operand(key)])
            }

            /// Its keys.
            #[must_use]
            pub fn keys(&self) -> Value<Vec<String>> {
                record("map.keys", vec![self.node().clone()])
            }

            /// Its values.
            #[must_use]
            pub fn values(&self) -> Value<Vec<T>> {
                record("map.values", vec![self.node().clone()])
            }

            /// Its entries, as pairs.
            #[must_use]
            pub fn items(&self) -> Value<Vec<(String, T)>> {
                record("map.items", vec![self.node().clone()])
            }

            /// A map of entries; of those with the same key the last one.
            #[must_use]
            pub fn from_items(items: impl IntoValue<Vec<(String, T)>>) -> Self {
                record("map.from_items", vec![operand::<Vec<(String, T)>>(items)])
            }

            /// The entries of these keys, as far as they are there.
            #[must_use]
            pub fn pick(&self, keys: impl IntoValue<Vec<String>>) -> Self {
                record("map.pick", vec![self.node().clone(), operand(keys)])
            }

            /// The entries of all other keys.
            #[must_use]
            pub fn omit(&self, keys: impl IntoValue<Vec<String>>) -> Self {
                record("map.omit", vec![self.node().clone(), operand(keys)])
            }
        })*
    };
}
maps!(BTreeMap, HashMap);
