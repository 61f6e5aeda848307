use proptest::prelude::*;

use super::super::{Json, check};
use super::*;

fn refused(json: impl AsRef<[u8]>) -> String {
    let json = json.as_ref();
    let error = check(json).expect_err("is refused");
    assert_eq!(Json::parse(json).expect_err("is refused"), error, "whoever reads it");
    error.to_string()
}

#[test]
fn what_is_json_is_taken_with_its_depth() {
    let deep = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
    let digits = "9".repeat(308);
    for (json, depth) in [
        ("1", 0),
        (" -0 ", 0),
        ("-1.5e3", 0),
        ("1e308", 0),
        ("1e-400", 0),
        ("0e99999", 0),
        (digits.as_str(), 0),
        ("340282366920938463463374607431768211455", 0),
        ("\"ä\\u00e4\\/\"", 0),
        ("\"\\ud83d\\udC1d\"", 0),
        ("[]", 1),
        ("[1,{\"a\":null, \"b\" : [true,false]}]\n", 3),
        ("{\"\":{\"\":1},\"a\":{\"\":1}}", 2),
        (deep.as_str(), DEPTH_MAX),
    ] {
        assert_eq!(check(json.as_bytes()), Ok(depth), "{json}");
    }
}

#[test]
fn what_is_refused_is_told_with_its_byte_and_not_with_what_stands_there() {
    let invalid = |byte: usize| format!("byte {byte}: is not valid JSON");
    for (json, byte) in [
        ("", 0),
        ("  ", 2),
        ("nul", 0),
        ("nullx", 4),
        ("1 2", 2),
        ("[1,", 3),
        ("[1,]", 3),
        ("[,1]", 1),
        ("[1}", 2),
        ("{\"a\":1,}", 7),
        ("{\"a\"}", 4),
        ("{\"a\":}", 5),
        ("{1:2}", 1),
        ("{\"a\":1]", 6),
        ("[1]]", 3),
        ("01", 1),
        ("1.", 2),
        (".5", 0),
        ("-", 1),
        ("+1", 0),
        ("1e", 2),
        ("-NaN", 1),
        ("nan", 0),
        ("\"abc", 4),
        ("\"\u{1}\"", 1),
        ("\"eight ok\u{1f}\"", 9),
        ("\"\\x41\"", 2),
        ("\"\\u12g4\"", 5),
        ("'a'", 0),
    ] {
        assert_eq!(refused(json), invalid(byte), "{json}");
    }
    assert_eq!(refused("{\"some_loss\": NaN}"), "byte 14: NaN is not JSON");
    assert_eq!(refused("[Infinity]"), "byte 1: Infinity is not JSON");
    assert_eq!(refused("[1,-Infinity]"), "byte 3: -Infinity is not JSON");
    assert_eq!(refused(b"\"\xff\""), "byte 1: is not UTF-8");
    assert_eq!(refused(b"\"\xed\xa0\x80\""), "byte 1: is not UTF-8", "half of a surrogate pair in UTF-8");
    let beyond = |byte: usize| format!("byte {byte}: a number beyond what a double holds");
    assert_eq!(refused("1e400"), beyond(0));
    assert_eq!(refused("[0, -1.8e308]"), beyond(4));
    assert_eq!(refused("9".repeat(309)), beyond(0));
    assert_eq!(refused("1e99999999999999999999999"), beyond(0));
    let lone = |byte: usize| format!("byte {byte}: half of a surrogate pair");
    assert_eq!(refused("\"\\ud83d\""), lone(1));
    assert_eq!(refused("\"a\\udc1d\""), lone(2));
    assert_eq!(refused("\"\\ud83d\\ud83d\""), lone(1));
    assert_eq!(refused("\"\\ud83dx\""), lone(1));
    assert_eq!(refused("{\"\\udc00\":1}"), lone(2));
    let deep = |byte: usize| format!("byte {byte}: nests more than 128 deep");
    assert_eq!(refused("[".repeat(129)), deep(128));
    assert_eq!(refused("{\"a\":".repeat(1_000_000)), deep(128 * 5));
}

#[test]
fn a_key_is_there_once_however_it_is_written_and_wherever_it_stands() {
    let duplicate = |byte: usize| format!("byte {byte}: a duplicate key");
    assert_eq!(refused("{\"a\":1,\"a\":2}"), duplicate(7));
    assert_eq!(refused("{\"a\":1,\"\\u0061\":2}"), duplicate(7));
    assert_eq!(refused("[{\"x\":{\"b\":1,\"c\":2,\"b\":3}}]"), duplicate(19));
    let many = |last: usize| {
        let entries: Vec<String> =
            (0..100).chain([last]).map(|n| format!("\"{n:03}\":{{\"a\":{n}}}")).collect();
        format!("{{{}}}", entries.join(","))
    };
    assert_eq!(check(many(100).as_bytes()), Ok(2));
    let json = many(7);
    assert_eq!(refused(&json), duplicate(json.rfind("\"007\"").expect("it is there")));
}

/// Text that is nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", " ", "\"", "\"a\"", "\"b\":", "1", "-0.5e3", "null", "true", "\\",
            "\\u0041", "\\ud83d", "\\udc1d", "1e400", "0", ".", "ä",
        ]),
        1 => "[a-z\"\\\\]{0,9}".prop_map(|text| &*Box::leak(text.into_boxed_str())),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        ".*".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            prop::collection::vec((".{0,3}", inner), 0..8)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// What a tree says, as another reader would.
fn to_serde(json: &Json<'_>) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(bool) => (*bool).into(),
        // Its own reading of floats may miss by the last bit.
        Json::Number(number) => match (number.parse::<u64>(), number.parse::<i64>()) {
            (Ok(int), _) => int.into(),
            (_, Ok(int)) => int.into(),
            _ => number.parse::<f64>().expect("a number").into(),
        },
        Json::Text(text) => text.to_string().into(),
        Json::List(items) => items.iter().map(to_serde).collect(),
        Json::Map(entries) => serde_json::Value::Object(
            entries.iter().map(|(key, value)| (key.to_string(), to_serde(value))).collect(),
        ),
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_reads_as_another_reader_has_it(json in nearly_json()) {
        let other = serde_json::from_str::<serde_json::Value>(&json);
        match Json::parse(json.as_bytes()) {
            Ok(read) => {
                prop_assert_eq!(to_serde(&read), other.expect("what is taken here is taken there"));
                prop_assert!(check(json.as_bytes()).is_ok());
            }
            Err(error) => {
                prop_assert_eq!(check(json.as_bytes()), Err(error));
                prop_assert!(error.byte <= json.len());
                // The other reader lets duplicate keys pass, and nothing else.
                prop_assert!(other.is_err() || error.problem == JsonProblem::DuplicateKey, "{} of {}", error, json);
            }
        }
    }

    #[test]
    fn whatever_another_writer_writes_is_taken(value in value()) {
        for json in [value.to_string(), serde_json::to_string_pretty(&value).expect("it is written")] {
            let read = Json::parse(json.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
            prop_assert_eq!(to_serde(&read), value.clone());
        }
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise_than_in_words(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Err(error) = check(&bytes) {
            prop_assert!(error.byte <= bytes.len());
        }
    }
}
