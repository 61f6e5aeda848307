//! No value that a Rust task returns is refused by the schema that its type declares.

use std::collections::{BTreeMap, BTreeSet};

use elf_runtime::Output;
use mycelium_values::schema::Schema;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Holds each output of a value against its declared schema, as the broker does.
fn honest<T: Output>(value: T) -> Result<(), TestCaseError> {
    let declared = T::declarations();
    let outputs = value.into_outputs().map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(outputs.len(), declared.len());
    for declared in declared {
        let schema = Schema::compile(&declared.schema)
            .map_err(|error| TestCaseError::fail(format!("{}: {error}", declared.schema)))?;
        let payload = outputs.get(&declared.name).expect("each that is declared is there");
        schema.judge(payload.bytes()).map_err(|misfit| {
            TestCaseError::fail(format!("{misfit}: {:?} against {}", payload.bytes(), declared.schema))
        })?;
    }
    Ok(())
}

/// What is wrong with the output `value` if it is this text.
fn misfit<T: Output>(json: &str) -> Option<String> {
    let declared = T::declarations();
    let schema = Schema::compile(&declared[0].schema).expect("it is a schema");
    schema.judge(json.as_bytes()).err().map(|misfit| misfit.to_string())
}

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
struct Animal {
    name: String,
    legs: u8,
    weight: Option<f64>,
    nicknames: Vec<String>,
    mood: Mood,
    chip: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
#[output(value)]
enum Mood {
    Calm,
    Angry { level: i32 },
    Hungry(u16, f32),
    Nested(Box<Tree>),
}

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
#[output(value)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Tagged {
    Nothing,
    Some { value: i64 },
}

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
#[output(value)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
    Both { number: i8, text: String },
}

/// A type that holds itself.
#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
#[output(value)]
struct Tree {
    label: char,
    children: Vec<Tree>,
}

/// Written under other names, and less than is read.
#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
#[output(value)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Renamed {
    first_name: String,
    #[serde(rename(serialize = "written", deserialize = "read"))]
    two_ways: u32,
    #[serde(skip_serializing, default)]
    never_written: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    seldom_written: Vec<i16>,
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = any::<char>().prop_map(|label| Tree { label, children: Vec::new() });
    leaf.prop_recursive(5, 30, 4, |inner| {
        (any::<char>(), prop::collection::vec(inner, 0..4))
            .prop_map(|(label, children)| Tree { label, children })
    })
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        Just(Mood::Calm),
        any::<i32>().prop_map(|level| Mood::Angry { level }),
        (any::<u16>(), -1e30f32..1e30).prop_map(|(n, x)| Mood::Hungry(n, x)),
        tree().prop_map(|tree| Mood::Nested(Box::new(tree))),
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("has a JSON form", |float| float.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn numbers(
        a in any::<(i8, i16, i32, i64)>(),
        b in any::<(u8, u16, u32, u64)>(),
        c in any::<i128>(),
        d in any::<u128>(),
        e in any::<(isize, usize)>(),
        f in finite(),
    ) {
        honest(a)?;
        honest(b)?;
        honest(a.3)?;
        honest(b.3)?;
        honest(c)?;
        honest(d)?;
        honest(e)?;
        honest(f)?;
        honest(Some(b.3))?;
        honest(None::<i64>)?;
        honest(vec![Some(f), None])?;
    }

    #[test]
    fn texts_and_collections(
        character in any::<char>(),
        text in ".*",
        list in prop::collection::vec(any::<i64>(), 0..5),
        set in prop::collection::btree_set(".*", 0..5),
        by_text in prop::collection::btree_map(".*", any::<u64>(), 0..5),
        by_number in prop::collection::btree_map(any::<i32>(), any::<bool>(), 0..5),
    ) {
        honest(character)?;
        honest(text.clone())?;
        honest((character, text, true))?;
        honest([list.len(); 3])?;
        honest(list)?;
        honest::<BTreeSet<String>>(set)?;
        honest::<BTreeMap<String, u64>>(by_text)?;
        honest::<BTreeMap<i32, bool>>(by_number)?;
        honest(())?;
    }

    #[test]
    fn types_of_ones_own(
        name in ".*",
        legs in any::<u8>(),
        weight in prop::option::of(finite()),
        nicknames in prop::collection::vec(".*", 0..3),
        mood in mood(),
        chip in any::<Option<u64>>(),
        tree in tree(),
    ) {
        honest(mood.clone())?;
        honest(vec![Some(mood.clone())])?;
        honest(tree)?;
        honest(Tagged::Nothing)?;
        honest(Tagged::Some { value: i64::from(legs) })?;
        honest(Untagged::Number(u64::MAX))?;
        honest(Untagged::Text(name.clone()))?;
        honest(Untagged::Both { number: -1, text: name.clone() })?;
        honest(Renamed {
            first_name: name.clone(),
            two_ways: 1,
            never_written: name.clone(),
            seldom_written: vec![1; nicknames.len()],
        })?;
        honest(Animal { name, legs, weight, nicknames, mood, chip })?;
    }
}

#[test]
fn what_no_rust_value_of_the_type_looks_like_is_refused() {
    let expected = |expected: &str| Some(expected.to_owned());
    assert_eq!(misfit::<u64>("18446744073709551615"), None);
    assert_eq!(misfit::<u64>("-1"), expected("expected a number of at least 0, found a lesser one"));
    assert_eq!(misfit::<i64>("\"1\""), expected("expected integer, found string"));
    assert_eq!(misfit::<f64>("null"), expected("expected number, found null"));
    assert_eq!(misfit::<u8>("256"), expected("expected a number of at most 255, found a greater one"));
    assert_eq!(
        misfit::<char>("\"ab\""),
        expected("expected string of 1 characters, found another number of characters")
    );
    assert_eq!(
        misfit::<Tree>(r#"{"label":"a","children":[{"label":"b","children":[{"label":1,"children":[]}]}]}"#),
        expected("at `/children/0/children/0/label`: expected string, found integer")
    );
    assert_eq!(
        misfit::<Mood>(r#"{"Angry":{"level":"high"}}"#),
        expected("at `/Angry/level`: expected integer, found string")
    );
}
