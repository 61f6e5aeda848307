use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{from_slice, to_vec};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Run {
    name: String,
    losses: Vec<f64>,
    best: Option<f32>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(f64, f64),
    Box { width: f64 },
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Tagged {
    Weighed { weight: f64 },
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text { text: String },
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Flat {
    id: i64,
    #[serde(flatten)]
    run: Run,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Strict {
    known: i64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Unit;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Meters<T>(T);

fn run(loss: f64) -> Run {
    Run { name: "a".to_owned(), losses: vec![1.0, loss], best: Some(0.5) }
}

fn refused<T: Serialize>(value: &T) -> String {
    to_vec(value).unwrap_err().to_string()
}

#[test]
fn numbers_that_json_does_not_have_are_named_with_their_place_wherever_they_stand() {
    const NAN: f64 = f64::NAN;
    let is = |value: String, place: &str, number: &str| {
        let place = if place.is_empty() { String::new() } else { format!("at `{place}`: ") };
        assert_eq!(value, format!("{place}{number} is no number that JSON has"));
    };
    is(refused(&NAN), "", "NaN");
    is(refused(&f32::NEG_INFINITY), "", "-inf");
    is(refused(&vec![0.0, f64::INFINITY]), "[1]", "inf");
    is(refused(&run(NAN)), "losses[1]", "NaN");
    is(refused(&Run { best: Some(f32::NAN), ..run(0.0) }), "best", "NaN");
    is(refused(&Flat { id: 1, run: run(NAN) }), "losses[1]", "NaN");
    is(refused(&vec![(1, run(NAN))]), "[0][1].losses[1]", "NaN");
    is(refused(&Shape::Circle(NAN)), "Circle", "NaN");
    is(refused(&Shape::Line(0.0, NAN)), "Line[1]", "NaN");
    is(refused(&Shape::Box { width: NAN }), "Box.width", "NaN");
    is(refused(&Tagged::Weighed { weight: NAN }), "weight", "NaN");
    is(refused(&HashMap::from([("bee", NAN)])), "bee", "NaN");
    is(refused(&BTreeMap::from([(7, Some(NAN))])), r#"["7"]"#, "NaN");
    is(refused(&Meters(Some(NAN))), "", "NaN");
    is(refused(&[[NAN]; 2]), "[0][0]", "NaN");
    is(refused(&Ok::<f64, ()>(NAN)), "Ok", "NaN");
}

#[test]
fn a_level_that_null_cannot_keep_is_refused_and_others_are_not() {
    const LOST: &str = "`Some` of a value that is written as null would be read back as `None`";
    assert_eq!(refused(&Some(())), LOST);
    assert_eq!(refused(&Some(None::<i64>)), LOST);
    assert_eq!(refused(&Some(Some(None::<i64>))), LOST);
    assert_eq!(refused(&vec![None, Some(Unit)]), format!("at `[1]`: {LOST}"));
    assert_eq!(refused(&Some(Meters(()))), LOST);
    assert_eq!(refused(&Some(serde_json::Value::Null)), LOST);
    assert_eq!(refused(&Some(RawValue::from_string(" null ".to_owned()).unwrap())), LOST);
    assert_eq!(refused(&Some(Box::new(None::<i64>))), LOST);

    let kept =
        |value: &dyn Fn() -> Vec<u8>, json: &str| assert_eq!(String::from_utf8(value()).unwrap(), json);
    kept(&|| to_vec(&Some(Some(7))).unwrap(), "7");
    kept(&|| to_vec(&None::<Option<i64>>).unwrap(), "null");
    kept(&|| to_vec(&Some(vec![None::<i64>])).unwrap(), "[null]");
    kept(&|| to_vec(&Some((None::<i64>, ()))).unwrap(), "[null,null]");
    kept(&|| to_vec(&Some("null")).unwrap(), "\"null\"");
    kept(&|| to_vec(&Some(serde_json::json!({"a": null}))).unwrap(), r#"{"a":null}"#);
    kept(&|| to_vec(&Some(RawValue::from_string("[null]".to_owned()).unwrap())).unwrap(), "[null]");
    kept(&|| to_vec(&RawValue::from_string("null".to_owned()).unwrap()).unwrap(), "null");
}

#[test]
fn everything_else_is_written_as_serde_json_writes_it() {
    fn same<T: Serialize + Debug>(value: &T) {
        assert_eq!(to_vec(value).unwrap(), serde_json::to_vec(value).unwrap(), "{value:?}");
    }
    same(&run(0.25));
    same(&Flat { id: 7, run: run(f64::MIN_POSITIVE) });
    same(&[Shape::Nothing, Shape::Circle(1.0), Shape::Line(1.0, -0.0), Shape::Box { width: 1e300 }]);
    same(&Tagged::Weighed { weight: 7.0 });
    same(&(u128::MAX, i128::MIN, u64::MAX, 'ü', "x\"\n", true, (), Unit, Meters(7_u8)));
    same(&BTreeMap::from([(Some(1), "a"), (Some(2), "b")]));
    same(&std::net::Ipv4Addr::LOCALHOST);
    same(&std::time::Duration::from_millis(1_500));
    same(&serde_json::json!({"a": [1, 2.5, null, {"b": "c"}]}));
    same(&RawValue::from_string("[1.10, 2]".to_owned()).unwrap());
}

#[test]
fn what_a_type_says_of_its_own_value_is_not_told() {
    struct Refusing;
    impl Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("hunter2 is too secret"))
        }
    }
    assert_eq!(refused(&vec![Refusing]), "at `[0]`: its type refuses to be written");
    assert_eq!(refused(&HashMap::from([((1, 2), 3)])), "at `[0]`: key must be a string");
}

fn mismatch<T: for<'de> Deserialize<'de> + Debug>(json: &str) -> String {
    from_slice::<T>(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_is_told_by_place_and_types_and_never_quoted() {
    for (told, expected) in [
        (mismatch::<i64>(r#""hunter2""#), "expected i64, found a string"),
        (mismatch::<String>("1234567"), "expected String, found an integer"),
        (mismatch::<u8>("1234567"), "expected u8, found an integer that is none"),
        (mismatch::<i64>("1234.5"), "expected i64, found a float"),
        (mismatch::<bool>("null"), "expected bool, found null"),
        (mismatch::<char>(r#""hunter2""#), "expected char, found a string that is none"),
        (mismatch::<Vec<i64>>(r#"[1,"hunter2"]"#), "at `[1]`: expected i64, found a string"),
        (mismatch::<(i64, i64)>("[1]"), "expected (i64, i64), found a list of another length"),
        (
            mismatch::<Run>(r#"{"name":"hunter2","losses":[1,"hunter2"],"best":null}"#),
            "at `losses[1]`: expected f64, found a string",
        ),
        (
            mismatch::<Vec<Run>>(r#"[{"name":"hunter2","best":null}]"#),
            "at `[0]`: expected Run, and its field `losses` is missing",
        ),
        (mismatch::<Strict>(r#"{"known":1,"hunter2":1}"#), "found a field that is none of `known`"),
        (mismatch::<Strict>(r#"{"known":1,"known":1}"#), "expected Strict, and found a field twice"),
        (
            mismatch::<Vec<Shape>>(r#"["Nothing","hunter2"]"#),
            "at `[1]`: expected one of `Nothing`, `Circle`, `Line`, `Box`, found another name",
        ),
        (mismatch::<Shape>(r#"{"Circle":"hunter2"}"#), "at `Circle`: expected f64, found a string"),
        (mismatch::<Shape>(r#"{"Line":[1,"hunter2"]}"#), "at `Line[1]`: expected f64, found a string"),
        (mismatch::<Shape>(r#"{"Box":{"width":"hunter2"}}"#), "at `Box.width`: expected f64, found a string"),
        (mismatch::<Tagged>(r#"{"kind":"hunter2"}"#), "at `kind`: found a name that is not known"),
        (mismatch::<Untagged>(r#""hunter2""#), "expected Untagged, found a string"),
        (mismatch::<HashMap<String, i64>>(r#"{"bee":"hunter2"}"#), "at `bee`: expected i64, found a string"),
        (mismatch::<HashMap<u8, i64>>(r#"{"hunter2":1}"#), "found a key of another type"),
        (mismatch::<HashMap<u8, i64>>(r#"{"7":"hunter2"}"#), r#"at `["7"]`: expected i64, found a string"#),
        (mismatch::<Option<Meters<i64>>>(r#""hunter2""#), "expected Option<Meters<i64>>, found a string"),
        (mismatch::<std::net::IpAddr>(r#""hunter2""#), "expected IpAddr, found a string"),
        (mismatch::<i64>(r#"{"hunter2""#), "expected i64, found something else"),
        (mismatch::<i64>("12 hunter2"), "it is not valid JSON: trailing characters at line 1 column 4"),
        (
            mismatch::<String>(r#""hunter2"#),
            "it is not valid JSON: EOF while parsing a string at line 1 column 8",
        ),
    ] {
        assert!(!told.contains("hunter2") && !told.contains("1234"), "{told}");
        assert_eq!(told, expected);
    }
}

/// Types may say what they like of what they read, also so that it looks like a word of serde.
#[test]
fn what_a_type_says_of_what_it_reads_is_not_told() {
    #[derive(Debug)]
    struct Picky;
    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(text))
        }
    }
    for text in ["hunter2", "missing field `hunter2`", "invalid type: hunter2", "unknown variant `hunter2`"] {
        let told = mismatch::<Vec<Picky>>(&format!("[{text:?}]"));
        assert!(told.starts_with("at `[0]`: ") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn digits_beyond_64_bits_are_kept_or_the_value_is_refused() {
    use serde_json::Value;

    const WIDE: &str = "340282366920938463463374607431768211455";
    assert_eq!(from_slice::<u128>(WIDE.as_bytes()).unwrap(), u128::MAX);
    assert_eq!(from_slice::<Vec<i128>>(format!("[-{}]", &WIDE[..38]).as_bytes()).unwrap().len(), 1);
    assert_eq!(from_slice::<Box<RawValue>>(WIDE.as_bytes()).unwrap().get(), WIDE);
    // A float is asked for, so a float is what it is.
    assert_eq!(from_slice::<f64>(WIDE.as_bytes()).unwrap(), 2_f64.powi(128));

    let lost = |place: &str, of: &str| {
        format!(
            "{place}found an integer beyond 64 bits, whose digits a `{of}` would lose: read it as a `u128`, an `i128` \
             or a `Json<Box<RawValue>>`"
        )
    };
    assert_eq!(mismatch::<Value>(WIDE), lost("", "Value"));
    assert_eq!(mismatch::<Value>("-9223372036854775809"), lost("", "Value"));
    assert_eq!(mismatch::<Value>(&format!(r#"{{"a":[1,{WIDE}]}}"#)), lost("at `a[1]`: ", "Value"));
    assert_eq!(
        mismatch::<BTreeMap<String, Option<Value>>>(&format!(r#"{{"a":{WIDE}}}"#)),
        lost("at `a`: ", "Option<Value>")
    );
    for json in [
        "18446744073709551615".to_owned(),
        "-9223372036854775808".to_owned(),
        // What JavaScript writes of a float: no digit of it is lost.
        "200000000000000000000".to_owned(),
        "147573952589676410000".to_owned(),
        "3.4028236692093846e38".to_owned(),
        format!("\"{WIDE}\""),
        format!("{{\"{WIDE}\":[0.{WIDE}]}}"),
    ] {
        let read: Value = from_slice(json.as_bytes()).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(&json).unwrap(), "{json}");
    }
}

/// An integer whose digits would be lost is told from a float of the same value, also where a text is full of those.
#[test]
fn floats_beside_a_wide_integer_stay_floats_and_cost_no_more_than_their_number() {
    const WIDE: &str = "36893488147419103233";
    let float = "3.6893488147419103e19";
    let both = format!("[{float},{WIDE}]");
    let (value, wide): (serde_json::Value, u128) = from_slice(both.as_bytes()).unwrap();
    assert_eq!((value.as_f64(), wide), (Some(36_893_488_147_419_103_232.0), WIDE.parse().unwrap()));
    let many = format!("[{}{WIDE}]", format!("{float},").repeat(200_000));
    let began = std::time::Instant::now();
    assert!(from_slice::<serde_json::Value>(many.as_bytes()).is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn values_are_read_as_deep_as_the_broker_takes_them_and_what_is_deeper_is_told_with_its_place() {
    let nested = |levels: usize| "[".repeat(levels) + "\"]\\\"[\"" + &"]".repeat(levels);
    let map = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    for levels in [126, 127, 128] {
        for json in [nested(levels), map(levels), format!("{} ", nested(levels))] {
            let value: serde_json::Value = from_slice(json.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json.trim_end());
        }
    }
    // A mistake at the bottom is told as anywhere else.
    let wide = format!("{}36893488147419103233{}", "[".repeat(128), "]".repeat(128));
    let told = from_slice::<serde_json::Value>(wide.as_bytes()).unwrap_err();
    assert!(told.to_string().contains("an integer beyond 64 bits"), "{told}");
    for (json, levels) in [(nested(129), 129), (map(129), 129), (nested(100_000), 100_000)] {
        let told = from_slice::<serde_json::Value>(json.as_bytes()).unwrap_err();
        let place = if json.starts_with('[') { "[0][0]" } else { "a.a" };
        assert!(told.place().starts_with(place), "{told}");
        let ends = format!("`: it nests {levels} lists and maps in each other, and 128 can be read");
        assert!(told.to_string().ends_with(&ends), "{told}");
    }
    // What nobody reads may be as deep as it likes.
    let ignored = format!("{{\"name\":\"a\",\"losses\":[],\"more\":{}}}", nested(1_000));
    assert_eq!(from_slice::<Run>(ignored.as_bytes()).unwrap().name, "a");
}

#[test]
fn what_is_read_with_care_is_the_same() {
    fn same<T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug>(value: T) {
        // A long number beside it has all of it read with care.
        let json = String::from_utf8(serde_json::to_vec(&(&value, u128::MAX)).unwrap()).unwrap();
        assert_eq!(from_slice::<(T, u128)>(json.as_bytes()).unwrap(), (value, u128::MAX));
    }
    same(Flat { id: 7, run: run(0.25) });
    same(vec![Shape::Nothing, Shape::Circle(1.0), Shape::Line(1.0, -0.5), Shape::Box { width: 1e300 }]);
    same(Tagged::Weighed { weight: 7.0 });
    same(vec![Untagged::Number(7), Untagged::Text { text: "x".to_owned() }]);
    same((u64::MAX, i128::MIN, 'ü', "x\"\n".to_owned(), true, (), Unit, Meters(Some(7_u8))));
    same(BTreeMap::from([(7_u8, vec![None, Some(1.5)])]));
    same(BTreeMap::from([(true, [1, 2])]));
    same(std::net::IpAddr::from([127, 0, 0, 1]));
    same(std::time::Duration::from_millis(1_500));
    same(serde_json::json!({"a": [1, 2.5, null, {"b": "c"}]}));
}
