//! Operations on maps. Those that change a map are in `edit`.

use std::collections::{BTreeMap, HashMap};

use super::handle::Value;
use super::into::IntoValue;
use super::operation::{operand, operations, record};
use crate::output::Output;

macro_rules! maps {
    ($($map:ident),*) => {
        $(operations! {
            /// Operations on maps. Their entries have an order: that in which they were put there.
            [T: Output] Value<$map<String, T>>:

            /// How many entries it has.
            length() -> Value<i64> = "length";

            /// The value of a key. The job that takes it fails with `missing_key` if it is not there.
            get(key: String) -> Value<T> = "get";

            /// The value of a key, or another value if the key is not there. The other value is computed only then.
            get_or(key: String, otherwise: T) -> Value<T> = "get_or";

            /// Whether the key is there.
            contains_key(key: String) -> Value<bool> = "contains";

            /// Its keys.
            keys() -> Value<Vec<String>> = "map.keys";

            /// Its values.
            values() -> Value<Vec<T>> = "map.values";

            /// Its entries, as pairs.
            items() -> Value<Vec<(String, T)>> = "map.items";

            /// The entries of these keys, as far as they are there.
            pick(keys: Vec<String>) -> Self = "map.pick";

            /// The entries of all other keys.
            omit(keys: Vec<String>) -> Self = "map.omit";
        }

        impl<T: Output> Value<$map<String, T>> {
            /// A map of entries; of those with the same key the last one.
            #[must_use]
            pub fn from_items(items: impl IntoValue<Vec<(String, T)>>) -> Self {
                record("map.from_items", vec![operand::<Vec<(String, T)>>(items)])
            }
        })*
    };
}
maps!(BTreeMap, HashMap);
